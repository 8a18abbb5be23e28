//! Measures how long a sector waits for Sealbus itself: each hand-over in its life, beyond the chain's own waits.
//!
//! `cargo bench -p sealbus-integration-tests --profile dev --bench latency` seals 2 KiB sectors with scripted
//! processors, one after the other, on a devnet with short epochs. Manager and worker have their default intervals. A
//! hand-over begins and ends with one of these: a record in the sector's log, at the server's time; an entry in its
//! history; or an observation of the chain, whose node announces each head. All of them are on one machine, so they share one
//! clock. Between two heads this program sleeps, because it would take the cores from what it measures.

#![allow(clippy::disallowed_macros, reason = "for whoever reads the output")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;
use async_nats::jetstream::{
    self,
    consumer::{AckPolicy, DeliverPolicy, PullConsumer, pull},
};
use futures::StreamExt;
use sealbus_integration_tests::scripted::world::{self, Options, World};
use sealbus_manager::chain::{Endpoint, HeadChanges, RpcClient};
use sealbus_nats::{
    log::{Record, read},
    topology,
};
use sealbus_schema::message::{CommonEvent, EventBody};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// The number of measured sectors, after one for warming up.
const SECTORS: u64 = 5;
const EPOCH_MILLIS: u64 = 400;
/// The confidence of the scripted world's manager, in epochs.
const CONFIDENCE: i64 = 1;
const LIMIT: Duration = Duration::from_secs(180);

/// The hand-overs as (begin, end, name).
const HAND_OVERS: [(&str, &str, &str); 13] = [
    ("pledged", "lease", "pledge → claimed by an idle worker"),
    ("ticket_wanted", "fact ticket", "ticket wanted → ticket told"),
    ("fact ticket", "begun pc1", "ticket told → PC1 begins"),
    ("pc2_done", "pushed precommit", "PC2 done → PreCommit pushed"),
    ("precommit confident", "fact precommit_landed", "PreCommit confident → told"),
    ("fact precommit_landed", "begun transfer", "told → transfer begins"),
    ("persisted", "fact persist_checked", "files stored → checked and told"),
    ("seed confident", "fact seed", "seed confident → told"),
    ("fact seed", "begun c1", "seed told → C1 begins"),
    ("c2_done", "pushed prove_commit", "C2 done → ProveCommit pushed"),
    ("active confident", "fact prove_landed", "ProveCommit confident → told"),
    ("fact prove_landed", "finished", "told → slot clean"),
    ("finished", "closed", "slot clean → lease closed"),
];

/// When each thing first happened to each sector, by sector number.
type Moments = Arc<Mutex<BTreeMap<u64, BTreeMap<String, OffsetDateTime>>>>;

fn main() -> anyhow::Result<()> {
    let dir = world::directory()?;
    let options =
        Options { epoch_millis: EPOCH_MILLIS, heartbeat_secs: 10, poll_millis: Some(2000), ..Options::default() };
    let mut world = World::prepare(dir.path(), options)?;
    world.start_manager()?;
    world.start_workers()?;
    let moments = Moments::default();
    for number in 1..=SECTORS + 1 {
        world.pledge(1)?;
        note(&moments, number, "pledged", OffsetDateTime::now_utc());
        if number == 1 {
            world::wait("the sector", || world.sector(1))?;
            follow_log(&world, moments.clone())?;
        }
        observe_until_proving(&mut world, &moments, number)?;
        // Lets the end of this sector reach the log. The next sector then finds an idle worker, at varying points of
        // all periods.
        std::thread::sleep(Duration::from_millis(2500 + 370 * number));
    }
    print(&moments);
    Ok(())
}

fn note(moments: &Moments, sector: u64, what: &str, at: OffsetDateTime) {
    let mut moments = moments.lock().unwrap_or_else(PoisonError::into_inner);
    moments.entry(sector).or_default().entry(what.to_owned()).or_insert(at);
}

/// Notes the log's records as the server stores them.
fn follow_log(world: &World, moments: Moments) -> anyhow::Result<()> {
    let messages = world.with_client(async |client| {
        let config = pull::Config {
            deliver_policy: DeliverPolicy::All,
            ack_policy: AckPolicy::None,
            memory_storage: true,
            ..pull::Config::default()
        };
        let js = jetstream::new(client);
        let consumer: PullConsumer = js.create_consumer_on_stream(config, topology::SECTORS).await?;
        Ok(consumer.messages().await?)
    })?;
    let following = async move {
        let mut messages = messages;
        while let Some(Ok(message)) = messages.next().await {
            let Ok(info) = message.info() else { continue };
            if let Some((sector, what)) = what(&read(&message.subject, &message.payload)) {
                note(&moments, sector, &what, info.published);
            }
        }
    };
    world.block_on(async { drop(tokio::spawn(following)) });
    Ok(())
}

fn what(record: &Record) -> Option<(u64, String)> {
    Some(match record {
        Record::Lease { sector, owner, .. } => {
            (sector.number.0, if owner.is_some() { "lease" } else { "closed" }.to_owned())
        }
        Record::Event { sector, event, .. } => {
            let what = match &event.body {
                EventBody::Common(CommonEvent::PhaseStarted { phase, .. }) => format!("begun {}", phase.name()),
                body => body.kind().to_owned(),
            };
            (sector.number.0, what)
        }
        Record::Fact { sector, fact, .. } => (sector.number.0, format!("fact {}", fact.kind()?.name())),
        Record::Unreadable { .. } => return None,
    })
}

/// Subscribes to the node's heads.
fn heads(world: &World) -> anyhow::Result<HeadChanges> {
    let data = world.root().join("devnet");
    let url = format!("http://{}/rpc/v1", std::fs::read_to_string(data.join("rpc-addr"))?.trim());
    let client = RpcClient::new(Endpoint::new(url, Some(data.join("token-read"))))?;
    Ok(world.block_on(client.head_changes())?)
}

/// Looks at the chain at each new head, and at the manager's database, until the sector is proving.
fn observe_until_proving(world: &mut World, moments: &Moments, number: u64) -> anyhow::Result<()> {
    let started = std::time::Instant::now();
    // Begun anew for each sector: heads that were announced meanwhile would look late.
    let (mut heads, mut seed) = (heads(world)?, None);
    while started.elapsed() < LIMIT {
        world.block_on(async { tokio::time::timeout(LIMIT, heads.next()).await })??;
        let now = OffsetDateTime::now_utc();
        // What is asked here would compete with what is measured. The answers are about a tipset, so they do not change.
        std::thread::sleep(Duration::from_millis(EPOCH_MILLIS / 4));
        let head = world.call_chain("Filecoin.ChainHead", json!([]))?;
        let height = head["Height"].as_i64().context("a height")?;
        let lagged = height - CONFIDENCE;
        let tipset = world.call_chain("Filecoin.ChainGetTipSetByHeight", json!([lagged, head["Cids"]]))?;
        let at = |method: &str| {
            let params = json!(["t01000", number, tipset["Cids"]]);
            world.call_chain(method, params).unwrap_or(Value::Null)
        };
        let precommit = at("Filecoin.StateSectorPreCommitInfo");
        if let Some(epoch) = precommit["PreCommitEpoch"].as_i64() {
            note(moments, number, "precommit confident", now);
            seed = Some(epoch + 10);
        }
        if seed.is_some_and(|seed| lagged >= seed) {
            note(moments, number, "seed confident", now);
        }
        if !at("Filecoin.StateSectorGetInfo").is_null() {
            note(moments, number, "active confident", now);
        }
        let (store, id) = (world.store()?, world.sector_id(number));
        for line in world.block_on(store.history(id))? {
            if line.happening.kind == "message_pushed" {
                let what = format!("pushed {}", line.happening.detail["message"].as_str().unwrap_or_default());
                note(moments, number, &what, OffsetDateTime::parse(&line.happening.at, &Rfc3339)?);
            }
        }
        world.check_alive()?;
        if world.sector(number)?.is_some_and(|sector| sector.state.name() == "proving") {
            return Ok(());
        }
    }
    anyhow::bail!("sector {number} is not proving after {} s", LIMIT.as_secs())
}

fn print(moments: &Moments) {
    let moments = moments.lock().unwrap_or_else(PoisonError::into_inner);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("{SECTORS} sectors, epochs of {EPOCH_MILLIS} ms, load {}", load.trim());
    println!("{:<40} {:>9} {:>9} {:>9}", "hand-over, in ms", "median", "mean", "max");
    let mut totals = vec![0.0; SECTORS as usize];
    for (begins, ends, name) in HAND_OVERS {
        let mut spent = Vec::new();
        for (total, number) in totals.iter_mut().zip(2..) {
            let of_sector = &moments[&number];
            let (Some(mut from), Some(to)) = (of_sector.get(begins).copied(), of_sector.get(ends)) else { continue };
            // The seed is also told only after the files have been checked.
            if let (true, Some(checked)) = (ends == "fact seed", of_sector.get("fact persist_checked")) {
                from = from.max(*checked);
            }
            let millis = ((*to - from).as_seconds_f64() * 1000.0).max(0.0);
            *total += millis;
            spent.push(millis);
        }
        line(name, &spent);
    }
    line("in all", &totals);
}

fn line(name: &str, millis: &[f64]) {
    let mut sorted = millis.to_vec();
    sorted.sort_by(f64::total_cmp);
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
    let mean = millis.iter().sum::<f64>() / millis.len().max(1) as f64;
    let max = millis.iter().copied().fold(0.0, f64::max);
    println!(
        "{name:<40} {median:>9.1} {mean:>9.1} {max:>9.1}{}",
        if millis.len() < SECTORS as usize { "  (not all seen)" } else { "" }
    );
}
