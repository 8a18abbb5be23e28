//! What a sector's care and the owner's errands ask: partitions, many sectors at once, a miner's money, and what a
//! message would do.

use cid::Cid;
use fvm_ipld_encoding::from_slice;
use fvm_shared::address::Address;
use fvm_shared::econ::TokenAmount;
use serde::Deserialize;
use serde_json::json;

use super::NodeClient;
use crate::chain::commitment::sealed_cid;
use crate::chain::error::Error;
use crate::chain::expiry::LIFETIME_MIN;
use crate::chain::json;
use crate::chain::message::{self, Message};
use crate::chain::params::SectorPreCommitInfo;
use crate::chain::rpc::Transport;
use crate::chain::sector_set::SectorSet;
use crate::chain::types::{DeadlineState, Epoch, Index, MinerFunds, Partition, Receipt, SectorOnChainInfo, TipSetKey};
use crate::chain::types::{TipSet, Trial, Vesting};

/// The answer to `StateReadState`, with what we read of a miner's state.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Read {
    #[serde(deserialize_with = "json::tokens::deserialize")]
    balance: TokenAmount,
    state: Option<Funds>,
}

/// The amounts in a miner's state. Other actors have none of them.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Funds {
    #[serde(deserialize_with = "json::tokens::deserialize")]
    pre_commit_deposits: TokenAmount,
    #[serde(deserialize_with = "json::tokens::deserialize")]
    initial_pledge: TokenAmount,
    #[serde(deserialize_with = "json::tokens::deserialize")]
    locked_funds: TokenAmount,
    #[serde(deserialize_with = "json::tokens::deserialize")]
    fee_debt: TokenAmount,
    #[serde(default)]
    vesting_funds: Option<VestingFunds>,
    #[serde(default)]
    early_terminations: SectorSet,
}

/// The beginning of the vesting schedule, and where the rest is.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct VestingFunds {
    head: VestingFund,
    #[serde(with = "json::cid_link")]
    tail: Cid,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct VestingFund {
    epoch: Epoch,
    #[serde(deserialize_with = "json::tokens::deserialize")]
    amount: TokenAmount,
}

/// The answer to `StateCall`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Called {
    msg_rct: Option<Receipt>,
    #[serde(default)]
    error: String,
}

impl<T: Transport> NodeClient<T> {
    /// The partitions of a deadline, in their order.
    pub async fn miner_partitions(
        &self,
        miner: &Address,
        deadline: Index,
        tipset: &TipSetKey,
    ) -> Result<Vec<Partition>, Error> {
        let miner = self.text(miner).await?;
        let partitions: Option<_> = self.call("StateMinerPartitions", json!([miner, deadline, tipset])).await?;
        Ok(partitions.unwrap_or_default())
    }

    /// The partitions of an open deadline whose proofs the chain has.
    pub async fn post_submissions(
        &self,
        miner: &Address,
        deadline: Index,
        tipset: &TipSetKey,
    ) -> Result<SectorSet, Error> {
        const METHOD: &str = "StateMinerDeadlines";
        let miner = self.text(miner).await?;
        let deadlines: Option<Vec<DeadlineState>> = self.call(METHOD, json!([miner, tipset])).await?;
        let deadlines = deadlines.unwrap_or_default();
        let found = usize::try_from(deadline).ok().and_then(|index| deadlines.into_iter().nth(index));
        Ok(found.ok_or_else(|| Error::bad_answer(METHOD, format!("no deadline {deadline}")))?.post_submissions)
    }

    /// The proven sectors with these numbers, in ascending order. Numbers that are not proven are missing. Each sector
    /// takes some 600 bytes of the answer, which is limited.
    pub async fn miner_sectors(
        &self,
        miner: &Address,
        numbers: &SectorSet,
        tipset: &TipSetKey,
    ) -> Result<Vec<SectorOnChainInfo>, Error> {
        // Some nodes take an empty set for all sectors.
        if numbers.is_empty() {
            return Ok(Vec::new());
        }
        let miner = self.text(miner).await?;
        let sectors: Option<_> = self.call("StateMinerSectors", json!([miner, numbers, tipset])).await?;
        Ok(sectors.unwrap_or_default())
    }

    /// A miner actor's funds.
    pub async fn miner_funds(&self, miner: &Address, tipset: &TipSetKey) -> Result<MinerFunds, Error> {
        let Read { balance, state } = self.of_address("StateReadState", miner, tipset).await?;
        let state = state.ok_or_else(|| Error::bad_answer("StateReadState", "State: null"))?;
        Ok(MinerFunds {
            balance,
            pre_commit_deposits: state.pre_commit_deposits,
            initial_pledge: state.initial_pledge,
            locked_funds: state.locked_funds,
            fee_debt: state.fee_debt,
            vesting: state.vesting_funds.map(|VestingFunds { head, tail }| Vesting {
                epoch: head.epoch,
                amount: head.amount,
                tail,
            }),
            early_terminations: state.early_terminations,
        })
    }

    /// At which epochs how much of a miner's locked funds is unlocked, in attoFIL, in ascending order.
    pub async fn vesting(&self, funds: &MinerFunds) -> Result<Vec<(Epoch, TokenAmount)>, Error> {
        const METHOD: &str = "ChainReadObj";
        let Some(vesting) = &funds.vesting else { return Ok(Vec::new()) };
        let answer = self.transport.call(METHOD, json!([json::cid_value(&vesting.tail)])).await?;
        let bytes = json::bytes::deserialize(answer).map_err(|error| Error::bad_answer(METHOD, error))?;
        let later: Vec<(Epoch, TokenAmount)> = from_slice(&bytes)
            .map_err(|error| Error::bad_answer(METHOD, format!("the schedule of vesting: {error}")))?;
        Ok([(vesting.epoch, vesting.amount.clone())].into_iter().chain(later).collect())
    }

    /// The deposit of a PreCommit with this `RegisteredSealProof`, in attoFIL, including the node's margin of a tenth. It
    /// depends on neither the commitment nor the duration.
    pub async fn deposit_of(&self, miner: &Address, seal_proof: i64, head: &TipSet) -> Result<TokenAmount, Error> {
        let sealed_cid =
            sealed_cid(&[0; 32]).map_err(|error| Error::bad_answer("StateMinerPreCommitDepositForPower", error))?;
        let sector = SectorPreCommitInfo {
            seal_proof: seal_proof.into(),
            sector_number: 0,
            sealed_cid,
            seal_rand_epoch: head.height,
            deal_ids: Vec::new(),
            expiration: head.height + 2 * LIFETIME_MIN,
            unsealed_cid: None,
        };
        self.pre_commit_deposit_for_power(miner, &sector, &head.key).await
    }

    /// What must at least be sent with the creation of a miner, in attoFIL, without a margin.
    pub async fn creation_deposit(&self, tipset: &TipSetKey) -> Result<TokenAmount, Error> {
        self.tokens("StateMinerCreationDeposit", json!([tipset])).await
    }

    /// Executes a message on trial on the state of a tipset. Nonce and gas fees are ignored.
    pub async fn try_message(&self, message: &Message, tipset: &TipSetKey) -> Result<Trial, Error> {
        const METHOD: &str = "StateCall";
        let network = self.network().await?;
        let Called { msg_rct, error } = self.call(METHOD, json!([message::to_json(message, network), tipset])).await?;
        match msg_rct {
            Some(receipt) => Ok(Trial { receipt, said: error }),
            None => Err(Error::refused(METHOD, 1, &error)),
        }
    }
}
