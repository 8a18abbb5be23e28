//! What is booked for one tipset. Pure.
//!
//! First each message of ours is booked by what it cost and moved. The rest is what the actors have now, less what they had
//! and what is booked. The rest gets the best name that the chain's state allows ([`Circumstances`]), and is booked whatever
//! its name is. So the book closes by construction.

use std::collections::{BTreeMap, BTreeSet};

use fvm_shared::econ::TokenAmount;
use sealbus_schema::{MinerId, SectorId, SectorNumber};

use super::{ActorId, AllHoldings, Entry, MessageRef, Purpose, Quantity, add};

/// The actor that receives what is burnt: f099.
pub const BURNT_FUNDS: ActorId = 99;

/// An executed message from or to an actor of the book.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The message.
    pub message: MessageRef,
    /// Who sent it.
    pub sender: ActorId,
    /// The miner that it was sent to, if that is one of ours.
    pub miner: Option<MinerId>,
    /// What the sender paid for the gas, in attoFIL.
    pub gas: TokenAmount,
    /// What it moved.
    pub transfers: Vec<Transfer>,
    /// The sectors in its parameters, in their order.
    pub sectors: Vec<SectorChange>,
}

/// Money that went from one actor to another. `None` is an actor that nobody needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Who paid.
    pub from: Option<ActorId>,
    /// Who was paid.
    pub to: Option<ActorId>,
    /// How much, in attoFIL.
    pub amount: TokenAmount,
}

/// What a message changed for a sector, in attoFIL. Nothing, if it failed for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SectorChange {
    /// The sector.
    pub number: SectorNumber,
    /// The change of its deposit.
    pub deposit: TokenAmount,
    /// The change of its pledge.
    pub pledge: TokenAmount,
}

/// What is known about a tipset besides its messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Circumstances {
    /// The miners that made one of its blocks.
    pub blocks_of: BTreeSet<MinerId>,
    /// The sectors whose PreCommits have expired, with their deposits in attoFIL.
    pub expired: Vec<(SectorId, TokenAmount)>,
    /// The daily fees, in attoFIL, of the deadlines that have ended.
    pub daily_fees: BTreeMap<MinerId, TokenAmount>,
    /// Why some of its messages are not known.
    pub unread: Option<String>,
}

/// The entries of one tipset while they are written.
#[derive(Debug)]
pub struct Page<'a> {
    after: &'a AllHoldings,
    miners: &'a BTreeSet<MinerId>,
    /// What the actors had before, with the entries.
    booked: AllHoldings,
    /// The sectors that a message has changed. What the state says about one is the doing of the first message alone.
    changed: BTreeSet<SectorId>,
    entries: Vec<Entry>,
}

impl<'a> Page<'a> {
    /// A page between what the actors of the book had before and after. Both name the same actors. `miners` are those among
    /// them.
    pub fn new(before: &AllHoldings, after: &'a AllHoldings, miners: &'a BTreeSet<MinerId>) -> Page<'a> {
        Page { after, miners, booked: before.clone(), changed: BTreeSet::new(), entries: Vec::new() }
    }

    /// Books a message.
    pub fn book(&mut self, message: &Message) {
        let about = |entry: Entry| Entry { miner: message.miner, message: Some(message.message.clone()), ..entry };
        if self.has(Some(message.sender)) {
            let gas = about(Entry::new(message.sender, Quantity::Balance, Purpose::Gas, -message.gas.clone()));
            self.enter(split(gas, &message.sectors));
        }
        for transfer in &message.transfers {
            let purpose = match (self.has(transfer.from), self.has(transfer.to), transfer.to) {
                (true, true, _) => Purpose::Moved,
                (true, false, Some(BURNT_FUNDS)) => Purpose::Burnt,
                _ => Purpose::Transfer,
            };
            let sides = [(transfer.from, -transfer.amount.clone()), (transfer.to, transfer.amount.clone())];
            let ours =
                sides.into_iter().filter_map(|(actor, amount)| Some((actor.filter(|_| self.has(actor))?, amount)));
            let entries = ours.map(|(actor, amount)| about(Entry::new(actor, Quantity::Balance, purpose, amount)));
            let entries: Vec<Entry> = entries.collect();
            self.enter(entries);
        }
        let Some(miner) = message.miner else { return };
        for change in &message.sectors {
            let is_changed = !(change.deposit.is_zero() && change.pledge.is_zero());
            if is_changed && !self.changed.insert(SectorId { miner, number: change.number }) {
                continue;
            }
            for (quantity, purpose, amount) in [
                (Quantity::Deposits, Purpose::Deposit, &change.deposit),
                (Quantity::Pledge, Purpose::Pledge, &change.pledge),
            ] {
                let entry = about(Entry::new(miner.0, quantity, purpose, amount.clone()));
                self.enter([Entry { sector: Some(change.number), ..entry }]);
            }
        }
    }

    /// What is not booked yet of an actor's quantity.
    pub fn rest(&self, actor: ActorId, quantity: Quantity) -> TokenAmount {
        let of = |all: &AllHoldings| all.get(&actor).map(|held| held.of(quantity).clone()).unwrap_or_default();
        of(self.after) - of(&self.booked)
    }

    /// Books the rest. The entries then add up to the difference between before and after.
    pub fn close(mut self, circumstances: &Circumstances) -> Vec<Entry> {
        for (sector, deposit) in &circumstances.expired {
            self.book_expired(*sector, deposit);
        }
        for miner in self.miners {
            for (quantity, purpose) in [
                (Quantity::Deposits, Purpose::Deposit),
                (Quantity::Pledge, Purpose::Pledge),
                (Quantity::Vesting, Purpose::Vesting),
            ] {
                self.book_rest(miner.0, quantity, purpose, circumstances);
            }
            let rest = self.rest(miner.0, Quantity::Balance);
            let is_reward = rest.is_positive() && circumstances.blocks_of.contains(miner);
            match circumstances.daily_fees.get(miner) {
                _ if circumstances.unread.is_some() => {}
                _ if is_reward => self.book_rest(miner.0, Quantity::Balance, Purpose::Reward, circumstances),
                Some(fee) if rest.is_negative() => {
                    let fee = -fee.clone().min(-rest);
                    self.enter([of_miner(*miner, Quantity::Balance, Purpose::Fee, fee)]);
                    self.book_rest(miner.0, Quantity::Balance, Purpose::Penalty, circumstances);
                }
                _ => {}
            }
        }
        let actors: Vec<ActorId> = self.after.keys().copied().collect();
        for actor in actors {
            for quantity in Quantity::ALL {
                self.book_rest(actor, quantity, Purpose::Other, circumstances);
            }
        }
        self.entries
    }

    /// A PreCommit that expired: its deposit is no longer locked, and what the miner had of it is burnt.
    fn book_expired(&mut self, sector: SectorId, deposit: &TokenAmount) {
        let about = |entry: Entry| Entry { sector: Some(sector.number), ..entry };
        let released = of_miner(sector.miner, Quantity::Deposits, Purpose::Deposit, -deposit.clone());
        self.enter([about(released)]);
        let burnt = (-self.rest(sector.miner.0, Quantity::Balance)).min(deposit.clone()).max(TokenAmount::default());
        self.enter([about(of_miner(sector.miner, Quantity::Balance, Purpose::DepositBurnt, -burnt))]);
    }

    fn book_rest(&mut self, actor: ActorId, quantity: Quantity, purpose: Purpose, circumstances: &Circumstances) {
        let miner = self.miners.get(&MinerId(actor)).copied();
        let note = circumstances.unread.clone();
        let entry = Entry::new(actor, quantity, purpose, self.rest(actor, quantity));
        self.enter([Entry { miner, note, ..entry }]);
    }

    fn has(&self, actor: Option<ActorId>) -> bool {
        actor.is_some_and(|actor| self.after.contains_key(&actor))
    }

    /// Enters what changes anything.
    fn enter(&mut self, entries: impl IntoIterator<Item = Entry>) {
        let entries: Vec<Entry> = entries.into_iter().filter(|entry| !entry.amount.is_zero()).collect();
        add(&mut self.booked, &entries);
        self.entries.extend(entries);
    }
}

fn of_miner(miner: MinerId, quantity: Quantity, purpose: Purpose, amount: TokenAmount) -> Entry {
    Entry { miner: Some(miner), ..Entry::new(miner.0, quantity, purpose, amount) }
}

/// Splits an entry evenly among sectors. The first ones get the attoFIL that are left over. Without sectors it stays whole.
fn split(entry: Entry, sectors: &[SectorChange]) -> Vec<Entry> {
    if sectors.is_empty() {
        return vec![entry];
    }
    let (share, left) = entry.amount.div_rem(sectors.len() as u64);
    // Both have the sign of the amount.
    let left = usize::try_from(left.atto().magnitude().clone()).unwrap_or_default();
    let one = TokenAmount::from_atto(if entry.amount.is_negative() { -1 } else { 1 });
    let part = |(index, change): (usize, &SectorChange)| Entry {
        sector: Some(change.number),
        amount: if index < left { &share + &one } else { share.clone() },
        ..entry.clone()
    };
    sectors.iter().enumerate().map(part).collect()
}

#[cfg(test)]
mod tests;
