//! Calls of a miner actor: loads its state, runs the method's body, and stores the state.

use fil_actor_miner_state::v19::{MinerInfo, PreCommitSectorBatchParams2, ProveCommitSectors3Params, State};
use fil_actors_shared::v19::{ActorDowncast, ActorError};
use fvm_ipld_encoding::{CborStore, RawBytes};
use fvm_shared::address::Address;
use fvm_shared::econ::TokenAmount;
use fvm_shared::error::ExitCode;
use fvm_shared::message::Message;
use fvm_shared::{ActorID, MethodNum};
use serde::de::DeserializeOwned;

use super::{CallResult, Context, credit, pre_commit, prove_commit};
use crate::devnet::world::{BURNT_FUNDS, World, WorldError, failed, put};

/// The method number of PreCommitSectorBatch2.
pub const METHOD_PRE_COMMIT: MethodNum = 28;
/// The method number of ProveCommitSectors3.
pub const METHOD_PROVE_COMMIT: MethodNum = 34;

/// The miner actor's exit code if its balance does not cover its locked funds.
const BALANCE_INVARIANTS_BROKEN: ExitCode = ExitCode::new(1000);

/// A call of a miner's method in progress.
pub struct Call<'a> {
    /// Everything it can see besides the state.
    pub context: &'a Context<'a>,
    /// The calling actor.
    pub caller: ActorID,
    /// The miner.
    pub miner: ActorID,
    /// The miner's funds, including the message's value.
    pub balance: TokenAmount,
    /// The miner's state. It is stored again if the call succeeds.
    pub state: State,
    /// Its static information.
    pub info: MinerInfo,
}

/// Runs a method of the miner at `receiver`.
pub fn invoke(
    context: &Context<'_>,
    world: &mut World,
    sender: ActorID,
    receiver: ActorID,
    message: &Message,
) -> Result<CallResult, WorldError> {
    let Some(actor) = world.get(receiver) else {
        return Ok(super::abort(ExitCode::SYS_INVALID_RECEIVER, "no such miner"));
    };
    let state: Option<State> = context.store.get_cbor(&actor.head).map_err(failed("read a miner"))?;
    let state = state.ok_or(WorldError::NotFound(actor.head))?;
    let info = state.get_info(context.store).map_err(failed("read a miner's info"))?;
    let mut call = Call { context, caller: sender, miner: receiver, balance: actor.balance.clone(), state, info };
    let before = call.balance.clone();
    let result = match message.method_num {
        METHOD_PRE_COMMIT => params::<PreCommitSectorBatchParams2>(message)
            .and_then(|params| pre_commit::pre_commit_sector_batch2(&mut call, params)),
        METHOD_PROVE_COMMIT => params::<ProveCommitSectors3Params>(message)
            .and_then(|params| prove_commit::prove_commit_sectors3(&mut call, &params)),
        _ => super::abort(ExitCode::USR_UNHANDLED_MESSAGE, "invalid method"),
    };
    if result.is_ok() {
        let head = put(context.store, &call.state)?;
        let burnt = &before - &call.balance;
        if let Some(actor) = world.get_mut(receiver) {
            actor.head = head;
            actor.balance = call.balance;
        }
        credit(world, BURNT_FUNDS, &burnt);
    }
    Ok(result)
}

fn params<T: DeserializeOwned>(message: &Message) -> Result<T, ActorError> {
    let decoded = message.params.deserialize::<T>();
    decoded.map_err(|error| ActorError::serialization(format!("failed to decode params: {error}")))
}

impl Call<'_> {
    /// Fails unless the caller is the owner, the worker or a control address.
    pub fn require_controlling_caller(&self) -> Result<(), ActorError> {
        let caller = Address::new_id(self.caller);
        let own = [self.info.owner, self.info.worker];
        if own.contains(&caller) || self.info.control_addresses.contains(&caller) {
            return Ok(());
        }
        Err(ActorError::forbidden(format!("caller {caller} is not one of supported")))
    }

    /// Pays the whole fee debt from unlocked funds, or aborts.
    pub fn repay_debts(&mut self) -> Result<(), ActorError> {
        let burnt = self.state.repay_debts(&self.balance).map_err(|error| {
            error.downcast_default(ExitCode::USR_ILLEGAL_STATE, "unlocked balance can not repay fee debt")
        })?;
        self.balance -= &burnt;
        Ok(())
    }

    /// The check that the actor makes at the end of each method that moves money.
    pub fn check_balance(&self) -> Result<(), ActorError> {
        self.state.check_balance_invariants(&self.balance).map_err(|error| {
            let text = format!("balance invariants broken: {error}");
            ActorError::unchecked(BALANCE_INVARIANTS_BROKEN, text)
        })
    }
}

/// Encodes a method's return value.
pub fn encode_return<T: serde::Serialize>(value: &T) -> Result<RawBytes, ActorError> {
    RawBytes::serialize(value).map_err(|error| ActorError::serialization(error.to_string()))
}
