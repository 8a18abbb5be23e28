//! Calls of a miner actor: loads its state, runs the method's body, and stores the state.

use fil_actor_miner_state::v19::{MinerInfo, State};
use fil_actors_shared::v19::{ActorDowncast, ActorError};
use fvm_ipld_encoding::{CborStore, RawBytes};
use fvm_shared::address::Address;
use fvm_shared::econ::TokenAmount;
use fvm_shared::error::ExitCode;
use fvm_shared::message::Message;
use fvm_shared::{ActorID, MethodNum};
use serde::de::DeserializeOwned;

use super::{
    CallResult, Context, Done, SOLSTICE, addresses, beneficiary, credit, declarations, funds, post, pre_commit,
    prove_commit, rewrite, terminate,
};
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
    /// The miner's funds, including the message's value. What a method takes away without paying it to someone is
    /// burnt.
    pub balance: TokenAmount,
    /// What the method pays, and to whom.
    pub paid: Vec<(ActorID, TokenAmount)>,
    /// What it has done besides.
    pub done: Done,
    /// All actors, as they are before the method.
    pub world: &'a World,
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
    done: &mut Done,
) -> Result<CallResult, WorldError> {
    let Some(actor) = world.get(receiver) else {
        return Ok(super::abort(ExitCode::SYS_INVALID_RECEIVER, "no such miner"));
    };
    let state: Option<State> = context.store.get_cbor(&actor.head).map_err(failed("read a miner"))?;
    let state = state.ok_or(WorldError::NotFound(actor.head))?;
    let info = state.get_info(context.store).map_err(failed("read a miner's info"))?;
    let before = actor.balance.clone();
    let mut call = Call {
        context,
        caller: sender,
        miner: receiver,
        balance: before.clone(),
        paid: Vec::new(),
        done: Done::default(),
        world,
        state,
        info,
    };
    let result = run(&mut call, message);
    let Call { balance, paid, state, .. } = call;
    *done = call.done;
    if result.is_ok() {
        let head = put(context.store, &state)?;
        let mut burnt = before - &balance;
        if let Some(actor) = world.get_mut(receiver) {
            actor.head = head;
            actor.balance = balance;
        }
        for (to, amount) in &paid {
            burnt -= amount;
            credit(world, *to, amount);
        }
        credit(world, BURNT_FUNDS, &burnt);
    }
    Ok(result)
}

/// Runs the body of a method.
fn run(call: &mut Call<'_>, message: &Message) -> CallResult {
    let is_solstice = call.context.network_version >= SOLSTICE;
    match message.method_num {
        2 => addresses::control_addresses(call),
        3 => addresses::change_worker_address(call, params(message)?),
        4 => addresses::change_peer_id(call, params(message)?),
        5 => post::submit_windowed_post(call, params(message)?),
        9 => terminate::terminate_sectors(call, params(message)?),
        10 => declarations::declare_faults(call, params(message)?),
        11 => declarations::declare_faults_recovered(call, params(message)?),
        16 => funds::withdraw_balance(call, &params(message)?),
        18 => addresses::change_multiaddrs(call, params(message)?),
        19 => terminate::compact_partitions(call, &params(message)?),
        21 => addresses::confirm_change_worker_address(call),
        22 => funds::repay_debt(call),
        23 => addresses::change_owner_address(call, &params(message)?),
        24 => post::dispute_windowed_post(call, params(message)?),
        METHOD_PRE_COMMIT => pre_commit::pre_commit_sector_batch2(call, params(message)?),
        30 => beneficiary::change_beneficiary(call, params(message)?),
        32 => rewrite::extend_sector_expiration2(call, params(message)?),
        METHOD_PROVE_COMMIT => prove_commit::prove_commit_sectors3(call, &params(message)?),
        37 if is_solstice => rewrite::upgrade_sector_quality(call, params(message)?),
        _ => super::abort(ExitCode::USR_UNHANDLED_MESSAGE, "invalid method"),
    }
}

/// Decodes a message's parameters.
pub fn params<T: DeserializeOwned>(message: &Message) -> Result<T, ActorError> {
    let decoded = message.params.deserialize::<T>();
    decoded.map_err(|error| ActorError::serialization(format!("failed to decode params: {error}")))
}

/// Wraps an error of the state machine, which keeps its exit code if it has one.
pub fn illegal_state(text: &'static str) -> impl FnOnce(anyhow::Error) -> ActorError {
    move |error| error.downcast_default(ExitCode::USR_ILLEGAL_STATE, text)
}

impl Call<'_> {
    /// Fails unless the caller is the owner, the worker or a control address.
    pub fn require_controlling_caller(&self) -> Result<(), ActorError> {
        let controls = self.info.control_addresses.iter().copied();
        let controlling: Vec<_> = controls.chain([self.info.worker, self.info.owner]).collect();
        self.require_caller(&controlling)
    }

    /// Fails unless the caller is one of these.
    pub fn require_caller(&self, allowed: &[Address]) -> Result<(), ActorError> {
        let caller = Address::new_id(self.caller);
        match allowed.contains(&caller) {
            true => Ok(()),
            false => Err(ActorError::forbidden(format!("caller {caller} is not one of supported"))),
        }
    }

    /// The ID address of an actor that must exist.
    pub fn resolve(&self, raw: &Address) -> Result<Address, ActorError> {
        let id = self.world.resolve(raw);
        id.map(Address::new_id).ok_or_else(|| ActorError::illegal_argument(format!("unable to resolve address: {raw}")))
    }

    /// Stores changed static information.
    pub fn save_info(&mut self) -> CallResult {
        let saved = self.state.save_info(self.context.store, &self.info);
        saved.map_err(illegal_state("could not save miner info"))?;
        Ok(RawBytes::default())
    }

    /// Pays an actor from the miner's funds.
    pub fn pay(&mut self, to: Address, amount: &TokenAmount) -> Result<(), ActorError> {
        let Some(id) = self.world.resolve(&to) else {
            return Err(ActorError::unchecked(ExitCode::SYS_INVALID_RECEIVER, format!("no actor {to}")));
        };
        self.balance -= amount;
        self.paid.push((id, amount.clone()));
        Ok(())
    }

    /// Pays as much of the fee debt as vesting and unlocked funds cover.
    pub fn repay_partial_debt(&mut self) -> Result<(), ActorError> {
        let (store, epoch) = (self.context.store, self.context.epoch);
        let repaid = self.state.repay_partial_debt_in_priority_order(store, epoch, &self.balance);
        let (burnt, _) = repaid.map_err(illegal_state("failed to repay fee debt"))?;
        self.balance -= &burnt;
        Ok(())
    }

    /// Pays the whole fee debt from unlocked funds, or aborts.
    pub fn repay_debts(&mut self) -> Result<(), ActorError> {
        let burnt = self.state.repay_debts(&self.balance);
        let burnt = burnt.map_err(illegal_state("unlocked balance can not repay fee debt"))?;
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
