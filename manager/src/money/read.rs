//! Reads from the chain what is booked for a tipset.

use std::collections::{BTreeMap, BTreeSet};

use fvm_ipld_encoding::from_slice;
use fvm_shared::address::{Address, Protocol};
use fvm_shared::econ::TokenAmount;
use sealbus_schema::{MinerId, SectorId, SectorNumber};
use time::{OffsetDateTime, macros::format_description};

use super::{
    ActorId, AllHoldings, Executed, Holdings, MessageRef,
    book::{Circumstances, Message, SectorChange, Transfer},
};
use crate::{
    chain::{
        Error, NodeClient, Transport,
        params::{
            METHOD_PRE_COMMIT_SECTOR_BATCH2, METHOD_PROVE_COMMIT_SECTORS3, PreCommitSectorBatchParams2,
            ProveCommitSectors3Params,
        },
        replay::{IncludedMessage, Replay},
        types::{MinerFunds, TipSet, TipSetKey},
    },
    drive::address,
};

/// The actors of the book.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actors {
    /// The miners.
    pub miners: BTreeSet<MinerId>,
    /// The others, with their key addresses. Multisig actors have none.
    pub accounts: BTreeMap<ActorId, Option<Address>>,
}

impl Actors {
    /// All of them.
    pub fn ids(&self) -> impl Iterator<Item = ActorId> {
        self.miners.iter().map(|miner| miner.0).chain(self.accounts.keys().copied())
    }

    /// The actor with this address, if it is one of the book's.
    fn find(&self, address: &Address) -> Option<ActorId> {
        match address.id() {
            Ok(id) => self.ids().find(|known| *known == id),
            Err(_) => self.accounts.iter().find(|(_, key)| key.as_ref() == Some(address)).map(|(id, _)| *id),
        }
    }
}

/// A tipset and its child, whose state is the result of executing it.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// The tipset.
    pub tipset: &'a TipSet,
    /// Its child.
    pub child: &'a TipSet,
}

/// Reads the chain through a node.
#[derive(Debug)]
pub struct Reader<'a, T> {
    /// The node.
    pub node: &'a NodeClient<T>,
    /// Whose money is booked.
    pub actors: &'a Actors,
}

impl<T: Transport> Reader<'_, T> {
    /// What all actors have before a tipset is executed.
    pub async fn holdings(&self, tipset: &TipSetKey) -> Result<AllHoldings, Error> {
        let mut all = AllHoldings::new();
        for miner in &self.actors.miners {
            let MinerFunds {
                balance,
                pre_commit_deposits: deposits,
                initial_pledge: pledge,
                locked_funds: vesting,
                ..
            } = self.node.miner_funds(&address(*miner), tipset).await?;
            all.insert(miner.0, Holdings { balance, deposits, pledge, vesting });
        }
        for id in self.actors.accounts.keys() {
            let actor = self.node.get_actor(&Address::new_id(*id), tipset).await?;
            let balance = actor.map(|actor| actor.balance).unwrap_or_default();
            all.insert(*id, Holdings { balance, ..Holdings::default() });
        }
        Ok(all)
    }

    /// A tipset's messages that are from or to an actor of the book.
    pub async fn included(&self, tipset: &TipSetKey) -> Result<Vec<IncludedMessage>, Error> {
        let all = self.node.messages_in_tipset(tipset).await?;
        let is_ours = |included: &IncludedMessage| {
            let call = &included.message;
            [&call.from, &call.to].into_iter().any(|address| self.actors.find(address).is_some())
        };
        Ok(all.into_iter().filter(is_ours).collect())
    }

    /// What a message of the tipset cost, moved, and changed.
    pub async fn message(&self, pair: Pair<'_>, included: &IncludedMessage) -> Result<Option<Message>, Error> {
        let call = &included.message;
        let replay = self.node.replay(&pair.tipset.key, &included.cid).await?;
        let Some(sender) = self.id_of(&call.from, pair).await? else { return Ok(None) };
        let mut transfers = Vec::new();
        for transfer in replay.transfers() {
            transfers.push(Transfer {
                from: self.id_of(&transfer.from, pair).await?,
                to: self.id_of(&transfer.to, pair).await?,
                amount: transfer.amount,
            });
        }
        let miner = self.id_of(&call.to, pair).await?.map(MinerId).filter(|miner| self.actors.miners.contains(miner));
        let mut sectors = Vec::new();
        if let Some(miner) = miner {
            for number in named_sectors(call.method, &call.params) {
                sectors.push(self.sector_change(pair, SectorId { miner, number }, &replay, call.method).await?);
            }
        }
        let message = MessageRef { cid: included.cid.to_string(), method: call.method };
        Ok(Some(Message { message, sender, miner, gas: replay.gas_cost.total_cost, transfers, sectors }))
    }

    /// The number of an actor. `None` if it does not matter, or does not exist.
    async fn id_of(&self, address: &Address, pair: Pair<'_>) -> Result<Option<ActorId>, Error> {
        if let Ok(id) = address.id() {
            return Ok(Some(id));
        }
        if let Some(known) = self.actors.find(address) {
            return Ok(Some(known));
        }
        // A key that is not ours stays a stranger. A miner may be called by its other address.
        match address.protocol() {
            Protocol::Actor => match self.node.lookup_id(address, &pair.child.key).await {
                Ok(found) => Ok(found.id().ok()),
                Err(Error::Refused { .. }) => Ok(None),
                Err(error) => Err(error),
            },
            _ => Ok(None),
        }
    }

    /// What the message has changed for a sector that it names.
    async fn sector_change(
        &self,
        pair: Pair<'_>,
        sector: SectorId,
        replay: &Replay,
        method: u64,
    ) -> Result<SectorChange, Error> {
        let (number, nothing) = (sector.number, TokenAmount::default());
        let unchanged = SectorChange { number, deposit: nothing.clone(), pledge: nothing };
        if !replay.is_success() {
            return Ok(unchanged);
        }
        let (miner, before, after) = (address(sector.miner), &pair.tipset.key, &pair.child.key);
        let pending = self.node.sector_pre_commit_info(&miner, number.0, after).await?;
        if method == METHOD_PRE_COMMIT_SECTOR_BATCH2 {
            let deposit = pending.filter(|info| info.pre_commit_epoch == pair.tipset.height);
            return Ok(SectorChange {
                deposit: deposit.map(|i| i.pre_commit_deposit).unwrap_or_default(),
                ..unchanged
            });
        }
        let was = self.node.sector_pre_commit_info(&miner, number.0, before).await?;
        match (was, pending, self.node.sector_info(&miner, number.0, after).await?) {
            (Some(was), None, Some(proven)) => {
                Ok(SectorChange { number, deposit: -was.pre_commit_deposit, pledge: proven.initial_pledge })
            }
            // It failed for this sector.
            _ => Ok(unchanged),
        }
    }

    /// What the state says about what no message explains. `spending` are the miners that have less than their messages
    /// say, `expiring` the sectors whose deposits may be gone, with these.
    pub async fn circumstances(
        &self,
        pair: Pair<'_>,
        spending: &[MinerId],
        expiring: &[(SectorId, TokenAmount)],
    ) -> Result<Circumstances, Error> {
        let mut found = Circumstances::default();
        let makers = pair.tipset.blocks.iter().filter_map(|block| block.miner.id().ok()).map(MinerId);
        found.blocks_of = makers.filter(|miner| self.actors.miners.contains(miner)).collect();
        for (sector, deposit) in expiring {
            let miner = address(sector.miner);
            if self.node.sector_pre_commit_info(&miner, sector.number.0, &pair.child.key).await?.is_none()
                && self.node.sector_info(&miner, sector.number.0, &pair.child.key).await?.is_none()
            {
                found.expired.push((*sector, deposit.clone()));
            }
        }
        for miner in spending {
            if let Some(fee) = self.ended_deadline(pair, *miner).await? {
                found.daily_fees.insert(*miner, fee);
            }
        }
        Ok(found)
    }

    /// The daily fee of the deadline that ended when the tipset was executed, or in the empty epochs before it.
    async fn ended_deadline(&self, pair: Pair<'_>, miner: MinerId) -> Result<Option<TokenAmount>, Error> {
        let (key, epoch, miner) = (&pair.tipset.key, pair.tipset.height, address(miner));
        let now = self.node.miner_proving_deadline(&miner, key).await?;
        let index = if now.close - 1 == epoch {
            now.index
        } else {
            let parent = self.node.tipset_by_height((epoch - 1).max(0), key).await?;
            if now.open - 1 <= parent.height || now.open > epoch {
                return Ok(None);
            }
            (now.index + now.period_deadlines.max(1) - 1) % now.period_deadlines.max(1)
        };
        self.node.daily_fee(&miner, index, key).await.map(Some)
    }
}

/// The sectors that our kinds of messages name, in their order. Other messages are about no single sectors.
fn named_sectors(method: u64, params: &[u8]) -> Vec<SectorNumber> {
    match method {
        METHOD_PRE_COMMIT_SECTOR_BATCH2 => {
            let read = from_slice::<PreCommitSectorBatchParams2>(params);
            read.map(|read| read.sectors.iter().map(|sector| SectorNumber(sector.sector_number)).collect())
                .unwrap_or_default()
        }
        METHOD_PROVE_COMMIT_SECTORS3 => {
            let read = from_slice::<ProveCommitSectors3Params>(params);
            read.map(|read| read.sector_activations.iter().map(|sector| SectorNumber(sector.sector_number)).collect())
                .unwrap_or_default()
        }
        _ => Vec::new(),
    }
}

/// A tipset as the book remembers it.
pub fn executed(tipset: &TipSet) -> Executed {
    let secs = tipset.blocks.first().map_or(0, |block| block.timestamp);
    let time = OffsetDateTime::from_unix_timestamp(secs as i64).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let day = time.format(format_description!("[year]-[month]-[day]")).unwrap_or_default();
    Executed { epoch: tipset.height, tipset: tipset.key.to_string(), day }
}
