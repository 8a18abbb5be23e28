//! Announcements of heads over WebSocket, from servers that behave and servers that don't.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use sealbus_manager::chain::{Endpoint, Error, RpcClient, Transport};
use sealbus_manager::wake::Wake;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::{TOKEN, token_file};

/// What a server does with each connection.
#[derive(Clone)]
enum Behaviour {
    /// Answers the upgrade with this HTTP head, in which `$ACCEPT` is replaced, and nothing more.
    Head(&'static str),
    /// Upgrades, and sends these messages after the call. `$ID` is replaced by the call's id. Then it waits.
    Say(Vec<Message>),
    /// The same, and then it closes the connection.
    SayAndClose(Vec<Message>),
}

struct Server {
    address: SocketAddr,
    /// The head of each request, and the call of each connection.
    seen: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Server {
    async fn start(behaviour: Behaviour) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, behaviour.clone(), kept.clone()));
            }
        });
        Server { address, seen }
    }

    fn client(&self, token_file: Option<PathBuf>) -> RpcClient {
        let mut endpoint = Endpoint::new(format!("http://{}", self.address), token_file);
        endpoint.timeout = Duration::from_secs(20);
        RpcClient::new(endpoint).unwrap()
    }

    /// What a subscription ends with.
    async fn error(behaviour: Behaviour) -> Error {
        let server = Server::start(behaviour).await;
        match server.client(None).head_changes().await {
            Err(error) => error,
            Ok(mut changes) => loop {
                if let Err(error) = changes.next().await {
                    return error;
                }
            },
        }
    }

    /// Waits until there were this many connections.
    async fn connected(&self, count: usize) {
        while self.seen.lock().unwrap().len() < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

async fn serve(mut stream: TcpStream, behaviour: Behaviour, seen: Arc<Mutex<Vec<(String, Value)>>>) {
    let Some(head) = read_head(&mut stream).await else { return };
    let header = |line: &str| line.to_ascii_lowercase().starts_with("sec-websocket-key: ");
    let key = head.lines().find(|line| header(line)).and_then(|line| line.split_once(": ")).map_or("", |(_, key)| key);
    let accept = derive_accept_key(key.as_bytes());
    let upgraded = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: $ACCEPT\r\n\r\n";
    let (answer, messages, closes) = match behaviour {
        Behaviour::Head(head) => (head, Vec::new(), false),
        Behaviour::Say(messages) => (upgraded, messages, false),
        Behaviour::SayAndClose(messages) => (upgraded, messages, true),
    };
    stream.write_all(answer.replace("$ACCEPT", &accept).as_bytes()).await.unwrap();
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
    let Some(Ok(Message::Text(call))) = socket.next().await else {
        seen.lock().unwrap().push((head, Value::Null));
        return;
    };
    let call: Value = serde_json::from_str(&call).unwrap();
    let id = call["id"].to_string();
    seen.lock().unwrap().push((head, call));
    for message in messages {
        let message = match message {
            Message::Text(text) => Message::text(text.replace("$ID", &id)),
            other => other,
        };
        if socket.send(message).await.is_err() {
            return;
        }
    }
    if !closes {
        while let Some(Ok(_)) = socket.next().await {}
    }
}

async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        tokio::io::AsyncReadExt::read_exact(stream, &mut byte).await.ok()?;
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}

fn opened() -> Message {
    Message::text(r#"{"jsonrpc":"2.0","id":$ID,"result":7}"#)
}

fn announcement(channel: u64) -> Message {
    Message::text(
        json!({"jsonrpc": "2.0", "method": "xrpc.ch.val", "params": [channel, [{"Type": "current"}]]}).to_string(),
    )
}

#[tokio::test]
async fn each_value_of_the_channel_is_one_announcement_and_nothing_else_is() {
    let noise = [
        Message::Ping(vec![1].into()),
        announcement(8),
        Message::text(r#"{"jsonrpc":"2.0","method":"xrpc.other","params":null}"#),
        Message::text(r#"{"jsonrpc":"2.0","id":3,"result":null}"#),
    ];
    let binary = Message::Binary(announcement(7).into_data());
    let said = [vec![opened(), announcement(7)], noise.into(), vec![binary, announcement(7)]].concat();
    let server = Server::start(Behaviour::SayAndClose(said)).await;
    let mut changes = server.client(None).head_changes().await.unwrap();
    for _ in 0..3 {
        changes.next().await.unwrap();
    }
    assert!(matches!(changes.next().await, Err(Error::ConnectionLost { .. })));
    let call = server.seen.lock().unwrap()[0].1.clone();
    assert_eq!((&call["method"], &call["params"]), (&json!("Filecoin.ChainNotify"), &json!([])));
}

#[tokio::test]
async fn the_token_is_sent_in_the_header_to_the_endpoint_of_all_calls_and_nowhere_shown() {
    let (_directory, path) = token_file();
    let server = Server::start(Behaviour::SayAndClose(vec![opened()])).await;
    let mut changes = server.client(Some(path.clone())).head_changes().await.unwrap();
    let error = changes.next().await.unwrap_err();
    assert!(!format!("{error:?} {changes:?}").contains("SECRET"));
    let head = server.seen.lock().unwrap()[0].0.clone();
    assert!(head.starts_with("GET /rpc/v1 HTTP/1.1\r\n"), "{head}");
    assert!(
        head.to_ascii_lowercase().contains(&format!("authorization: bearer {TOKEN}").to_ascii_lowercase()),
        "{head}"
    );
}

#[tokio::test]
async fn a_node_without_announcements_is_told_apart_from_one_that_refuses_the_token() {
    for status in ["200 OK", "400 Bad Request", "404 Not Found", "405 No", "426 Upgrade Required", "503 Busy"] {
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        let error = Server::error(Behaviour::Head(Box::leak(head.into_boxed_str()))).await;
        assert!(matches!(error, Error::Http { method: "ChainNotify", .. }), "{status}: {error:?}");
    }
    let error = Server::error(Behaviour::Head("HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")).await;
    assert!(matches!(error, Error::Unauthorized { .. }), "{error:?}");
    let unknown = r#"{"jsonrpc":"2.0","id":$ID,"error":{"code":-32601,"message":"Method not found"}}"#;
    let error = Server::error(Behaviour::Say(vec![Message::text(unknown)])).await;
    assert!(matches!(error, Error::MethodNotFound { .. }), "{error:?}");
}

#[tokio::test]
async fn what_is_no_websocket_or_no_channel_is_a_bad_answer() {
    let another_key =
        "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: bm8=\r\n\r\n";
    let error = Server::error(Behaviour::Head(another_key)).await;
    assert!(matches!(error, Error::BadAnswer { .. }), "{error:?}");
    for said in [
        vec![Message::text(r#"{"jsonrpc":"2.0","id":$ID,"result":"a"}"#)],
        vec![Message::text("<html>")],
        vec![opened(), Message::text("<html>")],
        vec![opened(), Message::Binary(vec![0xff].into())],
        vec![opened(), Message::text(r#"{"method":"xrpc.ch.val","params":{"subscription":7}}"#)],
    ] {
        let error = Server::error(Behaviour::Say(said.clone())).await;
        assert!(matches!(error, Error::BadAnswer { .. }), "{said:?}: {error:?}");
    }
    let close = Message::text(r#"{"method":"xrpc.ch.close","params":[7]}"#);
    let error = Server::error(Behaviour::Say(vec![opened(), close])).await;
    assert!(matches!(error, Error::ConnectionLost { .. }), "{error:?}");
}

#[tokio::test]
async fn an_announcement_without_end_is_cut_off() {
    let error = Server::error(Behaviour::Say(vec![opened(), Message::text("[".repeat((4 << 20) + 1))])).await;
    assert!(matches!(error, Error::AnswerTooLarge { method: "ChainNotify", .. }), "{error:?}");
}

#[tokio::test]
async fn a_node_that_never_answers_the_subscription_times_out() {
    for behaviour in [Behaviour::Head(""), Behaviour::Say(Vec::new())] {
        let server = Server::start(behaviour).await;
        let mut endpoint = Endpoint::new(format!("http://{}", server.address), None);
        endpoint.timeout = Duration::from_millis(150);
        let error = RpcClient::new(endpoint).unwrap().head_changes().await.unwrap_err();
        assert!(matches!(error, Error::TimedOut { method: "ChainNotify", .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_lost_subscription_is_made_again_and_rings_for_what_it_may_have_missed() {
    let server = Server::start(Behaviour::SayAndClose(vec![opened()])).await;
    let (client, noticed) = (server.client(None), Wake::default());
    let mut listener = noticed.listen();
    let rung = async {
        server.connected(2).await;
        listener.woken().await;
    };
    tokio::select! {
        never = client.follow_heads(Duration::from_secs(600), &noticed) => match never {},
        () = rung => {}
    }
}

#[tokio::test]
async fn a_subscription_that_falls_silent_is_made_again() {
    let server = Server::start(Behaviour::Say(vec![opened(), announcement(7)])).await;
    let (client, noticed) = (server.client(None), Wake::default());
    tokio::select! {
        never = client.follow_heads(Duration::from_millis(100), &noticed) => match never {},
        () = server.connected(3) => {}
    }
}
