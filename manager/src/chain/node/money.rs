//! What the money book is written from: the messages of a tipset, what they cost, and what actors have.

use cid::Cid;
use fvm_shared::address::Address;
use fvm_shared::econ::TokenAmount;
use serde_json::{Value, json};

use super::{NodeClient, checked_tipset};
use crate::chain::error::Error;
use crate::chain::json;
use crate::chain::replay::{Deadline, IncludedMessage, Replay};
use crate::chain::rpc::Transport;
use crate::chain::types::{Epoch, Index, TipSet, TipSetKey};

impl<T: Transport> NodeClient<T> {
    /// The tipset at `height` on the chain of `from`, or the first one after it if that epoch is empty.
    pub async fn tipset_after_height(&self, height: Epoch, from: &TipSetKey) -> Result<TipSet, Error> {
        const METHOD: &str = "ChainGetTipSetAfterHeight";
        let tipset = checked_tipset(METHOD, self.call(METHOD, json!([height, from])).await?)?;
        if tipset.height < height {
            return Err(Error::bad_answer(METHOD, format!("height {} for {height}", tipset.height)));
        }
        Ok(tipset)
    }

    /// The messages that a tipset includes, in the order of their execution. One that cannot be read is left out: it is
    /// of a kind that neither we nor our tools send.
    pub async fn messages_in_tipset(&self, tipset: &TipSetKey) -> Result<Vec<IncludedMessage>, Error> {
        let all: Option<Vec<Value>> = self.call("ChainGetMessagesInTipset", json!([tipset])).await?;
        let read = |message| serde_json::from_value(message).ok();
        Ok(all.unwrap_or_default().into_iter().filter_map(read).collect())
    }

    /// Executes a message again that a tipset includes.
    pub async fn replay(&self, tipset: &TipSetKey, message: &Cid) -> Result<Replay, Error> {
        self.call("StateReplay", json!([tipset, json::cid_value(message)])).await
    }

    /// The fee that a miner pays at the end of a deadline, in attoFIL. 0 for a deadline that there is not.
    pub async fn daily_fee(&self, miner: &Address, deadline: Index, tipset: &TipSetKey) -> Result<TokenAmount, Error> {
        let all: Option<Vec<Deadline>> = self.of_address("StateMinerDeadlines", miner, tipset).await?;
        let found = all.unwrap_or_default().into_iter().nth(deadline as usize);
        Ok(found.map(|deadline| deadline.daily_fee).unwrap_or_default())
    }
}
