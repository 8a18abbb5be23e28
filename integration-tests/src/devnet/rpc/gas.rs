//! Gas estimation: a dry run, which every message also passes before it is sent.

use cid::Cid;
use fvm_shared::econ::TokenAmount;
use fvm_shared::error::ExitCode;
use fvm_shared::message::Message;
use serde::Deserialize;
use serde_json::Value;

use super::error::{EXECUTION_REVERTED, OUT_OF_GAS, RpcError};
use super::form;
use super::params::{Params, parse_amount};
use crate::devnet::address::to_text;
use crate::devnet::execution::BLOCK_GAS_LIMIT;
use crate::devnet::node::Node;
use crate::devnet::view::ViewError;

/// The minimum premium that Lotus estimates, in attoFIL.
const PREMIUM_ATTO: u64 = 100_000;
/// 1.125^20 in thousandths: the factor by which the base fee can rise in 20 epochs.
const BASE_FEE_RISE_MILLI: u64 = 10_545;
/// Lotus' default for the maximum cost of a message: 0.07 FIL.
const MAX_FEE_ATTO: u64 = 70_000_000_000_000_000;

/// Options for sending a message.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct SendSpec {
    max_fee: Option<String>,
}

/// `Filecoin.GasEstimateMessageGas`.
pub fn estimate_message_gas(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let message = params.message(0)?;
    let spec: Option<SendSpec> = params.decode(1)?;
    let key = params.tipset_key(2)?;
    let asked = parse_amount(spec.unwrap_or_default().max_fee.as_deref().unwrap_or_default());
    let estimated = estimate(node, message, asked.map_err(RpcError::parse)?, key.as_ref())?;
    Ok(form::message(&estimated)?)
}

/// A message with the gas fields that it lacks. 0: no other limit of its cost than the node's own.
pub fn estimate(
    node: &mut Node,
    mut message: Message,
    max_fee: TokenAmount,
    key: Option<&Cid>,
) -> Result<Message, RpcError> {
    if message.gas_limit == 0 {
        let applied = node.dry_run(&message, key).map_err(|error| no_sender(&message, error))?;
        let receipt = &applied.receipt;
        if !receipt.exit_code.is_success() {
            let error = applied.error.as_deref().unwrap_or_default();
            return Err(reverted(receipt.exit_code, &message, error));
        }
        message.gas_limit = (receipt.gas_used + receipt.gas_used / 4).min(BLOCK_GAS_LIMIT);
        if node.faults.take_low_gas() {
            message.gas_limit = receipt.gas_used / 10;
        }
    }
    if message.gas_premium.is_zero() {
        message.gas_premium = TokenAmount::from_atto(node.faults.premium_atto().unwrap_or(PREMIUM_ATTO));
    }
    if message.gas_fee_cap.is_zero() {
        let base_fee = TokenAmount::from_atto(node.chain.head().header.base_fee * BASE_FEE_RISE_MILLI / 1000);
        message.gas_fee_cap = base_fee + &message.gas_premium;
    }
    cap_fee(&mut message, max_fee);
    Ok(message)
}

fn no_sender(message: &Message, error: ViewError) -> RpcError {
    match error {
        ViewError::ActorNotFound(_) => RpcError::generic(format!(
            "gas estimation failed: CallWithGas failed: sender {} not found on chain: sender validation failed",
            to_text(&message.from)
        )),
        error => error.into(),
    }
}

/// Lowers the fee cap so that the message cannot cost more than its sender permits.
fn cap_fee(message: &mut Message, asked: TokenAmount) {
    let max_fee = if asked.is_zero() { TokenAmount::from_atto(MAX_FEE_ATTO) } else { asked };
    if &message.gas_fee_cap * message.gas_limit > max_fee {
        message.gas_fee_cap = max_fee.div_floor(message.gas_limit);
    }
    if message.gas_premium > message.gas_fee_cap {
        message.gas_premium = message.gas_fee_cap.clone();
    }
}

/// An aborted dry run, in Lotus' words. Lotus puts the cause on a separate line.
fn reverted(exit: ExitCode, message: &Message, error: &str) -> RpcError {
    let number = exit.value();
    let (code, trace) = match exit {
        ExitCode::SYS_OUT_OF_GAS => (OUT_OF_GAS, format!("--> caused by: {error} (1: illegal argument)")),
        ExitCode::SYS_INSUFFICIENT_FUNDS => {
            (EXECUTION_REVERTED, format!("--> caused by: send::send -- {error} (5: insufficient funds)"))
        }
        _ => {
            let to = to_text(&message.to).replacen('t', "f", 1);
            (EXECUTION_REVERTED, format!("00: {to} (method {}) -- {error} ({number})", message.method_num))
        }
    };
    let name = name_of(exit);
    RpcError::reverted(
        code,
        format!(
            "message execution failed (exit=[{name}({number})], vm error=[message failed with backtrace:\n{trace}\n (RetCode={number})])"
        ),
    )
}

/// Lotus' name for an exit code.
fn name_of(exit: ExitCode) -> &'static str {
    match exit {
        ExitCode::SYS_SENDER_INVALID => "SysErrSenderInvalid",
        ExitCode::SYS_SENDER_STATE_INVALID => "SysErrSenderStateInvalid",
        ExitCode::SYS_INVALID_RECEIVER => "SysErrInvalidReceiver",
        ExitCode::SYS_INSUFFICIENT_FUNDS => "SysErrInsufficientFunds",
        ExitCode::SYS_OUT_OF_GAS => "SysErrOutOfGas",
        ExitCode::USR_ILLEGAL_ARGUMENT => "ErrIllegalArgument",
        ExitCode::USR_NOT_FOUND => "ErrNotFound",
        ExitCode::USR_FORBIDDEN => "ErrForbidden",
        ExitCode::USR_INSUFFICIENT_FUNDS => "ErrInsufficientFunds",
        ExitCode::USR_ILLEGAL_STATE => "ErrIllegalState",
        ExitCode::USR_SERIALIZATION => "ErrSerialization",
        ExitCode::USR_UNHANDLED_MESSAGE => "ErrUnhandledMessage",
        _ => "Unknown",
    }
}
