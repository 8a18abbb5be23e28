//! The checks that a submitted block must pass.

use std::sync::Arc;

use fil_actors_shared::v19::runtime::DomainSeparationTag;
use fvm_shared::address::Address;
use fvm_shared::clock::ChainEpoch;
use fvm_shared::crypto::signature::Signature;

use super::base_info::BaseInfo;
use super::{BlockError, Messages, aggregate, base_info, messages_cid, wins};
use crate::devnet::message::cbor_cid;
use crate::devnet::node::Node;
use crate::devnet::proofs::PostInfo;
use crate::devnet::randomness::{blake2b256, draw_tagged, miner_entropy};
use crate::devnet::tipset::{BlockHeader, Tipset};

/// Checks a block against the chain. `parent` is its parent, `messages` are its messages.
pub fn check(node: &Node, header: &BlockHeader, parent: &Arc<Tipset>, messages: &Messages) -> Result<(), BlockError> {
    check_time(node, header, parent)?;
    let address = Address::new_id(header.miner);
    let info = base_info(node, &address, header.height, parent)?;
    let info = info.ok_or_else(|| invalid("minerIsValid failed: miner isn't valid"))?;
    check_ticket(header, parent, &info)?;
    check_signature(header, &info)?;
    if header.beacon_entries != info.beacon_entries {
        return Err(invalid("failed to validate blocks random beacon values"));
    }
    check_winning_post(node, header, &info)?;
    check_election(header, &info)?;
    check_content(node, header, parent, messages)
}

fn invalid(text: impl Into<String>) -> BlockError {
    BlockError::Invalid(text.into())
}

fn check_time(node: &Node, header: &BlockHeader, parent: &Tipset) -> Result<(), BlockError> {
    let (height, base) = (header.height, parent.height());
    if height <= base {
        return Err(invalid(format!("block height not greater than parent height: {height} != {base}")));
    }
    let wanted = parent.header.timestamp + node.config.block_delay_secs * (height - base) as u64;
    if header.timestamp != wanted {
        return Err(invalid(format!("block has wrong timestamp: {} != {wanted}", header.timestamp)));
    }
    if height > node.epoch() + 1 {
        return Err(invalid(format!("block was from the future (now={}, blk={height})", node.epoch())));
    }
    Ok(())
}

/// Draws randomness of the block's epoch, or of another, from its last beacon entry.
fn drawn(header: &BlockHeader, info: &BaseInfo, tag: DomainSeparationTag, epoch: ChainEpoch, more: &[u8]) -> [u8; 32] {
    let entropy = [&miner_entropy(header.miner), more].concat();
    draw_tagged(&blake2b256(&info.beacon_entry().1), tag, epoch, &entropy)
}

/// Checks that bytes are signed with the worker's BLS key.
fn check_vrf(info: &BaseInfo, randomness: &[u8; 32], proof: &[u8], what: &str) -> Result<(), BlockError> {
    let signature = Signature::new_bls(proof.to_vec());
    signature.verify(randomness, &info.worker_key).map_err(|error| invalid(format!("{what}: {error}")))
}

fn check_ticket(header: &BlockHeader, parent: &Tipset, info: &BaseInfo) -> Result<(), BlockError> {
    let (tag, more) = (DomainSeparationTag::TicketProduction, &parent.header.ticket_vrf_proof);
    let base = drawn(header, info, tag, header.height - 1, more);
    check_vrf(info, &base, &header.ticket_vrf_proof, "validating block tickets failed")
}

/// Checks the worker's signature of the header.
pub fn check_signature(header: &BlockHeader, info: &BaseInfo) -> Result<(), BlockError> {
    let signature = header.signature.as_ref().ok_or_else(|| invalid("block had nil signature"))?;
    signature
        .verify(&header.signing_bytes()?, &info.worker_key)
        .map_err(|error| invalid(format!("check block signature failed: {error}")))
}

fn check_winning_post(node: &Node, header: &BlockHeader, info: &BaseInfo) -> Result<(), BlockError> {
    let randomness = drawn(header, info, DomainSeparationTag::WinningPoStChallengeSeed, header.height, &[]);
    let sectors = info.sectors.iter().map(|sector| (sector.sector_number, sector.sealed_cid));
    let challenged = PostInfo::new(header.miner, randomness, sectors);
    match node.verifier().verify_winning_post(&challenged, &header.winning_post) {
        Ok(true) => Ok(()),
        Ok(false) => Err(invalid("invalid election post: winning post was invalid")),
        Err(error) => Err(invalid(format!("invalid election post: failed to verify election post: {error}"))),
    }
}

fn check_election(header: &BlockHeader, info: &BaseInfo) -> Result<(), BlockError> {
    let claimed = header.election.win_count;
    if claimed < 1 {
        return Err(invalid("block is not claiming to be a winner"));
    }
    if !info.is_eligible {
        return Err(invalid("block's miner is ineligible to mine"));
    }
    let base = drawn(header, info, DomainSeparationTag::ElectionProofProduction, header.height, &[]);
    check_vrf(info, &base, &header.election.vrf_proof, "validating block election proof failed")?;
    let computed = wins(&header.election.vrf_proof, &info.power, &info.network_power);
    if claimed != computed {
        let text = format!("miner claims wrong number of wins: miner: {claimed}, computed: {computed}");
        return Err(invalid(text));
    }
    Ok(())
}

/// Checks what the block says about its parent and its messages.
fn check_content(
    node: &Node,
    header: &BlockHeader,
    parent: &Arc<Tipset>,
    messages: &Messages,
) -> Result<(), BlockError> {
    let (weight, execution) = (node.weight(parent), node.chain.execution(&parent.cid)?);
    if header.parent_weight != weight {
        let text = format!("parent weight different: {} (header) != {weight} (computed)", header.parent_weight);
        return Err(invalid(text));
    }
    let base_fee = node.base_fee_after(parent, header.height);
    if header.base_fee != base_fee {
        let text = format!("base fee doesn't match: {} (header) != {base_fee} (computed)", header.base_fee);
        return Err(invalid(text));
    }
    if header.parent_state_root != execution.state_root {
        let (ours, theirs) = (execution.state_root, header.parent_state_root);
        let text = format!("parent state root did not match computed state ({ours} != {theirs})");
        return Err(invalid(text));
    }
    if header.parent_receipts != cbor_cid(&execution.receipts)? {
        return Err(invalid("parent receipts root did not match computed value"));
    }
    if header.messages != messages_cid(messages)? {
        return Err(invalid("provided messages did not match block: messages didn't match root cid in header"));
    }
    if header.bls_aggregate != aggregate(messages)? {
        return Err(invalid("block had invalid messages: bls aggregate signature was invalid"));
    }
    Ok(())
}
