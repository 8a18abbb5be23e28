//! Writes the book, one tipset after the other, up to the confident one.
//!
//! The state of the chain says cheaply whether anything has changed between two tipsets. Where nothing has, the book's end
//! moves on. Where something has, the two are brought closer until one is the parent of the other; then that one's execution
//! is booked. After days away most tipsets are passed over in long strides, and each round does a bounded amount of work.
//!
//! The book's end is a tipset by its key. If the chain no longer has it, the entries above the fork are withdrawn.

use std::{
    collections::{BTreeMap, btree_map},
    convert::Infallible,
    time::Duration,
};

use fvm_shared::address::Address;
use sealbus_schema::MinerId;

use super::{
    ActorId, AllHoldings, Entry, Quantity,
    book::Page,
    opening,
    read::{Actors, Pair, Reader, executed},
};
use crate::{
    chain::{Error as ChainError, NodeClient, Transport, types::TipSet},
    config::Config,
    drive::{address, chain_of},
    store::{MoneyEnd, Store, StoreError},
};

/// How many pairs of tipsets are compared in one round.
const COMPARED: usize = 64;
/// The pause after a round that did not reach the confident tipset.
const SHORT_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause after a round that did.
const LONG_PAUSE: Duration = Duration::from_secs(10);
/// How many rounds in a row the node must refuse to tell of an epoch before that is given up.
const REFUSALS: u32 = 30;

/// Why a round ended early.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Chain(#[from] ChainError),
}

/// Whether the book has reached the confident tipset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// It has, or there is nothing to book yet.
    Yes,
    /// The next round goes on.
    No,
}

/// The writer of the book of one manager.
pub struct Follower<'a, T> {
    node: &'a NodeClient<T>,
    store: &'a Store,
    config: &'a Config,
    /// The manager's epoch.
    epoch: i64,
    /// How many epochs are tried at once.
    stride: i64,
    /// How often in a row the node has refused, and where.
    refused: (u32, i64),
    /// The key addresses of accounts. They never change.
    keys: BTreeMap<ActorId, Address>,
}

/// Follows the chain for ever. Only the loss of the database or of the fold ends it.
pub async fn run<T: Transport>(
    node: &NodeClient<T>,
    store: &Store,
    config: &Config,
    epoch: i64,
) -> Result<Infallible, StoreError> {
    let mut follower = Follower::new(node, store, config, epoch);
    let mut told: Option<String> = None;
    loop {
        let (problem, pause) = match follower.round().await {
            Ok(Reached::No) => (None, SHORT_PAUSE),
            Ok(Reached::Yes) => (None, config.chain.poll_interval().min(LONG_PAUSE)),
            Err(Trouble::Store(error)) => return Err(error),
            Err(Trouble::Chain(error)) => (Some(chain_of(&error)), config.chain.poll_interval().max(SHORT_PAUSE)),
        };
        if problem != told {
            follower.tell(problem.as_deref()).await?;
            told = problem;
        }
        tokio::time::sleep(pause).await;
    }
}

impl<'a, T: Transport> Follower<'a, T> {
    /// A writer that has written nothing yet.
    pub const fn new(node: &'a NodeClient<T>, store: &'a Store, config: &'a Config, epoch: i64) -> Follower<'a, T> {
        Follower { node, store, config, epoch, stride: i64::MAX, refused: (0, 0), keys: BTreeMap::new() }
    }

    /// Logs and stores why the book does not go on, or that it does again.
    async fn tell(&self, problem: Option<&str>) -> Result<(), StoreError> {
        match problem {
            Some(cause) => tracing::warn!(cause, "the money book does not go on"),
            None => tracing::info!("the money book goes on"),
        }
        if let Some(end) = self.store.money_end().await? {
            let mut tx = self.store.begin_as(self.epoch).await?;
            tx.end_money(&MoneyEnd { problem: problem.map(str::to_owned), ..end }).await?;
            tx.commit().await?;
        }
        Ok(())
    }

    /// Books at most a bounded number of tipsets.
    async fn round(&mut self) -> Result<Reached, Trouble> {
        let head = self.node.chain_head().await?;
        let target = self.node.lagged_tipset(&head, self.config.chain.confidence_epochs).await?;
        // The state before the first tipset is nobody's doing.
        if target.height < 1 {
            return Ok(Reached::Yes);
        }
        let Some(end) = self.store.money_end().await? else {
            self.open(&target, &AllHoldings::new()).await?;
            return Ok(Reached::Yes);
        };
        // A node that is behind says nothing about the book.
        if end.epoch > head.height {
            return Ok(Reached::Yes);
        }
        let Some(mut at) = self.end(&end, &head).await? else { return Ok(Reached::No) };
        let (mut held, actors) = self.actors(&target).await?;
        let reader = Reader { node: self.node, actors: &actors };
        let mut last = at.clone();
        for _ in 0..COMPARED {
            if at.height >= target.height {
                break;
            }
            let next = self.next(&at, &target).await?;
            let after = match reader.holdings(&next.key).await {
                Err(error @ ChainError::Refused { .. }) => {
                    self.note(&last, &at).await?;
                    return self.refusal(&reader, &at, &target, &held, error).await;
                }
                read => read?,
            };
            if after == held {
                at = next;
                self.stride = self.stride.saturating_mul(2);
                continue;
            }
            if next.blocks.first().is_none_or(|block| block.parents != at.key) {
                self.stride = (next.height - at.height) / 2;
                continue;
            }
            let entries = match self.page(&reader, Pair { tipset: &at, child: &next }, &held, &after, None).await {
                Err(Trouble::Chain(error @ ChainError::Refused { .. })) => {
                    self.note(&last, &at).await?;
                    self.count(&at, error)?;
                    let text = format!("the node does not tell of the messages of epoch {}", at.height);
                    self.page(&reader, Pair { tipset: &at, child: &next }, &held, &after, Some(text)).await?
                }
                page => page?,
            };
            self.store_page(&at, &next, &entries).await?;
            (held, at, last) = (after, next.clone(), next);
        }
        self.note(&last, &at).await?;
        if at.height < target.height {
            return Ok(Reached::No);
        }
        self.open(&at, &held).await?;
        Ok(Reached::Yes)
    }

    /// The tipset to compare with the book's end: a stride above it, or its child.
    async fn next(&mut self, at: &TipSet, target: &TipSet) -> Result<TipSet, ChainError> {
        self.stride = self.stride.clamp(1, target.height - at.height);
        if self.stride > 1 {
            let next = self.node.tipset_by_height(at.height + self.stride, &target.key).await?;
            // Otherwise all of these epochs are empty.
            if next.key != at.key {
                return Ok(next);
            }
        }
        self.node.tipset_after_height(at.height + 1, &target.key).await
    }

    /// The tipset at which the book ends, after withdrawing what the chain no longer has. `None` if nothing is left.
    async fn end(&self, end: &MoneyEnd, head: &TipSet) -> Result<Option<TipSet>, Trouble> {
        let there = self.node.tipset_by_height(end.epoch, &head.key).await?;
        if there.key.to_string() == end.tipset {
            return Ok(Some(there));
        }
        // The highest booked tipset that the chain still has. Its execution, and so what is booked up to it, is unchanged.
        let mut below = i64::MAX;
        loop {
            let booked = self.store.money_tipsets_below(below).await?;
            let Some((lowest, _)) = booked.last() else { break };
            below = *lowest;
            for (epoch, tipset) in &booked {
                if *epoch >= head.height {
                    continue;
                }
                let there = self.node.tipset_by_height(*epoch, &head.key).await?;
                if there.key.to_string() == *tipset {
                    let child = self.node.tipset_after_height(epoch + 1, &head.key).await?;
                    self.withdraw(end.epoch, Some((*epoch, &child))).await?;
                    return Ok(Some(child));
                }
            }
        }
        self.withdraw(end.epoch, None).await?;
        Ok(None)
    }

    async fn withdraw(&self, end: i64, to: Option<(i64, &TipSet)>) -> Result<(), StoreError> {
        let fork = to.map(|(epoch, _)| epoch);
        tracing::warn!(
            end,
            fork,
            "the chain was reorganised below the end of the money book; what was above is withdrawn"
        );
        let mut tx = self.store.begin_as(self.epoch).await?;
        tx.withdraw_money(fork).await?;
        if let Some((_, child)) = to {
            tx.end_money(&end_at(child)).await?;
        }
        tx.commit().await
    }

    /// Begins the parts of those actors that are not in the book yet, at the tipset at which it ends.
    async fn open(&self, end: &TipSet, held: &AllHoldings) -> Result<(), Trouble> {
        let mut actors = self.configured(end).await?;
        actors.miners.retain(|miner| !held.contains_key(&miner.0));
        actors.accounts.retain(|id, _| !held.contains_key(id));
        if actors == Actors::default() {
            return Ok(());
        }
        let has = Reader { node: self.node, actors: &actors }.holdings(&end.key).await?;
        let is_miner = |id: u64| actors.miners.contains(&MinerId(id));
        let entries: Vec<Entry> = has.iter().flat_map(|(id, held)| opening(*id, is_miner(*id), held)).collect();
        // What an actor has before a tipset is what its parent has left.
        let parent = self.node.tipset_by_height((end.height - 1).max(0), &end.key).await?;
        Ok(self.store_page(&parent, end, &entries).await?)
    }

    /// What the actors of the book have at its end, and who they are. Whoever is in the book stays there: an address that is
    /// no longer used may still have money.
    async fn actors(&mut self, target: &TipSet) -> Result<(AllHoldings, Actors), Trouble> {
        let (held, miners) = (self.store.money_holdings().await?, self.store.money_miners().await?);
        let mut actors = Actors { miners, accounts: BTreeMap::new() };
        for id in held.keys().copied().filter(|id| !actors.miners.contains(&MinerId(*id))) {
            if let btree_map::Entry::Vacant(unknown) = self.keys.entry(id) {
                match self.node.account_key(&Address::new_id(id), &target.key).await {
                    Ok(key) => {
                        unknown.insert(key);
                    }
                    // A multisig actor, or one that does not exist yet.
                    Err(ChainError::Refused { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            actors.accounts.insert(id, self.keys.get(&id).copied());
        }
        Ok((held, actors))
    }

    /// The configured miners and their addresses, without keys.
    async fn configured(&self, tipset: &TipSet) -> Result<Actors, ChainError> {
        let mut actors = Actors::default();
        for miner in &self.config.miners {
            let info = match self.node.miner_info(&address(miner.id), &tipset.key).await {
                // There is no such miner yet.
                Err(ChainError::Refused { .. }) => continue,
                info => info?,
            };
            actors.miners.insert(miner.id);
            for address in [info.owner, info.worker].into_iter().chain(info.control_addresses) {
                let id = self.node.lookup_id(&address, &tipset.key).await?;
                actors.accounts.extend(id.id().ok().map(|id| (id, None)));
            }
        }
        actors.accounts.retain(|id, _| !actors.miners.contains(&MinerId(*id)));
        Ok(actors)
    }

    /// What is booked for a tipset. With `unread`, its messages are not asked for.
    async fn page(
        &self,
        reader: &Reader<'_, T>,
        pair: Pair<'_>,
        before: &AllHoldings,
        after: &AllHoldings,
        unread: Option<String>,
    ) -> Result<Vec<Entry>, Trouble> {
        let mut page = Page::new(before, after, &reader.actors.miners);
        if unread.is_none() {
            for included in reader.included(&pair.tipset.key).await? {
                if let Some(message) = reader.message(pair, &included).await? {
                    page.book(&message);
                }
            }
        }
        let miners = || reader.actors.miners.iter().copied();
        let lacks = |miner: &MinerId, quantity| page.rest(miner.0, quantity).is_negative();
        // A gap is about many tipsets, not about this one's deadline.
        let spending = miners().filter(|miner| unread.is_none() && lacks(miner, Quantity::Balance)).collect::<Vec<_>>();
        let mut expiring = Vec::new();
        for miner in miners().filter(|miner| lacks(miner, Quantity::Deposits)) {
            expiring.extend(self.store.locked_deposits(miner).await?);
        }
        let mut circumstances = reader.circumstances(pair, &spending, &expiring).await?;
        circumstances.unread = unread;
        Ok(page.close(&circumstances))
    }

    async fn store_page(&self, tipset: &TipSet, end: &TipSet, entries: &[Entry]) -> Result<(), StoreError> {
        let mut tx = self.store.begin_as(self.epoch).await?;
        tx.book_money(&executed(tipset), entries).await?;
        tx.end_money(&end_at(end)).await?;
        tx.commit().await
    }

    /// Stores that nothing has changed up to a tipset.
    async fn note(&self, last: &TipSet, at: &TipSet) -> Result<(), StoreError> {
        if last.key == at.key {
            return Ok(());
        }
        let mut tx = self.store.begin_as(self.epoch).await?;
        tx.end_money(&end_at(at)).await?;
        tx.commit().await
    }

    /// Counts a refusal. An error until there were enough of them: a node that was just started may refuse as well.
    fn count(&mut self, at: &TipSet, error: ChainError) -> Result<(), ChainError> {
        let before = if self.refused.1 == at.height { self.refused.0 } else { 0 };
        self.refused = (before + 1, at.height);
        if before + 1 < REFUSALS { Err(error) } else { Ok(()) }
    }

    /// The node does not have the state of an epoch between the book's end and the confident tipset. After enough tries the
    /// whole gap is booked as one change.
    async fn refusal(
        &mut self,
        reader: &Reader<'_, T>,
        at: &TipSet,
        target: &TipSet,
        held: &AllHoldings,
        error: ChainError,
    ) -> Result<Reached, Trouble> {
        self.count(at, error)?;
        let text = format!("the node no longer has the state of the epochs from {} to {}", at.height, target.height);
        let after = reader.holdings(&target.key).await?;
        tracing::warn!(from = at.height, to = target.height, "the money book has a gap: {text}");
        let parent = self.node.tipset_by_height(target.height - 1, &target.key).await?;
        let pair = Pair { tipset: &parent, child: target };
        let entries = self.page(reader, pair, held, &after, Some(text)).await?;
        self.store_page(&parent, target, &entries).await?;
        Ok(Reached::Yes)
    }
}

fn end_at(tipset: &TipSet) -> MoneyEnd {
    MoneyEnd { epoch: tipset.height, tipset: tipset.key.to_string(), problem: None }
}

#[cfg(test)]
mod tests;
