//! The node's announcements of new heads: `Filecoin.ChainNotify` over WebSocket, at the endpoint of all other calls.
//!
//! The protocol is that of Lotus' library go-jsonrpc, which Forest speaks too. The call is answered with the number of
//! a channel. Then the node sends a notification `xrpc.ch.val` with `[channel, value]` for each value, and
//! `xrpc.ch.close` when the channel ends. The first value is the present head; each other one has the tipsets that left
//! and joined the chain.
//!
//! An announcement is only a reason to ask for the head at once. Its value is not read: announcements are lost with
//! each connection, and a node drops subscribers that are slow.

use std::convert::Infallible;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use reqwest::header::{
    AUTHORIZATION, CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use reqwest::{StatusCode, Upgraded};
use sealbus_nats::Patience;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;
use serde_json::value::RawValue;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::{client::generate_key, derive_accept_key};
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};

use super::{Api, RpcClient};
use crate::chain::error::Error;
use crate::drive::chain_of;
use crate::wake::Wake;

const METHOD: &str = "ChainNotify";
/// The size limit of an announcement, in bytes. A tipset has some 30 kB, so a reorganisation of 60 epochs fits.
const MESSAGE_BYTES_MAX: usize = 4 << 20;
/// The first and the longest pause before the next attempt to subscribe.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// How old a subscription must be to count as working. Some gateways cut every connection after a moment.
const STEADY: Duration = Duration::from_secs(10);

/// A subscription to a node's announcements.
#[derive(Debug)]
pub struct HeadChanges {
    socket: WebSocketStream<Upgraded>,
    url: String,
    channel: u64,
}

/// A message from the node: its answer to our call, or a notification.
#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(borrow)]
    method: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

impl HeadChanges {
    /// Waits for the next announcement. After an error the subscription is lost. May be dropped at any time.
    pub async fn next(&mut self) -> Result<(), Error> {
        loop {
            let text = next_text(&mut self.socket, &self.url).await?;
            let frame: Frame = serde_json::from_str(&text)
                .map_err(|error| Error::bad_answer(METHOD, format!("not JSON-RPC: {error}")))?;
            let params = frame.params.map_or("null", RawValue::get);
            match frame.method.as_deref() {
                Some("xrpc.ch.val") => {
                    let value: (u64, IgnoredAny) =
                        serde_json::from_str(params).map_err(|error| Error::bad_answer(METHOD, error))?;
                    if value.0 == self.channel {
                        return Ok(());
                    }
                }
                Some("xrpc.ch.close") => return Err(lost(&self.url, "the node closed the channel")),
                _ => {}
            }
        }
    }
}

impl RpcClient {
    /// Subscribes to the node's announcements. Fails if the node, or a gateway before it, does not offer them.
    pub async fn head_changes(&self) -> Result<HeadChanges, Error> {
        let limit = self.endpoint.timeout;
        let subscribed = tokio::time::timeout(limit, self.subscribe()).await;
        subscribed.unwrap_or_else(|_| Err(Error::TimedOut { url: self.endpoint.url.clone(), method: METHOD, limit }))
    }

    async fn subscribe(&self) -> Result<HeadChanges, Error> {
        let url = self.endpoint.url.clone();
        let mut socket = self.open_socket().await?;
        let id = self.next_id();
        let call =
            json!({ "jsonrpc": "2.0", "id": id, "method": format!("{}{METHOD}", Api::Node.prefix()), "params": [] });
        socket.send(Message::text(call.to_string())).await.map_err(|error| broken(&url, error))?;
        let answer = next_text(&mut socket, &url).await?;
        let answer = self.classify(METHOD, id, StatusCode::OK.as_u16(), answer.as_bytes())?;
        let channel = answer.as_u64().ok_or_else(|| Error::bad_answer(METHOD, format!("{answer} is no channel")))?;
        Ok(HeadChanges { socket, url, channel })
    }

    /// Upgrades a request of the HTTP client, so that its TLS, time limits and rules for the token hold here too.
    async fn open_socket(&self) -> Result<WebSocketStream<Upgraded>, Error> {
        let key = generate_key();
        let mut get = self
            .http
            .get(&self.endpoint.url)
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, &key);
        if let Some(value) = self.authorization().await? {
            get = get.header(AUTHORIZATION, value);
        }
        let answer = get.send().await.map_err(|error| self.failed(METHOD, error))?;
        match answer.status() {
            StatusCode::SWITCHING_PROTOCOLS => {}
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                return Err(self.unauthorized(METHOD, format!("HTTP status {}", status.as_u16())));
            }
            status => {
                return Err(Error::Http { url: self.endpoint.url.clone(), method: METHOD, status: status.as_u16() });
            }
        }
        let accepted = answer.headers().get(SEC_WEBSOCKET_ACCEPT);
        if accepted.is_none_or(|accepted| accepted != derive_accept_key(key.as_bytes()).as_str()) {
            return Err(Error::bad_answer(METHOD, "Sec-WebSocket-Accept: not for our key"));
        }
        let upgraded = answer.upgrade().await.map_err(|error| self.failed(METHOD, error))?;
        let limits = WebSocketConfig::default()
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        Ok(WebSocketStream::from_raw_socket(upgraded, Role::Client, Some(limits)).await)
    }

    /// Stays subscribed, and rings at each announcement. A subscription without one for `silence` is made anew, because
    /// a connection that is half open looks the same.
    pub(super) async fn stay_subscribed(&self, silence: Duration, noticed: &Wake) -> Infallible {
        let mut patience = Patience::new(FIRST_PAUSE, MAX_PAUSE);
        let mut is_told = false;
        loop {
            let error = self.listen(silence, noticed, &mut patience, &mut is_told).await;
            // The loss may have swallowed an announcement.
            noticed.ring();
            let what = format!("{} does not announce its heads, and is asked for them periodically", self.endpoint.url);
            tokio::time::sleep(patience.failed(&what, &chain_of(&error))).await;
        }
    }

    /// Rings at each announcement until the subscription is lost.
    async fn listen(&self, silence: Duration, noticed: &Wake, patience: &mut Patience, is_told: &mut bool) -> Error {
        let (url, began) = (&self.endpoint.url, Instant::now());
        let mut changes = match self.head_changes().await {
            Ok(changes) => changes,
            Err(error) => return error,
        };
        for number in 0_u64.. {
            match tokio::time::timeout(silence, changes.next()).await {
                Ok(Ok(())) => noticed.ring(),
                Ok(Err(error)) => return error,
                Err(_) => break,
            }
            // A node also states its present head, which comes first, while its chain stands still.
            if number > 0 && patience.is_waiting() && began.elapsed() >= STEADY {
                patience.mended(&format!("{url} announces its heads again"));
            } else if number > 0 && !patience.is_waiting() && !std::mem::replace(is_told, true) {
                tracing::info!("{url} announces its heads");
            }
        }
        Error::TimedOut { url: url.clone(), method: METHOD, limit: silence }
    }
}

/// The next message with text. Pings are answered on the way.
async fn next_text(socket: &mut WebSocketStream<Upgraded>, url: &str) -> Result<String, Error> {
    loop {
        match socket.next().await {
            Some(Ok(Message::Text(text))) => return Ok(text.as_str().to_owned()),
            Some(Ok(Message::Binary(bytes))) => {
                return String::from_utf8(bytes.into()).map_err(|error| Error::bad_answer(METHOD, error));
            }
            Some(Ok(Message::Close(_))) | None => return Err(lost(url, "the node closed the connection")),
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(broken(url, error)),
        }
    }
}

fn lost(url: &str, why: &'static str) -> Error {
    Error::ConnectionLost { url: url.to_owned(), method: METHOD, source: why.into() }
}

fn broken(url: &str, error: SocketError) -> Error {
    match error {
        SocketError::Capacity(_) => Error::AnswerTooLarge { method: METHOD, limit_bytes: MESSAGE_BYTES_MAX },
        error => Error::ConnectionLost { url: url.to_owned(), method: METHOD, source: error.into() },
    }
}
