//! What executing a message cost and moved, as a node reports it after executing the message again.

use cid::Cid;
use fvm_shared::address::Address;
use fvm_shared::econ::TokenAmount;
use serde::Deserialize;

use super::json;

/// The answer of `StateReplay`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Replay {
    /// What the sender paid for the gas.
    pub gas_cost: GasCost,
    /// The calls that the message made. `None` if it was not executed at all.
    #[serde(default)]
    pub execution_trace: Option<Trace>,
}

/// What a message's sender paid for its gas. The value that it sent is not part of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct GasCost {
    /// Burnt for the gas used and for a limit that was too high, and paid to the block's miner. In attoFIL.
    #[serde(deserialize_with = "json::tokens::deserialize")]
    pub total_cost: TokenAmount,
}

/// One call of an actor, with the calls that it made itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Trace {
    msg: Call,
    msg_rct: Outcome,
    #[serde(default, deserialize_with = "json::nullable::deserialize")]
    subcalls: Vec<Trace>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Call {
    #[serde(deserialize_with = "json::address::deserialize")]
    from: Address,
    #[serde(deserialize_with = "json::address::deserialize")]
    to: Address,
    #[serde(deserialize_with = "json::tokens::deserialize")]
    value: TokenAmount,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Outcome {
    exit_code: u32,
}

/// Money that went from one actor to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// Who paid.
    pub from: Address,
    /// Who was paid.
    pub to: Address,
    /// How much, in attoFIL.
    pub amount: TokenAmount,
}

impl Replay {
    /// Whether the message succeeded.
    pub fn is_success(&self) -> bool {
        self.execution_trace.as_ref().is_some_and(Trace::is_success)
    }

    /// What the message transferred, in order. A call that failed has moved nothing, and neither have its own calls.
    pub fn transfers(&self) -> Vec<Transfer> {
        let mut found = Vec::new();
        let mut open: Vec<&Trace> = self.execution_trace.iter().collect();
        while let Some(trace) = open.pop() {
            if !trace.is_success() {
                continue;
            }
            let Call { from, to, value } = &trace.msg;
            if value.is_positive() {
                found.push(Transfer { from: *from, to: *to, amount: value.clone() });
            }
            open.extend(trace.subcalls.iter().rev());
        }
        found
    }
}

impl Trace {
    fn is_success(&self) -> bool {
        self.msg_rct.exit_code == 0
    }
}

/// A message in a tipset, as far as it is needed to tell whose it is and what it is about.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct IncludedMessage {
    /// The CID under which the chain knows it.
    #[serde(with = "json::cid_link")]
    pub cid: Cid,
    /// The call.
    pub message: IncludedCall,
}

/// The call that an included message makes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct IncludedCall {
    /// The sender, as it stands in the message.
    #[serde(deserialize_with = "json::address::deserialize")]
    pub from: Address,
    /// The receiver, as it stands in the message.
    #[serde(deserialize_with = "json::address::deserialize")]
    pub to: Address,
    /// The method's number.
    pub method: u64,
    /// The parameters in CBOR.
    #[serde(default, deserialize_with = "json::bytes::deserialize")]
    pub params: Vec<u8>,
}

/// One of a miner's deadlines, as far as its money is concerned.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Deadline {
    #[serde(default, deserialize_with = "json::tokens::deserialize")]
    pub(super) daily_fee: TokenAmount,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn call(from: &str, to: &str, value: &str, exit_code: u32, subcalls: Value) -> Value {
        json!({
            "Msg": {"From": from, "To": to, "Value": value, "Method": 0, "Params": null, "ParamsCodec": 0},
            "MsgRct": {"ExitCode": exit_code, "Return": null, "ReturnCodec": 0},
            "GasCharges": [], "Subcalls": subcalls,
        })
    }

    fn replay(trace: Value) -> Replay {
        let cost = json!({"Message": null, "GasUsed": "1", "BaseFeeBurn": "5", "OverEstimationBurn": "1",
            "MinerPenalty": "0", "MinerTip": "2", "Refund": "9", "TotalCost": "8"});
        serde_json::from_value(json!({"GasCost": cost, "ExecutionTrace": trace, "Error": "", "Duration": 7})).unwrap()
    }

    #[test]
    fn a_failed_call_has_moved_nothing_and_what_it_called_neither() {
        let inner = call("t01000", "t099", "3", 0, Value::Null);
        let failed = call("t01000", "t06", "2", 18, json!([inner]));
        let burnt = call("t01000", "t099", "4", 0, json!([]));
        let query = call("t01000", "t02", "0", 0, Value::Null);
        let read = replay(call("t0101", "t01000", "10", 0, json!([query, failed, burnt])));
        let id = Address::new_id;
        let moved = |from, to, atto| Transfer { from: id(from), to: id(to), amount: TokenAmount::from_atto(atto) };
        assert_eq!(read.transfers(), [moved(101, 1000, 10), moved(1000, 99, 4)]);
        assert_eq!(read.gas_cost.total_cost, TokenAmount::from_atto(8));
        assert!(read.is_success());
    }

    #[test]
    fn a_message_that_failed_or_was_not_executed_has_moved_nothing() {
        let burnt = call("t01000", "t099", "4", 0, Value::Null);
        for trace in [call("t0101", "t01000", "10", 18, json!([burnt])), Value::Null] {
            let read = replay(trace);
            assert!(read.transfers().is_empty() && !read.is_success());
        }
    }
}
