//! One JSON-RPC 2.0 call over HTTP, bounded in time and size.
//!
//! The token never leaves this module. It is read from its file for each call, so that a person can replace it without
//! a restart. It is sent in a header marked sensitive, and appears in no error, log line or `Debug` output. Redirects
//! are not followed, because they would carry the token elsewhere.
//!
//! Nodes differ. Lotus answers an unknown method with HTTP 500 and a JSON-RPC error in the body, and may omit a
//! `result` that is `null`; Forest answers with 200. So the body is read first, and the status counts only if the body
//! has no error.

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::{Stream, stream};
use reqwest::header::{AUTHORIZATION, HeaderValue};
use sealbus_nats::secret;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::error::Error;
use crate::wake::Wake;

mod endpoint;
mod notify;

pub use endpoint::{Api, Endpoint};
use endpoint::{checked_token, checked_url};
pub use notify::HeadChanges;

/// JSON-RPC 2.0: no such method.
const CODE_METHOD_NOT_FOUND: i64 = -32601;
/// JSON-RPC 2.0: invalid request. Our requests are valid; Forest answers with this code and text if it refuses the
/// token.
const INVALID_REQUEST: (i64, &str) = (-32600, "Invalid request");

/// Carries one call to a node. Test doubles implement this trait: an in-process chain needs no socket.
pub trait Transport: Send + Sync {
    /// Calls `method` (without prefix) with an array of parameters and returns the result; `null` if there is no
    /// result.
    fn call(&self, method: &'static str, params: Value) -> impl Future<Output = Result<Value, Error>> + Send;

    /// Makes a call at every node, for messages that all of them should have. One answer for each, as they come.
    fn everywhere(&self, method: &'static str, params: Value) -> impl Stream<Item = Result<Value, Error>> + Send {
        stream::once(self.call(method, params))
    }

    /// The token's permissions, according to the node. `None` if there is no token, or the node cannot tell.
    fn permissions(&self) -> impl Future<Output = Result<Option<Vec<String>>, Error>> + Send {
        std::future::ready(Ok(None))
    }

    /// Rings whenever the node announces another head. A ring is only a hint to ask for the head: it may be wrong, late
    /// or missing. If nothing is announced for `silence`, the announcements are asked for again. Never ends; by default
    /// it never rings either.
    fn follow_heads(&self, silence: Duration, noticed: &Wake) -> impl Future<Output = Infallible> + Send {
        let _ = (silence, noticed);
        std::future::pending()
    }
}

impl<T: Transport> Transport for Arc<T> {
    async fn call(&self, method: &'static str, params: Value) -> Result<Value, Error> {
        T::call(self, method, params).await
    }

    fn everywhere(&self, method: &'static str, params: Value) -> impl Stream<Item = Result<Value, Error>> + Send {
        T::everywhere(self, method, params)
    }

    async fn permissions(&self) -> Result<Option<Vec<String>>, Error> {
        T::permissions(self).await
    }

    async fn follow_heads(&self, silence: Duration, noticed: &Wake) -> Infallible {
        T::follow_heads(self, silence, noticed).await
    }
}

/// The client of one node over HTTP.
#[derive(Debug)]
pub struct RpcClient {
    http: reqwest::Client,
    endpoint: Endpoint,
    next_id: AtomicU64,
}

/// A response, perhaps with fields that a gateway has removed.
#[derive(Debug, Deserialize)]
struct Response {
    #[serde(default)]
    id: Value,
    #[serde(default)]
    result: Value,
    error: Option<ErrorObject>,
}

#[derive(Debug, Deserialize)]
struct ErrorObject {
    #[serde(default)]
    code: i64,
    #[serde(default)]
    message: String,
}

impl RpcClient {
    /// Checks the endpoint and reads the token once, so that a wrong path is noticed at the start. Does not connect.
    pub fn new(endpoint: Endpoint) -> Result<Self, Error> {
        let client = Self::with_any_token(endpoint)?;
        client.endpoint.check_token()?;
        Ok(client)
    }

    /// Checks the address only: each call reads the token anyway.
    pub fn with_any_token(endpoint: Endpoint) -> Result<Self, Error> {
        let url = checked_url(&endpoint.url, endpoint.api)?;
        install_tls_provider();
        let mut builder = reqwest::Client::builder()
            .connect_timeout(endpoint.connect_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy();
        if url.scheme() == "http" {
            // Otherwise the client would load the platform's root certificates, and a bare container has none.
            builder = builder.tls_certs_only(std::iter::empty());
        }
        let url = url.to_string();
        let http =
            builder.build().map_err(|error| Error::Client { url: url.clone(), source: error.without_url().into() })?;
        Ok(Self { http, endpoint: Endpoint { url, ..endpoint }, next_id: AtomicU64::new(1) })
    }

    /// The address of the node, as used.
    pub fn url(&self) -> &str {
        &self.endpoint.url
    }

    fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    async fn authorization(&self) -> Result<Option<HeaderValue>, Error> {
        match &self.endpoint.token_file {
            None => Ok(None),
            Some(path) => checked_token(path, read_token(path).await).map(Some),
        }
    }

    async fn exchange(&self, method: &'static str, params: Value) -> Result<Value, Error> {
        let id = self.next_id();
        let name = format!("{}{method}", self.endpoint.api.prefix());
        let request = json!({ "jsonrpc": "2.0", "id": id, "method": name, "params": params });
        let mut post = self.http.post(&self.endpoint.url).json(&request);
        if let Some(value) = self.authorization().await? {
            post = post.header(AUTHORIZATION, value);
        }
        let answer = post.send().await.map_err(|error| self.failed(method, error))?;
        let status = answer.status().as_u16();
        let body = self.read(method, answer).await?;
        self.classify(method, id, status, &body)
    }

    async fn read(&self, method: &'static str, mut answer: reqwest::Response) -> Result<Vec<u8>, Error> {
        let limit_bytes = self.endpoint.answer_bytes_max;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| self.failed(method, error))? {
            if body.len() + chunk.len() > limit_bytes {
                return Err(Error::AnswerTooLarge { method, limit_bytes });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn classify(&self, method: &'static str, id: u64, status: u16, body: &[u8]) -> Result<Value, Error> {
        let response = serde_json::from_slice::<Response>(body);
        if let Ok(Response { error: Some(error), .. }) = response {
            return Err(self.refusal(method, error));
        }
        match status {
            401 | 403 => Err(self.unauthorized(method, format!("HTTP status {status}"))),
            200..=299 => {
                let response =
                    response.map_err(|error| Error::bad_answer(method, format!("not a JSON-RPC response: {error}")))?;
                // Go may write the id as a float.
                if response.id.as_f64() != Some(id as f64) {
                    return Err(Error::bad_answer(method, format!("id {} instead of {id}", response.id)));
                }
                Ok(response.result)
            }
            _ => Err(Error::Http { url: self.endpoint.url.clone(), method, status }),
        }
    }

    fn refusal(&self, method: &'static str, error: ErrorObject) -> Error {
        let ErrorObject { code, message } = error;
        // Lotus and Venus report this in the text. Forest reports it by the code: an HTTP status, or "invalid request".
        if matches!(code, 401 | 403)
            || (code, message.as_str()) == INVALID_REQUEST
            || message.starts_with("missing permission")
        {
            return self.unauthorized(method, message);
        }
        if code == CODE_METHOD_NOT_FOUND {
            return Error::MethodNotFound { url: self.endpoint.url.clone(), method };
        }
        Error::refused(method, code, &message)
    }

    fn unauthorized(&self, method: &'static str, message: String) -> Error {
        Error::Unauthorized {
            url: self.endpoint.url.clone(),
            method,
            token_file: self.endpoint.token_file.clone(),
            message,
        }
    }

    fn failed(&self, method: &'static str, error: reqwest::Error) -> Error {
        let url = self.endpoint.url.clone();
        let (connecting, timed_out) = (error.is_connect(), error.is_timeout());
        let source = error.without_url().into();
        match (connecting, timed_out) {
            (true, _) => Error::Unreachable { url, source },
            (false, true) => Error::TimedOut { url, method, limit: self.endpoint.limit(method) },
            (false, false) => Error::ConnectionLost { url, method, source },
        }
    }
}

impl Transport for RpcClient {
    async fn call(&self, method: &'static str, params: Value) -> Result<Value, Error> {
        let started = Instant::now();
        let limit = self.endpoint.limit(method);
        let outcome = tokio::time::timeout(limit, self.exchange(method, params)).await;
        let result = outcome.unwrap_or_else(|_| Err(Error::TimedOut { url: self.endpoint.url.clone(), method, limit }));
        tracing::debug!(method, elapsed_ms = started.elapsed().as_millis() as u64, ok = result.is_ok(), "node call");
        result
    }

    async fn permissions(&self) -> Result<Option<Vec<String>>, Error> {
        const METHOD: &str = "AuthVerify";
        let Some(path) = &self.endpoint.token_file else { return Ok(None) };
        let read = read_token(path).await;
        let text = match &read {
            Ok(text) => text.trim().to_owned(),
            Err(_) => String::new(),
        };
        checked_token(path, read)?;
        let answer = match self.call(METHOD, json!([text])).await {
            // Another implementation, without this method.
            Err(Error::MethodNotFound { .. }) => return Ok(None),
            answer => answer?,
        };
        serde_json::from_value(answer).map(Some).map_err(|error| Error::bad_answer(METHOD, error))
    }

    async fn follow_heads(&self, silence: Duration, noticed: &Wake) -> Infallible {
        self.stay_subscribed(silence, noticed).await
    }
}

/// Installs ring as the process's TLS crypto provider, unless there is one already.
fn install_tls_provider() {
    // An error only means that another part of the process was first.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// Reads the file of a token.
async fn read_token(path: &Path) -> io::Result<String> {
    tokio::fs::read_to_string(secret::locate(path)?).await
}
