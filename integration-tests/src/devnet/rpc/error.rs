//! Errors as a node's clients see them: a code, a text, and Lotus' HTTP status.

use axum::http::StatusCode;

use crate::devnet::blocks::BlockError;
use crate::devnet::chain::ChainError;
use crate::devnet::message::EncodeError;
use crate::devnet::node::{NodeError, PushError, UpgradeError};
use crate::devnet::search::SearchError;
use crate::devnet::view::ViewError;
use crate::devnet::wallet::WalletError;
use crate::devnet::world::WorldError;

use super::auth::Permission;

/// Any error that a method returns.
const GENERIC: i64 = 1;
/// A dry run has run out of gas.
pub const OUT_OF_GAS: i64 = 2;
/// An actor has aborted a dry run.
pub const EXECUTION_REVERTED: i64 = 3;
/// An address does not exist on chain.
const ACTOR_NOT_FOUND: i64 = 11;

/// A failed call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RpcError {
    /// The JSON-RPC code.
    pub code: i64,
    /// The message.
    pub message: String,
    /// The HTTP status. Lotus answers requests that it cannot dispatch with 500 or 400, and failed calls with 200.
    pub status: StatusCode,
    /// The revert data for Ethereum clients, which Lotus adds to an abort.
    pub data: Option<&'static str>,
    /// If set, the answer has this status and no body.
    pub silent: Option<StatusCode>,
}

impl RpcError {
    /// An error of a method that has run.
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), status: StatusCode::OK, data: None, silent: None }
    }

    /// An error of a method that has run, with the code that most errors have.
    pub fn generic(message: impl Into<String>) -> Self {
        Self::new(GENERIC, message)
    }

    /// A dry run that an actor or the VM has aborted.
    pub fn reverted(code: i64, message: impl Into<String>) -> Self {
        Self { data: Some("0x"), ..Self::new(code, message) }
    }

    /// An answer without a body.
    pub fn silent(status: StatusCode) -> Self {
        Self { silent: Some(status), ..Self::generic("") }
    }

    /// The request or a parameter cannot be parsed.
    pub fn parse(message: impl Into<String>) -> Self {
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, ..Self::new(-32700, message) }
    }

    /// The request is not a call.
    pub fn invalid_request(message: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, ..Self::new(-32600, message) }
    }

    /// The number of parameters is wrong.
    pub fn parameter_count(method: &str, given: usize, wanted: usize) -> Self {
        let message = format!("wrong param count (method '{method}'): {given} != {wanted}");
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, ..Self::new(-32602, message) }
    }

    /// There is no such method.
    pub fn method_not_found(method: &str) -> Self {
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, ..Self::new(-32601, format!("method '{method}' not found")) }
    }

    /// The method's answer is a channel, which HTTP cannot carry.
    pub fn needs_channel(method: &str) -> Self {
        let message = format!("method '{method}' not supported in this mode (no out channel support)");
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, ..Self::new(-32601, message) }
    }

    /// The token lacks the permission for the method.
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

/// An error with all its causes in one line, like Go's wrapped errors.
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

generic_from!(
    BlockError,
    ChainError,
    NodeError,
    PushError,
    SearchError,
    UpgradeError,
    WalletError,
    WorldError,
    EncodeError
);

/// Wraps an error of the miner state machine.
pub fn state_error(what: &'static str) -> impl FnOnce(anyhow::Error) -> RpcError {
    move |error| RpcError::generic(format!("{what}: {error:#}"))
}
