//! Who may act for a miner and where it is reached: owner, worker, control addresses, peer ID, multiaddresses.

use fil_actor_miner_state::v19::{
    ChangeMultiaddrsParams, ChangeOwnerAddressParams, ChangePeerIDParams, ChangeWorkerAddressParams,
    GetControlAddressesReturn, WorkerKeyChange,
};
use fil_actors_shared::actor_error_v19 as actor_error;
use fil_actors_shared::v19::ActorError;
use fil_actors_shared::v19::runtime::Policy;
use fvm_ipld_encoding::{BytesDe, RawBytes};
use fvm_shared::ActorID;
use fvm_shared::address::{Address, Protocol};

use super::miner::{Call, encode_return};
use crate::devnet::world::{Kind, World};

/// ControlAddresses (method 2).
pub fn control_addresses(call: &Call<'_>) -> Result<RawBytes, ActorError> {
    encode_return(&GetControlAddressesReturn {
        owner: call.info.owner,
        worker: call.info.worker,
        control_addresses: call.info.control_addresses.clone(),
    })
}

/// ChangeWorkerAddress (method 3): sets the control addresses, and proposes a new worker unless one is proposed
/// already.
pub fn change_worker_address(call: &mut Call<'_>, params: ChangeWorkerAddressParams) -> Result<RawBytes, ActorError> {
    let policy = call.context.policy;
    if params.new_control_addresses.len() > policy.max_control_addresses {
        return Err(actor_error!(
            illegal_argument,
            "control addresses length {} exceeds max control addresses length {}",
            params.new_control_addresses.len(),
            policy.max_control_addresses
        ));
    }
    let new_worker = Address::new_id(resolve_worker(call.world, &params.new_worker)?);
    let controls: Result<Vec<_>, _> = params.new_control_addresses.iter().map(|raw| call.resolve(raw)).collect();
    let controls = controls?;
    call.require_caller(&[call.info.owner])?;
    call.info.control_addresses = controls;
    if new_worker != call.info.worker && call.info.pending_worker_key.is_none() {
        let effective_at = call.context.epoch + policy.worker_key_change_delay;
        call.info.pending_worker_key = Some(WorkerKeyChange { new_worker, effective_at });
    }
    call.save_info()
}

/// ConfirmChangeWorkerAddress (method 21): the proposed worker takes over if its time has come. Otherwise nothing
/// happens.
pub fn confirm_change_worker_address(call: &mut Call<'_>) -> Result<RawBytes, ActorError> {
    call.require_caller(&[call.info.owner])?;
    match &call.info.pending_worker_key {
        Some(pending) if call.context.epoch >= pending.effective_at => {
            call.info.worker = pending.new_worker;
            call.info.pending_worker_key = None;
            call.save_info()
        }
        _ => Ok(RawBytes::default()),
    }
}

/// ChangeOwnerAddress (method 23): the owner proposes a new one, which confirms it with the same message.
pub fn change_owner_address(call: &mut Call<'_>, params: &ChangeOwnerAddressParams) -> Result<RawBytes, ActorError> {
    let new_owner = params.new_owner;
    if new_owner.protocol() != Protocol::ID {
        return Err(actor_error!(illegal_argument, "owner address must be an ID address"));
    }
    let owner = call.info.owner;
    match call.info.pending_owner_address {
        Some(pending) if Address::new_id(call.caller) != owner => {
            call.require_caller(&[pending])?;
            if new_owner != pending {
                return Err(actor_error!(illegal_argument, "expected confirmation of {} got {}", pending, new_owner));
            }
            if call.info.beneficiary == owner {
                call.info.beneficiary = pending;
            }
            call.info.pending_beneficiary_term = None;
            call.info.owner = pending;
        }
        _ => {
            call.require_caller(&[owner])?;
            call.info.pending_owner_address = Some(new_owner);
        }
    }
    if call.info.pending_owner_address == Some(call.info.owner) {
        call.info.pending_owner_address = None;
    }
    call.save_info()
}

/// ChangePeerID (method 4).
pub fn change_peer_id(call: &mut Call<'_>, params: ChangePeerIDParams) -> Result<RawBytes, ActorError> {
    check_peer_info(call.context.policy, &params.new_id, &[])?;
    call.require_controlling_caller()?;
    call.info.peer_id = params.new_id;
    call.save_info()
}

/// ChangeMultiaddrs (method 18).
pub fn change_multiaddrs(call: &mut Call<'_>, params: ChangeMultiaddrsParams) -> Result<RawBytes, ActorError> {
    check_peer_info(call.context.policy, &[], &params.new_multi_addrs)?;
    call.require_controlling_caller()?;
    call.info.multi_address = params.new_multi_addrs;
    call.save_info()
}

/// Checks the lengths of a peer ID and multiaddresses.
pub fn check_peer_info(policy: &Policy, peer_id: &[u8], multiaddrs: &[BytesDe]) -> Result<(), ActorError> {
    if peer_id.len() > policy.max_peer_id_length {
        return Err(actor_error!(
            illegal_argument,
            "peer ID size of {} exceeds maximum size of {}",
            peer_id.len(),
            policy.max_peer_id_length
        ));
    }
    if multiaddrs.iter().any(|multiaddr| multiaddr.0.is_empty()) {
        return Err(actor_error!(illegal_argument, "invalid empty multiaddr"));
    }
    let total: usize = multiaddrs.iter().map(|multiaddr| multiaddr.0.len()).sum();
    if total > policy.max_multiaddr_data {
        return Err(actor_error!(
            illegal_argument,
            "multiaddr size of {} exceeds maximum of {}",
            total,
            policy.max_multiaddr_data
        ));
    }
    Ok(())
}

/// The ID of a worker, which must be an account with a BLS key.
pub fn resolve_worker(world: &World, raw: &Address) -> Result<ActorID, ActorError> {
    let found = world.resolve(raw).and_then(|id| Some((id, world.get(id)?)));
    let Some((id, actor)) = found else {
        return Err(actor_error!(illegal_argument, "unable to resolve address: {}", raw));
    };
    if actor.kind != Kind::Account {
        return Err(actor_error!(illegal_argument, "worker actor type must be an account, was {}", actor.kind.code()));
    }
    let protocol = actor.robust.map(|key| key.protocol());
    if protocol != Some(Protocol::BLS) {
        return Err(actor_error!(illegal_argument, "worker account {} must have BLS pubkey, was {:?}", id, protocol));
    }
    Ok(id)
}
