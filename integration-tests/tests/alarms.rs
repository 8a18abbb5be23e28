//! Alarms: real trouble in a world of real processes, seen by a real Prometheus with the real rules. Each alarm is raised by
//! its cause, and ends when the cause is mended as the runbook says.
//!
//! `monitoring/alerts.test.yml` tests every rule on made-up numbers. Here is tested that the programs show those numbers.

#[path = "alarms/prometheus.rs"]
mod prometheus;

use std::{fs, path::Path, time::Duration};

use anyhow::{Context, ensure};
use prometheus::{Prometheus, read};
use sealbus_integration_tests::{
    cluster::{Cluster, Port, Settings, wait_within},
    command_line::done,
    scripted::{
        control::Point,
        world::{Options, World, directory},
    },
};
use sealbus_schema::{Phase, message::Orders};
use serde_json::json;

/// A world that is watched.
struct Watched {
    world: World,
    prometheus: Prometheus,
    manager: u16,
    workers: Vec<u16>,
    _ports: Vec<Port>,
}

impl Watched {
    /// Starts everything. Nobody has a sector yet.
    fn start(root: &Path, options: Options) -> anyhow::Result<Watched> {
        Watched::watch(World::prepare(root, options)?)
    }

    /// Starts what has only been prepared.
    fn watch(mut world: World) -> anyhow::Result<Watched> {
        let root = world.root().to_owned();
        let ports = (0..=world.workers.len()).map(|_| Port::hold()).collect::<Result<Vec<Port>, _>>()?;
        let numbers: Vec<u16> = ports.iter().map(Port::number).collect();
        let worker = |name: &str| root.join(format!("{name}.toml"));
        let files = world.workers.iter().map(|one| worker(&one.name));
        for (file, port) in std::iter::once(world.manager_config()).chain(files).zip(&numbers) {
            let text = fs::read_to_string(&file)?;
            fs::write(&file, format!("{text}\n[metrics]\nlisten = \"127.0.0.1:{port}\"\nperiod_secs = 1\n"))?;
        }
        world.start_manager()?;
        world.start_workers()?;
        let (manager, workers) = (numbers[0], numbers[1..].to_vec());
        let prometheus = Prometheus::start(&root, manager, &workers)?;
        let mut watched = Watched { world, prometheus, manager, workers, _ports: ports };
        watched.prometheus.wait(&["SealbusNoManagerWorks", "SealbusManagerDown", "SealbusWorkerDown"], false)?;
        watched.wait_for_value("sealbus_manager_works", |works| works == 1.0)?;
        Ok(watched)
    }

    fn raised(&mut self, alarms: &[&str]) -> anyhow::Result<()> {
        self.prometheus.wait(alarms, true)
    }

    fn ended(&mut self, alarms: &[&str]) -> anyhow::Result<()> {
        self.prometheus.wait(alarms, false)
    }

    /// The values of the manager's series whose line begins so.
    fn value(&self, series: &str) -> anyhow::Result<Option<f64>> {
        let page = read(self.manager, "/metrics")?;
        let line = page.lines().find(|line| line.starts_with(series));
        line.and_then(|line| line.rsplit(' ').next()).map(|value| value.parse().context("a number")).transpose()
    }

    fn wait_for_value(&self, series: &str, is_it: impl Fn(f64) -> bool) -> anyhow::Result<f64> {
        wait_within(Duration::from_secs(60), series, || {
            Ok(self.value(series).ok().flatten().filter(|value| is_it(*value)))
        })
    }

    fn fault(&self, fault: serde_json::Value) -> anyhow::Result<()> {
        self.world.call_chain("Devnet.Fault", json!([fault])).map(drop)
    }

    fn type_command(&self, command: &str) {
        done(&self.world.manager_config(), &command.split(' ').collect::<Vec<_>>());
    }
}

#[test]
fn a_blocked_slot_a_dead_manager_and_a_lost_connection_raise_alarms_that_end_when_they_are_mended() {
    let directory = directory().expect("a directory");
    let mut watched = Watched::start(directory.path(), Options::default()).expect("a world");
    watched.world.workers[0].control.fail(Point::Before, Phase::Pc1, "crit", "DISK_FULL").expect("scripts");
    watched.world.pledge(1).expect("pledges");
    let blocked = ["SealbusSlotBlocked", "SealbusJobBlocked"];
    watched.raised(&blocked).expect("a slot is blocked");
    watched.type_command("sectors resubmit f01000/1 --yes --why mended");
    watched.ended(&blocked).expect("the slot goes on");

    let gone = ["SealbusManagerDown", "SealbusNoManagerWorks"];
    watched.world.kill_manager();
    watched.raised(&gone).expect("no manager");
    watched.world.start_manager().expect("starts");
    watched.ended(&gone).expect("a manager again");

    let cut = ["SealbusNatsDisconnected", "SealbusLookIncomplete"];
    watched.world.kill_nats(0);
    watched.raised(&cut).expect("no NATS");
    watched.world.start_nats(0).expect("starts");
    watched.ended(&cut).expect("NATS again");

    // What the worker shows of itself.
    let page = read(watched.workers[0], "/metrics").expect("a page");
    for series in [
        "sealbus_worker_serves 1",
        "sealbus_worker_nats_connected 1",
        "sealbus_worker_slots{state=\"blocked\"} 0",
        "sealbus_worker_processors{stage=\"pc1\"} 1",
        "sealbus_worker_disk_free_bytes{disk=\"store main\"} ",
        "process_resident_memory_bytes ",
    ] {
        assert!(page.lines().any(|line| line.starts_with(series)), "{series}: {page}");
    }
}

/// About what lasts a minute or more: `make alerts`.
mod minutes {
    use super::*;

    #[test]
    fn workers_that_are_gone_and_a_chain_that_stands_still_raise_alarms() {
        let directory = directory().expect("a directory");
        let options = Options { workers: 2, ..Options::default() };
        let mut watched = Watched::start(directory.path(), options).expect("a world");
        // The owner of a sector, so that it is missed when NATS has forgotten its heartbeat.
        watched.world.kill_worker(1);
        watched.world.workers[0].control.hold(Point::Before, Phase::Pc1).expect("scripts");
        watched.world.pledge(1).expect("pledges");
        watched.wait_for_value("sealbus_fleet_slots{worker=\"w1\",state=\"holds\"}", |held| held == 1.0).expect("held");
        watched.raised(&["SealbusWorkerDown"]).expect("w2 is away");
        watched.world.kill_nats(0);
        watched.world.start_worker(1).expect("starts");
        watched.raised(&["SealbusWorkerDoesNotServe"]).expect("w2 waits for NATS");
        watched.world.start_nats(0).expect("starts");
        watched.ended(&["SealbusWorkerDown", "SealbusWorkerDoesNotServe"]).expect("w2 serves");

        watched.world.kill_worker(0);
        watched.fault(json!({ "kind": "away", "on": true })).expect("the node is away");
        let gone = ["SealbusWorkerDown", "SealbusHeartbeatMissing", "SealbusHeadStandsStill"];
        watched.raised(&gone).expect("gone for a minute");
        watched.world.start_worker(0).expect("starts");
        watched.fault(json!({ "kind": "away", "on": false })).expect("the node is there");
        watched.ended(&gone).expect("all are back");
    }

    #[test]
    fn orders_that_nobody_gave_and_sectors_that_expire_raise_alarms() {
        let directory = directory().expect("a directory");
        let options = Options { slots: 2, ..Options::default() };
        let mut watched = Watched::start(directory.path(), options).expect("a world");
        let forged = Orders { revision: 1_000, drain: true, ..Orders::default() };
        let worker = watched.world.workers[0].name.parse().expect("a name");
        // The manager gives orders as soon as it knows the worker's slots. They would replace others.
        let given = wait_within(Duration::from_secs(60), "the manager's orders", || {
            let orders = watched.world.on_bus(async |bus| Ok(bus.orders(&worker).await?))?;
            Ok(orders.filter(|orders| orders.slots.len() == 2).map(drop))
        });
        given.expect("the manager's orders");
        let ordered = watched.world.on_bus(async |bus| Ok(bus.order(&worker, &forged).await.map(drop)?));
        ordered.expect("orders with the manager's key");
        watched.raised(&["SealbusForgedOrders"]).expect("they are found");
        watched.ended(&["SealbusForgedOrders"]).expect("they are withdrawn");

        // One sector does not get on with PC1, and its ticket grows old.
        watched.world.workers[0].control.hold(Point::Before, Phase::Pc1).expect("scripts");
        watched.world.pledge(1).expect("pledges");
        age(&watched, "sealbus_jobs_expiry_epochs{limit=\"ticket\"}", 110).expect("the ticket grows old");
        watched.raised(&["SealbusTicketNearExpiry"]).expect("near its end");
        watched.world.workers[0].control.release(Point::Before, Phase::Pc1).expect("scripts");

        // Its PreCommit is not taken, and then it does not get on with C2.
        watched.fault(json!({ "kind": "stall_inclusion", "on": true })).expect("no messages");
        watched.raised(&["SealbusMessageStuck"]).expect("not on chain");
        watched.world.workers[0].control.hold(Point::Before, Phase::C2).expect("scripts");
        watched.fault(json!({ "kind": "stall_inclusion", "on": false })).expect("messages again");
        watched.ended(&["SealbusMessageStuck", "SealbusTicketNearExpiry"]).expect("on chain");
        age(&watched, "sealbus_jobs_expiry_epochs{limit=\"precommit\"}", 2_500).expect("the PreCommit grows old");
        watched.raised(&["SealbusPreCommitNearExpiry"]).expect("near its end");
        watched.world.workers[0].control.release(Point::Before, Phase::C2).expect("scripts");
        watched.ended(&["SealbusPreCommitNearExpiry"]).expect("proven");
    }

    /// Lets the chain grow until something has so many epochs left.
    fn age(watched: &Watched, series: &str, left: i64) -> anyhow::Result<()> {
        let now = watched.wait_for_value(series, |_| true)? as i64;
        ensure!(now > left, "{series} is {now} already");
        let mut rounds = now - left;
        while rounds > 0 {
            let some = rounds.min(1_000);
            watched.world.call_chain("Devnet.Advance", json!([some]))?;
            rounds -= some;
        }
        Ok(())
    }

    #[test]
    fn what_needs_a_person_raises_an_alarm_until_it_is_mended() {
        let directory = directory().expect("a directory");
        let mut watched = Watched::start(directory.path(), Options::default()).expect("a world");
        watched.world.kill_manager();
        let config = watched.world.manager_config();
        let text = fs::read_to_string(&config).expect("reads");
        fs::write(&config, text.replace("prove = false", "prove = false\nnumbers = \"1-1\"")).expect("writes");
        watched.world.start_manager().expect("starts");
        watched.world.pledge(2).expect("pledges");
        watched.raised(&["SealbusNeedsPerson"]).expect("the numbers are used up");
        watched.world.kill_manager();
        fs::write(&config, text).expect("writes");
        watched.world.start_manager().expect("starts");
        watched.ended(&["SealbusNeedsPerson"]).expect("there are numbers");
    }

    #[test]
    fn a_store_that_is_away_a_high_base_fee_and_a_full_stream_raise_alarms() {
        let directory = directory().expect("a directory");
        let chain_lines = "[chain.fees]\nbase_fee_wait_atto = \"1000\"\n".to_owned();
        let world = World::prepare(directory.path(), Options { chain_lines, ..Options::default() }).expect("a world");
        let config = world.manager_config();
        let text = fs::read_to_string(&config).expect("reads");
        fs::write(&config, text.replace("max_sectors_bytes = 1073741824", "max_sectors_bytes = 2097152"))
            .expect("writes");
        let mut watched = Watched::watch(world).expect("a world");
        watched.fault(json!({ "kind": "base_fee", "atto": 1_000_000 })).expect("a high base fee");
        watched.world.pledge(1).expect("pledges");
        watched.raised(&["SealbusBaseFeeHigh"]).expect("the PreCommit waits");
        let (store, away) = (watched.world.store_dir(), directory.path().join("away"));
        fs::rename(&store, &away).expect("takes the store away");
        watched.fault(json!({ "kind": "base_fee", "atto": 100 })).expect("a low base fee");
        watched.ended(&["SealbusBaseFeeHigh"]).expect("it is sent");
        watched.raised(&["SealbusSlotWaits"]).expect("the slot waits for the store");
        fs::rename(&away, &store).expect("brings it back");
        watched.ended(&["SealbusSlotWaits"]).expect("the slot goes on");

        // Answers about a sector that nobody has, so that nobody reads them.
        let subject = "seal.sector.f01000.999.fact.w1.ticket";
        let filled = watched.world.with_client(async |client| {
            let jetstream = async_nats::jetstream::new(client);
            for _ in 0..18 {
                jetstream.publish(subject, vec![0; 100_000].into()).await?.await?;
            }
            Ok(())
        });
        filled.expect("the stream is filled");
        watched.raised(&["SealbusStreamFilling"]).expect("it is nearly full");
        let purged = watched.world.with_client(async |client| {
            let stream = async_nats::jetstream::new(client).get_stream("SEAL_SECTORS").await?;
            stream.purge().filter(subject).await?;
            Ok(())
        });
        purged.expect("the stream is purged");
        watched.ended(&["SealbusStreamFilling"]).expect("it has room");
    }

    #[test]
    fn a_partition_that_nobody_proves_raises_alarms() {
        let directory = tempfile::tempdir().expect("a directory");
        let scripted = Settings::with_scripted_proofs().expect("the parameters");
        let settings = Settings { epoch_millis: 300, proves: true, ..scripted };
        let mut cluster = Cluster::prepare(directory.path(), settings).expect("a cluster");
        let port = Port::hold().expect("a port");
        let config = cluster.manager_config();
        let text = fs::read_to_string(&config).expect("reads");
        let metrics = format!("\n[metrics]\nlisten = \"127.0.0.1:{}\"\nperiod_secs = 1\n", port.number());
        fs::write(&config, text + &metrics).expect("writes");
        cluster.start_manager().expect("starts");
        cluster.start_worker().expect("starts");
        cluster.pledge(1).expect("pledges");
        let proven = wait_within(Duration::from_secs(300), "a proof on chain", || {
            cluster.check_alive()?;
            let printed = done(&config, &["proving", "history", "--json"]);
            Ok(printed.contains("\"landed\"").then_some(()))
        });
        proven.expect("the sector is proven once");
        let mut prometheus = Prometheus::start(directory.path(), port.number(), &[]).expect("starts");
        prometheus
            .wait(&["SealbusManagerDown", "SealbusDeadlineAtRisk", "SealbusPartitionMissed"], false)
            .expect("well");
        cluster.kill_worker();
        prometheus.wait(&["SealbusDeadlineAtRisk"], true).expect("nobody reads the sector");
        prometheus.wait(&["SealbusPartitionMissed"], true).expect("nobody has proven it");
        cluster.start_worker().expect("starts");
        prometheus.wait(&["SealbusDeadlineAtRisk"], false).expect("it is proven again");
    }
}
