//! Two miners share real workers by their weights, also when these are changed while everything runs. Sectors are only
//! claimed here, not sealed: their processors wait.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_nats::jetstream::{
    self,
    consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull},
};
use futures::StreamExt;
use sealbus_integration_tests::{
    cluster::wait_within,
    command_line,
    scripted::{
        control::Point,
        world::{self, Options, World, wait},
    },
};
use sealbus_manager::errln;
use sealbus_nats::{
    log::{Record, read},
    topology,
};
use sealbus_schema::{MinerId, Phase};
use serde_json::Value;

/// How many sectors the shares are measured over, and how far they may be off: 5 %.
const SECTORS: usize = 200;
const OFF: usize = SECTORS / 20;
/// After how many sectors new weights hold.
const FOLLOWED: usize = 20;
/// The slots of each worker.
const SLOTS: usize = 250;
/// What the two miners pledge before and after the swap. No queue is empty while shares are measured. But the first pledges are
/// taken up before the slots are, however long the workers go on until they hear that they are to drain.
const PLEDGED: [[usize; 2]; 2] = [[225, 75], [200, 200]];

/// The miners of the claimed sectors, in the order of the claims.
type Claims = Arc<Mutex<Vec<MinerId>>>;

fn claims(claims: &Claims) -> Vec<MinerId> {
    claims.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

fn follow_claims(world: &World) -> Claims {
    let messages = world.with_client(async |client| {
        let config = pull::Config {
            deliver_policy: DeliverPolicy::All,
            ack_policy: AckPolicy::None,
            memory_storage: true,
            ..pull::Config::default()
        };
        let consumer: PullConsumer =
            jetstream::new(client).create_consumer_on_stream(config, topology::SECTORS).await?;
        Ok(consumer.messages().await?)
    });
    let (mut messages, claims) = (messages.expect("reads the log"), Claims::default());
    let noted = claims.clone();
    let following = async move {
        while let Some(Ok(message)) = messages.next().await {
            if let Record::Lease { sector, owner: Some(_), .. } = read(&message.subject, &message.payload) {
                noted.lock().unwrap_or_else(PoisonError::into_inner).push(sector.miner);
            }
        }
    };
    world.block_on(async { drop(tokio::spawn(following)) });
    claims
}

fn done(world: &World, arguments: &[&str]) -> String {
    command_line::done(&world.manager_config(), arguments)
}

fn refused(world: &World, arguments: &[&str], code: i32, words: &[&str]) {
    command_line::refused(&world.manager_config(), arguments, code, words);
}

/// Waits until every worker says that it follows its last orders, and holds what was claimed.
fn wait_until_settled(world: &mut World, claimed: &Claims) {
    let store = world.store().expect("the database");
    let workers = world.workers.len();
    let settled = wait("the workers follow their orders", || {
        world.check_alive()?;
        let ordered = world.block_on(store.worker_orders())?;
        let seen = world.on_bus(async |bus| Ok(bus.workers().await?))?;
        let follows = |of: &sealbus_manager::store::WorkerOrders| {
            let seen = seen.iter().find(|seen| seen.heartbeat.worker == of.worker);
            of.is_published() && seen.is_some_and(|seen| seen.heartbeat.orders >= of.orders.revision)
        };
        let slots = seen.iter().flat_map(|seen| &seen.heartbeat.slots);
        let held = slots.filter(|slot| slot.holding.is_some()).count();
        Ok((ordered.len() == workers && ordered.iter().all(follows) && held == claims(claimed).len()).then_some(()))
    });
    settled.expect("settles");
}

fn of(miner: MinerId, claims: &[MinerId]) -> usize {
    claims.iter().filter(|other| **other == miner).count()
}

#[test]
fn two_miners_share_workers_3_to_1_and_after_a_swap_of_the_weights_1_to_3() {
    let dir = world::directory().expect("a directory");
    let options = Options { workers: 2, slots: SLOTS, miners: 2, epoch_millis: 1000, ..Options::default() };
    let mut world = World::prepare(dir.path(), options).expect("a world");
    let (a, b) = (world.miners[0], world.miners[1]);
    for worker in &world.workers {
        worker.control.hold(Point::Before, Phase::AddPieces).expect("holds");
    }
    world.start_manager().expect("starts");

    refuse_bad_weights(&world);
    done(&world, &["miners", "weight", "f01000", "3"]);
    done(&world, &["workers", "drain", "w1", "w2", "--yes"]);
    pledge(&mut world, PLEDGED[0]);
    let claimed = follow_claims(&world);
    world.start_workers().expect("start");
    wait_until_settled(&mut world, &claimed);

    let resume_until = |world: &mut World, count: usize| {
        done(world, &["workers", "resume", "w1", "w2"]);
        let claimed_all = || Ok((claims(&claimed).len() >= count).then_some(()));
        wait_within(Duration::from_secs(300), "the claims", claimed_all).expect("claimed");
        done(world, &["workers", "drain", "w1", "w2"]);
        wait_until_settled(world, &claimed);
    };
    resume_until(&mut world, SECTORS);
    let first = claims(&claimed);
    let got = of(a, &first[..SECTORS]);
    assert!(got.abs_diff(SECTORS * 3 / 4) <= OFF, "{got} of the first {SECTORS}");

    done(&world, &["miners", "weight", "f01000", "1"]);
    done(&world, &["miners", "weight", "f01001", "3"]);
    pledge(&mut world, PLEDGED[1]);
    wait_until_settled(&mut world, &claimed);
    let listed: Value = serde_json::from_str(&done(&world, &["miners", "list", "--json"])).expect("JSON");
    assert_eq!((&listed[0]["weight"], &listed[1]["weight"]), (&Value::from(1), &Value::from(3)));
    assert_eq!(listed[0]["in_work"], Value::from(of(a, &first)), "{listed}");

    resume_until(&mut world, first.len() + FOLLOWED + SECTORS / 2);
    let then = claims(&claimed).split_off(first.len());
    let got = of(b, &then[..FOLLOWED]);
    assert!(got.abs_diff(FOLLOWED * 3 / 4) <= 3, "{got} of the {FOLLOWED} after the swap");
    let got = of(b, &then[FOLLOWED..FOLLOWED + SECTORS / 2]);
    assert!(got.abs_diff(SECTORS / 2 * 3 / 4) <= OFF / 2, "{got} of the next {}", SECTORS / 2);
    errln!(
        "{a} got {} of the first {SECTORS} claims; {b} got {} of the {FOLLOWED} after the swap, and {got} of the next {}",
        of(a, &first[..SECTORS]),
        of(b, &then[..FOLLOWED]),
        SECTORS / 2
    );
    let audit = done(&world, &["audit", "list", "--target", "f01001"]);
    assert!(audit.contains("miners weight") && audit.contains("was=1") && audit.contains("weight=3"), "{audit}");
}

/// Pledges sectors of the two miners, and waits until all have their numbers and are in the queues.
fn pledge(world: &mut World, counts: [usize; 2]) {
    for (miner, count) in world.miners.clone().into_iter().zip(counts) {
        world.pledge_of(miner, count).expect("pledges");
    }
    let store = world.store().expect("the database");
    let queued = wait("the sectors' numbers", || {
        world.check_alive()?;
        let of_miners = world.block_on(store.counts_by_miner())?;
        let is_queued = |(miner, count): (&MinerId, usize)| {
            of_miners.get(miner).is_some_and(|of| of.pledged == 0 && of.queued >= count as u64)
        };
        Ok(world.miners.iter().zip(counts).all(is_queued).then_some(()))
    });
    queued.expect("queued");
}

fn refuse_bad_weights(world: &World) {
    wait("the database", || Ok(world.root().join("manager.db").exists().then_some(()))).expect("exists");
    let weight = |arguments: &[&str], words: &[&str]| {
        refused(world, &[&["miners", "weight"], arguments].concat(), 2, words);
    };
    weight(&["f01007", "3"], &["miner f01007", "no [[miner]] table", "f01000, f01001"]);
    weight(&["t1000x", "3"], &["<MINER>"]);
    for bad in ["-1", "1001", "1.5", "three"] {
        weight(&["f01000", bad], &["WEIGHT", bad, "a weight is a whole number from 0 to 1000"]);
    }
    weight(&["f01000"], &["WEIGHT"]);
    weight(&["f01000", "3", "--configured"], &["--configured"]);
    let said = done(world, &["miners", "weight", "f01001", "3", "--dry-run"]);
    assert!(
        said.contains("1 -> 3") && said.contains("50.0 % -> 75.0 %") && said.contains("nothing was changed"),
        "{said}"
    );
    let listed: Value = serde_json::from_str(&done(world, &["miners", "list", "--json"])).expect("JSON");
    assert_eq!((&listed[1]["weight"], &listed[1]["share"]), (&Value::from(1), &Value::from(0.5)), "{listed}");

    let config = world.manager_config();
    let text = std::fs::read_to_string(&config).expect("reads");
    std::fs::write(&config, text.replace("id = \"f01001\"", "id = \"f01001\"\nweight = 1001")).expect("writes");
    refused(world, &["miners", "list"], 78, &["miner[1].weight", "1001 is not 0 to 1000"]);
    std::fs::write(&config, text.replace("id = \"f01001\"", "id = \"f01001\"\nweight = -1")).expect("writes");
    refused(world, &["miners", "list"], 78, &["weight = -1"]);
    std::fs::write(&config, text).expect("writes");
}
