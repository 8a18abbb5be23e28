//! Methods that a money book is written from: the messages of a tipset, and what they cost and moved.
//!
//! A devnet's actors report no trace of their calls. What a message has moved is read from the balances before and after it.

use std::collections::BTreeMap;

use cid::Cid;
use fvm_shared::ActorID;
use fvm_shared::bigint::Zero;
use fvm_shared::econ::TokenAmount;
use fvm_shared::message::Message;
use serde_json::{Value, json};

use super::error::RpcError;
use super::form;
use super::params::Params;
use crate::devnet::address::id_to_text;
use crate::devnet::execution::{Applied, apply, pass_null_rounds};
use crate::devnet::message::gas_funds;
use crate::devnet::node::Node;
use crate::devnet::view::View;
use crate::devnet::world::{BURNT_FUNDS, REWARD, World};

/// Nanoseconds of an execution; nobody measures it.
const DURATION: u64 = 1_000_000;

pub fn messages_in_tipset(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let tipset = node.tipset(params.tipset_key(0)?.as_ref())?;
    let message = |(cid, signed): &(Cid, std::sync::Arc<crate::devnet::message::SignedMessage>)| {
        Ok(json!({"Cid": form::cid(cid), "Message": form::message(&signed.message)?}))
    };
    Ok(form::list(tipset.messages.iter().map(message).collect::<Result<_, RpcError>>()?))
}

pub fn replay(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let tipset = node.tipset(params.tipset_key(0)?.as_ref())?;
    let wanted = params.cid(1)?;
    let context = node.context(&tipset);
    let mut world = View::new(&node.store, tipset.clone())?.world;
    if let Some(parent) = node.chain.parent(&tipset)? {
        pass_null_rounds(&context, &mut world, parent.height())?;
    }
    for (cid, signed) in &tipset.messages {
        let before = world.clone();
        let applied = apply(&context, &mut world, &signed.message).map_err(crate::devnet::view::ViewError::from)?;
        if *cid == wanted {
            let cost = GasCost::of(&signed.message, &applied, tipset.header.base_fee);
            return Ok(json!({
                "MsgCid": form::cid(cid),
                "Msg": form::message(&signed.message)?,
                "MsgRct": form::receipt(&applied.receipt),
                "GasCost": cost.json(cid, &applied),
                "ExecutionTrace": trace(&signed.message, &applied, &cost, (&before, &world)),
                "Error": applied.error.unwrap_or_default(),
                "Duration": DURATION,
            }));
        }
    }
    Err(RpcError::generic(format!("message not found in tipset: {wanted}")))
}

/// What the sender paid for the gas.
struct GasCost {
    burn: TokenAmount,
    tip: TokenAmount,
    refund: TokenAmount,
}

impl GasCost {
    /// As the execution settles it.
    fn of(message: &Message, applied: &Applied, base_fee_atto: u64) -> Self {
        let used = applied.receipt.gas_used;
        if used == 0 {
            return Self { burn: TokenAmount::zero(), tip: TokenAmount::zero(), refund: gas_funds(message) };
        }
        let base_fee = TokenAmount::from_atto(base_fee_atto).min(message.gas_fee_cap.clone());
        let premium = message.gas_premium.clone().min(&message.gas_fee_cap - &base_fee);
        let (burn, tip) = (base_fee * used, premium * message.gas_limit);
        let refund = gas_funds(message) - &burn - &tip;
        Self { burn, tip, refund }
    }

    fn json(&self, cid: &Cid, applied: &Applied) -> Value {
        json!({
            "Message": form::cid(cid),
            "GasUsed": applied.receipt.gas_used.to_string(),
            "BaseFeeBurn": form::amount(&self.burn),
            "OverEstimationBurn": "0",
            "MinerPenalty": "0",
            "MinerTip": form::amount(&self.tip),
            "Refund": form::amount(&self.refund),
            "TotalCost": form::amount(&(&self.burn + &self.tip)),
        })
    }
}

/// The trace of a message: the sender pays the value, and the receiver pays on what it has less afterwards.
fn trace(message: &Message, applied: &Applied, cost: &GasCost, (before, after): (&World, &World)) -> Value {
    let Some((from, to)) = after.resolve(&message.from).zip(after.resolve(&message.to)) else { return Value::Null };
    let mut subcalls = Vec::new();
    if applied.receipt.exit_code.is_success() {
        let mut changes = changes(before, after);
        for (actor, paid) in [
            (from, -(&cost.burn + &cost.tip + &message.value)),
            (to, message.value.clone()),
            (BURNT_FUNDS, cost.burn.clone()),
            (REWARD, cost.tip.clone()),
        ] {
            *changes.entry(actor).or_default() -= paid;
        }
        let paid_on = changes.into_iter().filter(|(actor, change)| *actor != to && change.is_positive());
        subcalls.extend(paid_on.map(|(actor, amount)| call(to, actor, &amount, 0, Value::Null)));
    }
    let exit_code = applied.receipt.exit_code.value();
    call(from, to, &message.value, exit_code, form::list(subcalls))
}

/// By how much each actor has more or less.
fn changes(before: &World, after: &World) -> BTreeMap<ActorID, TokenAmount> {
    let balances = after.actors().map(|(id, actor)| {
        let had = before.get(id).map(|actor| actor.balance.clone()).unwrap_or_default();
        (id, &actor.balance - had)
    });
    balances.collect()
}

fn call(from: ActorID, to: ActorID, value: &TokenAmount, exit_code: u32, subcalls: Value) -> Value {
    json!({
        "Msg": {
            "From": id_to_text(from), "To": id_to_text(to), "Value": form::amount(value), "Method": 0, "Params": null,
            "ParamsCodec": 0, "GasLimit": 0, "ReadOnly": false,
        },
        "MsgRct": {"ExitCode": exit_code, "Return": null, "ReturnCodec": 0},
        "GasCharges": [],
        "Subcalls": subcalls,
    })
}
