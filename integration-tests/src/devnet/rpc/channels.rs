//! JSON-RPC over WebSocket, with channels as in Lotus' library go-jsonrpc: `GET /rpc/v1`, upgraded.
//!
//! Each message is a call, answered like one over HTTP. `Filecoin.ChainNotify` is answered with the number of a channel.
//! Its first value is the head (`current`), and each other one what left and joined the chain (`revert`, `apply`).
//! `xrpc.cancel` with the call's id closes the channel.

use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use cid::Cid;
use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::error;

use super::auth::{Permission, Permissions};
use super::error::RpcError;
use super::{REQUEST_BYTES_MAX, Reply, Service, answer_body, chain, failure, form, inject};
use crate::devnet::faults::When;
use crate::devnet::node::Announced;

/// The method whose answer is a channel.
const CHAIN_NOTIFY: &str = "Filecoin.ChainNotify";
/// The maximum number of channels of a connection.
const CHANNELS_MAX: usize = 100;

/// A connection.
struct Connection {
    service: Service,
    permissions: Permissions,
    announced: watch::Receiver<Announced>,
    channels: Vec<Channel>,
    last_channel: u64,
    closings: u64,
}

/// A subscription to the changes of head.
struct Channel {
    number: u64,
    /// The id of the call that opened it.
    id: Value,
    /// The last head that was sent.
    head: Cid,
}

/// Answers a request to upgrade a connection to WebSocket.
pub async fn handle(State(service): State<Service>, headers: HeaderMap, upgrade: WebSocketUpgrade) -> Response {
    let Some(permissions) = service.secret.permissions(headers.get(header::AUTHORIZATION)) else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    let upgrade = upgrade.max_message_size(REQUEST_BYTES_MAX);
    upgrade.on_upgrade(move |socket| async move {
        let announced = service.with_node(|node| node.watch_announced());
        let closings = announced.borrow().closings;
        let connection =
            Connection { service, permissions, announced, channels: Vec::new(), last_channel: 0, closings };
        connection.serve(socket).await;
    })
}

impl Connection {
    /// Serves until the client or the server ends. A message that cannot be sent ends it too.
    async fn serve(mut self, mut socket: WebSocket) {
        let mut ending = self.service.ending.clone();
        loop {
            let messages = tokio::select! {
                received = socket.recv() => match received {
                    Some(Ok(Message::Text(text))) => self.answer(text.as_str().to_owned()).await,
                    Some(Ok(Message::Binary(bytes))) => self.answer(String::from_utf8_lossy(&bytes).into_owned()).await,
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => Some(Vec::new()),
                    Some(Ok(Message::Close(_)) | Err(_)) | None => None,
                },
                changed = self.announced.changed() => changed.is_ok().then(|| self.announce()),
                _ = ending.changed() => None,
            };
            let Some(messages) = messages else { return };
            for message in messages {
                if socket.send(Message::text(message.to_string())).await.is_err() {
                    return;
                }
            }
        }
    }

    /// The messages that answer a call. `None` ends the connection.
    async fn answer(&mut self, text: String) -> Option<Vec<Value>> {
        let request: Value = serde_json::from_str(&text).unwrap_or_default();
        let id = &request["id"];
        match request["method"].as_str() {
            Some(CHAIN_NOTIFY) => {
                let subscribed = self.subscribe(id);
                if subscribed.as_ref().is_err_and(|error| error.silent.is_some()) {
                    return None;
                }
                Some(subscribed.unwrap_or_else(|error| failure(id, &error).into_json().into_iter().collect()))
            }
            Some("xrpc.cancel") => Some(self.close(|channel| channel.id == request["params"][0])),
            _ => {
                let (service, permissions) = (self.service.clone(), self.permissions);
                let answered =
                    tokio::task::spawn_blocking(move || answer_body(&service, permissions, text.as_bytes())).await;
                match answered {
                    Ok(Reply::Status(_)) => None,
                    Ok(reply) => Some(reply.into_json().into_iter().collect()),
                    Err(error) => {
                        error!(%error, "a request handler died");
                        None
                    }
                }
            }
        }
    }

    fn subscribe(&mut self, id: &Value) -> Result<Vec<Value>, RpcError> {
        if !self.permissions.contains(Permission::Read) {
            return Err(RpcError::missing_permission("ChainNotify", Permission::Read));
        }
        if self.channels.len() >= CHANNELS_MAX {
            return Err(RpcError::generic("too many channels"));
        }
        let head = self.service.with_node(|node| {
            inject(node, CHAIN_NOTIFY, When::Before)?;
            Ok::<_, RpcError>(node.chain.head().clone())
        })?;
        self.last_channel += 1;
        let number = self.last_channel;
        self.channels.push(Channel { number, id: id.clone(), head: head.cid });
        let current = json!([{ "Type": "current", "Val": form::tipset(&head) }]);
        Ok(vec![json!({ "jsonrpc": "2.0", "id": id, "result": number }), value(number, &current)])
    }

    /// What the channels have to be told.
    fn announce(&mut self) -> Vec<Value> {
        let announced = *self.announced.borrow_and_update();
        let mut messages = Vec::new();
        if announced.is_muted {
            return messages;
        }
        self.service.with_node(|node| {
            for channel in &mut self.channels {
                let head = node.chain.head().cid;
                if let Ok(path) = node.chain.path(channel.head, head)
                    && !path.is_empty()
                {
                    messages.push(value(channel.number, &chain::changes(&path).into()));
                    channel.head = head;
                }
            }
        });
        if self.closings != announced.closings {
            self.closings = announced.closings;
            messages.extend(self.close(|_| true));
        }
        messages
    }

    /// Closes channels.
    fn close(&mut self, is_meant: impl Fn(&Channel) -> bool) -> Vec<Value> {
        let closed = self.channels.extract_if(.., |channel| is_meant(channel));
        closed
            .map(|channel| json!({ "jsonrpc": "2.0", "method": "xrpc.ch.close", "params": [channel.number] }))
            .collect()
    }
}

fn value(channel: u64, value: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "method": "xrpc.ch.val", "params": [channel, value] })
}
