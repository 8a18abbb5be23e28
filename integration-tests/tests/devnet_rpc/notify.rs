//! `ChainNotify` of the devnet: what goes over the wire, and what the manager's client makes of it.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use sealbus_integration_tests::devnet::faults::{Fault, When};
use sealbus_manager::chain::{Endpoint, Error, HeadChanges, RpcClient};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use super::Rpc;

type Socket = WebSocketStream<TcpStream>;

async fn connect(rpc: &Rpc, token: Option<&str>) -> Result<Socket, SocketError> {
    let mut request = rpc.url.replace("http://", "ws://").into_client_request().expect("a request");
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse().expect("a header");
        request.headers_mut().insert("authorization", value);
    }
    let address = rpc.url.trim_start_matches("http://").trim_end_matches("/rpc/v1");
    let stream = TcpStream::connect(address).await.expect("connects");
    Ok(tokio_tungstenite::client_async(request, stream).await?.0)
}

async fn send(socket: &mut Socket, id: u64, method: &str, params: Value) {
    let call = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
    socket.send(Message::text(call.to_string())).await.expect("sends");
}

async fn receive(socket: &mut Socket) -> Value {
    let message = socket.next().await.expect("open").expect("a message");
    serde_json::from_str(message.to_text().expect("text")).expect("JSON")
}

fn advance(rpc: &Rpc, epochs: u64) {
    rpc.devnet.with_node(|node| (0..epochs).for_each(|_| node.advance_epoch().expect("an epoch passes")));
}

fn fault(rpc: &Rpc, fault: Fault) {
    rpc.devnet.with_node(|node| node.inject(fault));
}

async fn subscribe(rpc: &Rpc) -> (tempfile::TempDir, HeadChanges) {
    let directory = tempfile::tempdir().expect("a directory");
    let token_file = directory.path().join("token");
    std::fs::write(&token_file, rpc.devnet.tokens().read).expect("writes");
    let client = RpcClient::new(Endpoint::new(&rpc.url, Some(token_file))).expect("a client");
    (directory, client.head_changes().await.expect("subscribes"))
}

#[tokio::test]
async fn a_channel_begins_with_the_head_and_goes_on_with_what_joins_the_chain() {
    let rpc = Rpc::new().await;
    advance(&rpc, 2);
    let mut socket = connect(&rpc, Some(&rpc.devnet.tokens().read)).await.expect("connects");
    send(&mut socket, 5, "Filecoin.ChainNotify", json!([])).await;
    assert_eq!(receive(&mut socket).await, json!({"jsonrpc": "2.0", "id": 5, "result": 1}));
    let head = rpc.call("Filecoin.ChainHead", json!([])).await;
    let current = receive(&mut socket).await;
    assert_eq!(current["method"], "xrpc.ch.val");
    assert_eq!(current["params"], json!([1, [{"Type": "current", "Val": head}]]));

    advance(&rpc, 1);
    let next = rpc.call("Filecoin.ChainHead", json!([])).await;
    assert_eq!(receive(&mut socket).await["params"], json!([1, [{"Type": "apply", "Val": next}]]));
    rpc.devnet.with_node(|node| node.add_null_rounds(1));
    advance(&rpc, 2);
    let after = rpc.call("Filecoin.ChainHead", json!([])).await;
    assert_eq!(after["Height"], json!(5));
    assert_eq!(receive(&mut socket).await["params"], json!([1, [{"Type": "apply", "Val": after}]]));
}

#[tokio::test]
async fn a_second_channel_has_its_own_number_and_a_cancelled_one_is_closed() {
    let rpc = Rpc::new().await;
    let mut socket = connect(&rpc, Some(&rpc.devnet.tokens().read)).await.expect("connects");
    for (id, channel) in [(1, 1), (2, 2)] {
        send(&mut socket, id, "Filecoin.ChainNotify", json!([])).await;
        assert_eq!(receive(&mut socket).await["result"], json!(channel));
        assert_eq!(receive(&mut socket).await["params"][0], json!(channel));
    }
    let cancel = json!({"jsonrpc": "2.0", "method": "xrpc.cancel", "params": [1]}).to_string();
    socket.send(Message::text(cancel)).await.expect("sends");
    assert_eq!(receive(&mut socket).await, json!({"jsonrpc": "2.0", "method": "xrpc.ch.close", "params": [1]}));
    advance(&rpc, 1);
    assert_eq!(receive(&mut socket).await["params"][0], json!(2));
}

#[tokio::test]
async fn other_calls_are_answered_over_the_same_connection() {
    let rpc = Rpc::new().await;
    let mut socket = connect(&rpc, Some(&rpc.devnet.tokens().read)).await.expect("connects");
    send(&mut socket, 9, "Filecoin.StateNetworkName", json!([])).await;
    assert_eq!(receive(&mut socket).await, json!({"jsonrpc": "2.0", "id": 9, "result": "sealbus-devnet"}));
    send(&mut socket, 10, "Devnet.Advance", json!([1])).await;
    let refused = receive(&mut socket).await;
    assert!(refused["error"]["message"].as_str().expect("a text").contains("missing permission"), "{refused}");
}

#[tokio::test]
async fn a_subscription_needs_a_token_and_a_websocket() {
    let rpc = Rpc::new().await;
    for token in [None, Some("abc")] {
        let refused = connect(&rpc, token).await.expect_err("refused");
        assert!(matches!(&refused, SocketError::Http(answer) if answer.status() == 401), "{refused}");
    }
    let (code, text) = rpc.error("Filecoin.ChainNotify", json!([])).await;
    assert!(code == -32601 && text.contains("not supported in this mode"), "{code} {text}");
}

#[tokio::test]
async fn the_client_hears_of_each_head_until_the_node_ends_the_channel() {
    let rpc = Rpc::new().await;
    let (_directory, mut changes) = subscribe(&rpc).await;
    changes.next().await.expect("the present head");
    for _ in 0..3 {
        advance(&rpc, 1);
        changes.next().await.expect("another head");
    }
    fault(&rpc, Fault::MuteChannels { on: true });
    advance(&rpc, 1);
    let said = tokio::time::timeout(Duration::from_millis(200), changes.next()).await;
    assert!(said.is_err(), "{said:?}");
    fault(&rpc, Fault::MuteChannels { on: false });
    changes.next().await.expect("what was held back");
    fault(&rpc, Fault::CloseChannels {});
    assert!(matches!(changes.next().await, Err(Error::ConnectionLost { .. })));
}

#[tokio::test]
async fn the_client_learns_that_a_call_to_subscribe_failed_and_that_the_node_ended() {
    let rpc = Rpc::new().await;
    let (directory, mut changes) = subscribe(&rpc).await;
    changes.next().await.expect("the present head");
    let method = "Filecoin.ChainNotify".to_owned();
    fault(&rpc, Fault::FailCalls { method, when: When::Before, count: 1, answer: Default::default() });
    let client = RpcClient::new(Endpoint::new(&rpc.url, Some(directory.path().join("token")))).expect("a client");
    assert!(matches!(client.head_changes().await, Err(Error::Refused { .. })));
    drop(rpc);
    assert!(matches!(changes.next().await, Err(Error::ConnectionLost { .. })));
}
