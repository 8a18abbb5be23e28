//! The JSON-RPC client against a server with every fault that a node, a gateway or a network can have.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sealbus_manager::chain::{Endpoint, Error, RpcClient, Transport};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[path = "lotus_rpc/contract.rs"]
mod contract;
#[path = "chain_rpc/notify.rs"]
mod notify;

const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.SECRET.c2ln";

/// The server's reaction to each request.
#[derive(Clone)]
enum Behaviour {
    /// Answers with this status and body. `$ID` in the body is replaced by the request's id.
    Answer(u16, String),
    /// Answers each method with the given value.
    ByMethod(Vec<(String, Value)>),
    /// Reads the request and never answers.
    Silence,
    /// Reads the request and closes the connection.
    Hang,
    /// Sends a header, then bytes without end.
    Flood,
    /// Sends half of what the header announces, then waits.
    Stall,
}

struct Server {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Server {
    async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, behaviour.clone(), seen.clone()));
            }
        });
        Self { address, requests }
    }

    fn client(&self, token_file: Option<PathBuf>) -> RpcClient {
        let mut endpoint = Endpoint::new(format!("http://{}", self.address), token_file);
        endpoint.timeout = Duration::from_secs(20);
        RpcClient::new(endpoint).unwrap()
    }

    async fn error(behaviour: Behaviour) -> Error {
        let server = Self::start(behaviour).await;
        server.client(None).call("MpoolPush", json!([1])).await.unwrap_err()
    }
}

async fn serve(mut stream: TcpStream, behaviour: Behaviour, seen: Arc<Mutex<Vec<(String, Value)>>>) {
    let Some((head, body)) = read_request(&mut stream).await else {
        return;
    };
    let id = body["id"].to_string();
    let method = body["method"].as_str().unwrap_or_default().to_owned();
    seen.lock().unwrap().push((head, body));
    let behaviour = match behaviour {
        Behaviour::ByMethod(answers) => {
            let answer = answers.into_iter().find(|(name, _)| method == format!("Filecoin.{name}"));
            let (_, mut answer) = answer.unwrap();
            answer["id"] = serde_json::from_str(&id).unwrap();
            Behaviour::Answer(200, answer.to_string())
        }
        other => other,
    };
    match behaviour {
        Behaviour::ByMethod(_) => unreachable!("it became an answer"),
        Behaviour::Answer(status, body) => {
            let body = body.replace("$ID", &id);
            let head = format!(
                "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nLocation: http://127.0.0.1:1/\r\nConnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all((head + &body).as_bytes()).await;
        }
        Behaviour::Silence => std::future::pending().await,
        Behaviour::Hang => {}
        Behaviour::Flood => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").await;
            while stream.write_all(&[b'['; 4096]).await.is_ok() {}
        }
        Behaviour::Stall => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{").await;
            std::future::pending().await
        }
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<(String, Value)> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let count = stream.read(&mut chunk).await.ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&chunk[..count]);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse::<usize>().ok());
        if body.len() >= length.unwrap_or(0) {
            return Some((head.to_owned(), serde_json::from_str(body).ok()?));
        }
    }
}

fn answer(status: u16, body: &str) -> Behaviour {
    Behaviour::Answer(status, body.to_owned())
}

fn token_file() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    std::fs::write(&path, format!("{TOKEN}\n")).unwrap();
    (directory, path)
}

#[tokio::test]
async fn a_call_carries_method_parameters_and_token() {
    let server = Server::start(answer(200, r#"{"jsonrpc":"2.0","id":$ID,"result":{"x":1}}"#)).await;
    let (_directory, path) = token_file();
    let client = server.client(Some(path));
    assert_eq!(client.call("ChainHead", json!([1, null])).await.unwrap(), json!({"x": 1}));
    assert_eq!(client.call("ChainHead", json!([])).await.unwrap(), json!({"x": 1}));

    let requests = server.requests.lock().unwrap();
    let (head, body) = &requests[0];
    assert!(head.starts_with("POST /rpc/v1 HTTP/1.1"), "{head}");
    assert!(head.to_ascii_lowercase().contains(&format!("authorization: bearer {}", TOKEN.to_ascii_lowercase())));
    assert_eq!(
        (&body["method"], &body["params"], &body["jsonrpc"]),
        (&json!("Filecoin.ChainHead"), &json!([1, null]), &json!("2.0"))
    );
    assert_ne!(requests[0].1["id"], requests[1].1["id"]);
}

#[tokio::test]
async fn a_missing_result_is_null() {
    for body in [
        r#"{"jsonrpc":"2.0","id":$ID}"#,
        r#"{"jsonrpc":"2.0","id":$ID,"result":null,"error":null}"#,
        r#"{"id":$ID.0,"result":null}"#,
    ] {
        let server = Server::start(answer(200, body)).await;
        assert_eq!(server.client(None).call("StateSearchMsg", json!([])).await.unwrap(), Value::Null, "{body}");
    }
}

#[tokio::test]
async fn a_refused_token_names_its_file_and_not_itself() {
    let (_directory, path) = token_file();
    for behaviour in [
        answer(401, ""),
        answer(403, "<html>"),
        answer(
            200,
            r#"{"id":$ID,"error":{"code":1,"message":"missing permission to invoke 'WalletSign' (need 'sign')"}}"#,
        ),
        answer(200, r#"{"id":$ID,"error":{"code":403,"message":"forbidden"}}"#),
        answer(200, r#"{"id":$ID,"error":{"code":-32600,"message":"Invalid request"}}"#),
    ] {
        let server = Server::start(behaviour).await;
        let client = server.client(Some(path.clone()));
        let error = client.call("WalletSign", json!([])).await.unwrap_err();
        assert!(matches!(&error, Error::Unauthorized { token_file: Some(file), .. } if *file == path), "{error:?}");
        assert!(error.needs_person() && !error.is_transient() && !error.outcome_unknown());
        let shown = format!("{error} {error:?} {client:?}");
        assert!(shown.contains(path.to_str().unwrap()) && !shown.contains("SECRET"), "{shown}");
    }
}

#[tokio::test]
async fn a_replaced_token_is_used_without_a_restart() {
    let server = Server::start(answer(200, r#"{"id":$ID,"result":1}"#)).await;
    let (_directory, path) = token_file();
    let client = server.client(Some(path.clone()));
    client.call("ChainHead", json!([])).await.unwrap();
    std::fs::write(&path, "replaced").unwrap();
    client.call("ChainHead", json!([])).await.unwrap();
    std::fs::remove_file(&path).unwrap();
    let error = client.call("ChainHead", json!([])).await.unwrap_err();
    assert!(matches!(error, Error::TokenUnreadable { .. }) && error.needs_person() && !error.outcome_unknown());
    let requests = server.requests.lock().unwrap();
    assert_eq!(requests.len(), 2);
    assert!(requests[1].0.to_ascii_lowercase().contains("authorization: bearer replaced"));
}

#[tokio::test]
async fn a_missing_token_file_shows_at_start() {
    let endpoint = Endpoint::new("http://127.0.0.1:1", Some(PathBuf::from("/nonexistent/token")));
    assert!(matches!(RpcClient::new(endpoint), Err(Error::TokenUnreadable { .. })));
}

#[tokio::test]
async fn servers_in_trouble_are_transient_and_leave_a_push_unknown() {
    for status in [500, 502, 503, 504] {
        let error = Server::error(answer(status, "upstream")).await;
        assert!(matches!(error, Error::Http { status: s, .. } if s == status));
        assert!(error.is_transient() && error.outcome_unknown());
    }
    let busy = Server::error(answer(429, "")).await;
    assert!(busy.is_transient() && !busy.outcome_unknown());
    let elsewhere = Server::error(answer(404, "")).await;
    assert!(!elsewhere.is_transient() && elsewhere.needs_person() && !elsewhere.outcome_unknown());
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let error = Server::error(answer(307, "")).await;
    assert!(matches!(error, Error::Http { status: 307, .. }) && error.needs_person());
}

#[tokio::test]
async fn a_refused_connection_is_known_not_to_have_sent_anything() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let client = RpcClient::new(Endpoint::new(format!("http://{address}"), None)).unwrap();
    let error = client.call("MpoolPush", json!([])).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    assert!(error.to_string().contains(&address.to_string()));
    assert!(error.is_transient() && !error.outcome_unknown());
}

#[tokio::test]
async fn a_connection_lost_during_a_push_leaves_it_unknown() {
    let error = Server::error(Behaviour::Hang).await;
    assert!(matches!(error, Error::ConnectionLost { .. }), "{error:?}");
    assert!(error.is_transient() && error.outcome_unknown());
}

#[tokio::test]
async fn a_node_that_never_answers_times_out() {
    for behaviour in [Behaviour::Silence, Behaviour::Stall] {
        let server = Server::start(behaviour).await;
        let mut endpoint = Endpoint::new(format!("http://{}", server.address), None);
        endpoint.timeout = Duration::from_millis(150);
        let error = RpcClient::new(endpoint).unwrap().call("MpoolPush", json!([])).await.unwrap_err();
        assert!(matches!(error, Error::TimedOut { method: "MpoolPush", .. }), "{error:?}");
        assert!(error.is_transient() && error.outcome_unknown());
    }
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    let server = Server::start(Behaviour::Flood).await;
    let mut endpoint = Endpoint::new(format!("http://{}", server.address), None);
    endpoint.answer_bytes_max = 100_000;
    let error = RpcClient::new(endpoint).unwrap().call("MpoolPush", json!([])).await.unwrap_err();
    assert!(matches!(error, Error::AnswerTooLarge { limit_bytes: 100_000, .. }), "{error:?}");
    assert!(error.outcome_unknown());
}

#[tokio::test]
async fn garbage_is_a_bad_answer() {
    for body in [
        "",
        "<html>login</html>",
        "[]",
        "7",
        "{\"id\":",
        r#"{"jsonrpc":"2.0","id":null,"result":1}"#,
        r#"{"id":-1,"result":1}"#,
    ] {
        let error = Server::error(answer(200, body)).await;
        assert!(matches!(error, Error::BadAnswer { .. }), "{body}: {error:?}");
        assert!(error.outcome_unknown() && !error.is_transient());
    }
}

#[tokio::test]
async fn error_objects_are_refusals_whatever_the_status() {
    for status in [200, 400, 500] {
        let body = r#"{"jsonrpc":"2.0","id":$ID,"error":{"code":1,"message":"minimum expected nonce is 4: message nonce too low"}}"#;
        let error = Server::error(answer(status, body)).await;
        assert!(matches!(&error, Error::Refused { code: 1, method: "MpoolPush", .. }), "{error:?}");
        assert!(error.is_nonce_too_low() && !error.is_transient() && !error.outcome_unknown());

        let body = r#"{"jsonrpc":"2.0","id":$ID,"error":{"code":-32601,"message":"method 'Filecoin.X' not found"}}"#;
        let error = Server::error(answer(status, body)).await;
        assert!(matches!(error, Error::MethodNotFound { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_node_is_asked_what_the_token_allows_and_one_that_cannot_tell_is_believed() {
    let (_directory, path) = token_file();
    let server = Server::start(answer(200, r#"{"jsonrpc":"2.0","id":$ID,"result":["read","write"]}"#)).await;
    let allowed = server.client(Some(path.clone())).permissions().await.unwrap();
    assert_eq!(allowed, Some(vec!["read".to_owned(), "write".to_owned()]));
    let asked = server.requests.lock().unwrap()[0].1.clone();
    assert_eq!((&asked["method"], &asked["params"]), (&json!("Filecoin.AuthVerify"), &json!([TOKEN])));
    assert_eq!(server.client(None).permissions().await.unwrap(), None, "no token");
    let unknown =
        r#"{"jsonrpc":"2.0","id":$ID,"error":{"code":-32601,"message":"method 'Filecoin.AuthVerify' not found"}}"#;
    let server = Server::start(answer(500, unknown)).await;
    assert_eq!(server.client(Some(path)).permissions().await.unwrap(), None, "another make of node");
}

#[tokio::test]
async fn a_method_that_executes_a_message_has_a_limit_of_its_own() {
    let server = Server::start(Behaviour::Silence).await;
    let mut endpoint = Endpoint::new(format!("http://{}", server.address), None);
    (endpoint.timeout, endpoint.slow_timeout) = (Duration::from_millis(20), Duration::from_millis(40));
    let client = RpcClient::new(endpoint).unwrap();
    for (method, millis) in [("ChainHead", 20), ("GasEstimateMessageGas", 40)] {
        let error = client.call(method, json!([])).await.unwrap_err();
        assert!(matches!(error, Error::TimedOut { limit, .. } if limit == Duration::from_millis(millis)), "{error:?}");
    }
}
