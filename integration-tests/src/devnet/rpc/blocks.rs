//! Methods for making blocks, as lotus-miner uses them.

use cid::Cid;
use fvm_shared::clock::ChainEpoch;
use fvm_shared::sector::{PoStProof, RegisteredPoStProof};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::RpcError;
use super::form;
use super::params::{Params, SignatureJson, SignedMessageJson, parse_address, parse_bytes, parse_cid};
use crate::devnet::blocks::{BlockError, Template, is_bls};
use crate::devnet::node::Node;
use crate::devnet::randomness::beacon_data;
use crate::devnet::tipset::{BeaconEntry, BlockHeader, ElectionProof};
use crate::devnet::view::View;

pub fn base_info(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let found = node.base_info(&params.address(0)?, params.decode(1)?, params.tipset_key(2)?.as_ref())?;
    let Some(info) = found else { return Ok(Value::Null) };
    let sector = |sector: &fil_actor_miner_state::v19::SectorOnChainInfo| {
        json!({
            "SealProof": i64::from(sector.seal_proof),
            "SectorNumber": sector.sector_number,
            "SectorKey": form::optional_cid(sector.sector_key_cid.as_ref()),
            "SealedCID": form::cid(&sector.sealed_cid),
        })
    };
    Ok(json!({
        "MinerPower": form::big(&info.power),
        "NetworkPower": form::big(&info.network_power),
        "Sectors": form::list(info.sectors.iter().map(sector).collect()),
        "WorkerKey": form::address(&info.worker_key),
        "SectorSize": info.sector_size as u64,
        "PrevBeaconEntry": form::beacon_entry(&info.previous_beacon_entry),
        "BeaconEntries": form::beacon_entries(&info.beacon_entries),
        "EligibleForMining": info.is_eligible,
    }))
}

pub fn beacon_entry(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let epoch: ChainEpoch = params.decode(0)?;
    if epoch > node.epoch() + 1 {
        return Err(RpcError::generic(format!("beacon entry request returned error: no entry of epoch {epoch} yet")));
    }
    Ok(form::beacon_entry(&(epoch, beacon_data(node.config.seed, epoch))))
}

pub fn weight(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let tipset = node.tipset(params.tipset_key(0)?.as_ref())?;
    Ok(node.weight(&tipset).to_string().into())
}

pub fn select_messages(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let tipset = node.tipset(params.tipset_key(0)?.as_ref())?;
    // The quality of the ticket tells how many others make blocks. Here a tipset has one.
    let _: f64 = params.decode(1)?;
    if node.faults.inclusion_stalled() {
        return Ok(Value::Null);
    }
    let world = View::after(&node.store, &node.chain, tipset.clone())?.world;
    let selected = node.mempool.select(&world, node.base_fee_after(&tipset, node.epoch() + 1));
    let messages: Result<Vec<Value>, _> = selected.iter().map(|(_, signed)| form::signed_message(signed)).collect();
    Ok(form::list(messages?))
}

pub fn create(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let template: TemplateJson = params.decode(0)?;
    let template = template.read().map_err(|error| params.bad(0, error))?;
    let (header, messages) = node.create_block(template)?;
    let (bls, secp): (Vec<_>, Vec<_>) = messages.iter().partition(|(_, signed)| is_bls(signed));
    let cids = |messages: Vec<&(Cid, _)>| form::list(messages.iter().map(|(cid, _)| form::cid(cid)).collect());
    Ok(json!({"Header": form::block(&header), "BlsMessages": cids(bls), "SecpkMessages": cids(secp)}))
}

pub fn submit(node: &mut Node, params: &Params<'_>) -> Result<Value, RpcError> {
    let block: BlockJson = params.decode(0)?;
    let (header, messages) = block.read().map_err(|error| params.bad(0, error))?;
    node.submit_block(header, &messages).map_err(|error| match error {
        BlockError::Parents(error) => RpcError::generic(format!("loading parent block: {error}")),
        error => RpcError::generic(format!("sync to submitted block failed: {error}")),
    })?;
    Ok(Value::Null)
}

#[derive(Deserialize)]
struct VrfJson {
    #[serde(rename = "VRFProof")]
    vrf_proof: Option<String>,
}

#[derive(Deserialize)]
struct ElectionJson {
    #[serde(rename = "WinCount")]
    win_count: i64,
    #[serde(rename = "VRFProof")]
    vrf_proof: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BeaconJson {
    round: ChainEpoch,
    data: Option<String>,
}

#[derive(Deserialize)]
struct PostJson {
    #[serde(rename = "PoStProof")]
    post_proof: i64,
    #[serde(rename = "ProofBytes")]
    proof_bytes: Option<String>,
}

/// The parts that a template and a header have in common: the ticket's VRF proof, the election proof, beacon entries, and
/// winning PoSts.
type Proofs = (Vec<u8>, ElectionProof, Vec<BeaconEntry>, Vec<PoStProof>);

fn proofs(
    ticket: Option<VrfJson>,
    election: Option<ElectionJson>,
    beacon: Option<Vec<BeaconJson>>,
    posts: Option<Vec<PostJson>>,
) -> Result<Proofs, String> {
    let ticket = ticket.ok_or("block had nil ticket")?;
    let election = election.ok_or("block cannot have nil election proof")?;
    let beacon = beacon.unwrap_or_default().into_iter();
    let posts = posts.unwrap_or_default().into_iter();
    let post = |post: PostJson| {
        let post_proof = RegisteredPoStProof::from(post.post_proof);
        Ok(PoStProof { post_proof, proof_bytes: parse_bytes(post.proof_bytes.as_deref())? })
    };
    Ok((
        parse_bytes(ticket.vrf_proof.as_deref())?,
        ElectionProof { win_count: election.win_count, vrf_proof: parse_bytes(election.vrf_proof.as_deref())? },
        beacon.map(|entry| Ok((entry.round, parse_bytes(entry.data.as_deref())?))).collect::<Result<_, String>>()?,
        posts.map(post).collect::<Result<_, String>>()?,
    ))
}

/// The one CID of a tipset key.
fn one_parent(parents: &[Value]) -> Result<Cid, String> {
    match parents {
        [parent] => parse_cid(parent),
        _ => Err(format!("a tipset has one block here, not {}", parents.len())),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TemplateJson {
    miner: String,
    parents: Vec<Value>,
    ticket: Option<VrfJson>,
    eproof: Option<ElectionJson>,
    beacon_values: Option<Vec<BeaconJson>>,
    messages: Option<Vec<SignedMessageJson>>,
    epoch: ChainEpoch,
    timestamp: u64,
    #[serde(rename = "WinningPoStProof")]
    winning_post: Option<Vec<PostJson>>,
}

impl TemplateJson {
    fn read(self) -> Result<Template, String> {
        let (ticket_vrf_proof, election, beacon_entries, winning_post) =
            proofs(self.ticket, self.eproof, self.beacon_values, self.winning_post)?;
        let messages = self.messages.unwrap_or_default().into_iter().map(SignedMessageJson::read);
        Ok(Template {
            miner: parse_address(&self.miner)?,
            parent: one_parent(&self.parents)?,
            ticket_vrf_proof,
            election,
            beacon_entries,
            messages: messages.collect::<Result<_, _>>()?,
            epoch: self.epoch,
            timestamp: self.timestamp,
            winning_post,
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HeaderJson {
    miner: String,
    ticket: Option<VrfJson>,
    election_proof: Option<ElectionJson>,
    beacon_entries: Option<Vec<BeaconJson>>,
    #[serde(rename = "WinPoStProof")]
    winning_post: Option<Vec<PostJson>>,
    parents: Vec<Value>,
    parent_weight: String,
    height: ChainEpoch,
    parent_state_root: Value,
    parent_message_receipts: Value,
    messages: Value,
    #[serde(rename = "BLSAggregate")]
    bls_aggregate: Option<SignatureJson>,
    timestamp: u64,
    block_sig: Option<SignatureJson>,
    parent_base_fee: String,
}

impl HeaderJson {
    fn read(self) -> Result<BlockHeader, String> {
        let (ticket_vrf_proof, election, beacon_entries, winning_post) =
            proofs(self.ticket, self.election_proof, self.beacon_entries, self.winning_post)?;
        let number = |text: &str| text.parse::<u64>().map_err(|error| format!("{text}: {error}"));
        let miner = parse_address(&self.miner)?.id().map_err(|_| "block had non-ID miner address")?;
        Ok(BlockHeader {
            miner,
            ticket_vrf_proof,
            election,
            beacon_entries,
            winning_post,
            parents: vec![one_parent(&self.parents)?],
            parent_weight: number(&self.parent_weight)?,
            height: self.height,
            parent_state_root: parse_cid(&self.parent_state_root)?,
            parent_receipts: parse_cid(&self.parent_message_receipts)?,
            messages: parse_cid(&self.messages)?,
            bls_aggregate: self.bls_aggregate.ok_or("block had nil bls aggregate signature")?.read()?,
            timestamp: self.timestamp,
            signature: Some(self.block_sig.ok_or("block had nil signature")?.read()?),
            base_fee: number(&self.parent_base_fee)?,
        })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct BlockJson {
    header: HeaderJson,
    bls_messages: Option<Vec<Value>>,
    secpk_messages: Option<Vec<Value>>,
}

impl BlockJson {
    fn read(self) -> Result<(BlockHeader, Vec<Cid>), String> {
        let cids = self.bls_messages.into_iter().chain(self.secpk_messages).flatten();
        let cids = cids.map(|cid| parse_cid(&cid)).collect::<Result<_, _>>()?;
        Ok((self.header.read()?, cids))
    }
}
