//! Errors as a node's clients see them: a code, a text, and the HTTP status that Lotus sends with them.

use axum::http::StatusCode;

use crate::devnet::chain::ChainError;
use crate::devnet::message::EncodeError;
use crate::devnet::node::{NodeError, PushError};
use crate::devnet::search::SearchError;
use crate::devnet::view::ViewError;
use crate::devnet::wallet::WalletError;
use crate::devnet::world::WorldError;

use super::auth::Permission;

/// Anything a method reports.
const GENERIC: i64 = 1;
/// A dry run that ran out of gas.
pub const OUT_OF_GAS: i64 = 2;
/// A dry run that an actor aborted.
pub const EXECUTION_REVERTED: i64 = 3;
/// An address that is not on chain.
const ACTOR_NOT_FOUND: i64 = 11;

/// A failed call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RpcError {
    /// JSON-RPC code.
    pub code: i64,
    /// Text.
    pub message: String,
    /// HTTP status; Lotus answers requests that it cannot dispatch with 500 or 400, failed calls with 200.
    pub status: StatusCode,
    /// What Lotus adds for an abort: the revert data of Ethereum's clients.
    pub data: Option<&'static str>,
    /// If set, the answer is this status without a body.
    pub silent: Option<StatusCode>,
}

impl RpcError {
    /// An error of a method that ran.
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), status: StatusCode::OK, data: None, silent: None }
    }

    /// An error of a method that ran, with the code that most have.
    pub fn generic(message: impl Into<String>) -> Self {
        Self::new(GENERIC, message)
    }

    /// A dry run that an actor, or the machine, ended.
    pub fn reverted(code: i64, message: impl Into<String>) -> Self {
        Self { data: Some("0x"), ..Self::new(code, message) }
    }

    /// No body at all.
    pub fn silent(status: StatusCode) -> Self {
        Self { silent: Some(status), ..Self::generic("") }
    }

    /// The request or a parameter is not what was expected.
    pub fn parse(message: impl Into<String>) -> Self {
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, ..Self::new(-32700, message) }
    }

    /// The request is no call.
    pub fn invalid_request(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, ..Self::new(-32600, message) }
    }

    /// The number of parameters is wrong.
    pub fn parameter_count(method: &str, given: usize, wanted: usize) -> Self {
        let message = format!("wrong param count (method '{method}'): {given} != {wanted}");
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, ..Self::new(-32602, message) }
    }

    /// No such method.
    pub fn method_not_found(method: &str) -> Self {
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, ..Self::new(-32601, format!("method '{method}' not found")) }
    }

    /// The token does not allow the method.
    pub fn missing_permission(method: &str, needed: Permission) -> Self {
        let message = format!("missing permission to invoke '{method}' (need '{}')", needed.name());
        Self::generic(message)
    }

    /// The node itself failed.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(-32603, message)
    }
}

impl From<ViewError> for RpcError {
    fn from(error: ViewError) -> Self {
        let code = match &error {
            ViewError::ActorNotFound(_) => ACTOR_NOT_FOUND,
            _ => GENERIC,
        };
        Self::new(code, chained(&error))
    }
}

/// A method's failure is described with all of its causes, as Go's wrapped errors are.
fn chained(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

macro_rules! generic_from {
    ($($error:ty),*) => {
        $(impl From<$error> for RpcError {
            fn from(error: $error) -> Self {
                Self::generic(chained(&error))
            }
        })*
    };
}

generic_from!(ChainError, NodeError, PushError, SearchError, WalletError, WorldError, EncodeError);

/// Wraps a failure of the miner state machine's own code.
pub fn state_error(what: &'static str) -> impl FnOnce(anyhow::Error) -> RpcError {
    move |error| RpcError::generic(format!("{what}: {error:#}"))
}
