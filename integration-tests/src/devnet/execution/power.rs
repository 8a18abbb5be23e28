//! The power actor's CreateMiner (method 2), with the miner's constructor.

use fil_actor_miner_state::v19::{MinerInfo, REWARD_VESTING_SPEC, State};
use fil_actors_shared::actor_error_v19 as actor_error;
use fil_actors_shared::v19::ActorError;
use fvm_ipld_encoding::tuple::*;
use fvm_ipld_encoding::{BytesDe, strict_bytes};
use fvm_shared::address::Address;
use fvm_shared::clock::ChainEpoch;
use fvm_shared::error::ExitCode;
use fvm_shared::message::Message;
use fvm_shared::sector::RegisteredPoStProof;
use fvm_shared::{ActorID, MethodNum};

use super::addresses::{check_peer_info, resolve_worker};
use super::miner::{encode_return, illegal_state, params};
use super::{CallResult, Context, abort, credit};
use crate::devnet::randomness::blake2b256;
use crate::devnet::world::{Actor, Kind, POWER, World, WorldError, put};

const METHOD_CREATE_MINER: MethodNum = 2;

/// The parameters of CreateMiner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct CreateMinerParams {
    /// The owner, on chain already.
    pub owner: Address,
    /// The worker, an account with a BLS key on chain already.
    pub worker: Address,
    /// The type of its window PoSts, which fixes the size of its sectors.
    pub window_post_proof_type: RegisteredPoStProof,
    /// The libp2p peer ID; may be empty.
    #[serde(with = "strict_bytes")]
    pub peer: Vec<u8>,
    /// Its multiaddresses; may be empty.
    pub multiaddrs: Vec<BytesDe>,
}

/// What CreateMiner returns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize_tuple, Deserialize_tuple)]
pub struct CreateMinerReturn {
    /// The miner's ID address.
    pub id_address: Address,
    /// Its address that does not change in a reorganisation.
    pub robust_address: Address,
}

/// Runs a method of the power actor, which has received the message's value.
pub fn invoke(context: &Context<'_>, world: &mut World, message: &Message) -> Result<CallResult, WorldError> {
    if message.method_num != METHOD_CREATE_MINER {
        return Ok(abort(ExitCode::USR_UNHANDLED_MESSAGE, "invalid method"));
    }
    let (state, robust) = match params(message).and_then(|params| construct(context, world, message, &params)) {
        Ok(constructed) => constructed,
        Err(error) => return Ok(Err(error)),
    };
    let head = put(context.store, &state)?;
    let id =
        world.add(Actor { kind: Kind::Miner, head, nonce: 0, balance: message.value.clone(), robust: Some(robust) });
    credit(world, POWER, &-message.value.clone());
    Ok(encode_return(&CreateMinerReturn { id_address: Address::new_id(id), robust_address: robust }))
}

/// The new miner's state and robust address. Its deposit vests like a reward.
fn construct(
    context: &Context<'_>,
    world: &World,
    message: &Message,
    params: &CreateMinerParams,
) -> Result<(State, Address), ActorError> {
    let (store, policy, epoch) = (context.store, context.policy, context.epoch);
    check_peer_info(policy, &params.peer, &params.multiaddrs)?;
    let proof = params.window_post_proof_type;
    if !policy.valid_post_proof_type.contains(proof) {
        return Err(actor_error!(illegal_argument, "proof type {:?} not allowed for new miner actors", proof));
    }
    let deposit = context.economics.create_miner_deposit(policy, epoch);
    if message.value < deposit {
        return Err(actor_error!(
            insufficient_funds,
            "not enough balance to lock for create miner deposit: sent balance {} < deposit {}",
            message.value.atto(),
            deposit.atto()
        ));
    }
    let owner = world
        .resolve(&params.owner)
        .ok_or_else(|| actor_error!(illegal_argument, "unable to resolve owner address: {}", params.owner))?;
    let worker = resolve_worker(world, &params.worker)?;
    let multiaddrs = params.multiaddrs.clone();
    let info = MinerInfo::new(owner, worker, vec![], params.peer.clone(), multiaddrs, proof)?;
    let failed = |error: WorldError| actor_error!(illegal_state, "failed to construct state: {}", error);
    let info = put(store, &info).map_err(failed)?;
    let start = proving_period_start(policy.wpost_proving_period, world.next_id(), epoch);
    let index = ((epoch - start) / policy.wpost_challenge_window) as u64;
    let mut state = State::new(policy, store, info, start, index)?;
    state
        .add_locked_funds(store, epoch, &deposit, &REWARD_VESTING_SPEC)
        .map_err(illegal_state("failed to lock the deposit"))?;
    Ok((state, robust_address(message)?))
}

/// The start of the proving period that contains an epoch. Its offset is derived from the miner's address and the
/// epoch of its creation, as in the actor's constructor.
pub fn proving_period_start(period: ChainEpoch, miner: ActorID, epoch: ChainEpoch) -> ChainEpoch {
    let mut seed = Address::new_id(miner).to_bytes();
    seed.extend_from_slice(&epoch.to_be_bytes());
    let digest = blake2b256(&seed);
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    let offset = (u64::from_be_bytes(first) % period as u64) as ChainEpoch;
    epoch - (epoch - offset).rem_euclid(period)
}

/// The address that the FVM gives the first actor that a message creates: a hash of the sender's key, the nonce and
/// a counter.
fn robust_address(message: &Message) -> Result<Address, ActorError> {
    let mut origin = encode_return(&message.from)?.to_vec();
    origin.extend_from_slice(&message.sequence.to_be_bytes());
    origin.extend_from_slice(&0_u64.to_be_bytes());
    Ok(Address::new_actor(&origin))
}
