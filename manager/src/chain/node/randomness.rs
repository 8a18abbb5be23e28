//! Randomness, drawn by the node.

use serde_json::json;

use super::NodeClient;
use crate::chain::error::Error;
use crate::chain::json;
use crate::chain::randomness::{Domain, miner_entropy};
use crate::chain::rpc::Transport;
use crate::chain::types::{Epoch, TipSetKey};

impl<T: Transport> NodeClient<T> {
    /// Randomness from the ticket of `epoch` on the chain of `tipset`, for a miner.
    pub async fn randomness_from_tickets(
        &self,
        domain: Domain,
        epoch: Epoch,
        miner_id: u64,
        tipset: &TipSetKey,
    ) -> Result<[u8; 32], Error> {
        self.randomness("StateGetRandomnessFromTickets", domain, epoch, &miner_entropy(miner_id), tipset).await
    }

    /// Randomness from the beacon at `epoch`, for a miner.
    pub async fn randomness_from_beacon(
        &self,
        domain: Domain,
        epoch: Epoch,
        miner_id: u64,
        tipset: &TipSetKey,
    ) -> Result<[u8; 32], Error> {
        self.randomness("StateGetRandomnessFromBeacon", domain, epoch, &miner_entropy(miner_id), tipset).await
    }

    /// Randomness from the ticket of `epoch` that says on which chain a window PoSt was made. It is the same for all miners.
    pub async fn chain_commit_randomness(&self, epoch: Epoch, tipset: &TipSetKey) -> Result<[u8; 32], Error> {
        self.randomness("StateGetRandomnessFromTickets", Domain::PoStChainCommit, epoch, &[], tipset).await
    }

    async fn randomness(
        &self,
        method: &'static str,
        domain: Domain,
        epoch: Epoch,
        entropy: &[u8],
        tipset: &TipSetKey,
    ) -> Result<[u8; 32], Error> {
        // Nodes take an empty text for no entropy.
        let entropy = json::base64_text(entropy);
        let answer = self.transport.call(method, json!([domain as i64, epoch, entropy, tipset])).await?;
        let bytes = json::bytes::deserialize(answer).map_err(|error| Error::bad_answer(method, error))?;
        let length = bytes.len();
        bytes.try_into().map_err(|_| Error::bad_answer(method, format!("{length} bytes of randomness")))
    }
}
