//! `proving forecast`: what is known of the next deadlines.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use clap::Args;
use fvm_shared::{address::Address, econ::TokenAmount};
use sealbus_nats::post::PostTakers;
use sealbus_schema::MinerId;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    super::{ConfigArg, errand::Site, print_json, table},
    deadlines::until,
};
use crate::{
    chain::types::{Epoch, Index},
    drive::{address, chain_of},
    errands::fil::shown,
    proving::{
        ahead::{ReadAhead, Unread},
        begin::to_prove,
        forecast::{Forecast, forecasts},
        ready::{Ready, ready},
        tasks::Queues,
        turn::Turn,
    },
};

/// How many of the last proofs are looked at: four periods of a large miner.
const PROOFS: u32 = 4000;
/// How many deadlines are forecast.
const DEADLINES: u64 = 48;
/// How long the bus may take before the forecast is made without it.
const BUS_LIMIT: Duration = Duration::from_secs(4);
/// How many bad sectors are printed for people.
const SHOWN: usize = 50;

/// Whose proofs.
#[derive(Debug, Args)]
pub struct ShowForecast {
    #[command(flatten)]
    config: ConfigArg,
    /// The miner, such as f01000.
    miner: MinerId,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A partition of a deadline that comes.
#[derive(Debug, Serialize)]
struct Coming {
    deadline: Index,
    partition: Index,
    opens: Epoch,
    closes: Epoch,
    to_prove: u64,
    faulty: u64,
    recovering: u64,
    /// How the last proofs went.
    last: Option<Forecast>,
    /// What reads ahead have found. They begin some deadlines before.
    ahead: Option<ReadAhead>,
}

impl ShowForecast {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let site = Site::open(&self.config).await?;
        site.miner(self.miner).await?;
        let coming = self.coming(&site).await?;
        let (ready, unknown) = self.ready(&site, &coming).await?;
        let (miner, head) = (address(self.miner), &site.head);
        let debt = site.node.miner_funds(&miner, &head.key).await?.fee_debt;
        if self.json {
            return print_json(&json!({
                "miner": self.miner, "epoch": head.height, "partitions": coming,
                "ready": describe(&ready, unknown.as_deref()), "debt_atto": debt.atto().to_string(),
            }));
        }
        if coming.is_empty() {
            outln!("no deadline of {} has a sector: there is nothing to prove", self.miner);
            return Ok(());
        }
        let epoch = Duration::from_secs(site.node.network_params().await?.block_delay_secs);
        show(&coming, head.height, epoch);
        show_ready(&ready, unknown.as_deref());
        Ok(())
    }

    /// The partitions with sectors of the next deadlines, from the open one on.
    async fn coming(&self, site: &Site) -> anyhow::Result<Vec<Coming>> {
        let (miner, head) = (address(self.miner), &site.head);
        let told = site.node.miner_proving_deadline(&miner, &head.key).await?;
        let last = forecasts(&site.store.last_proofs(Some(self.miner), PROOFS).await?);
        let mut last: BTreeMap<(Index, Index), Forecast> =
            last.into_iter().map(|forecast| ((forecast.deadline, forecast.partition), forecast)).collect();
        let ahead = site.store.reads_ahead(Some(self.miner)).await?;
        let mut coming = Vec::new();
        let turns = std::iter::successors(Some(Turn::of(&told)), |turn| Some(turn.next(&told)));
        for turn in turns.take(told.period_deadlines.min(DEADLINES) as usize) {
            let partitions = site.node.miner_partitions(&miner, turn.deadline, &head.key).await?;
            for (partition, index) in partitions.iter().zip(0..) {
                if partition.live_sectors.is_empty() {
                    continue;
                }
                let is_this = |known: &&ReadAhead| {
                    (known.id.period, known.id.deadline, known.id.partition) == (turn.period, turn.deadline, index)
                };
                coming.push(Coming {
                    deadline: turn.deadline,
                    partition: index,
                    opens: turn.open,
                    closes: turn.close,
                    to_prove: to_prove(partition).len() as u64,
                    faulty: partition.faulty_sectors.len(),
                    recovering: partition.recovering_sectors.len(),
                    last: last.remove(&(turn.deadline, index)),
                    ahead: ahead.iter().find(is_this).cloned(),
                });
            }
        }
        Ok(coming)
    }

    /// What is there for the next deadline, and why that is not known of workers, if so.
    async fn ready(&self, site: &Site, coming: &[Coming]) -> anyhow::Result<(Ready, Option<String>)> {
        let stores: BTreeSet<String> = site.store.all_stored(self.miner).await?.into_values().collect();
        let proofs = match coming.iter().find(|coming| coming.to_prove > 0) {
            Some(first) => coming.iter().filter(|coming| coming.opens == first.opens && coming.to_prove > 0).count(),
            None => return Ok((Ready::default(), None)),
        };
        let nats = &site.config.nats;
        let asked = async {
            let bus = nats.connect("manager").await.map_err(|error| chain_of(&error))?;
            let queues = Queues::new(&bus, &site.config);
            let around = (&site.node, &queues, &site.config);
            ready(around, self.miner, &stores, proofs as u64, &site.head).await.map_err(|error| chain_of(&error))
        };
        match tokio::time::timeout(BUS_LIMIT, asked).await {
            Ok(Ok(ready)) => Ok((ready, None)),
            Ok(Err(why)) => Ok((Ready::default(), Some(why))),
            Err(_) => Ok((Ready::default(), Some(format!("no answer within {} s", BUS_LIMIT.as_secs())))),
        }
    }
}

fn show(coming: &[Coming], head: Epoch, epoch: Duration) {
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let rows = coming.iter().map(|coming| {
        let last = coming.last.as_ref();
        vec![
            format!("{}/{}", coming.deadline, coming.partition),
            until(coming.opens - head, epoch),
            coming.to_prove.to_string(),
            coming.faulty.to_string(),
            or_none(last.and_then(|last| last.margin).map(|epochs| epochs.to_string())),
            or_none(last.and_then(|last| last.reading).map(|epochs| epochs.to_string())),
            or_none(last.and_then(|last| last.prove_ms).map(|ms| ms.to_string())),
            or_none(last.map(|last| format!("{} of {}", last.missed, last.turns))),
            or_none(last.and_then(|last| last.slowest).map(|(number, ms)| format!("sector {number}, {ms} ms"))),
            or_none(coming.ahead.as_ref().map(told)),
        ]
    });
    let headings =
        ["part", "opens in", "to prove", "faulty", "margin", "reading", "snark ms", "missed", "slowest", "read ahead"];
    table::print(&headings, &rows.collect::<Vec<_>>());
    outln!(
        "of the last three turns: margin is the least epochs between a proof and the close; reading the most epochs from \
         challenge to read"
    );
    let bad = coming.iter().flat_map(|coming| {
        coming.ahead.iter().flat_map(move |ahead| ahead.unread.iter().map(move |unread| (coming, unread)))
    });
    let bad: Vec<(&Coming, &Unread)> = bad.collect();
    for (coming, Unread { number, store, cause, .. }) in bad.iter().take(SHOWN) {
        let store = store.as_ref().map(|store| format!(" (store `{store}`)")).unwrap_or_default();
        outln!("bad: sector {number} of {}/{}{store}: {cause}", coming.deadline, coming.partition);
    }
    if bad.len() > SHOWN {
        outln!("bad: {} more; --json has all", bad.len() - SHOWN);
    }
}

/// What reads ahead have found, in a few words.
fn told(ahead: &ReadAhead) -> String {
    let left = match ahead.left() {
        0 => String::new(),
        left => format!(", {left} still to be read"),
    };
    match ahead.unread.len() {
        0 if left.is_empty() => "all well".to_owned(),
        0 => format!("{} well{left}", ahead.read),
        bad => format!("{bad} BAD{left}"),
    }
}

fn show_ready(ready: &Ready, unknown: Option<&str>) {
    if let Some(why) = unknown {
        outln!("whether workers are there is not known: {why}");
        return;
    }
    for (store, takers) in &ready.readers {
        outln!("readers in the store `{store}`: {}", takers_in_words(takers.as_ref()));
    }
    outln!("provers: {}", takers_in_words(ready.provers.as_ref()));
    for (sender, balance) in &ready.senders {
        let fees = shown(&ready.fees);
        outln!("sender {sender}: {} FIL; the next deadline's messages may cost {fees} FIL", shown(balance));
    }
    for lack in ready.lacks().values() {
        outln!("MISSING: {lack}");
    }
}

fn takers_in_words(takers: Option<&PostTakers>) -> String {
    match takers {
        Some(PostTakers { waiting, working, queued }) => {
            format!("{waiting} wait for a task, {working} task(s) are worked on, {queued} not taken yet")
        }
        None => "none: no worker has been asked yet".to_owned(),
    }
}

fn describe(ready: &Ready, unknown: Option<&str>) -> Value {
    let atto = |amount: &TokenAmount| amount.atto().to_string();
    let takers = |takers: Option<&PostTakers>| {
        takers.map(|t| json!({ "waiting": t.waiting, "working": t.working, "queued": t.queued }))
    };
    let readers = ready.readers.iter().map(|(store, t)| (store.clone(), json!(takers(t.as_ref()))));
    let sender = |(sender, balance): &(Address, TokenAmount)| json!({ "address": sender.to_string(), "balance_atto": atto(balance) });
    json!({
        "unknown": unknown, "readers": readers.collect::<serde_json::Map<_, _>>(),
        "provers": takers(ready.provers.as_ref()), "senders": ready.senders.iter().map(sender).collect::<Vec<_>>(),
        "fees_atto": atto(&ready.fees), "lacks": ready.lacks().into_values().collect::<Vec<_>>(),
    })
}
