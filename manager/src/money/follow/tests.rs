use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};

use cid::Cid;
use fvm_ipld_encoding::DAG_CBOR;
use fvm_shared::econ::TokenAmount;
use multihash_codetable::{Code, MultihashDigest};
use serde_json::{Value, json};

use super::*;
use crate::{
    config::Database,
    money::{Purpose, add},
    store::{BookedEntry, MoneyFilter, MoneyOrder},
};

const CONFIDENCE: i64 = 5;
const OWNER: u64 = 100;
const OPENING: i64 = 1_000_000;

/// A chain on which an owner's balance changes now and then, without any message.
#[derive(Debug, Default)]
struct Script {
    head: i64,
    /// From which height on a fork has other blocks, with its number.
    forks: BTreeMap<i64, u64>,
    nulls: BTreeSet<i64>,
    /// The changes by the height of the tipset that does them.
    changes: BTreeMap<i64, i64>,
    /// States below this height are gone.
    pruned_below: i64,
    /// How often the state was read.
    reads: u64,
}

impl Script {
    fn fork_at(&self, height: i64) -> u64 {
        self.forks.range(..=height).map(|(_, fork)| *fork).max().unwrap_or(0)
    }

    fn key(&self, height: i64) -> Cid {
        let text = format!("{height} of {}", self.fork_at(height));
        Cid::new_v1(DAG_CBOR, Code::Blake2b256.digest(text.as_bytes()))
    }

    fn below(&self, height: i64) -> i64 {
        (0..=height).rev().find(|at| !self.nulls.contains(at)).unwrap_or(0)
    }

    fn tipset(&self, height: i64) -> Value {
        let parent = if height == 0 { json!([]) } else { json!([{"/": self.key(self.below(height - 1)).to_string()}]) };
        json!({
            "Cids": [{"/": self.key(height).to_string()}], "Height": height,
            "Blocks": [{"Miner": "t01999", "Parents": parent, "Timestamp": 30 * height, "ParentBaseFee": "100"}],
        })
    }

    /// The height of the tipset with a key. Only those of the present chain are known.
    fn height(&self, key: &Value) -> i64 {
        let wanted = key[0]["/"].as_str().expect("a key");
        let found = (0..=self.head).rev().find(|height| self.key(*height).to_string() == wanted);
        found.unwrap_or_else(|| panic!("{wanted} is asked for, which is not on the chain"))
    }

    fn balance(&self, height: i64) -> i64 {
        OPENING + self.changes.range(..height).map(|(_, change)| change).sum::<i64>()
    }
}

#[derive(Debug)]
struct Double(Mutex<Script>);

impl Transport for &Double {
    async fn call(&self, method: &'static str, params: Value) -> Result<Value, ChainError> {
        let mut script = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(match method {
            "ChainHead" => script.tipset(script.below(script.head)),
            "ChainGetTipSetByHeight" => script.tipset(script.below(params[0].as_i64().expect("a height"))),
            "ChainGetTipSetAfterHeight" => {
                let from = params[0].as_i64().expect("a height");
                let found = (from..=script.head).find(|height| !script.nulls.contains(height));
                script.tipset(found.expect("a tipset"))
            }
            "StateMinerInfo" => json!({
                "Owner": "t0100", "Worker": "t0100", "NewWorker": "<empty>", "ControlAddresses": null,
                "WorkerChangeEpoch": -1, "PeerId": null, "Multiaddrs": null, "WindowPoStProofType": 10,
                "SectorSize": 2048, "WindowPoStPartitionSectors": 2, "ConsensusFaultElapsed": -1,
                "PendingOwnerAddress": null, "Beneficiary": "t0100",
            }),
            "StateAccountKey" => return Err(ChainError::refused(method, 1, "no such actor")),
            "StateLookupID" => params[0].clone(),
            "StateGetActor" | "StateReadState" => {
                script.reads += 1;
                let height = script.height(&params[1]);
                if height < script.pruned_below {
                    return Err(ChainError::refused(method, 1, "ipld: could not find"));
                }
                match method {
                    "StateGetActor" => json!({"Nonce": 0, "Balance": script.balance(height).to_string()}),
                    _ => json!({"Balance": "0", "State": {
                        "PreCommitDeposits": "0", "InitialPledge": "0", "LockedFunds": "0", "FeeDebt": "0",
                    }}),
                }
            }
            "ChainGetMessagesInTipset" => Value::Null,
            other => panic!("{other} is not expected"),
        })
    }
}

/// A book on a scripted chain, with a database.
struct World {
    node: Double,
    store: Store,
    config: Config,
    _directory: tempfile::TempDir,
}

impl World {
    async fn new(script: Script) -> World {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("manager.db");
        let text = format!(
            "[database]\npath = {path:?}\n[nats]\nurl = \"nats://127.0.0.1:4222\"\n\
             [chain]\nurl = \"http://127.0.0.1:1234/rpc/v1\"\nconfidence_epochs = {CONFIDENCE}\n\
             [[miner]]\nid = \"f01000\"\nsector_size = \"2KiB\"\n"
        );
        let config: Config = toml::from_str(&text).expect("reads");
        let store = Store::open(&Database::Sqlite { path }).await.expect("opens");
        let mut tx = store.begin().await.expect("begins");
        tx.start_fold("SEAL_SECTORS@1").await.expect("starts");
        tx.commit().await.expect("commits");
        World { node: Double(Mutex::new(script)), store, config, _directory: directory }
    }

    fn script<T>(&self, act: impl FnOnce(&mut Script) -> T) -> T {
        act(&mut self.node.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Books until the confident tipset is reached. Returns how many rounds that took.
    async fn follow(&self) -> usize {
        let node = NodeClient::new(&self.node);
        let mut follower = Follower::new(&node, &self.store, &self.config, 0);
        for round in 1..1000 {
            match follower.round().await {
                Ok(Reached::Yes) => return round,
                Ok(Reached::No) | Err(Trouble::Chain(ChainError::Refused { .. })) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
        panic!("it never reaches the confident tipset");
    }

    /// The entries, which add up to what the chain says at the book's end.
    async fn entries(&self) -> Vec<BookedEntry> {
        let (mut all, mut sums) = (Vec::new(), AllHoldings::new());
        self.store
            .each_money(&MoneyFilter::default(), MoneyOrder::Booked, |booked| all.push(booked))
            .await
            .expect("reads");
        add(&mut sums, &all.iter().map(|booked| booked.entry.clone()).collect::<Vec<_>>());
        let end = self.store.money_end().await.expect("reads").expect("a book");
        let (balance, key) = self.script(|script| (script.balance(end.epoch), script.key(end.epoch)));
        assert_eq!((sums[&OWNER].balance.clone(), end.tipset), (TokenAmount::from_atto(balance), key.to_string()));
        assert_eq!(self.store.money_holdings().await.expect("reads"), sums);
        all
    }

    /// The epochs and amounts of what was booked after the openings.
    async fn booked(&self) -> Vec<(i64, i64)> {
        let entries = self.entries().await;
        let later = entries.iter().filter(|booked| booked.entry.purpose != Purpose::Opening);
        let told =
            |booked: &BookedEntry| (booked.epoch, i64::try_from(booked.entry.amount.atto().clone()).expect("small"));
        later.map(told).collect()
    }
}

#[tokio::test]
async fn the_book_begins_with_what_there_is_and_books_each_change_at_its_epoch() {
    let world = World::new(Script { head: 20, changes: BTreeMap::from([(3, 50)]), ..Script::default() }).await;
    world.follow().await;
    assert_eq!(world.booked().await, []);
    world.script(|script| {
        script.changes.extend([(15, -7), (16, 2), (30, 9), (99, 1)]);
        script.nulls.extend([17, 18, 31, 32, 33, 40]);
        script.head = 105;
    });
    world.follow().await;
    assert_eq!(world.booked().await, [(15, -7), (16, 2), (30, 9), (99, 1)]);
    world.script(|script| script.nulls.extend(101..=130));
    world.follow().await;
    assert_eq!(world.booked().await.len(), 4);
}

#[tokio::test]
async fn days_without_the_manager_are_passed_over_in_strides_and_a_round_is_bounded() {
    let world = World::new(Script { head: 20, ..Script::default() }).await;
    world.follow().await;
    let days = 3000;
    world.script(|script| {
        script.head = days;
        script.changes.extend([(700, 1), (701, 1), (2500, 1)]);
        script.reads = 0;
    });
    let rounds = world.follow().await;
    assert_eq!(world.booked().await, [(700, 1), (701, 1), (2500, 1)]);
    let reads = world.script(|script| script.reads);
    assert!(reads < 400, "{reads} reads");
    assert!(reads as usize <= 2 * COMPARED * rounds, "{reads} reads in {rounds} rounds");
}

#[tokio::test]
async fn what_a_fork_has_reverted_is_withdrawn_and_booked_anew() {
    let changes = BTreeMap::from([(20, 1), (30, 2), (40, 3)]);
    let world = World::new(Script { head: 15, changes, ..Script::default() }).await;
    world.follow().await;
    world.script(|script| script.head = 60);
    world.follow().await;
    assert_eq!(world.booked().await, [(20, 1), (30, 2), (40, 3)]);
    // The new chain has one change less, one at another epoch, and one more.
    world.script(|script| {
        script.forks.insert(25, 1);
        script.changes = BTreeMap::from([(20, 1), (35, 2), (50, 4)]);
    });
    world.follow().await;
    assert_eq!(world.booked().await, [(20, 1), (35, 2), (50, 4)]);
    // A fork from before the book: it begins anew.
    world.script(|script| script.forks.extend([(2, 2)]));
    world.follow().await;
    assert_eq!(world.booked().await, []);
    assert_eq!(world.entries().await[0].entry.amount, TokenAmount::from_atto(OPENING + 7));
}

#[tokio::test]
async fn a_node_that_is_behind_withdraws_nothing() {
    let world = World::new(Script { head: 15, changes: BTreeMap::from([(20, 1)]), ..Script::default() }).await;
    world.follow().await;
    world.script(|script| script.head = 60);
    world.follow().await;
    let before = world.entries().await;
    world.script(|script| script.head = 30);
    world.follow().await;
    world.script(|script| script.head = 60);
    assert_eq!(world.entries().await, before);
}

#[tokio::test]
async fn a_gap_is_booked_as_one_change_with_its_reason() {
    let world = World::new(Script { head: 20, ..Script::default() }).await;
    world.follow().await;
    world.script(|script| {
        script.changes.extend([(30, 5), (40, -9), (495, 1)]);
        (script.head, script.pruned_below) = (500, 400);
    });
    let rounds = world.follow().await;
    assert!(rounds >= REFUSALS as usize, "given up after {rounds} rounds");
    assert_eq!(world.booked().await, [(494, -4)]);
    let entries = world.entries().await;
    let gap = &entries.last().expect("entries").entry;
    assert_eq!(gap.purpose, Purpose::Other);
    assert_eq!(gap.note.as_deref(), Some("the node no longer has the state of the epochs from 15 to 495"));
    world.script(|script| script.head = 520);
    world.follow().await;
    assert_eq!(world.booked().await, [(494, -4), (495, 1)]);
}

#[tokio::test]
async fn after_any_forks_and_empty_epochs_each_change_is_booked_once_at_its_epoch() {
    let world = World::new(Script { head: 30, ..Script::default() }).await;
    // A simple generator of reproducible numbers.
    let mut seed = 7_u64;
    let mut next = |below: i64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((seed >> 33) % below as u64) as i64
    };
    for step in 0..60 {
        let (grown, depth, is_fork) = (next(20), 1 + next(25), next(3) == 0);
        let from = world.script(|script| if is_fork { script.head - depth } else { script.head + 1 }).max(1);
        let to = world.script(|script| script.head) + grown;
        let mut happens: Vec<(i64, i64)> = (from..=to).map(|height| (height, next(12))).collect();
        happens.iter_mut().for_each(|(_, what)| *what = if *what < 8 { 0 } else { *what - 7 });
        world.script(|script| {
            script.head = to;
            if is_fork {
                script.forks.insert(from, step + 1);
            }
            drop(script.nulls.split_off(&from));
            drop(script.changes.split_off(&from));
            script.nulls.extend(happens.iter().filter(|(_, what)| *what == 1).map(|(height, _)| *height));
            script.changes.extend(happens.iter().copied().filter(|(_, what)| *what > 1));
        });
        world.follow().await;
        let (entries, end) = (world.entries().await, world.store.money_end().await.expect("reads").expect("a book"));
        let begin = entries[0].epoch;
        let expected: Vec<(i64, i64)> =
            world.script(|script| script.changes.range(begin + 1..end.epoch).map(|(at, by)| (*at, *by)).collect());
        assert_eq!(world.booked().await, expected, "step {step}");
    }
}
