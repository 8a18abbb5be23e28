//! StateCall: what a message would do, as if it came first in the tipset. It costs no gas, and nothing is stored.

use serde_json::{Value, json};

use super::error::RpcError;
use super::form;
use super::params::Params;
use crate::devnet::message::message_cid;
use crate::devnet::node::Node;

/// Nanoseconds of an execution; nobody measures it.
const DURATION: u64 = 1_000_000;

pub fn state_call(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let message = params.message(0)?;
    let applied = node.call(&message, params.tipset_key(1)?.as_ref())?;
    let receipt = &applied.receipt;
    let cid = form::cid(&message_cid(&message)?);
    Ok(json!({
        "MsgCid": cid,
        "Msg": form::message(&message)?,
        "MsgRct": form::receipt(receipt),
        "GasCost": {
            "Message": cid,
            "GasUsed": receipt.gas_used.to_string(),
            "BaseFeeBurn": "0",
            "OverEstimationBurn": "0",
            "MinerPenalty": "0",
            "MinerTip": "0",
            "Refund": "0",
            "TotalCost": "0",
        },
        "ExecutionTrace": {
            "Msg": {
                "From": form::address(&message.from),
                "To": form::address(&message.to),
                "Value": form::amount(&message.value),
                "Method": message.method_num,
                "Params": form::bytes(message.params.bytes()),
                "ParamsCodec": 0x51,
                "GasLimit": message.gas_limit,
                "ReadOnly": false,
            },
            "MsgRct": {
                "ExitCode": receipt.exit_code.value(),
                "Return": form::bytes(receipt.return_data.bytes()),
                "ReturnCodec": 0x51,
            },
            "GasCharges": [],
            "Subcalls": null,
        },
        "Error": applied.error.unwrap_or_default(),
        "Duration": DURATION,
    }))
}
