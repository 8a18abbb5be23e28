//! The money book equals the chain to the attoFIL, whatever happens to the messages: sectors are sealed with a base fee and
//! premiums while a message fails, the chain is reorganised, another tool sends from the same addresses, and the manager is
//! away for a while.

use std::time::Duration;

use fvm_shared::econ::TokenAmount;
use sealbus_integration_tests::{
    command_line,
    scripted::{
        book,
        world::{Options, World, directory, wait, wait_closely},
    },
};
use sealbus_manager::{
    money::{AllHoldings, Holdings, Purpose, Quantity},
    store::{BookedEntry, MoneyEnd},
};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(180);
const EPOCH_MILLIS: u64 = 100;
const BASE_FEE_ATTO: u64 = 250;
const PREMIUM_ATTO: u64 = 1234;
const SECTORS: usize = 2;
/// The owner of the devnet's first miner, and the actor that gets premiums and pays rewards, which is none of the miner's.
const OWNER: &str = "t0100";
const STRANGER: &str = book::STRANGERS[1];
/// The first PreCommit is alone, so that it is the one that runs out of gas. The ProveCommits share a message.
const CHAIN: &str =
    "[chain.batches]\nprecommit_max = 1\nprove_commit_wait_epochs = 100\nprove_commit_max = 2\nslack_epochs = 60\n";
/// A transfer.
const SEND: (u64, Option<&str>) = (0, None);
/// `WithdrawBalance` of 1000 attoFIL.
const WITHDRAW: (u64, Option<&str>) = (16, Some("gUMAA+g="));

fn atto(amount: &Value) -> TokenAmount {
    book::atto(amount).expect("an amount")
}

fn end(world: &mut World) -> Option<MoneyEnd> {
    book::end(world).expect("reads")
}

fn entries(world: &mut World) -> Vec<BookedEntry> {
    book::entries(world).expect("reads")
}

/// Stops the clock, and waits until the book has reached the confident tipset. Returns the head's epoch.
fn settle(world: &mut World) -> i64 {
    book::settle(world).expect("reaches it")
}

fn go_on(world: &World) {
    world.call_chain("Devnet.SetEpochMillis", json!([EPOCH_MILLIS])).expect("goes on");
}

fn fault(world: &World, fault: Value) {
    world.call_chain("Devnet.Fault", json!([fault])).expect("is injected");
}

/// What another tool sends from the owner.
fn send_from_owner(world: &World, to: &str, value: &str, (method, params): (u64, Option<&str>)) {
    let call = |method: &str, params| world.call_chain(method, params).expect(method);
    let from = call("Filecoin.StateAccountKey", json!([OWNER, null]));
    let nonce = call("Filecoin.MpoolGetNonce", json!([from]));
    let message = json!({
        "Version": 0, "From": from, "To": to, "Nonce": nonce, "Value": value, "Method": method, "Params": params,
        "GasLimit": 10_000_000, "GasFeeCap": "50000", "GasPremium": "700",
    });
    let signed = call("Filecoin.WalletSignMessage", json!([from, message]));
    call("Filecoin.MpoolPush", json!([signed]));
}

/// The book of the miner's actors adds up to what the chain says.
fn add_up(world: &mut World, begin: &TokenAmount) -> AllHoldings {
    let sums = book::add_up(world, begin).expect("adds up");
    assert_eq!(sums.keys().copied().collect::<Vec<_>>(), [100, 101, 1000]);
    sums
}

fn costs(world: &World, arguments: &[&str]) -> String {
    command_line::done(&world.manager_config(), &[&["costs"], arguments].concat())
}

fn rows(world: &World, by: &str) -> Vec<Value> {
    let mut value: Value = serde_json::from_str(&costs(world, &["--by", by, "--json"])).expect("JSON");
    assert_eq!(value["book"]["closes"], Value::Bool(true));
    match value["rows"].take() {
        Value::Array(rows) => rows,
        other => panic!("{other}"),
    }
}

#[test]
fn the_money_book_equals_the_chain_to_the_attofil() {
    let dir = directory().expect("a directory");
    let options =
        Options { slots: SECTORS, epoch_millis: EPOCH_MILLIS, chain_lines: CHAIN.to_owned(), ..Options::default() };
    let mut world = World::prepare(dir.path(), options).expect("a world");
    fault(&world, json!({"kind": "base_fee", "atto": BASE_FEE_ATTO}));
    fault(&world, json!({"kind": "premium", "atto": PREMIUM_ATTO}));
    let begin = book::of_strangers(&world, &Value::Null).expect("balances");
    world.start_manager().expect("starts");
    wait("the database", || Ok(world.root().join("manager.db").exists().then_some(()))).expect("is there");
    wait("the book", || Ok(end(&mut world).map(drop))).expect("begins");
    assert!(entries(&mut world).iter().all(|booked| booked.entry.purpose == Purpose::Opening));

    // The first PreCommit runs out of gas.
    fault(&world, json!({"kind": "low_gas", "count": 1}));
    world.start_workers().expect("start");
    world.pledge(SECTORS).expect("pledges");
    let pre_committed = |booked: &BookedEntry| booked.entry.quantity == Quantity::Deposits;
    wait_closely("a deposit in the book", || {
        world.check_alive()?;
        Ok(entries(&mut world).iter().any(pre_committed).then_some(()))
    })
    .expect("comes");

    // What is booked of the PreCommits is withdrawn by a fork, which includes them later.
    let head = settle(&mut world);
    add_up(&mut world, &begin);
    let first = entries(&mut world).into_iter().find(pre_committed).expect("a deposit").epoch;
    world.call_chain("Devnet.Reorganise", json!([head - first + 1, "later"])).expect("a fork");
    settle(&mut world);
    add_up(&mut world, &begin);
    assert!(!entries(&mut world).iter().any(pre_committed), "the fork's tipsets are empty");
    // The base fee rises, but not above what the waiting messages may pay.
    fault(&world, json!({"kind": "base_fee", "atto": 8 * BASE_FEE_ATTO}));
    send_from_owner(&world, STRANGER, "12345", SEND);
    go_on(&world);
    world.wait_until_proving(SECTORS, LIMIT).expect("seals");
    settle(&mut world);
    let sums = add_up(&mut world, &begin);
    assert!(sums[&1000].deposits == Holdings::default().deposits && sums[&1000].pledge.is_positive());

    // The manager is away, while another tool goes on, and the miner gets a reward and owes a fee.
    world.kill_manager();
    fault(&world, json!({"kind": "base_fee", "atto": 100 * BASE_FEE_ATTO}));
    let worker = world.call_chain("Filecoin.StateAccountKey", json!(["t0101", null])).expect("a key");
    let advance = |epochs: u64| {
        world.call_chain("Devnet.NullRounds", json!([3])).expect("null rounds");
        world.call_chain("Devnet.Advance", json!([epochs])).expect("advances");
    };
    for value in ["777", "778"] {
        send_from_owner(&world, worker.as_str().expect("a key"), value, SEND);
        advance(200);
    }
    fault(&world, json!({"kind": "reward", "miner": 1000, "atto": 100_000}));
    advance(70);
    fault(&world, json!({"kind": "fee_debt", "miner": 1000, "atto": 5000}));
    advance(5);
    send_from_owner(&world, "t01000", "0", WITHDRAW);
    advance(30);
    world.start_manager().expect("starts again");
    settle(&mut world);
    add_up(&mut world, &begin);
    let of = |purpose: Purpose, book: &[BookedEntry]| -> Vec<String> {
        let found = book.iter().filter(|booked| booked.entry.purpose == purpose);
        found.map(|booked| booked.entry.amount.atto().to_string()).collect()
    };
    let all = entries(&mut world);
    assert_eq!(of(Purpose::Reward, &all), ["100000"]);
    assert_eq!(of(Purpose::Vesting, &all), ["75000"]);
    assert_eq!(of(Purpose::Burnt, &all), ["-5000"]);
    assert!(of(Purpose::Moved, &all).ends_with(&["-1000".to_owned(), "1000".to_owned()]), "{all:#?}");
    show(&mut world);
}

/// The command says the same.
fn show(world: &mut World) {
    let entries = entries(world);
    for number in 1..=SECTORS as u64 {
        let info = world.call_chain("Filecoin.StateSectorGetInfo", json!(["t01000", number, null])).expect("a sector");
        let of_sector = rows(world, "sector");
        let name = format!("f01000/{number}");
        let row = of_sector.iter().find(|row| row["sector"] == name.as_str()).expect("a row");
        let amount = |name: &str| row[name].as_str().expect("an amount").to_owned();
        let pledge = atto(&info["InitialPledge"]).to_string();
        assert_eq!(amount("pledge"), pledge.strip_suffix(".0").unwrap_or(&pledge), "{row}");
        assert!(amount("precommit_gas").starts_with('-') && amount("prove_commit_gas").starts_with('-'), "{row}");
        assert_eq!(amount("deposit"), amount("returned"), "{row}");
        assert_eq!(amount("deposit_burnt"), "0", "{row}");
    }
    // The message that ran out of gas has cost gas and done nothing.
    let failed = rows(world, "message")
        .into_iter()
        .filter(|row| row["method"] == "PreCommitSectorBatch2" && row["deposit"] == "0" && row["gas"] != "0");
    assert_eq!(failed.count(), 1);
    let transfer = rows(world, "message").into_iter().any(|row| row["transfers"] == "-0.000000000000012345");
    assert!(transfer);

    // Each way of adding up has the same total, which is what the actors have beyond what they began with.
    let of_balance = entries.iter().filter(|booked| booked.entry.quantity == Quantity::Balance);
    let came = of_balance.filter(|booked| booked.entry.purpose != Purpose::Opening);
    let came = came.fold(TokenAmount::default(), |sum, booked| sum + &booked.entry.amount);
    let came = came.to_string();
    for by in ["sector", "message", "day"] {
        let total = rows(world, by).pop().expect("a total");
        assert_eq!((&total[by], &total["balance"]), (&json!("total"), &json!(came)), "{by}");
        let csv = costs(world, &["--by", by, "--csv"]);
        let last = csv.lines().last().expect("a total");
        assert!(last.starts_with("total,") && last.ends_with(&format!(",{came}")), "{csv}");
        let table = costs(world, &["--by", by]);
        assert!(table.contains("BALANCE") && table.contains(&came) && table.contains("the book ends"), "{table}");
    }
    let purposes = costs(world, &[]);
    for word in ["opening", "gas", "moved", "transfer", "deposit", "pledge", "total"] {
        assert!(purposes.contains(word), "{word}: {purposes}");
    }
    assert!(!purposes.contains("other"), "{purposes}");

    let none = costs(world, &["--from", "1999-01-01", "--to", "1999-12-31", "--csv"]);
    assert_eq!(none.lines().count(), 2, "headings and a total: {none}");
    for (arguments, words) in [
        (&["--from", "2026-02-30"][..], "2026-01-31"),
        (&["--from", "2026-02-02", "--to", "2026-02-01"], "is after"),
        (&["--csv", "--json"], "cannot be used with"),
        (&["--miner", "f01007"], "f01007"),
    ] {
        let output = command_line::command(&world.manager_config(), &[&["costs"], arguments].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(words), "{arguments:?}: {said}");
    }
}
