//! The money book: every attoFIL that left or came, by sector, message and day, from the chain.
//!
//! The book is about actors: each configured miner, and its owner, worker and control addresses. It is written from the
//! chain alone, so it also has what other tools send from the same addresses. An [`Entry`] changes one [`Quantity`] of one
//! actor; the first entry of an actor says what it had. So at each moment the entries of an actor add up to what it has on
//! chain ([`book`] has the rules). What the chain does not explain is booked as [`Purpose::Other`], and never left out.
//!
//! [`read`] reads the chain, and [`follow`] writes the book, one tipset after the other, up to the confident one. The
//! decision is in `docs/adr/0060-the-money-book-is-read-from-the-chain.md`.

pub mod book;
pub mod follow;
pub mod read;

use std::collections::BTreeMap;

use fvm_shared::econ::TokenAmount;
use sealbus_schema::{MinerId, SectorNumber};

/// The number of an actor: of `f01000`, 1000.
pub type ActorId = u64;

/// What an actor has of something, and what an entry changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quantity {
    /// Everything that it has.
    Balance,
    /// The part of a miner's balance that is locked as deposits of PreCommits.
    Deposits,
    /// The part that is locked as the pledge of proven sectors.
    Pledge,
    /// The part that is locked until it has vested.
    Vesting,
}

/// Why a quantity changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// What the actor had when its part of the book began.
    Opening,
    /// A message's gas: burnt, or paid to the miner of the block.
    Gas,
    /// Money that went from one actor of the book to another.
    Moved,
    /// Money that a message moved to somebody else, or that somebody else sent.
    Transfer,
    /// Money that a message burnt: fee debt that was paid, or the fee for terminated sectors.
    Burnt,
    /// A deposit that was locked or released.
    Deposit,
    /// The deposit of a PreCommit that expired.
    DepositBurnt,
    /// Pledge that was locked or released.
    Pledge,
    /// Rewards that were locked, or have vested.
    Vesting,
    /// The daily fee of proven sectors.
    Fee,
    /// What a miner paid at the end of a deadline beyond its daily fee, for faults for example.
    Penalty,
    /// The reward of a block, with the premiums of its messages.
    Reward,
    /// What the chain's state does not explain.
    Other,
}

/// What an actor has, in attoFIL. The last three are parts of a miner's balance, and 0 for others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Everything.
    pub balance: TokenAmount,
    /// Locked as deposits.
    pub deposits: TokenAmount,
    /// Locked as pledge.
    pub pledge: TokenAmount,
    /// Locked until it has vested.
    pub vesting: TokenAmount,
}

/// What all actors of the book have.
pub type AllHoldings = BTreeMap<ActorId, Holdings>;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Whose quantity changed.
    pub actor: ActorId,
    /// What changed.
    pub quantity: Quantity,
    /// Why.
    pub purpose: Purpose,
    /// By how much, in attoFIL; negative if it became less.
    pub amount: TokenAmount,
    /// The miner that it was about, if it was about one.
    pub miner: Option<MinerId>,
    /// The sector, if it was about one.
    pub sector: Option<SectorNumber>,
    /// The message, if one did it.
    pub message: Option<MessageRef>,
    /// What else is known.
    pub note: Option<String>,
}

/// A message on chain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessageRef {
    /// The CID under which the chain knows it.
    pub cid: String,
    /// The number of the method that it calls.
    pub method: u64,
}

/// The tipset whose execution the entries are about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executed {
    /// Its epoch.
    pub epoch: i64,
    /// Its key, as stored.
    pub tipset: String,
    /// The day of its timestamp, in UTC: `2026-11-28`.
    pub day: String,
}

impl Quantity {
    /// All of them.
    pub const ALL: [Quantity; 4] = [Quantity::Balance, Quantity::Deposits, Quantity::Pledge, Quantity::Vesting];

    /// The stored name.
    pub const fn name(self) -> &'static str {
        match self {
            Quantity::Balance => "balance",
            Quantity::Deposits => "deposits",
            Quantity::Pledge => "pledge",
            Quantity::Vesting => "vesting",
        }
    }

    /// The quantity with this stored name.
    pub fn of_name(name: &str) -> Option<Quantity> {
        Quantity::ALL.into_iter().find(|quantity| quantity.name() == name)
    }
}

impl Purpose {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Purpose; 13] = [
        Purpose::Opening,
        Purpose::Gas,
        Purpose::Deposit,
        Purpose::DepositBurnt,
        Purpose::Pledge,
        Purpose::Fee,
        Purpose::Penalty,
        Purpose::Burnt,
        Purpose::Reward,
        Purpose::Vesting,
        Purpose::Moved,
        Purpose::Transfer,
        Purpose::Other,
    ];

    /// The stored name.
    pub const fn name(self) -> &'static str {
        match self {
            Purpose::Opening => "opening",
            Purpose::Gas => "gas",
            Purpose::Moved => "moved",
            Purpose::Transfer => "transfer",
            Purpose::Burnt => "burnt",
            Purpose::Deposit => "deposit",
            Purpose::DepositBurnt => "deposit_burnt",
            Purpose::Pledge => "pledge",
            Purpose::Vesting => "vesting",
            Purpose::Fee => "fee",
            Purpose::Penalty => "penalty",
            Purpose::Reward => "reward",
            Purpose::Other => "other",
        }
    }

    /// The purpose with this stored name.
    pub fn of_name(name: &str) -> Option<Purpose> {
        Purpose::ALL.into_iter().find(|purpose| purpose.name() == name)
    }
}

impl Holdings {
    /// How much it has of something.
    pub const fn of(&self, quantity: Quantity) -> &TokenAmount {
        match quantity {
            Quantity::Balance => &self.balance,
            Quantity::Deposits => &self.deposits,
            Quantity::Pledge => &self.pledge,
            Quantity::Vesting => &self.vesting,
        }
    }

    /// The same, for changes.
    pub const fn of_mut(&mut self, quantity: Quantity) -> &mut TokenAmount {
        match quantity {
            Quantity::Balance => &mut self.balance,
            Quantity::Deposits => &mut self.deposits,
            Quantity::Pledge => &mut self.pledge,
            Quantity::Vesting => &mut self.vesting,
        }
    }
}

impl Entry {
    /// An entry about nothing but an actor.
    pub const fn new(actor: ActorId, quantity: Quantity, purpose: Purpose, amount: TokenAmount) -> Entry {
        Entry { actor, quantity, purpose, amount, miner: None, sector: None, message: None, note: None }
    }
}

/// The entries with which an actor's part of the book begins. Those of a miner are about itself.
pub fn opening(actor: ActorId, is_miner: bool, holdings: &Holdings) -> Vec<Entry> {
    let is_said = |quantity: &Quantity| *quantity == Quantity::Balance || !holdings.of(*quantity).is_zero();
    let miner = is_miner.then_some(MinerId(actor));
    let entry =
        |quantity| Entry { miner, ..Entry::new(actor, quantity, Purpose::Opening, holdings.of(quantity).clone()) };
    Quantity::ALL.into_iter().filter(is_said).map(entry).collect()
}

/// Adds entries to what the actors had before them.
pub fn add(holdings: &mut AllHoldings, entries: &[Entry]) {
    for entry in entries {
        *holdings.entry(entry.actor).or_default().of_mut(entry.quantity) += &entry.amount;
    }
}
