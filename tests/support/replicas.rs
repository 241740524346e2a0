//! Two servers of PostgreSQL, one of which follows the other.

use std::path::Path;
use std::process::Command;

use super::nginx::free_port;

/// Makes a primary and a replica that follows it, as a user that may run PostgreSQL. Arguments: where the programs are, two ports.
const START: &str = r#"
set -eu
bin=$1
dir=$(mktemp -d /tmp/pulse-replicas.XXXXXX)
as=
if [ "$(id -u)" = 0 ]; then
  owner=$(id -un postgres 2>/dev/null || echo nobody)
  chown "$owner" "$dir"
  as="setpriv --reuid=$(id -u "$owner") --regid=$(id -g "$owner") --clear-groups"
fi
cd "$dir"
run() { $as env LC_ALL=C "$@" >>/dev/null 2>&1 </dev/null; }
options="-c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
run "$bin/initdb" -D "$dir/a" -U postgres -A trust -E UTF8 --no-sync
run "$bin/pg_ctl" -w -t 120 -D "$dir/a" -o "$options -c port=$2" -l "$dir/a/log" start
run "$bin/pg_basebackup" -h 127.0.0.1 -p "$2" -U postgres -D "$dir/b" -R -X stream -c fast
run "$bin/pg_ctl" -w -t 120 -D "$dir/b" -o "$options -c port=$3" -l "$dir/b/log" start
printf '%s' "$dir"
"#;
const STOP: &str =
    r#"for pid in "$1"/"$2"/postmaster.pid; do kill -"$3" "$(head -n 1 "$pid")" 2>/dev/null; done; exit 0"#;

/// Two servers, the first of which is the primary.
pub struct Replicas {
    folder: String,
    ports: [u16; 2],
}

impl Replicas {
    /// Starts them.
    pub fn start() -> Replicas {
        let bootstrap = Path::new(env!("CARGO_MANIFEST_DIR")).join("script/bootstrap");
        let found = Command::new(bootstrap).args(["--locate", "postgresql"]).output().unwrap();
        let ports = [free_port(), free_port()];
        let mut command = Command::new("sh");
        command.args(["-c", START, "sh", String::from_utf8(found.stdout).unwrap().trim()]);
        let made = command.args(ports.map(|port| port.to_string())).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        Replicas { folder: String::from_utf8(made.stdout).unwrap(), ports }
    }

    /// One of them alone, as a superuser's URL.
    pub fn url(&self, server: usize) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.ports[server])
    }

    /// Both, as the service has them.
    pub fn both(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{},127.0.0.1:{}/postgres", self.ports[0], self.ports[1])
    }

    /// Sends the first, `a`, or the other, `b`, a signal.
    pub fn signal(&self, server: &str, signal: &str) {
        Command::new("sh").args(["-c", STOP, "sh", &self.folder, server, signal]).status().unwrap();
    }
}

impl Drop for Replicas {
    fn drop(&mut self) {
        for server in ["a", "b"] {
            self.signal(server, "CONT");
            self.signal(server, "QUIT");
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
