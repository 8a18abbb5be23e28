//! The message with a proof: asked for when the deadline is open, followed until the confident part of the chain has the
//! proof, given up at the close.
//!
//! A partition has a message of its own: one with recovering sectors is verified at once and fails as a whole, and must
//! not take others with it.

use fvm_ipld_bitfield::BitField;
use fvm_shared::sector::RegisteredPoStProof;
use serde_json::json;

use super::{
    Error, Proving,
    proof::{PartitionProof, ProofState},
    tasks::Tasks,
};
use crate::{
    chain::{
        Transport,
        params::{METHOD_SUBMIT_WINDOWED_POST, PoStPartition, PoStProof, submit_one_partition},
        types::TipSet,
    },
    drive::address,
    preflight,
    store::{ErrandState, NewErrand},
};

/// The kind of the errand.
pub const WINDOW_POST: &str = "window_post";
/// Who asks for it, in the audit.
const BY: &str = "proving";

impl<T: Transport, B: Tasks> Proving<'_, T, B> {
    /// Asks for the message.
    pub(super) async fn ask(&self, proof: &mut PartitionProof, head: &TipSet) -> Result<(), Error> {
        let (id, miner) = (proof.id, address(proof.id.miner));
        if self.node.post_submissions(&miner, id.deadline, &head.key).await?.contains(id.partition) {
            // Somebody else has sent one, or ours was followed under a lost errand. At the confident part it counts.
            return self.landed(proof, head).await;
        }
        let Some(bytes) = proof.proof.clone() else { return Ok(()) };
        let info = self.node.miner_info(&miner, &head.key).await?;
        let configured = self.config.miner(id.miner).map(|miner| miner.post_senders()).unwrap_or_default();
        let senders = preflight::senders_among(self.node, id.miner, configured, &info, &head.key).await??;
        let Some(sender) = senders.first() else { return Ok(()) };
        // The challenge's epoch, which the chain allows, is the deepest and so the least likely to be reorganised.
        let commit_epoch = proof.challenge;
        let commit_rand = self.node.chain_commit_randomness(commit_epoch, &head.key).await?;
        let bad = |error: &dyn std::fmt::Display| Error::Odd(format!("the message of {id}: {error}"));
        let skipped = BitField::try_from_bits(proof.skipped.iter().map(|skipped| skipped.number.0))
            .map_err(|error| bad(&error))?;
        let post_proof = RegisteredPoStProof::from(info.window_post_proof);
        let (partition, made) =
            (PoStPartition { index: id.partition, skipped }, PoStProof { post_proof, proof_bytes: bytes.0 });
        let params = submit_one_partition(id.deadline, partition, made, (commit_epoch, commit_rand))
            .map_err(|error| bad(&error))?;
        let errand = NewErrand {
            miner: id.miner,
            kind: WINDOW_POST.to_owned(),
            sender: sender.to_string(),
            receiver: miner.to_string(),
            method: METHOD_SUBMIT_WINDOWED_POST,
            params: params.bytes().to_vec(),
            value_atto: "0".to_owned(),
            detail: json!({
                "what": format!("prove partition {} of deadline {} of {}", id.partition, id.deadline, id.miner),
                "deadline": id.deadline, "partition": id.partition, "skipped": proof.skipped.len(),
                "until_epoch": proof.close, "commit_epoch": commit_epoch, "commit_rand": hex::encode(commit_rand),
            }),
            asked_by: BY.to_owned(),
        };
        let mut tx = self.store.begin_as(self.epoch).await?;
        proof.errand = Some(tx.ask_errand(&errand).await?);
        proof.state = ProofState::Asked;
        tx.save_proof(proof).await?;
        tx.commit().await?;
        self.changed.ring();
        Ok(())
    }

    /// Sees whether the chain has the proof, and whether the message can still land.
    pub(super) async fn follow(&self, proof: &mut PartitionProof, head: &TipSet) -> Result<(), Error> {
        let (id, miner) = (proof.id, address(proof.id.miner));
        if self.node.post_submissions(&miner, id.deadline, &head.key).await?.contains(id.partition) {
            return self.landed(proof, head).await;
        }
        let Some(errand_id) = proof.errand else { return Ok(()) };
        let Some(errand) = self.store.errand(errand_id).await? else { return Ok(()) };
        let why = match errand.state {
            ErrandState::Failed | ErrandState::Cancelled => {
                errand.error.unwrap_or_else(|| "the message was taken back".to_owned())
            }
            ErrandState::Wanted | ErrandState::Called | ErrandState::Withdrawn | ErrandState::Landed => {
                let commit_rand = self.node.chain_commit_randomness(proof.challenge, &head.key).await?;
                if errand.asked.detail["commit_rand"] == json!(hex::encode(commit_rand)) {
                    return Ok(());
                }
                "the chain was reorganised below the challenge: the message names another one".to_owned()
            }
        };
        // The proof stays as it is: only the message is another one.
        tracing::warn!(proof = %id, why, "the message with a window PoSt is made anew");
        proof.state = ProofState::Proved;
        proof.problem = Some(why.clone());
        let mut tx = self.store.begin_as(self.epoch).await?;
        tx.cancel_errand(errand_id, &why).await?;
        tx.save_proof(proof).await?;
        tx.commit().await?;
        self.changed.ring();
        Ok(())
    }

    /// The head's state has the proof. It counts once the confident part has it.
    async fn landed(&self, proof: &mut PartitionProof, head: &TipSet) -> Result<(), Error> {
        let (id, miner) = (proof.id, address(proof.id.miner));
        let lagged = self.node.lagged_tipset(head, self.config.chain.confidence_epochs).await?;
        let is_confident = lagged.height > proof.open
            && self.node.post_submissions(&miner, id.deadline, &lagged.key).await?.contains(id.partition);
        if !is_confident {
            return Ok(());
        }
        self.end(proof, ProofState::Landed, head).await
    }

    /// The deadline is closed: whether the proof was in time follows from its message.
    pub(super) async fn close(&self, proof: &mut PartitionProof, head: &TipSet) -> Result<(), Error> {
        let errand = match proof.errand {
            Some(errand) => self.store.errand(errand).await?,
            None => None,
        };
        match errand.as_ref().map(|errand| errand.state) {
            Some(ErrandState::Landed) => return self.end(proof, ProofState::Landed, head).await,
            // It may have landed at the last moment. That shows at the confident part.
            Some(ErrandState::Called | ErrandState::Withdrawn)
                if head.height <= proof.close + self.config.chain.confidence_epochs + 1 =>
            {
                return Ok(());
            }
            _ => {}
        }
        if proof.problem.is_none() {
            proof.problem = Some(match proof.state {
                ProofState::Making => "no proof was made in time".to_owned(),
                _ => "its message was not included in time".to_owned(),
            });
        }
        if let Some(errand) = &errand {
            let mut tx = self.store.begin_as(self.epoch).await?;
            tx.cancel_errand(errand.id, "the deadline is closed").await?;
            tx.commit().await?;
            self.changed.ring();
        }
        tracing::error!(
            proof = %proof.id, sectors = proof.sectors, why = proof.problem.as_deref().unwrap_or_default(),
            "a window PoSt was missed: its sectors are faulty"
        );
        self.end(proof, ProofState::Missed, head).await
    }

    async fn end(&self, proof: &mut PartitionProof, state: ProofState, head: &TipSet) -> Result<(), Error> {
        proof.state = state;
        if state == ProofState::Landed {
            proof.landed_epoch = Some(head.height);
            proof.problem = None;
        }
        self.save(proof).await
    }
}
