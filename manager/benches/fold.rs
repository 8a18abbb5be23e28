//! How fast the fold is, against reading the same log without a database.
//!
//! `cargo bench --workspace --profile dev --bench fold` fills a real `SEAL_SECTORS` with the lives of 2,000 sectors, as
//! their workers report them side by side, so that neighbours in the log are about different sectors. Stretch by
//! stretch, the log is filled, read raw, folded into SQLite and folded into PostgreSQL; then what the chain brings to each
//! life is stored, outside the measured time.

#![allow(clippy::disallowed_macros, reason = "for whoever reads the output")]

#[path = "../tests/databases/mod.rs"]
mod databases;
#[path = "../../nats/tests/support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use databases::TestDatabase;
use sealbus_manager::{
    fold::{self, Fold},
    life,
    store::{Happening, Job, Outcome, Store},
    wake::Wake,
};
use sealbus_nats::{Bus, subject};
use sealbus_schema::{
    Commitment, IntentKind, MinerId, Phase, ProofBytes, Randomness, SealProof, SectorId, SectorNumber, Token,
    WorkerName, codec,
    machine::manager::AttemptPolicy,
    message::{CommonEvent, Event, EventBody, Intent, LeaseRecord},
    parts::{PieceInfo, PreCommitInfo, Seed, StoredFile, StoredSector, Ticket},
    workflows::{
        Input,
        seal::{
            self,
            manager::{Answer, State},
        },
    },
};
use serde_json::json;
use support::Server;

const SECTORS: u64 = 2_000;
/// Between two stretches of the log the chain is heard.
const STRETCHES: usize = 5;
const ROUNDS: usize = 3;
const PROOF: SealProof = SealProof::StackedDrg32GiBV1_1;
const POLICY: AttemptPolicy = AttemptPolicy { max_attempts: 3, max_issues: 6 };
/// How long a stretch may take: a limit, not a measure.
const LIMIT: Duration = Duration::from_secs(600);
/// How many records are published before their acknowledgements are awaited.
const WINDOW: usize = 500;

#[tokio::main]
async fn main() {
    let load = std::fs::read_to_string("/proc/loadavg").expect("the load");
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("{cores} cores, load before the start: {}", load.trim());
    let records: usize = SECTORS as usize * (0..STRETCHES).map(|stretch| steps(stretch, 0).len()).sum::<usize>();
    println!("{SECTORS} sectors, {records} records of the log, durable settings, {ROUNDS} rounds");

    let mut figures: [Vec<f64>; 3] = Default::default();
    for _ in 0..ROUNDS {
        for (figures, spent) in figures.iter_mut().zip(round().await) {
            figures.push(records as f64 / spent.as_secs_f64());
        }
    }
    for figures in &mut figures {
        figures.sort_by(f64::total_cmp);
    }
    let raw = figures[0][ROUNDS / 2];
    for (name, figures) in ["raw", "SQLite", "PostgreSQL"].iter().zip(&figures) {
        let median = figures[ROUNDS / 2];
        let range = format!("{:.0} to {:.0}", figures[0], figures[ROUNDS - 1]);
        println!("{name:>10}: {median:7.0} events a second ({range}), {:.2} of raw", median / raw);
    }
}

/// All lives on a new log and new databases: how long reading took, and folding into SQLite and into PostgreSQL.
async fn round() -> [Duration; 3] {
    let server = Server::start();
    let bus = server.connect_with_streams("manager").await;
    let js = async_nats::jetstream::new(async_nats::connect(server.url()).await.expect("connects"));
    let databases = [TestDatabase::sqlite(), TestDatabase::durable_postgres()];
    let stores = [start(&bus, &databases[0]).await, start(&bus, &databases[1]).await];
    let mut spent = [Duration::ZERO; 3];
    let mut last = 0;
    for stretch in 0..STRETCHES {
        let end = publish(&js, stretch).await;
        spent[0] += raw(&bus, last, end).await;
        for ((store, epoch), spent) in stores.iter().zip(&mut spent[1..]) {
            *spent += folded(&bus, store, *epoch, end).await;
            follow(store, stretch).await;
        }
        last = end;
    }
    for (store, _) in &stores {
        for sector in store.sectors(&Default::default()).await.expect("reads") {
            assert!(matches!(sector.state.seal(), Some(State::Proving(_))), "a life did not end well: {sector:?}");
        }
    }
    spent
}

/// A database with all sectors offered, and the epoch under which we hold its fold.
async fn start(bus: &Bus, database: &TestDatabase) -> (Store, i64) {
    let store = database.open().await;
    let epoch = fold::take_over(bus, &store).await.expect("takes over");
    let mut tx = store.begin().await.expect("begins");
    for number in 1..=SECTORS {
        tx.insert_sector(sector(number), PROOF).await.expect("inserts");
    }
    tx.commit().await.expect("commits");
    (store, epoch)
}

/// Reads a stretch of the log as the fold does, and does nothing with it.
async fn raw(bus: &Bus, mut last: u64, end: u64) -> Duration {
    let started = Instant::now();
    let mut log = bus.open_log(last).await.expect("opens");
    while last < end {
        last = log.next_batch().await.expect("reads").last().map_or(last, |entry| entry.sequence);
        log.acknowledge().await;
    }
    started.elapsed()
}

/// Folds a stretch of the log.
async fn folded(bus: &Bus, store: &Store, epoch: i64, end: u64) -> Duration {
    let changed = Wake::default();
    let fold = Fold { bus, store, epoch, policy: POLICY, changed: &changed };
    let started = Instant::now();
    tokio::select! {
        ended = fold.run() => panic!("the fold ended: {ended:?}"),
        folded = tokio::time::timeout(LIMIT, until(store, end, &changed)) => {
            folded.unwrap_or_else(|_| panic!("the fold does not come to {end}"));
        }
    }
    started.elapsed()
}

/// Waits until the log is folded so far.
async fn until(store: &Store, sequence: u64, changed: &Wake) {
    let mut changes = changed.listen();
    loop {
        if store.fold_state().await.expect("reads").is_some_and(|fold| fold.last_sequence >= sequence) {
            return;
        }
        changes.woken().await;
    }
}

/// What the chain brings after a stretch of the log, to every sector.
async fn follow(store: &Store, stretch: usize) {
    let mut tx = store.begin().await.expect("begins");
    let sectors = tx.sectors(&(1..=SECTORS).map(sector).collect()).await.expect("reads");
    let outcomes = sectors.into_iter().map(|sector| chain(sector, stretch)).collect();
    tx.store_outcomes(outcomes).await.expect("stores");
    tx.commit().await.expect("commits");
}

fn chain(sector: Job, stretch: usize) -> Outcome {
    let ticket = Ticket {
        draw: 1,
        randomness: Randomness([3; 32]),
        epoch: 100,
        expires_epoch: 2900,
        head_epoch: 1000,
        epoch_millis: 30_000,
    };
    let precommit = PreCommitInfo { epoch: 1100, prove_by_epoch: 86_440, head_epoch: 1105, epoch_millis: 30_000 };
    let seed = Seed { draw: 1, randomness: Randomness([4; 32]), epoch: 1250 };
    let inputs = match stretch {
        0 => vec![Input::from(Answer::TicketDrawn(ticket))],
        1 => vec![Input::from(Answer::PreCommitLanded(precommit))],
        2 => vec![Input::from(Answer::FilesChecked), Input::from(Answer::SeedDrawn(seed))],
        3 => vec![Input::from(Answer::ProofVerified), Input::from(Answer::ProveLanded { activation_epoch: 1400 })],
        _ => vec![],
    };
    inputs.into_iter().fold(Outcome::unchanged(sector), |outcome, input| {
        let happening = Happening::of_manager("chain", json!({}));
        outcome.then(|sector| life::decide(sector, input, happening, POLICY))
    })
}

/// Publishes a stretch of all lives, side by side, and returns its last sequence.
async fn publish(js: &async_nats::jetstream::Context, stretch: usize) -> u64 {
    let mut records: Vec<_> = (1..=SECTORS).map(|number| steps_of(stretch, number).into_iter()).collect();
    let mut last = 0;
    for _ in 0..steps(stretch, 0).len() {
        let step: Vec<(String, Vec<u8>)> = records.iter_mut().filter_map(Iterator::next).collect();
        for window in step.chunks(WINDOW) {
            let mut waiting = Vec::new();
            for (subject, payload) in window {
                waiting.push(js.publish(subject.clone(), payload.clone().into()).await.expect("sends"));
            }
            for ack in waiting {
                last = ack.await.expect("is stored").sequence;
            }
        }
    }
    last
}

/// A sector's records in a stretch: subjects and payloads. The lease records are the first of the log, so a sector's
/// token is its number.
fn steps_of(stretch: usize, number: u64) -> Vec<(String, Vec<u8>)> {
    let (id, worker) = (sector(number), worker(number));
    let before: usize = (0..stretch).map(|stretch| steps(stretch, number).len()).sum();
    let records = steps(stretch, number).into_iter().enumerate().map(|(step, body)| match body {
        Some(body) => {
            let event = Event { token: Token(number), number: (before + step) as u64, body };
            (subject::event(id, &worker), codec::encode(&event).expect("packs"))
        }
        None => {
            let intent = Intent { sector: id, kind: IntentKind::Seal, proof: PROOF, lease_sequence: 0, attempt: 1 };
            let claim = LeaseRecord::Claim { intent, host: format!("{worker}.example") };
            (subject::lease(id, &worker), codec::encode(&claim).expect("packs"))
        }
    });
    records.collect()
}

/// What happens in a stretch of a life; none is the claim.
fn steps(stretch: usize, number: u64) -> Vec<Option<EventBody>> {
    let started = |phase| {
        EventBody::Common(CommonEvent::PhaseStarted {
            phase,
            attempt: 1,
            processor: format!("{phase:?}-0").to_lowercase(),
        })
    };
    let commitment = |salt: u8| {
        let mut bytes = [salt; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        Commitment(bytes)
    };
    let file =
        |name: &str| StoredFile { path: format!("{name}-t01000-{number}"), bytes: 32 << 30, blake2b: commitment(9) };
    let stored = || StoredSector {
        store: "main".to_owned(),
        files: ["sealed/s", "cache/s/p_aux", "cache/s/t_aux", "cache/s/tree-r-last-0"].map(file).to_vec(),
        identity: None,
    };
    match stretch {
        0 => vec![
            None,
            Some(started(Phase::AddPieces)),
            Some(EventBody::Seal(seal::Event::PiecesAdded {
                pieces: vec![PieceInfo { commitment: commitment(1), padded_bytes: 32 << 30 }],
            })),
            Some(started(Phase::TreeD)),
            Some(EventBody::Seal(seal::Event::TreeDBuilt { comm_d: commitment(2) })),
            Some(EventBody::Seal(seal::Event::TicketWanted { draw: 1 })),
        ],
        1 => vec![
            Some(started(Phase::Pc1)),
            Some(EventBody::Seal(seal::Event::Pc1Done {})),
            Some(started(Phase::Pc2)),
            Some(EventBody::Seal(seal::Event::Pc2Done { comm_r: commitment(3), comm_d: commitment(2) })),
        ],
        2 => vec![Some(started(Phase::Transfer)), Some(EventBody::Seal(seal::Event::Persisted { stored: stored() }))],
        3 => vec![
            Some(started(Phase::C1)),
            Some(EventBody::Seal(seal::Event::C1Done { seed_draw: 1 })),
            Some(started(Phase::C2)),
            Some(EventBody::Seal(seal::Event::C2Done { seed_draw: 1, proof: ProofBytes(vec![number as u8; 1920]) })),
        ],
        _ => vec![Some(EventBody::Common(CommonEvent::Finished {}))],
    }
}

fn sector(number: u64) -> SectorId {
    SectorId { miner: MinerId(1000), number: SectorNumber(number) }
}

fn worker(number: u64) -> WorkerName {
    format!("seal-{}", number % 50).parse().expect("a name")
}
