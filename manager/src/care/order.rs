//! From a plan to messages: what each carries, its trial, and what it is.

use std::collections::BTreeMap;

use fvm_shared::{address::Address, econ::TokenAmount};
use sealbus_schema::MinerId;

use super::{
    Declared, LeftOut, OnChain, Plan,
    batch::{self, Batch, Verb, batches, value},
    look::Look,
    terminate,
    trial::{self, Call, settle},
    upgrade,
};
use crate::{
    chain::{Error as ChainError, NodeClient, Transport, expiry::LIFETIME_MIN},
    drive::address,
    errands::{Draft, Refusal, sectors::of_batch},
};

/// The messages that carry out a plan.
#[derive(Clone, Debug)]
pub struct Ordered {
    /// The messages, of which the chain would take each.
    pub drafts: Vec<Draft>,
    /// The sectors that are left out, by the plan or by the trial.
    pub left_out: Vec<LeftOut>,
}

/// Why there are no messages.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The node failed.
    #[error("the node cannot tell what it costs")]
    Node(#[from] ChainError),
    /// The trial failed.
    #[error(transparent)]
    Trial(#[from] trial::Error),
    /// The parameters cannot be encoded.
    #[error("the messages cannot be built")]
    Params(#[from] batch::Error),
    /// A message makes no sense.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Packs a plan into messages, tries them at the tipset of the look, and says what each carries and costs.
pub async fn order<T: Transport>(
    node: &NodeClient<T>,
    miner: MinerId,
    sender: Address,
    verb: Verb,
    look: &Look,
    plan: Plan,
) -> Result<Ordered, Error> {
    let Plan { declared, mut left_out } = plan;
    if declared.is_empty() {
        return Ok(Ordered { drafts: Vec::new(), left_out });
    }
    let prices = Prices::of(node, &address(miner), verb, look).await?;
    let call = Call { from: node.account_key(&sender, &look.head.key).await?, miner: address(miner), verb };
    let carried = |declared: &[Declared]| prices.debt.clone() + value(declared, |sector| prices.carried(sector));
    let settled = settle(node, &look.head.key, call, batches(verb, declared)?, carried).await?;
    left_out.extend(settled.left_out);
    Ok(Ordered { drafts: prices.drafts(miner, sender, verb, &settled.batches)?, left_out })
}

/// What each sector adds to a message's value, and what the chain takes for it.
struct Prices {
    carried: BTreeMap<u64, TokenAmount>,
    costs: Option<BTreeMap<u64, TokenAmount>>,
    /// What the miner owes, which must be paid before its sectors are upgraded. The first message carries it.
    debt: TokenAmount,
}

impl Prices {
    async fn of<T: Transport>(
        node: &NodeClient<T>,
        miner: &Address,
        verb: Verb,
        look: &Look,
    ) -> Result<Prices, ChainError> {
        let mut prices = Prices { carried: BTreeMap::new(), costs: None, debt: TokenAmount::default() };
        let (tipset, bytes) = (&look.head.key, look.info.sector_bytes);
        match (verb, look.sectors.first()) {
            (Verb::Upgrade, _) => {
                // The pledge at tenfold quality does not depend on the duration.
                let full = node.initial_pledge_for_sector(LIFETIME_MIN, bytes, bytes, tipset).await?;
                let carried = |sector: &OnChain| (sector.info.sector_number, upgrade::top_up(&sector.info, &full));
                prices.carried = look.sectors.iter().map(carried).collect();
                let available = node.available_balance(miner, tipset).await?;
                prices.debt = (TokenAmount::default() - available).max(TokenAmount::default());
            }
            (Verb::Terminate, Some(first)) => {
                let deposit = node.deposit_of(miner, first.info.seal_proof, &look.head).await?;
                let fee = |sector: &OnChain| (sector.info.sector_number, terminate::fee(sector, &look.now, &deposit));
                prices.costs = Some(look.sectors.iter().map(fee).collect());
            }
            (Verb::Extend | Verb::Terminate, _) => {}
        }
        Ok(prices)
    }

    fn carried(&self, sector: u64) -> TokenAmount {
        self.carried.get(&sector).cloned().unwrap_or_default()
    }

    fn drafts(&self, miner: MinerId, sender: Address, verb: Verb, batches: &[Batch]) -> Result<Vec<Draft>, Refusal> {
        let mut drafts = Vec::with_capacity(batches.len());
        for batch in batches {
            let mut carries = value(&batch.declared, |sector| self.carried(sector));
            if drafts.is_empty() {
                carries += &self.debt;
            }
            let of = |costs: &BTreeMap<u64, TokenAmount>| {
                value(&batch.declared, |sector| costs.get(&sector).cloned().unwrap_or_default())
            };
            drafts.push(of_batch(miner, sender, verb, batch, carries, self.costs.as_ref().map(of))?);
        }
        Ok(drafts)
    }
}
