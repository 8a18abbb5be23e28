//! JSON-RPC 2.0 over HTTP, as a Lotus node speaks it: `POST /rpc/v1`, with method names that begin with `Filecoin.`.
//! [`channels`] is the same over WebSocket.
//!
//! Methods that control the test chain begin with `Devnet.` (see [`control`]).

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::watch;
use tracing::{debug, error};

use super::faults::{Answer, When};
use super::node::Node;

mod actor;
pub mod auth;
mod blocks;
mod call;
mod chain;
pub mod channels;
pub mod control;
pub mod error;
pub mod form;
pub mod gas;
mod methods;
mod miner;
mod mpool;
pub mod params;
mod randomness;
mod replay;
mod sector;
mod state;
mod wallet;

use auth::{Permissions, Secret};
use error::RpcError;
use methods::Method;
use params::Params;

/// The maximum size of a request in bytes.
pub const REQUEST_BYTES_MAX: usize = 4 << 20;
/// The maximum number of calls in a batch.
const BATCH_MAX: usize = 100;

/// How often a held call looks whether it may go on.
const HOLD_PERIOD: Duration = Duration::from_millis(5);

/// The state that requests are answered from.
#[derive(Clone)]
pub struct Service {
    /// The node.
    pub node: Arc<Mutex<Node>>,
    /// The key of the tokens.
    pub secret: Secret,
    /// Changes when the server ends.
    pub ending: watch::Receiver<()>,
}

impl Service {
    fn with_node<T>(&self, act: impl FnOnce(&mut Node) -> T) -> T {
        act(&mut self.node.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The response to an HTTP request.
enum Reply {
    Json(StatusCode, Value),
    Empty,
    Status(StatusCode),
}

impl Reply {
    fn into_json(self) -> Option<Value> {
        match self {
            Reply::Json(_, value) => Some(value),
            Reply::Empty | Reply::Status(_) => None,
        }
    }
}

/// Answers one HTTP request.
pub async fn handle(State(service): State<Service>, headers: HeaderMap, body: Bytes) -> Response {
    let Some(permissions) = service.secret.permissions(headers.get(header::AUTHORIZATION)) else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    // Calls may verify proofs, so they run on a blocking thread.
    let answered = tokio::task::spawn_blocking(move || answer_body(&service, permissions, &body)).await;
    match answered {
        Ok(Reply::Json(status, value)) => (status, axum::Json(value)).into_response(),
        Ok(Reply::Empty) => StatusCode::OK.into_response(),
        Ok(Reply::Status(status)) => status.into_response(),
        Err(error) => {
            error!(%error, "a request handler died");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

fn answer_body(service: &Service, permissions: Permissions, body: &[u8]) -> Reply {
    let request: Value = match serde_json::from_slice(body) {
        Ok(request) => request,
        Err(error) => {
            return failure(&Value::Null, &RpcError::parse(format!("unmarshaling request: {error}")));
        }
    };
    let Value::Array(batch) = request else {
        return answer_one(service, permissions, &request);
    };
    if batch.is_empty() || batch.len() > BATCH_MAX {
        return failure(&Value::Null, &RpcError::invalid_request("invalid batch size"));
    }
    let mut answers = Vec::new();
    for request in &batch {
        match answer_one(service, permissions, request) {
            Reply::Json(_, value) => answers.push(value),
            Reply::Empty => {}
            Reply::Status(status) => return Reply::Status(status),
        }
    }
    Reply::Json(StatusCode::OK, Value::Array(answers))
}

fn answer_one(service: &Service, permissions: Permissions, request: &Value) -> Reply {
    let Some(name) = request.get("method").and_then(Value::as_str) else {
        return failure(&Value::Null, &RpcError::invalid_request("request has no method"));
    };
    let id = request.get("id").unwrap_or(&Value::Null);
    if !matches!(id, Value::Null | Value::String(_) | Value::Number(_)) {
        return failure(&Value::Null, &RpcError::invalid_request("invalid request id"));
    }
    let result = call(service, permissions, name, request.get("params"));
    if let Err(error) = &result {
        debug!(method = name, code = error.code, message = %error.message, "call failed");
    }
    match result {
        Err(RpcError { silent: Some(status), .. }) => Reply::Status(status),
        _ if id.is_null() => Reply::Empty,
        Ok(value) => Reply::Json(StatusCode::OK, json!({"jsonrpc": "2.0", "id": id, "result": value})),
        Err(error) => failure(id, &error),
    }
}

fn failure(id: &Value, error: &RpcError) -> Reply {
    let mut body = json!({
        "jsonrpc": "2.0",
        "id": id,
        "error": {"code": error.code, "message": error.message},
    });
    if let Some(data) = error.data {
        body["error"]["data"] = data.into();
    }
    Reply::Json(error.status, body)
}

fn call(service: &Service, permissions: Permissions, name: &str, params: Option<&Value>) -> Result<Value, RpcError> {
    let method = Method::find(name).ok_or_else(|| RpcError::method_not_found(name))?;
    let params = Params::new(name, method.parameters, params)?;
    if !permissions.contains(method.permission) {
        return Err(RpcError::missing_permission(method.short_name(), method.permission));
    }
    wait_while_held(service, name, When::Before);
    let mut node = service.node.lock().unwrap_or_else(PoisonError::into_inner);
    if node.faults.is_away() && name.starts_with("Filecoin.") {
        return Err(RpcError::silent(StatusCode::SERVICE_UNAVAILABLE));
    }
    inject(&mut node, name, When::Before)?;
    let run = AssertUnwindSafe(|| (method.handler)(&mut node, &params));
    let result = catch_unwind(run).unwrap_or_else(|_| Err(RpcError::internal("handler panicked")));
    inject(&mut node, name, When::After)?;
    drop(node);
    wait_while_held(service, name, When::After);
    result
}

/// Waits while a fault holds the call. The node is not locked meanwhile.
fn wait_while_held(service: &Service, method: &str, when: When) {
    let mut is_counted = false;
    while service.with_node(|node| {
        let is_held = node.faults.is_held(method, when);
        node.stats.held_calls += u64::from(is_held && !is_counted);
        is_counted |= is_held;
        is_held
    }) {
        std::thread::sleep(HOLD_PERIOD);
    }
}

fn inject(node: &mut Node, method: &str, when: When) -> Result<(), RpcError> {
    match node.faults.take_failure(method, when) {
        None => Ok(()),
        Some(Answer::RpcError) => Err(RpcError::new(1, "injected fault")),
        Some(Answer::Http503) => Err(RpcError::silent(StatusCode::SERVICE_UNAVAILABLE)),
    }
}
