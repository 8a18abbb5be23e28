//! Turns what messages ask of the miner actor into one call: method, parameters and value.

use fvm_ipld_encoding::RawBytes;
use fvm_shared::{address::Address, econ::TokenAmount, message::Message as Unsigned};
use sealbus_schema::{MinerId, ProofBytes};

use super::Prepared;
use crate::{
    chain::{
        Transport,
        commitment::sealed_cid,
        message::{self, Error as MessageError},
        network,
        params::{
            PreCommitSectorBatchParams2, ProveCommitSectors3Params, SectorActivationManifest, SectorPreCommitInfo,
        },
    },
    drive::{DriveError, Driver, View, address, wanted_expiration},
    store::MessageKind,
    workflows::Call,
};

/// One sector's part of a call.
#[derive(Debug)]
pub(super) struct Part {
    /// The message that it is for.
    pub prepared: Prepared,
    params: Params,
}

#[derive(Debug)]
enum Params {
    PreCommit { info: SectorPreCommitInfo, deposit: TokenAmount },
    ProveCommit { activation: SectorActivationManifest, proof: ProofBytes, pledge: TokenAmount, deposit: TokenAmount },
}

impl<T: Transport + 'static> Driver<T> {
    /// Builds a sector's part of a call. `None` if what it refers to is not on chain.
    pub(super) async fn part(&self, view: &View, prepared: Prepared, version: u32) -> Result<Option<Part>, DriveError> {
        let (job, head) = (&prepared.job, &view.head);
        let (miner, number) = (address(job.id.miner), job.id.number.0);
        let params = match &prepared.call {
            Call::PreCommit { comm_r, ticket_epoch } => {
                let lifetime = self.config.miner(job.id.miner).and_then(|miner| miner.lifetime_days);
                let wanted = wanted_expiration(lifetime, head.height);
                let info = SectorPreCommitInfo {
                    seal_proof: job.proof.number().into(),
                    sector_number: number,
                    sealed_cid: sealed_cid(&comm_r.0)?,
                    seal_rand_epoch: *ticket_epoch,
                    deal_ids: Vec::new(),
                    expiration: self.rules.choose_expiration(*ticket_epoch, head.height, wanted)?,
                    // Committed capacity: the CommD is the zero sector's and is left out.
                    unsealed_cid: None,
                };
                let deposit = self.node.pre_commit_deposit_for_power(&miner, &info, &head.key).await?;
                Params::PreCommit { info, deposit }
            }
            Call::ProveCommit { porep } => {
                let found = self.node.sector_pre_commit_info(&miner, number, &head.key).await?;
                let Some(precommit) = found else { return Ok(None) };
                let bytes = job.proof.sector_size().bytes();
                let verified = network::pledge_verified_bytes(version, bytes, 0);
                let duration = precommit.info.expiration - head.height;
                Params::ProveCommit {
                    activation: SectorActivationManifest::committed_capacity(number),
                    proof: porep.proof.clone(),
                    pledge: self.node.initial_pledge_for_sector(duration, bytes, verified, &head.key).await?,
                    deposit: precommit.pre_commit_deposit,
                }
            }
        };
        Ok(Some(Part { prepared, params }))
    }
}

impl Part {
    /// The kind of its message.
    pub fn kind(&self) -> MessageKind {
        self.prepared.message.kind
    }
}

/// Composes the call of parts that are all of one kind and one miner, without nonce and fees. With an aggregate, that takes
/// the place of their proofs.
pub(super) fn compose(
    parts: &[Part],
    aggregate: Option<&ProofBytes>,
    miner: MinerId,
    sender: Address,
) -> Result<Unsigned, MessageError> {
    let (mut infos, mut deposits) = (Vec::new(), TokenAmount::default());
    let (mut proofs, mut amounts) = (Vec::new(), Vec::new());
    for Part { params, .. } in parts {
        match params {
            Params::PreCommit { info, deposit } => {
                infos.push(info.clone());
                deposits += deposit;
            }
            Params::ProveCommit { activation, proof, pledge, deposit } => {
                proofs.push((activation.clone(), proof.0.clone()));
                amounts.push((pledge.clone(), deposit.clone()));
            }
        }
    }
    let miner = address(miner);
    if !infos.is_empty() {
        return message::pre_commit(sender, miner, &PreCommitSectorBatchParams2 { sectors: infos }, deposits);
    }
    let params = match (aggregate, &mut proofs[..]) {
        (Some(aggregate), _) => {
            let activations = proofs.into_iter().map(|(activation, _)| activation).collect();
            ProveCommitSectors3Params::aggregate(activations, RawBytes::new(aggregate.0.clone()))
        }
        (None, [(activation, proof)]) => ProveCommitSectors3Params::single(activation.clone(), std::mem::take(proof)),
        (None, _) => ProveCommitSectors3Params::batch(proofs),
    };
    message::prove_commit(sender, miner, &params, message::prove_commit_value(&amounts))
}
