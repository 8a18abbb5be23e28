//! What the manager tells systemd while it waits.

use std::{
    fs,
    os::unix::net::UnixDatagram,
    process::{Child, Command, Stdio},
    time::Duration,
};

/// Killed when the test ends, however that is.
struct Manager(Child);

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_manager_that_waits_is_alive_and_says_for_what_and_is_not_ready() {
    let dir = tempfile::tempdir().expect("a directory");
    let root = dir.path().display();
    // Nobody listens on the discard port.
    let config = format!(
        r#"
[database]
path = "{root}/manager.db"
[nats]
url = "nats://127.0.0.1:9"
nkey_seed_file = "{root}/manager.nk"
[chain]
url = "http://127.0.0.1:9/rpc/v1"
token_file = "{root}/token"
[[miner]]
id = "f01000"
sector_size = "2KiB"
[[store]]
name = "main"
path = "{root}/store"
"#
    );
    fs::write(dir.path().join("manager.toml"), config).expect("the configuration");
    fs::write(dir.path().join("token"), "token").expect("the token");
    let socket = UnixDatagram::bind(dir.path().join("notify")).expect("the socket");
    socket.set_read_timeout(Some(Duration::from_secs(60))).expect("a limit");
    let manager = Command::new(env!("CARGO_BIN_EXE_sealbus-manager"))
        .args(["run", "--config", "manager.toml"])
        .current_dir(dir.path())
        .env("NOTIFY_SOCKET", dir.path().join("notify"))
        .env("WATCHDOG_USEC", "300000")
        .stderr(Stdio::null())
        .spawn()
        .expect("the manager");
    let _manager = Manager(manager);

    let (mut alive, mut waits) = (0, false);
    while alive < 3 || !waits {
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).expect("word from the manager");
        let told = String::from_utf8_lossy(&buffer[..length]).into_owned();
        alive += usize::from(told.contains("WATCHDOG=1"));
        waits |= told.contains("STATUS=waiting for NATS at nats://127.0.0.1:9");
        assert!(!told.contains("READY=1"), "{told}");
    }
}
