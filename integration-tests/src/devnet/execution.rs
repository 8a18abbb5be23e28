//! Executes a message: gas, value, and the actor's method, all or nothing.

use std::sync::Arc;

use fil_actors_shared::v19::ActorError;
use fil_actors_shared::v19::runtime::DomainSeparationTag;
use fil_actors_shared::v19::runtime::Policy;
use fvm_ipld_encoding::RawBytes;
use fvm_shared::ActorID;
use fvm_shared::clock::ChainEpoch;
use fvm_shared::econ::TokenAmount;
use fvm_shared::error::ExitCode;
use fvm_shared::message::Message;
use fvm_shared::receipt::Receipt;

use super::chain::{Chain, ChainError};
use super::economics::Economics;
use super::message::gas_funds;
use super::proofs::ProofVerifier;
use super::randomness::{beacon_data, blake2b256, draw_tagged};
use super::tipset::Tipset;
use super::world::{BURNT_FUNDS, Kind, POWER, REWARD, Store, World, WorldError};

mod activation;
mod addresses;
mod beneficiary;
mod deadline;
mod declarations;
mod funds;
mod gas;
mod miner;
mod post;
mod power;
mod pre_commit;
mod prove_commit;
mod rewrite;
mod terminate;
mod window;

pub use deadline::DeadlineEnd;
pub use gas::gas_used;
pub use miner::{METHOD_PRE_COMMIT, METHOD_PROVE_COMMIT};
pub use post::Posted;
pub use power::{CreateMinerParams, CreateMinerReturn, proving_period_start};
pub use window::{close_windows, pass_null_rounds};

/// The network version from which every sector has ten times the power of its size, and deals are no business of a
/// pre-commit (FIP-0118).
pub const SOLSTICE: u32 = 29;
/// The gas limit of a block.
pub const BLOCK_GAS_LIMIT: u64 = 10_000_000_000;
/// The network's lowest base fee in attoFIL per unit of gas. It stays there unless a test changes it.
pub const BASE_FEE_MIN_ATTO: u64 = 100;

/// Everything that a message can see besides the state.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The store of the state.
    pub store: &'a Store,
    /// The chain, which gives tickets.
    pub chain: &'a Chain,
    /// The tipset that includes the message.
    pub tipset: &'a Arc<Tipset>,
    /// The epoch of that tipset.
    pub epoch: ChainEpoch,
    /// The seed of the beacon.
    pub seed: u64,
    /// Network constants.
    pub policy: &'a Policy,
    /// Network averages.
    pub economics: &'a Economics,
    /// The network version, 28 or 29.
    pub network_version: u32,
    /// Whether sectors must be proven.
    pub proving: bool,
    /// The verifier for proofs.
    pub verifier: &'a dyn ProofVerifier,
}

impl Context<'_> {
    /// Randomness from the ticket chain.
    pub fn ticket_randomness(
        &self,
        tag: DomainSeparationTag,
        epoch: ChainEpoch,
        entropy: &[u8],
    ) -> Result<[u8; 32], ChainError> {
        let digest = self.chain.ticket_digest(epoch, self.tipset)?;
        Ok(draw_tagged(&digest, tag, epoch, entropy))
    }

    /// Randomness from the beacon.
    pub fn beacon_randomness(
        &self,
        tag: DomainSeparationTag,
        epoch: ChainEpoch,
        entropy: &[u8],
    ) -> Result<[u8; 32], ChainError> {
        let digest = beacon_digest(self.seed, epoch, self.epoch)?;
        Ok(draw_tagged(&digest, tag, epoch, entropy))
    }
}

/// The digest of an epoch's beacon entry, as seen from a tipset at `now`.
pub fn beacon_digest(seed: u64, epoch: ChainEpoch, now: ChainEpoch) -> Result<[u8; 32], ChainError> {
    if epoch > now {
        return Err(ChainError::RandomnessFromFuture);
    }
    Ok(blake2b256(&beacon_data(seed, epoch.max(0))))
}

/// The result of a message.
#[derive(Debug, Clone)]
pub struct Applied {
    /// The receipt on chain.
    pub receipt: Receipt,
    /// Why it failed, which is not stored on chain.
    pub error: Option<String>,
    /// The window PoSt that it submitted.
    pub posted: Option<Posted>,
}

/// What a call has done besides its effects on the state.
#[derive(Debug, Default)]
pub struct Done {
    /// The gas that depends on the state.
    pub gas: u64,
    /// The window PoSt that it has accepted.
    pub posted: Option<Posted>,
}

/// Applies a message to the state tree.
pub fn apply(context: &Context<'_>, world: &mut World, message: &Message) -> Result<Applied, WorldError> {
    let Some(sender) = valid_sender(world, message) else {
        return Ok(failed(ExitCode::SYS_SENDER_INVALID, "sender is not an account", 0));
    };
    let invalid = |text| failed(ExitCode::SYS_SENDER_STATE_INVALID, text, 0);
    let gas_reserve = gas_funds(message);
    match world.get_mut(sender) {
        Some(actor) if actor.nonce != message.sequence => return Ok(invalid("nonce mismatch")),
        Some(actor) if actor.balance < gas_reserve => {
            return Ok(invalid("gas exceeds the balance"));
        }
        Some(actor) => {
            actor.nonce += 1;
            actor.balance -= &gas_reserve;
        }
        None => return Ok(invalid("sender vanished")),
    }

    let before = world.clone();
    let mut needed = gas_used(message);
    let mut done = Done::default();
    let mut result = Ok(RawBytes::default());
    if message.gas_limit >= needed {
        result = call(context, world, sender, message, &mut done)?;
        needed += done.gas;
    }
    if message.gas_limit < needed {
        let text = format!("out of gas: {} of {needed}", message.gas_limit);
        result = Err(ActorError::unchecked(ExitCode::SYS_OUT_OF_GAS, text));
    }
    let used = needed.min(message.gas_limit);
    let applied = match result {
        Ok(return_data) => {
            Applied { receipt: receipt(ExitCode::OK, return_data, used), error: None, posted: done.posted }
        }
        Err(error) => {
            *world = before;
            failed(error.exit_code(), error.msg(), used)
        }
    };
    settle_gas(world, sender, message, used, gas_reserve, context.tipset.header.base_fee);
    Ok(applied)
}

fn valid_sender(world: &World, message: &Message) -> Option<ActorID> {
    let id = world.resolve(&message.from)?;
    let actor = world.get(id)?;
    (actor.kind == Kind::Account).then_some(id)
}

/// Settles the reserve: pays base fee for the gas used and premium for the gas limit, and returns the rest.
fn settle_gas(
    world: &mut World,
    sender: ActorID,
    message: &Message,
    used: u64,
    reserve: TokenAmount,
    base_fee_atto: u64,
) {
    let base_fee = TokenAmount::from_atto(base_fee_atto).min(message.gas_fee_cap.clone());
    let burn = &base_fee * used;
    let premium = message.gas_premium.clone().min(&message.gas_fee_cap - &base_fee);
    let tip = &premium * message.gas_limit;
    let refund = &reserve - &burn - &tip;
    credit(world, sender, &refund);
    credit(world, BURNT_FUNDS, &burn);
    credit(world, REWARD, &tip);
}

fn credit(world: &mut World, id: ActorID, amount: &TokenAmount) {
    if let Some(actor) = world.get_mut(id) {
        actor.balance += amount;
    }
}

type CallResult = Result<RawBytes, ActorError>;

/// Transfers the value and runs the method. The outer error is the node's, the inner one the actor's.
fn call(
    context: &Context<'_>,
    world: &mut World,
    sender: ActorID,
    message: &Message,
    done: &mut Done,
) -> Result<CallResult, WorldError> {
    let receiver = match world.resolve(&message.to) {
        Some(id) => id,
        None => match world.create_account(context.store, &message.to)? {
            Some(id) => id,
            None => {
                return Ok(abort(ExitCode::SYS_INVALID_RECEIVER, "receiver does not exist"));
            }
        },
    };
    let value = &message.value;
    match world.get_mut(sender) {
        Some(actor) if !value.is_negative() && actor.balance >= *value => actor.balance -= value,
        _ => {
            return Ok(abort(ExitCode::SYS_INSUFFICIENT_FUNDS, "sender cannot pay the value"));
        }
    }
    credit(world, receiver, value);
    if message.method_num == fvm_shared::METHOD_SEND {
        return Ok(Ok(RawBytes::default()));
    }
    match world.get(receiver).map(|actor| actor.kind) {
        Some(Kind::Miner) => miner::invoke(context, world, sender, receiver, message, done),
        _ if receiver == POWER => power::invoke(context, world, message),
        _ => Ok(abort(ExitCode::USR_UNHANDLED_MESSAGE, "invalid method")),
    }
}

fn abort(code: ExitCode, text: &str) -> CallResult {
    Err(ActorError::unchecked(code, text.to_owned()))
}

fn failed(code: ExitCode, text: &str, used: u64) -> Applied {
    Applied { receipt: receipt(code, RawBytes::default(), used), error: Some(text.to_owned()), posted: None }
}

fn receipt(exit_code: ExitCode, return_data: RawBytes, gas_used: u64) -> Receipt {
    Receipt { exit_code, return_data, gas_used, events_root: None }
}
