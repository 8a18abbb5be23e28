//! The devnet as a process: its files, its errors, its exit.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_sealbus-devnet");

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(directory: &Path, arguments: &[&str]) -> Process {
    let child = Command::new(BINARY).arg("--data-dir").arg(directory).args(arguments).stderr(Stdio::null()).spawn();
    Process(child.expect("the binary starts"))
}

fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "waited for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn refuse(arguments: &[&str]) -> Output {
    let output = Command::new(BINARY).args(arguments).output().expect("the binary starts");
    assert!(!output.status.success(), "{arguments:?}");
    output
}

#[tokio::test]
async fn a_process_tells_where_it_is_serves_and_stops() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("devnet");
    let mut process = start(&data, &["--epoch-millis", "20", "--miners", "2", "--seed", "9"]);
    let address = wait_for("rpc-addr", || fs::read_to_string(data.join("rpc-addr")).ok());
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    for name in ["token-admin", "token-sign", "token-read"] {
        let metadata = fs::metadata(data.join(name)).expect("a token");
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600, "{name}");
    }
    let description: Value =
        serde_json::from_slice(&fs::read(data.join("devnet.json")).expect("a description")).expect("JSON");
    assert_eq!(description["sector_size"], json!(2048));
    assert_eq!(description["miners"][1]["id"], json!("t01001"));
    let left: Vec<_> = fs::read_dir(&data).expect("a directory").flatten().collect();
    let is_temporary = |entry: &fs::DirEntry| entry.file_name().as_encoded_bytes().starts_with(b".");
    assert!(!left.iter().any(is_temporary), "nothing temporary is left: {left:?}");

    let _ = rustls::crypto::ring::default_provider().install_default();
    let token = fs::read_to_string(data.join("token-sign")).expect("a token");
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "Filecoin.ChainHead", "params": []}).to_string();
    let client = reqwest::Client::new();
    loop {
        let request = client.post(format!("http://{address}/rpc/v1")).bearer_auth(&token).body(body.clone());
        let answer: Value = request.send().await.expect("an answer").json().await.expect("JSON");
        if answer["result"]["Height"].as_i64().expect("a height") > 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }

    let id = process.0.id().to_string();
    let killed = Command::new("sh").args(["-c", "kill \"$0\"", &id]).status();
    assert!(killed.expect("a shell runs").success());
    let status = wait_for("the end", || process.0.try_wait().expect("a child"));
    assert!(status.success(), "{status}");
    assert!(!data.join("rpc-addr").exists());
}

#[tokio::test]
async fn deadlines_can_be_few_and_short() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().join("devnet");
    let arguments = ["--paused", "--proving", "--elections", "--deadlines", "4", "--window-epochs", "12"];
    let _process = start(&data, &arguments);
    let address = wait_for("rpc-addr", || fs::read_to_string(data.join("rpc-addr")).ok());
    let _ = rustls::crypto::ring::default_provider().install_default();
    let token = fs::read_to_string(data.join("token-read")).expect("a token");
    let method = "Filecoin.StateMinerProvingDeadline";
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": ["t01000", []]}).to_string();
    let request = reqwest::Client::new().post(format!("http://{address}/rpc/v1")).bearer_auth(&token).body(body);
    let answer: Value = request.send().await.expect("an answer").json().await.expect("JSON");
    let times = ["WPoStProvingPeriod", "WPoStChallengeWindow", "WPoStChallengeLookback", "FaultDeclarationCutoff"];
    assert_eq!(times.map(|name| answer["result"][name].clone()), [48, 12, 4, 14].map(Value::from));
}

#[test]
fn bad_arguments_are_refused_by_name() {
    let directory = tempfile::tempdir().expect("a directory");
    let data = directory.path().to_str().expect("UTF-8");
    let refusals = [
        (vec!["--data-dir", data, "--listen", "0.0.0.0:0"], "listen"),
        (vec!["--data-dir", data, "--sector-size", "32GiB"], "sector-size"),
        (vec!["--data-dir", data, "--miners", "0"], "miners"),
        (vec!["--data-dir", data, "--network-version", "27"], "network-version"),
        (vec!["--data-dir", data, "--deadlines", "3"], "deadlines"),
        (vec!["--data-dir", data, "--window-epochs", "61"], "window-epochs"),
        (vec!["--data-dir", "/proc/nowhere"], "data-dir"),
        (vec![], "data-dir"),
    ];
    for (arguments, named) in refusals {
        let output = refuse(&arguments);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains(named), "{arguments:?}: {text}");
    }
    assert!(!directory.path().join("rpc-addr").exists());
}
