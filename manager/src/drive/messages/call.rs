//! Turns a call into a message's method, parameters and value.

use fvm_shared::{address::Address, message::Message as Unsigned};
use sealbus_schema::{Commitment, ProofBytes};

use crate::{
    chain::{
        Transport,
        commitment::sealed_cid,
        message, network,
        params::{
            PreCommitSectorBatchParams2, ProveCommitSectors3Params, SectorActivationManifest, SectorPreCommitInfo,
        },
    },
    drive::{DriveError, Driver, View, address, wanted_expiration},
    store::Job,
    workflows::Call,
};

impl<T: Transport + 'static> Driver<T> {
    /// Builds a message without nonce and fees. `None` if what it refers to is not on chain.
    pub(super) async fn build(
        &self,
        view: &View,
        job: &Job,
        call: Call,
        sender: Address,
        version: u32,
    ) -> Result<Option<Unsigned>, DriveError> {
        match call {
            Call::PreCommit { comm_r, ticket_epoch } => {
                self.precommit(view, job, comm_r, ticket_epoch, sender).await.map(Some)
            }
            Call::ProveCommit { proof } => self.prove_commit(view, job, proof, sender, version).await,
        }
    }

    async fn precommit(
        &self,
        view: &View,
        job: &Job,
        comm_r: Commitment,
        ticket_epoch: i64,
        sender: Address,
    ) -> Result<Unsigned, DriveError> {
        let lifetime = self.config.miner(job.id.miner).and_then(|miner| miner.lifetime_days);
        let wanted = wanted_expiration(lifetime, view.head.height);
        let info = SectorPreCommitInfo {
            seal_proof: job.proof.number().into(),
            sector_number: job.id.number.0,
            sealed_cid: sealed_cid(&comm_r.0)?,
            seal_rand_epoch: ticket_epoch,
            deal_ids: Vec::new(),
            expiration: self.rules.choose_expiration(ticket_epoch, view.head.height, wanted)?,
            // Committed capacity: the CommD is the zero sector's and is left out.
            unsealed_cid: None,
        };
        let miner = address(job.id.miner);
        let deposit = self.node.pre_commit_deposit_for_power(&miner, &info, &view.head.key).await?;
        let params = PreCommitSectorBatchParams2 { sectors: vec![info] };
        Ok(message::pre_commit(sender, miner, &params, deposit)?)
    }

    async fn prove_commit(
        &self,
        view: &View,
        job: &Job,
        proof: ProofBytes,
        sender: Address,
        version: u32,
    ) -> Result<Option<Unsigned>, DriveError> {
        let (miner, number) = (address(job.id.miner), job.id.number.0);
        let Some(precommit) = self.node.sector_pre_commit_info(&miner, number, &view.head.key).await? else {
            return Ok(None);
        };
        let bytes = job.proof.sector_size().bytes();
        let verified = network::pledge_verified_bytes(version, bytes, 0);
        let duration = precommit.info.expiration - view.head.height;
        let pledge = self.node.initial_pledge_for_sector(duration, bytes, verified, &view.head.key).await?;
        let value = message::prove_commit_value(&[(pledge, precommit.pre_commit_deposit)]);
        let activation = SectorActivationManifest::committed_capacity(number);
        let params = ProveCommitSectors3Params::single(activation, proof.0);
        Ok(Some(message::prove_commit(sender, miner, &params, value)?))
    }
}
