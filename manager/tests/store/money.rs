//! The money book.

use fvm_shared::econ::TokenAmount;
use sealbus_manager::{
    money::{AllHoldings, Entry, Executed, MessageRef, Purpose, Quantity, add, opening},
    store::{BookedEntry, MoneyEnd, MoneyFilter, MoneyOrder, Store},
};
use sealbus_schema::{MinerId, SectorId, SectorNumber};

use crate::{databases::TestDatabase, on_every_database};

on_every_database! {
    what_actors_have_is_the_sum_of_their_entries_also_after_some_are_withdrawn,
    a_long_book_is_read_in_each_order_with_each_entry_once,
    only_deposits_that_are_still_locked_are_found,
}

const MINER: MinerId = MinerId(1000);

fn atto(amount: i64) -> TokenAmount {
    TokenAmount::from_atto(amount)
}

fn at(epoch: i64) -> Executed {
    Executed { epoch, tipset: format!("bafy{epoch}"), day: format!("2026-11-{:02}", 1 + epoch % 28) }
}

fn entry(actor: u64, quantity: Quantity, purpose: Purpose, amount: TokenAmount) -> Entry {
    Entry::new(actor, quantity, purpose, amount)
}

async fn book(store: &Store, epoch: i64, entries: &[Entry]) {
    let mut tx = store.begin().await.expect("begins");
    tx.book_money(&at(epoch), entries).await.expect("books");
    tx.end_money(&MoneyEnd { epoch: epoch + 1, tipset: "end".to_owned(), problem: None }).await.expect("ends");
    tx.commit().await.expect("commits");
}

async fn read(store: &Store, filter: &MoneyFilter, order: MoneyOrder) -> Vec<BookedEntry> {
    let mut all = Vec::new();
    store.each_money(filter, order, |booked| all.push(booked)).await.expect("reads");
    all
}

async fn adds_up(store: &Store) -> AllHoldings {
    let mut sums = AllHoldings::new();
    let entries = read(store, &MoneyFilter::default(), MoneyOrder::Booked).await;
    add(&mut sums, &entries.into_iter().map(|booked| booked.entry).collect::<Vec<_>>());
    assert_eq!(store.money_holdings().await.expect("reads"), sums);
    sums
}

async fn what_actors_have_is_the_sum_of_their_entries_also_after_some_are_withdrawn(database: TestDatabase) {
    let store = database.open().await;
    assert_eq!(store.money_end().await.expect("reads"), None);
    // More than fits into 64 bits.
    let rich = TokenAmount::from_whole(1_000_000_000) + atto(1);
    let account = sealbus_manager::money::Holdings { balance: rich.clone(), ..Default::default() };
    book(&store, 5, &opening(101, false, &account)).await;
    book(&store, 6, &opening(MINER.0, true, &Default::default())).await;
    assert_eq!(store.money_miners().await.expect("reads"), [MINER].into());
    let message = Some(MessageRef { cid: "bafymessage".to_owned(), method: 28 });
    let sector = Some(SectorNumber(7));
    let gas = entry(101, Quantity::Balance, Purpose::Gas, atto(-3));
    let gas = Entry { miner: Some(MINER), sector, message, ..gas };
    let other = entry(MINER.0, Quantity::Balance, Purpose::Other, atto(-9));
    let other = Entry { note: Some("a reason".to_owned()), ..other };
    let told = [gas, other, entry(MINER.0, Quantity::Vesting, Purpose::Vesting, atto(75))];
    book(&store, 9, &told).await;
    book(&store, 8, &[]).await;
    let sums = adds_up(&store).await;
    assert_eq!(sums[&101].balance, rich - atto(3));
    assert_eq!((&sums[&MINER.0].balance, &sums[&MINER.0].vesting), (&atto(-9), &atto(75)));
    let all = read(&store, &MoneyFilter::default(), MoneyOrder::Booked).await;
    assert_eq!(all[2..].iter().map(|booked| booked.entry.clone()).collect::<Vec<_>>(), told);
    assert_eq!((all[2].epoch, all[2].day.as_str()), (9, "2026-11-10"));
    let tipsets = store.money_tipsets_below(9).await.expect("reads");
    assert_eq!(tipsets, [(6, "bafy6".to_owned()), (5, "bafy5".to_owned())]);

    let withdraw = async |above: Option<i64>| {
        let mut tx = store.begin().await.expect("begins");
        tx.withdraw_money(above).await.expect("withdraws");
        tx.commit().await.expect("commits");
        adds_up(&store).await
    };
    assert_eq!(withdraw(Some(6)).await[&MINER.0], Default::default());
    assert_eq!(withdraw(Some(5)).await.into_keys().collect::<Vec<_>>(), [101], "the miner is not in the book any more");
    assert!(store.money_end().await.expect("reads").is_some());
    assert!(withdraw(None).await.is_empty());
    assert_eq!(store.money_end().await.expect("reads"), None, "the book begins anew");
}

async fn a_long_book_is_read_in_each_order_with_each_entry_once(database: TestDatabase) {
    let store = database.open().await;
    for epoch in 0..10 {
        let line = |number: i64| {
            let message = MessageRef { cid: format!("m{}", number % 7), method: 34 };
            let miner = MinerId(1000 + (number % 3) as u64);
            let sector = (number % 4 > 0).then_some(SectorNumber((number % 50) as u64));
            let entry = entry(101, Quantity::Balance, Purpose::Gas, atto(-number));
            Entry { miner: Some(miner), sector, message: (number % 5 > 0).then_some(message), ..entry }
        };
        let entries: Vec<Entry> = (0..701).map(line).collect();
        book(&store, epoch, &entries).await;
    }
    let all = read(&store, &MoneyFilter::default(), MoneyOrder::Booked).await;
    assert!(all.len() == 7010 && all.is_sorted_by_key(|booked| booked.id));
    let of_message = |booked: &BookedEntry| (booked.epoch, booked.entry.message.as_ref().map(|m| m.cid.clone()));
    let of_sector = |booked: &BookedEntry| (booked.entry.miner, booked.entry.sector.map(|number| number.0));
    let by_message = read(&store, &MoneyFilter::default(), MoneyOrder::Message).await;
    assert!(by_message.is_sorted_by_key(of_message));
    let by_sector = read(&store, &MoneyFilter::default(), MoneyOrder::Sector).await;
    assert!(by_sector.is_sorted_by_key(of_sector));
    for mut other in [by_message, by_sector] {
        other.sort_by_key(|booked| booked.id);
        assert_eq!(other, all);
    }
    let filter = MoneyFilter {
        miner: Some(MinerId(1001)),
        from: Some("2026-11-03".to_owned()),
        to: Some("2026-11-04".to_owned()),
    };
    let some = read(&store, &filter, MoneyOrder::Sector).await;
    assert!(some.iter().all(|booked| booked.entry.miner == filter.miner && (2..=3).contains(&booked.epoch)));
    assert_eq!(some.len(), 2 * 234);
}

async fn only_deposits_that_are_still_locked_are_found(database: TestDatabase) {
    let store = database.open().await;
    let deposit = |number: u64, amount: i64| {
        let entry = entry(MINER.0, Quantity::Deposits, Purpose::Deposit, atto(amount));
        Entry { miner: Some(MINER), sector: Some(SectorNumber(number)), ..entry }
    };
    let unknown = entry(MINER.0, Quantity::Deposits, Purpose::Deposit, atto(5));
    let unknown = Entry { miner: Some(MINER), ..unknown };
    book(&store, 1, &[deposit(1, 10), deposit(2, 20), deposit(3, 30), unknown]).await;
    book(&store, 2, &[deposit(2, -20), deposit(3, -30)]).await;
    book(&store, 3, &[deposit(3, 31)]).await;
    let sector = |number| SectorId { miner: MINER, number: SectorNumber(number) };
    let locked = store.locked_deposits(MINER).await.expect("reads");
    assert_eq!(locked, [(sector(1), atto(10)), (sector(3), atto(31))]);
    assert!(store.locked_deposits(MinerId(1001)).await.expect("reads").is_empty());
}
