//! A person's orders to workers, from real databases to a real bus and back.

mod databases;
#[path = "../../nats/tests/support/mod.rs"]
mod support;

use databases::TestDatabase;
use sealbus_manager::{
    config::Miner,
    fold, orders,
    store::{Store, WorkerOrders},
    waits::Waits,
    wake::Wake,
};
use sealbus_nats::{Bus, heartbeats::Heart};
use sealbus_schema::{
    MinerId, WorkerName,
    message::{Heartbeat, Orders, SlotRelease, SlotStatus},
};
use support::{Server, eventually};

fn worker() -> WorkerName {
    "w1".parse().expect("worker name")
}

async fn wanted(store: &Store) -> WorkerOrders {
    store.orders_of(&worker()).await.expect("reads").expect("orders")
}

/// Waits until the orders on the bus have this revision.
async fn on_the_bus(bus: &Bus, revision: u64) -> Orders {
    eventually("the orders on the bus", || async {
        bus.orders(&worker()).await.ok().flatten().filter(|orders| orders.revision == revision)
    })
    .await
}

/// A heartbeat of a worker with one slot.
fn beat(slot: &str, released: u64) -> Heartbeat {
    let path = slot.to_owned();
    let slot =
        SlotStatus { path, holding: None, blocked: None, unreadable: false, identity: None, released, checking: false };
    Heartbeat {
        worker: worker(),
        host: "h1".to_owned(),
        version: "test".to_owned(),
        incarnation: 1,
        draining: true,
        orders: 0,
        slots: vec![slot],
        processors: vec![],
        broken: vec![],
    }
}

on_every_database! {
    orders_reach_the_bus_over_outages_and_a_freed_slot_is_ordered_no_more,
    orders_that_nobody_gave_are_withdrawn_and_wedge_nothing,
    weights_reach_every_worker_whenever_they_are_changed,
}

async fn weights_reach_every_worker_whenever_they_are_changed(database: TestDatabase) {
    let server = Server::start();
    let bus = server.connect_with_streams("manager").await;
    let store = database.open().await;
    let epoch = fold::take_over(&bus, &store).await.expect("takes over");
    let configured = |weight: u32| {
        let miner = |id: &str, weight| format!("[[miner]]\nid = \"{id}\"\nsector_size = \"2KiB\"\nweight = {weight}\n");
        let text = miner("f01000", weight) + &miner("f01001", 1);
        let mut tables: std::collections::BTreeMap<String, Vec<Miner>> = toml::from_str(&text).expect("miners");
        tables.remove("miner").expect("two")
    };
    let told = async |revision: u64| {
        let weights = on_the_bus(&bus, revision).await.weights;
        [1000, 1001].map(|miner| weights.of(MinerId(miner)))
    };
    let order = async |miner: u64, weight: Option<u32>| {
        let mut tx = store.begin().await.expect("begins");
        tx.order_weight(MinerId(miner), weight, "somebody").await.expect("orders");
        tx.commit().await.expect("commits");
    };
    let mut tx = store.begin().await.expect("begins");
    tx.order_drain(&worker(), true).await.expect("orders");
    tx.commit().await.expect("commits");

    let (changed, waits) = (Wake::default(), Waits::load(&store, epoch).await.expect("loads"));
    let test = async {
        assert_eq!(told(2).await, [3, 1], "from the configuration");
        order(1001, Some(9)).await;
        assert_eq!(told(3).await, [3, 9]);
        order(1000, Some(0)).await;
        assert_eq!(told(4).await, [0, 9]);
        order(1000, None).await;
        assert_eq!(told(5).await, [3, 9], "the configuration counts again");

        // A worker that gets its first orders later.
        let other: WorkerName = "w2".parse().expect("worker name");
        let mut tx = store.begin().await.expect("begins");
        tx.order_drain(&other, false).await.expect("orders");
        tx.order_drain(&other, true).await.expect("orders");
        tx.commit().await.expect("commits");
        let orders = eventually("its orders", || async {
            bus.orders(&other).await.ok().flatten().filter(|orders| !orders.weights.are_equal())
        });
        assert_eq!(orders.await.weights.of(MinerId(1001)), 9);
    };
    let miners = configured(3);
    tokio::select! {
        ended = orders::run(&bus, &store, epoch, &miners, &changed, &waits) => panic!("the reconciler ended: {ended:?}"),
        () = test => {}
    }
    let test = async {
        assert_eq!(told(6).await, [5, 9], "the next manager has another configuration");
        eventually("the record of it", || async { wanted(&store).await.is_published().then_some(()) }).await;
    };
    let miners = configured(5);
    tokio::select! {
        ended = orders::run(&bus, &store, epoch, &miners, &changed, &waits) => panic!("the reconciler ended: {ended:?}"),
        () = test => {}
    }
    orders::withdraw_forged(&bus, &store, epoch).await.expect("compares");
    assert!(store.audit(&Default::default()).await.expect("reads").is_empty(), "what was told is not taken for forged");
}

async fn orders_that_nobody_gave_are_withdrawn_and_wedge_nothing(database: TestDatabase) {
    let server = Server::start();
    let bus = server.connect_with_streams("manager").await;
    let store = database.open().await;
    let epoch = fold::take_over(&bus, &store).await.expect("takes over");
    let forged = Orders {
        revision: u64::MAX,
        drain: true,
        release: vec![SlotRelease { id: u64::MAX, slot: "/nvme0".to_owned() }],
        ..Orders::default()
    };
    bus.order(&worker(), &forged).await.expect("somebody else does");
    orders::withdraw_forged(&bus, &store, epoch).await.expect("compares");
    let given = wanted(&store).await;
    assert!(!given.is_published() && !given.orders.drain && given.orders.release.is_empty(), "{given:?}");
    assert_eq!(store.audit(&Default::default()).await.expect("reads").len(), 1, "it is on record");

    // The slot has carried out the forged order. A real order that follows must still get a higher number.
    let mut tx = store.begin().await.expect("begins");
    let (id, is_new) = tx.order_release_after(&worker(), "/nvme0", u64::MAX).await.expect("orders");
    tx.commit().await.expect("commits");
    assert!(is_new && SlotRelease::comes_after(id, u64::MAX));
    let mut tx = store.begin().await.expect("begins");
    let (id, is_new) = tx.order_release_after(&worker(), "/nvme0", 1 << 62).await.expect("orders");
    tx.commit().await.expect("commits");
    assert!(!is_new && id == (1 << 62) + 1, "{id}");

    let changed = Wake::default();
    let test = async {
        let orders = on_the_bus(&bus, wanted(&store).await.orders.revision).await;
        assert_eq!((orders.drain, orders.release.len(), orders.release[0].id), (false, 1, id));
        eventually("the record of it", || async { wanted(&store).await.is_published().then_some(()) }).await;
        Heart::new(&worker()).beat(&bus, &beat("/nvme0", id)).await.expect("beats");
        eventually("the end of it", || async { wanted(&store).await.orders.release.is_empty().then_some(()) }).await;
    };
    let waits = Waits::load(&store, epoch).await.expect("loads");
    tokio::select! {
        ended = orders::run(&bus, &store, epoch, &[], &changed, &waits) => panic!("the reconciler ended: {ended:?}"),
        () = test => {}
    }
}

async fn orders_reach_the_bus_over_outages_and_a_freed_slot_is_ordered_no_more(database: TestDatabase) {
    let mut server = Server::start();
    let bus = server.connect_with_streams("manager").await;
    let store = database.open().await;
    let epoch = fold::take_over(&bus, &store).await.expect("takes over");
    let changed = Wake::default();
    let test = async {
        let mut tx = store.begin().await.expect("begins");
        tx.order_drain(&worker(), true).await.expect("orders");
        let (first, _) = tx.order_release(&worker(), "/nvme0").await.expect("orders");
        let (again, is_new) = tx.order_release(&worker(), "/nvme0").await.expect("orders");
        assert!(again == first && !is_new, "one order a slot");
        tx.commit().await.expect("commits");
        let orders = on_the_bus(&bus, 2).await;
        assert!(orders.drain && orders.release.len() == 1);
        eventually("the record of it", || async { wanted(&store).await.is_published().then_some(()) }).await;

        // A slot with another name, or an older release, does not confirm the order.
        let mut heart = Heart::new(&worker());
        heart.beat(&bus, &beat("/nvme1", first)).await.expect("beats");
        heart.beat(&bus, &beat("/nvme0", first - 1)).await.expect("beats");
        server.kill_and_restart();
        let mut tx = store.begin().await.expect("begins");
        tx.order_drain(&worker(), false).await.expect("orders");
        tx.commit().await.expect("commits");
        let orders = on_the_bus(&bus, 3).await;
        assert!(!orders.drain && orders.release.len() == 1, "not carried out yet");

        bus.ensure_streams(sealbus_nats::topology::Layout { replicas: 1, max_sectors_bytes: 1 << 30 })
            .await
            .expect("the stream in memory is made anew");
        Heart::new(&worker()).beat(&bus, &beat("/nvme0", first)).await.expect("beats");
        let orders = on_the_bus(&bus, 4).await;
        assert!(orders.release.is_empty(), "{orders:?}");
    };
    let waits = Waits::load(&store, epoch).await.expect("loads");
    tokio::select! {
        ended = orders::run(&bus, &store, epoch, &[], &changed, &waits) => panic!("the reconciler ended: {ended:?}"),
        () = test => {}
    }
}
