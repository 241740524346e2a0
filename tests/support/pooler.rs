//! PgBouncer in front of the PostgreSQL of the test run, in transaction mode: a few connections for any number of clients.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use tokio::sync::OnceCell;

use super::nginx::free_port;

/// One that refuses settings of a connection, as it does by default, and one that drops them.
static POOLERS: [OnceCell<String>; 2] = [const { OnceCell::const_new() }; 2];

/// Runs it as somebody who is not root, until the process that is given ends; then its folder goes.
const RUN: &str = r#"
if [ "$(id -u)" = 0 ]; then as="setpriv --reuid=nobody --regid=nogroup --clear-groups"; fi
cd / && $as "$1/pgbouncer" -q "$2/pgbouncer.ini" & pooler=$!
tail --pid="$0" -f /dev/null
kill $pooler; rm -rf "$2""#;

/// Where a pooler listens for all databases of a server, as `host:port`. It drops settings of connections, or refuses them.
pub async fn pooler(server: &str, drops: bool) -> &'static str {
    let server = server.to_owned();
    let start = async || tokio::task::spawn_blocking(move || start(&server, drops)).await.unwrap();
    let address = POOLERS[usize::from(drops)].get_or_init(start).await;
    while tokio::net::TcpStream::connect(address.as_str()).await.is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    address
}

fn start(server: &str, drops: bool) -> String {
    let bootstrap = Path::new(env!("CARGO_MANIFEST_DIR")).join("script/bootstrap");
    let found = Command::new(bootstrap).args(["--locate", "pgbouncer"]).output().unwrap();
    assert!(found.status.success(), "this test needs PgBouncer. Run script/bootstrap pgbouncer, which installs it.");
    let folder = tempfile::Builder::new().prefix("pulse-pgbouncer.").tempdir().unwrap().keep();
    let (host, port) = server.rsplit_once(':').unwrap();
    let listen = free_port();
    let ignored = if drops { "ignore_startup_parameters = options\n" } else { "" };
    let config = format!(
        "[databases]\n* = host={host} port={port} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {listen}\n\
         unix_socket_dir =\nauth_type = any\npool_mode = transaction\ndefault_pool_size = 3\nmax_client_conn = 2000\n\
         server_idle_timeout = 5\n{ignored}"
    );
    fs::write(folder.join("pgbouncer.ini"), config).unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    let own_id = std::process::id().to_string();
    let programs = String::from_utf8(found.stdout).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", RUN, &own_id, programs.trim()]).arg(&folder).stdin(Stdio::null());
    let mut child = command.spawn().unwrap();
    std::thread::spawn(move || child.wait());
    format!("127.0.0.1:{listen}")
}
