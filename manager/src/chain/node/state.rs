//! Miners, sectors and funds.

use fvm_shared::address::Address;
use fvm_shared::econ::TokenAmount;
use serde_json::json;

use super::NodeClient;
use crate::chain::error::Error;
use crate::chain::params::SectorPreCommitInfo;
use crate::chain::rpc::Transport;
use crate::chain::sector_set::SectorSet;
use crate::chain::types::{ActorState, Epoch, Index, MinerInfo, ProvingDeadline, SectorLocation};
use crate::chain::types::{SectorOnChainInfo, SectorPreCommitOnChainInfo, TipSetKey};

impl<T: Transport> NodeClient<T> {
    /// A miner's addresses and sizes.
    pub async fn miner_info(&self, miner: &Address, tipset: &TipSetKey) -> Result<MinerInfo, Error> {
        self.of_address("StateMinerInfo", miner, tipset).await
    }

    /// A miner's open or next deadline.
    pub async fn miner_proving_deadline(&self, miner: &Address, tipset: &TipSetKey) -> Result<ProvingDeadline, Error> {
        self.of_address("StateMinerProvingDeadline", miner, tipset).await
    }

    /// A sector between PreCommit and ProveCommit. `None` if it is not pre-committed yet, is proven, or has expired.
    pub async fn sector_pre_commit_info(
        &self,
        miner: &Address,
        sector: Index,
        tipset: &TipSetKey,
    ) -> Result<Option<SectorPreCommitOnChainInfo>, Error> {
        let info: Option<SectorPreCommitOnChainInfo> =
            self.of_sector("StateSectorPreCommitInfo", miner, sector, tipset).await?;
        match &info {
            Some(info) if info.info.sector_number != sector => {
                Err(other_sector("StateSectorPreCommitInfo", info.info.sector_number, sector))
            }
            _ => Ok(info),
        }
    }

    /// A proven sector. `None` if it is not proven yet, or no longer exists.
    pub async fn sector_info(
        &self,
        miner: &Address,
        sector: Index,
        tipset: &TipSetKey,
    ) -> Result<Option<SectorOnChainInfo>, Error> {
        let info: Option<SectorOnChainInfo> = self.of_sector("StateSectorGetInfo", miner, sector, tipset).await?;
        match &info {
            Some(info) if info.sector_number != sector => {
                Err(other_sector("StateSectorGetInfo", info.sector_number, sector))
            }
            _ => Ok(info),
        }
    }

    /// The deadline and partition of a proven sector. Other sectors are an error.
    pub async fn sector_partition(
        &self,
        miner: &Address,
        sector: Index,
        tipset: &TipSetKey,
    ) -> Result<SectorLocation, Error> {
        self.of_sector("StateSectorPartition", miner, sector, tipset).await
    }

    /// Whether the number was ever used. If it was, and the sector is neither pre-committed nor proven, its PreCommit
    /// has expired and the number cannot be used again.
    pub async fn sector_allocated(&self, miner: &Address, sector: Index, tipset: &TipSetKey) -> Result<bool, Error> {
        self.of_sector("StateMinerSectorAllocated", miner, sector, tipset).await
    }

    /// All numbers that were ever used.
    pub async fn allocated(&self, miner: &Address, tipset: &TipSetKey) -> Result<SectorSet, Error> {
        self.of_address("StateMinerAllocated", miner, tipset).await
    }

    /// The deposit for a sector in attoFIL, including the node's margin of a tenth.
    pub async fn pre_commit_deposit_for_power(
        &self,
        miner: &Address,
        sector: &SectorPreCommitInfo,
        tipset: &TipSetKey,
    ) -> Result<TokenAmount, Error> {
        const METHOD: &str = "StateMinerPreCommitDepositForPower";
        let miner = self.text(miner).await?;
        non_negative(METHOD, self.tokens(METHOD, json!([miner, sector.to_json(), tipset])).await?)
    }

    /// The pledge for a sector in attoFIL, including the node's margin of a tenth.
    ///
    /// `verified_bytes` comes from [`crate::chain::network::pledge_verified_bytes`]; since network version 29, 0 gives
    /// too little.
    pub async fn initial_pledge_for_sector(
        &self,
        duration: Epoch,
        sector_bytes: u64,
        verified_bytes: u64,
        tipset: &TipSetKey,
    ) -> Result<TokenAmount, Error> {
        const METHOD: &str = "StateMinerInitialPledgeForSector";
        non_negative(METHOD, self.tokens(METHOD, json!([duration, sector_bytes, verified_bytes, tipset])).await?)
    }

    /// A miner actor's funds that are neither locked nor owed, in attoFIL. Negative while it is in debt.
    pub async fn available_balance(&self, miner: &Address, tipset: &TipSetKey) -> Result<TokenAmount, Error> {
        let miner = self.text(miner).await?;
        self.tokens("StateMinerAvailableBalance", json!([miner, tipset])).await
    }

    /// Nonce and balance of an actor. `None` if there is no actor at the address.
    pub async fn get_actor(&self, address: &Address, tipset: &TipSetKey) -> Result<Option<ActorState>, Error> {
        match self.of_address("StateGetActor", address, tipset).await {
            Err(error) if error.is_actor_not_found() => Ok(None),
            other => other,
        }
    }
}

fn non_negative(method: &'static str, amount: TokenAmount) -> Result<TokenAmount, Error> {
    if amount.is_negative() { Err(Error::bad_answer(method, "a negative amount")) } else { Ok(amount) }
}

fn other_sector(method: &'static str, got: Index, asked: Index) -> Error {
    Error::bad_answer(method, format!("SectorNumber: {got} for {asked}"))
}
