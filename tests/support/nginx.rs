//! A real nginx.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rand::RngExt as _;

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running nginx. It is killed when this is dropped.
pub struct Nginx(Child);

impl Nginx {
    /// Starts it in `folder`, with these servers, each of which is a part of its configuration; it listens at `port` of 127.0.0.1
    /// when it is ready.
    pub async fn start(folder: &Path, port: u16, servers: &str) -> Nginx {
        let folders =
            ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|kind| format!("{kind}_temp_path temp;"));
        let config = format!(
            "daemon off; master_process off; pid nginx.pid; error_log stderr;\nevents {{}}\nhttp {{\naccess_log off; {}\n\
             {servers}\n}}\n",
            folders.join(" ")
        );
        fs::write(folder.join("nginx.conf"), config).unwrap();
        let mut command = Command::new(program());
        command.arg("-p").arg(folder).arg("-c").arg(folder.join("nginx.conf")).args(["-e", "stderr"]);
        let mut nginx = Nginx(command.stdin(Stdio::null()).spawn().unwrap());
        let began = Instant::now();
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(nginx.0.try_wait().unwrap().is_none() && began.elapsed() < PATIENCE, "nginx does not start");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        nginx
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where nginx is, as script/bootstrap finds it.
fn program() -> String {
    let bootstrap = Path::new(env!("CARGO_MANIFEST_DIR")).join("script/bootstrap");
    let found = Command::new(bootstrap).args(["--locate", "nginx"]).output().unwrap();
    assert!(found.status.success(), "this test needs a real nginx. Run script/bootstrap nginx, which installs one.");
    format!("{}/nginx", String::from_utf8(found.stdout).unwrap().trim())
}

/// A port that is free, and not one of those that the kernel gives to outgoing connections.
pub fn free_port() -> u16 {
    let mut ports = std::iter::repeat_with(|| rand::rng().random_range(20_000..32_000));
    ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap()
}
