//! A real nats-server on loopback, which ends with the test.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use sealbus_nats::{Bus, Connection, topology::Layout};

use ports::Port;

pub mod ports;

pub struct Server {
    child: Child,
    port: Port,
    directory: tempfile::TempDir,
}

impl Server {
    pub fn start() -> Server {
        Server::start_with(|port, store| open_to(port, store, ""))
    }

    /// A server that accepts only this user's key.
    #[allow(dead_code, reason = "not every test file closes the server")]
    pub fn start_for(user: &str) -> Server {
        Server::start_with(|port, store| open_to(port, store, &only(user)))
    }

    /// A server whose configuration is computed from its port and its streams' directory.
    pub fn start_with(config: impl Fn(u16, &Path) -> String) -> Server {
        let directory = tempfile::tempdir().expect("a directory for the server");
        let port = Port::hold().expect("a free port");
        let text = config(port.number(), &directory.path().join("store"));
        std::fs::write(directory.path().join("server.conf"), text).expect("writes the configuration");
        let child = spawn(&directory);
        Server { child, port, directory }
    }

    #[allow(dead_code, reason = "not every test file has keys")]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port.number())
    }

    pub async fn connect(&self, name: &str) -> Bus {
        let connection = Connection {
            url: self.url(),
            nkey_seed_file: None,
            credentials_file: None,
            ca_file: None,
            api_prefix: None,
        };
        tokio::time::timeout(Duration::from_secs(20), connection.connect_patiently(name))
            .await
            .expect("the server comes up")
            .expect("connects")
    }

    pub async fn connect_with_streams(&self, name: &str) -> Bus {
        let bus = self.connect(name).await;
        bus.ensure_streams(Layout { replicas: 1, max_sectors_bytes: 1 << 30 }).await.expect("streams");
        bus
    }

    /// Restarts it for another user.
    #[allow(dead_code, reason = "not every test file closes the server")]
    pub fn restart_for(&mut self, user: &str) {
        let text = open_to(self.port.number(), &self.directory.path().join("store"), &only(user));
        std::fs::write(self.directory.path().join("server.conf"), text).expect("writes the configuration");
        self.kill_and_restart();
    }

    #[allow(dead_code, reason = "not every test file kills the server")]
    pub fn kill_and_restart(&mut self) {
        self.child.kill().expect("kills");
        self.child.wait().expect("reaps");
        self.child = spawn(&self.directory);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The configuration of a server without accounts. `authorization` says who may connect.
fn open_to(port: u16, store: &Path, authorization: &str) -> String {
    format!(
        "listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: {store:?}, sync_interval: always }}\n{authorization}"
    )
}

fn only(user: &str) -> String {
    format!("authorization {{ users: [ {{ nkey: {user} }} ] }}\n")
}

fn spawn(directory: &tempfile::TempDir) -> Child {
    Command::new(binary())
        .arg("-c")
        .arg(directory.path().join("server.conf"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts nats-server; `make tools` installs it")
}

/// The nats-server that `make tools` installed, or the one in `PATH`.
fn binary() -> PathBuf {
    let installed = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../.tools/bin/nats-server");
    if installed.exists() { installed } else { PathBuf::from("nats-server") }
}

/// Retries until there is an answer, within a generous limit.
#[allow(dead_code, reason = "not every test file waits")]
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
