//! The money book against the chain: for each actor and quantity the entries add up to what the chain says, to the
//! attoFIL.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail, ensure};
use fvm_shared::econ::TokenAmount;
use sealbus_manager::{
    chain::json::parse_tokens,
    money::{AllHoldings, Entry, Holdings, Purpose, Quantity, add},
    store::{BookedEntry, MoneyEnd, MoneyFilter, MoneyOrder},
};
use serde_json::{Value, json};

use super::world::{World, wait};

/// The actors outside the book that its actors pay or are paid by: burnt funds, and the devnet's actor for premiums and
/// rewards.
pub const STRANGERS: [&str; 2] = ["t099", "t02"];

/// An amount in a node's answer.
pub fn atto(amount: &Value) -> anyhow::Result<TokenAmount> {
    let text = amount.as_str().context("no amount")?;
    parse_tokens(text).map_err(anyhow::Error::msg)
}

/// The tipset at which the book ends; `None` before it begins.
pub fn end(world: &mut World) -> anyhow::Result<Option<MoneyEnd>> {
    let store = world.store()?;
    Ok(world.block_on(store.money_end())?)
}

/// All entries, as they were booked.
pub fn entries(world: &mut World) -> anyhow::Result<Vec<BookedEntry>> {
    let (store, mut all) = (world.store()?, Vec::new());
    let filter = MoneyFilter::default();
    world.block_on(store.each_money(&filter, MoneyOrder::Booked, |entry| all.push(entry)))?;
    Ok(all)
}

/// Stops the chain's clock, and waits until the book has reached the confident tipset. Returns the head's epoch.
pub fn settle(world: &mut World) -> anyhow::Result<i64> {
    world.call_chain("Devnet.SetEpochMillis", json!([0]))?;
    let head = world.call_chain("Filecoin.ChainHead", json!([]))?;
    let height = head["Height"].as_i64().context("no height")?;
    let confident = world.call_chain("Filecoin.ChainGetTipSetByHeight", json!([height - 1, head["Cids"]]))?;
    let key = confident["Cids"][0]["/"].as_str().context("no key")?.to_owned();
    wait("the book", || {
        world.check_alive()?;
        let end = end(world)?;
        if let Some(MoneyEnd { problem: Some(problem), .. }) = &end {
            bail!("the book does not go on: {problem}");
        }
        Ok(end.filter(|end| end.tipset == key).map(drop))
    })?;
    Ok(height)
}

/// What the strangers have at a tipset; `null` for the head.
pub fn of_strangers(world: &World, at: &Value) -> anyhow::Result<TokenAmount> {
    let balances = STRANGERS.map(|id| atto(&world.call_chain("Filecoin.StateGetActor", json!([id, at]))?["Balance"]));
    balances.into_iter().try_fold(TokenAmount::default(), |sum, balance| Ok(sum + balance?))
}

/// The entries add up to what the chain says at the tipset at which the book ends, for each actor and quantity; nothing
/// is unexplained. `begin` is what the strangers had when the book began.
pub fn add_up(world: &mut World, begin: &TokenAmount) -> anyhow::Result<AllHoldings> {
    let end = end(world)?.context("there is no book")?;
    let booked = entries(world)?;
    let entries: Vec<Entry> = booked.iter().map(|booked| booked.entry.clone()).collect();
    let mut sums = AllHoldings::new();
    add(&mut sums, &entries);
    let at = json!([{"/": end.tipset}]);
    for (actor, sum) in &sums {
        let on_chain = holdings(world, *actor, &at)?;
        ensure!(*sum == on_chain, "of actor {actor} the book says {sum:?}, and the chain {on_chain:?}: {booked:#?}");
    }

    // Nothing is lost on the way: what left is burnt, or was paid to the actor of rewards and premiums, or came from there.
    let beyond =
        entries.iter().filter(|entry| entry.quantity == Quantity::Balance && entry.purpose != Purpose::Opening);
    let came = beyond.fold(TokenAmount::default(), |sum, entry| sum + &entry.amount);
    let paid = begin - &of_strangers(world, &at)?;
    ensure!(came == paid, "{came} came by the book, {paid} by the others' balances");

    // Nothing was left unexplained, and every booked tipset is one of the chain.
    ensure!(entries.iter().all(|entry| entry.purpose != Purpose::Other), "unexplained: {booked:#?}");
    let epochs: BTreeSet<i64> = booked.iter().map(|booked| booked.epoch).collect();
    let store = world.store()?;
    let tipsets: BTreeMap<i64, String> = world.block_on(store.money_tipsets_below(i64::MAX))?.into_iter().collect();
    ensure!(tipsets.keys().copied().collect::<BTreeSet<_>>() == epochs, "tipsets without entries, or the reverse");
    for (epoch, tipset) in tipsets {
        let there = world.call_chain("Filecoin.ChainGetTipSetByHeight", json!([epoch, null]))?;
        ensure!(there["Cids"][0]["/"] == tipset.as_str(), "the chain has another tipset at {epoch}");
    }
    Ok(sums)
}

/// What an actor has at a tipset.
fn holdings(world: &World, actor: u64, at: &Value) -> anyhow::Result<Holdings> {
    let address = format!("t0{actor}");
    let state = world.call_chain("Filecoin.StateGetActor", json!([address, at]))?;
    let mut holdings = Holdings { balance: atto(&state["Balance"])?, ..Holdings::default() };
    if world.miners.iter().any(|miner| miner.0 == actor) {
        let state = world.call_chain("Filecoin.StateReadState", json!([address, at]))?;
        holdings.deposits = atto(&state["State"]["PreCommitDeposits"])?;
        holdings.pledge = atto(&state["State"]["InitialPledge"])?;
        holdings.vesting = atto(&state["State"]["LockedFunds"])?;
    }
    Ok(holdings)
}
