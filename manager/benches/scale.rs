//! What the manager's work costs by what exists and by what is due.
//!
//! `cargo bench --workspace --profile dev --bench scale` makes databases of many sectors by SQL, without sealing any, and
//! lets production's code work on them, on SQLite and on PostgreSQL: a tick of the driver against a node that takes a
//! millisecond for each answer, an event, a pledge, the lists of the command line, a look at the workers' leases. Of the live
//! sectors one in a hundred is due. Each row of the table is a process of its own, so that its memory is its own.
//! `SEALBUS_SCALE=100000` stops at so many proving sectors.
//!
//! At the end it scrapes the metrics of 10,000 live sectors and 500 workers, and compares that with an empty page.

#![allow(clippy::disallowed_macros, reason = "for whoever reads the output")]

#[path = "../tests/databases/mod.rs"]
mod databases;
#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../../nats/tests/support/mod.rs"]
mod support;

use std::{
    collections::HashSet,
    io::Write,
    net::TcpStream,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use databases::TestDatabase;
use futures::{StreamExt, stream};
use sealbus_manager::{
    chain::{Error as ChainError, Memo, NodeClient, Transport, commitment::sealed_cid},
    config::Config,
    drive::Driver,
    life,
    liveness::watch::{self, Limits, Round, Sign, Watch},
    metrics,
    proofs::Library,
    store::{Happening, Job, SectorFilter, Store, Tx},
    wake::Wake,
};
use sealbus_nats::{
    heartbeats::{Heart, Seen},
    metrics::{Page, Samples, serve},
};
use sealbus_schema::{
    Commitment, ErrorClass, ErrorCode, ErrorReport, MinerId, ProofBytes, Randomness, SealProof, SectorId, SectorNumber,
    Token, WorkerName,
    lease::Ownership,
    machine::manager::AttemptPolicy,
    message::{CommonEvent, EventBody, Heartbeat, SlotStatus},
    parts::{PreCommitInfo, Seed, StoredFile, StoredSector, Ticket},
    workflows::{
        Input,
        seal::{self, manager::Answer},
    },
};
use serde_json::{Value, json};
use sqlx::{Column, Row};
use support::{Server, ports::Port};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Proving sectors, and live ones.
const SIZES: [(u64, u64); 4] = [(1_000, 100), (10_000, 1_000), (100_000, 10_000), (1_000_000, 100_000)];
const DATABASES: [&str; 2] = ["SQLite", "PostgreSQL"];
const WORKERS: u64 = 10_000;
const BLOCKED: u64 = 10;
const MINER: MinerId = MinerId(1000);
const POLICY: AttemptPolicy = AttemptPolicy { max_attempts: 3, max_issues: 6 };
const HEAD: i64 = 100_000;
/// The sectors that the others are copies of: one proving, one awaiting its proof, one awaiting its PreCommit, one blocked.
const PROVING: u64 = 1;
const AT_C2: u64 = 2;
const DUE: u64 = 3;
const FAILED: u64 = 4;
/// The first number of a copy.
const FIRST: u64 = 10;
/// How many rows are copied in one transaction, so that no log of a database grows as large as the database.
const AT_ONCE: usize = 50_000;
/// How often what takes milliseconds is done; the mean counts.
const REPEATS: u32 = 20;
/// For how long the requests of a driver that has nothing to do are counted.
const IDLE: Duration = Duration::from_secs(3);
/// Which row a process of its own measures.
const ROW: &str = "SEALBUS_SCALE_ROW";

#[tokio::main]
async fn main() {
    if let Ok(row) = std::env::var(ROW) {
        let fields: Vec<&str> = row.split(' ').collect();
        let [database, proving, live] = fields[..] else { panic!("a row is a database and two numbers: {row}") };
        return measure(database, proving.parse().expect("a number"), live.parse().expect("a number")).await;
    }
    let limit = std::env::var("SEALBUS_SCALE").ok().and_then(|text| text.parse().ok()).unwrap_or(u64::MAX);
    let load = std::fs::read_to_string("/proc/loadavg").expect("the load");
    println!("one in a hundred live sectors is due; in ms; load {}", load.trim());
    println!(
        "{:<11} {:>8} {:>7} {:>9} {:>8} {:>7} {:>7} {:>7} {:>7} {:>8} {:>8} {:>8} {:>8} {:>7} {:>8} {:>8}",
        "database",
        "proving",
        "live",
        "all due",
        "tick",
        "calls",
        "again",
        "event",
        "pledge",
        "list",
        "blocked",
        "held up",
        "workers",
        "leases",
        "calls/s",
        "RSS MiB"
    );
    for (proving, live) in SIZES.into_iter().filter(|(proving, _)| *proving <= limit) {
        for database in DATABASES {
            let row = format!("{database} {proving} {live}");
            let ended = Command::new(std::env::current_exe().expect("this program")).env(ROW, &row).status();
            assert!(ended.expect("starts").success(), "{row}");
        }
    }
    archive().await;
    heartbeats().await;
    for database in DATABASES {
        scrape(database).await;
    }
}

async fn measure(name: &str, proving: u64, live: u64) {
    let database = if name == DATABASES[0] { TestDatabase::sqlite() } else { TestDatabase::durable_postgres() };
    let store = database.open().await;
    let epoch = fill(&database, &store, proving, live).await;
    let node = Arc::new(Node::new(FIRST + proving + live));
    let directory = tempfile::tempdir().expect("a directory");
    let client = Arc::new(NodeClient::new(Memo::new(node.clone())));
    let config = Arc::new(config(directory.path()));
    let library = Arc::new(Library);
    let driver = Driver::new(client, store.clone(), config, epoch, Wake::default(), library).await.expect("a driver");

    // Everything is due once when a manager begins; a tick takes up to 10,000.
    let all = timed(async || {
        for _ in 0..=live / 10_000 {
            driver.tick().await.expect("ticks");
        }
    })
    .await;
    node.head.fetch_add(1, Ordering::SeqCst);
    node.calls.store(0, Ordering::SeqCst);
    let tick = timed(async || driver.tick().await.expect("ticks")).await;
    let calls = node.calls.load(Ordering::SeqCst);
    let again = timed(async || {
        for _ in 0..REPEATS {
            driver.tick().await.expect("ticks");
        }
    })
    .await;

    let events = timed(async || {
        for number in 0..u64::from(REPEATS) {
            event(&store, epoch, FIRST + proving + number).await;
        }
    })
    .await;
    // The first one looks for a number that nobody has.
    pledge(&store).await;
    driver.tick().await.expect("ticks");
    pledge(&store).await;
    let pledge = timed(async || driver.tick().await.expect("ticks")).await;
    node.calls.store(0, Ordering::SeqCst);
    let _ = tokio::time::timeout(IDLE, driver.run()).await;
    let calls_a_second = node.calls.load(Ordering::SeqCst) / IDLE.as_secs();
    let rss = resident_mib();
    let filter = SectorFilter { blocked: true, ..Default::default() };
    let blocked = timed(async || assert_eq!(store.sectors(&filter).await.expect("lists").len() as u64, BLOCKED)).await;
    // What `sectors blocked` counts as well while the node holds them up.
    let moving = timed(async || drop(store.alike(5).await.expect("counts"))).await;
    let workers = timed(async || drop(store.held_by_workers().await.expect("counts"))).await;
    let leases = timed(async || look_at_leases(&store).await).await;
    let list = timed(async || list(&store).await).await;
    println!(
        "{name:<11} {proving:>8} {live:>7} {:>9.0} {:>8.1} {calls:>7} {:>7.1} {:>7.1} {:>7.1} {:>8.0} {:>8.1} {:>8.1} {:>8.1} {:>7.1} \
         {calls_a_second:>8} {rss:>8}",
        millis(all),
        millis(tick),
        millis(again / REPEATS),
        millis(events / REPEATS),
        millis(pledge),
        millis(list),
        millis(blocked),
        millis(moving),
        millis(workers),
        millis(leases),
    );
}

/// Makes the sectors, past the store, and gives what the manager that holds the fold writes with.
async fn fill(database: &TestDatabase, store: &Store, proving: u64, live: u64) -> i64 {
    let mut tx = store.begin().await.expect("begins");
    tx.start_fold("SEAL_SECTORS@1").await.expect("starts");
    let epoch = tx.take_over().await.expect("takes over");
    for (number, steps) in [(PROVING, usize::MAX), (AT_C2, 9), (DUE, 4), (FAILED, 9)] {
        live_a_life(&mut tx, number, steps).await;
    }
    let failed = tx.sector(id(FAILED)).await.expect("reads").expect("exists");
    let error = ErrorReport::new(ErrorClass::Perm, ErrorCode::PROTOCOL_VIOLATED, "for a person");
    life::apply(&mut tx, failed, Input::Refused(error), happening(), POLICY).await.expect("applies");
    tx.commit().await.expect("commits");
    forget_messages(database).await;
    let due = live / 100;
    copy(database, &[], PROVING, FIRST, proving).await;
    copy(database, &["looks"], AT_C2, FIRST + proving, live - due).await;
    copy(database, &["looks"], DUE, FIRST + proving + live, due).await;
    copy(database, &["looks"], FAILED, FIRST + proving + 2 * live, BLOCKED - 1).await;
    if database.postgres.is_some() {
        // As its autovacuum does in time.
        let pool = database.raw().await;
        sqlx::query("ANALYZE").execute(&pool).await.expect("analyses");
        pool.close().await;
    }
    epoch
}

/// What `sectors list` reads.
async fn list(store: &Store) {
    let row = |sector: Job| drop(std::hint::black_box((sector.id.to_string(), sector.state.name(), sector.changed_at)));
    store.each_sector(&SectorFilter::default(), row).await.expect("lists");
}

/// What archiving the history of sectors saves and takes.
async fn archive() {
    const SECTORS: u64 = 1_000;
    let database = TestDatabase::sqlite();
    let store = database.open().await;
    let epoch = fill(&database, &store, SECTORS, 100).await;
    copy_rows(&database, &["history", "to_archive"], PROVING, FIRST, SECTORS).await;
    let kib = async || -> i64 {
        let pool = database.raw().await;
        let text = "SELECT (page_count - freelist_count) * page_size / 1024 AS kib \
                    FROM pragma_page_count, pragma_freelist_count, pragma_page_size";
        let kib = sqlx::query(text).fetch_one(&pool).await.expect("reads").get("kib");
        pool.close().await;
        kib
    };
    let before = kib().await;
    let took =
        timed(async || while store.archive_history(epoch, Duration::ZERO, 64).await.expect("archives") > 0 {}).await;
    println!(
        "the history of {SECTORS} sectors is archived in {:.0} ms; of {before} KiB of the database {} are left",
        millis(took),
        kib().await
    );
}

/// What the signs of life of all workers cost, read from a server as the policy for workers that are gone reads them.
async fn heartbeats() {
    let monitor = Port::hold().expect("a port");
    let server = Server::start_with(|port, store| {
        format!(
            "listen: \"127.0.0.1:{port}\"\nhttp: \"127.0.0.1:{}\"\njetstream {{ store_dir: {store:?} }}\n",
            monitor.number()
        )
    });
    let bus = server.connect_with_streams("manager").await;
    let beat = |number: u64| {
        let bus = bus.clone();
        async move {
            let worker: WorkerName = format!("w{number}").parse().expect("a name");
            let heartbeat = Heartbeat {
                worker: worker.clone(),
                host: format!("host-{number}"),
                version: "0".to_owned(),
                incarnation: 1,
                draining: false,
                orders: 0,
                slots: vec![],
                processors: vec![],
                broken: vec![],
            };
            Heart::new(&worker).beat(&bus, &heartbeat).await.expect("beats");
        }
    };
    stream::iter((0..WORKERS).map(beat)).buffer_unordered(200).collect::<Vec<()>>().await;
    let requests = || -> u64 {
        let mut connection = TcpStream::connect(("127.0.0.1", monitor.number())).expect("connects");
        connection.write_all(b"GET /varz HTTP/1.0\r\n\r\n").expect("asks");
        let answer = std::io::read_to_string(connection).expect("answers");
        let body = answer.split_once("\r\n\r\n").expect("a body").1;
        serde_json::from_str::<Value>(body).expect("JSON")["in_msgs"].as_u64().expect("a number")
    };
    let before = requests();
    let took = timed(async || assert_eq!(bus.workers().await.expect("reads").len() as u64, WORKERS)).await;
    println!("{WORKERS} heartbeats are read in {:.0} ms with {} requests", millis(took), requests() - before);
}

/// What a look at the database and a scrape take with 10,000 live sectors and 500 workers of 20 slots, and what a scrape of
/// an empty page takes.
async fn scrape(name: &str) {
    const LIVE: u64 = 10_000;
    let database = if name == DATABASES[0] { TestDatabase::sqlite() } else { TestDatabase::durable_postgres() };
    let store = database.open().await;
    fill(&database, &store, 10 * LIVE, LIVE).await;
    let mut found = Samples::default();
    let look = timed(async || {
        for _ in 0..REPEATS {
            found = metrics::jobs::look(&store, Some(HEAD)).await.expect("looks");
        }
    })
    .await;
    let workers: Vec<Seen> = (0..500).map(worker_of_20_slots).collect();
    metrics::fleet::show(&workers, &mut found);
    let series = found.series();
    let page = Arc::new(Page::new(|_, _| {}));
    let port = Port::hold().expect("a port").number();
    let serving = tokio::spawn(serve(([127, 0, 0, 1], port).into(), Arc::clone(&page)));
    while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        tokio::task::yield_now().await;
    }
    let (empty, _) = scrapes(port).await;
    page.show(found);
    let (full, bytes) = scrapes(port).await;
    serving.abort();
    println!(
        "{name}, {LIVE} live sectors: a look takes {:.1} ms; a scrape of {series} series, {} KiB, {:.2} ms; one of an empty page {:.2} ms",
        millis(look / REPEATS),
        bytes >> 10,
        millis(full / REPEATS),
        millis(empty / REPEATS),
    );
}

fn worker_of_20_slots(number: u64) -> Seen {
    let slot = |slot: u64| SlotStatus {
        path: format!("/nvme{slot}"),
        holding: None,
        blocked: (slot == 0).then(|| ErrorReport::new(ErrorClass::Crit, ErrorCode::DISK_FULL, "full")),
        unreadable: false,
        identity: None,
        released: 0,
        checking: false,
    };
    let heartbeat = Heartbeat {
        worker: format!("w{number}").parse().expect("a name"),
        host: String::new(),
        version: String::new(),
        incarnation: 1,
        draining: false,
        orders: 0,
        slots: (0..20).map(slot).collect(),
        processors: vec![],
        broken: vec![],
    };
    Seen { heartbeat, at: time::OffsetDateTime::UNIX_EPOCH, now: time::OffsetDateTime::UNIX_EPOCH }
}

/// Scrapes so often, and gives the time of all and the bytes of one.
async fn scrapes(port: u16) -> (Duration, usize) {
    let mut bytes = 0;
    let took = timed(async || {
        for _ in 0..REPEATS {
            let mut connection = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("connects");
            connection.write_all(b"GET /metrics HTTP/1.1\r\nHost: bench\r\n\r\n").await.expect("asks");
            let mut answer = Vec::new();
            connection.read_to_end(&mut answer).await.expect("answers");
            bytes = answer.len();
        }
    })
    .await;
    (took, bytes)
}

async fn pledge(store: &Store) {
    let mut tx = store.begin().await.expect("begins");
    tx.add_pledge(&MINER.to_string(), 100, "a benchmark").await.expect("pledges");
    tx.commit().await.expect("commits");
}

async fn timed(work: impl AsyncFnOnce()) -> Duration {
    let started = Instant::now();
    work().await;
    started.elapsed()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn resident_mib() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("reads");
    let pages: u64 = pages.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or_default();
    (pages * 4096) >> 20
}

/// A report of a worker, as the fold stores one.
async fn event(store: &Store, epoch: i64, number: u64) {
    let mut tx = store.begin_as(epoch).await.expect("begins");
    let sector = tx.sector(id(number)).await.expect("reads").expect("exists");
    let input = Input::Event(EventBody::Seal(seal::Event::C1Done { seed_draw: 1 }));
    life::apply(&mut tx, sector, input, happening(), POLICY).await.expect("applies");
    tx.commit().await.expect("commits");
}

/// One look of the policy for workers that are gone: all are there and name what they have.
async fn look_at_leases(store: &Store) {
    let limits = Limits {
        dead_after: Duration::from_secs(60),
        grace: Duration::from_secs(3600),
        short_grace: Duration::from_secs(120),
        orphan_after: Duration::from_secs(120),
        reissue_interval: Duration::from_secs(600),
    };
    let leases = store.leases().await.expect("lists");
    let held: HashSet<(SectorId, Token)> = leases.iter().map(|(sector, _, token)| (*sector, *token)).collect();
    let sign = |number| Sign {
        worker: format!("w{number}").parse().expect("a name"),
        age: Duration::from_secs(1),
        held: if number == 1 { held.clone() } else { HashSet::new() },
        unreadable: false,
    };
    let workers: Vec<Sign> = (1..=WORKERS).map(sign).collect();
    let suspects = watch::suspects(&workers, leases, &limits);
    let sectors = store.sectors_among(&suspects).await.expect("reads");
    let round = Round { at: Duration::from_secs(1000), connections: 1, workers: &workers };
    assert!(Watch::default().round(&round, &sectors, &limits).is_empty());
}

/// Lives so many steps of a sector's life.
async fn live_a_life(tx: &mut Tx, number: u64, steps: usize) {
    tx.insert_sector(id(number), SealProof::StackedDrg32GiBV1_1).await.expect("inserts");
    let mut inputs = inputs();
    inputs.truncate(steps);
    for input in inputs {
        let mut sector = tx.sector(id(number)).await.expect("reads").expect("exists");
        let worker: WorkerName = "w1".parse().expect("a name");
        sector.ownership = match input {
            Input::Event(EventBody::Common(CommonEvent::Finished {})) => Ownership::Free { last_lease: 9 },
            _ => Ownership::claimed(worker, Token(9)),
        };
        life::apply(tx, sector, input, happening(), POLICY).await.expect("applies");
    }
}

fn inputs() -> Vec<Input> {
    let randomness = Randomness([3; 32]);
    let (epoch, epoch_millis) = (HEAD - 900, 30_000);
    let ticket = Ticket { draw: 1, randomness, epoch, expires_epoch: HEAD + 2000, head_epoch: HEAD, epoch_millis };
    let precommit = PreCommitInfo { epoch: HEAD - 200, prove_by_epoch: HEAD + 80_000, head_epoch: HEAD, epoch_millis };
    let file =
        |name: &str| StoredFile { path: format!("{name}/s-t01000-1"), bytes: 32 << 30, blake2b: Commitment([9; 32]) };
    let stored = StoredSector {
        store: "main".to_owned(),
        files: ["sealed", "cache/p_aux", "cache/t_aux", "cache/tree-r-last-0"].map(file).to_vec(),
        identity: None,
    };
    vec![
        Input::Claimed,
        of_seal(seal::Event::TicketWanted { draw: 1 }),
        Input::from(Answer::TicketDrawn(ticket)),
        of_seal(seal::Event::Pc2Done { comm_r: Commitment([3; 32]), comm_d: Commitment([2; 32]) }),
        Input::from(Answer::PreCommitLanded(precommit)),
        of_seal(seal::Event::Persisted { stored }),
        Input::from(Answer::FilesChecked),
        Input::from(Answer::SeedDrawn(Seed { draw: 1, randomness: Randomness([4; 32]), epoch: HEAD - 50 })),
        of_seal(seal::Event::C1Done { seed_draw: 1 }),
        of_seal(seal::Event::C2Done { seed_draw: 1, proof: ProofBytes(vec![1; 1920]) }),
        Input::from(Answer::ProofVerified),
        Input::from(Answer::ProveLanded { activation_epoch: HEAD }),
        Input::Event(EventBody::Common(CommonEvent::Finished {})),
    ]
}

fn of_seal(event: seal::Event) -> Input {
    Input::Event(EventBody::Seal(event))
}

/// Copies a sector and its job so often, with its rows of these other tables.
async fn copy(database: &TestDatabase, others: &[&str], pattern: u64, first: u64, count: u64) {
    copy_rows(database, &[&["sectors", "jobs"], others].concat(), pattern, first, count).await;
    let pool = database.raw().await;
    let columns = columns_of(&pool, "seal_jobs", &["job"]).await;
    for (from, last) in pieces(first, count) {
        let text = format!(
            "INSERT INTO seal_jobs (job, {columns}) SELECT jobs.id, pattern.* FROM jobs, \
             (SELECT {} FROM seal_jobs JOIN jobs ON jobs.id = seal_jobs.job WHERE jobs.number = {pattern}) AS pattern \
             WHERE jobs.number BETWEEN {from} AND {last}",
            columns.split(", ").map(|column| format!("seal_jobs.{column}")).collect::<Vec<_>>().join(", ")
        );
        sqlx::query(&text).execute(&pool).await.expect("copies");
    }
    pool.close().await;
}

/// Copies a sector's rows of these tables so often. This and [`copy`] are all that writes rows past the store.
async fn copy_rows(database: &TestDatabase, tables: &[&str], pattern: u64, first: u64, count: u64) {
    let pool = database.raw().await;
    for table in tables {
        let columns = columns_of(&pool, table, &["number", "id"]).await;
        for (from, last) in pieces(first, count) {
            let text = format!(
                "INSERT INTO {table} (number, {columns}) SELECT numbers.n, {columns} FROM {table}, \
                 (WITH RECURSIVE n(n) AS (SELECT {from} UNION ALL SELECT n + 1 FROM n WHERE n < {last}) SELECT n FROM n) AS numbers \
                 WHERE number = {pattern}"
            );
            sqlx::query(&text).execute(&pool).await.expect("copies");
        }
    }
    pool.close().await;
}

/// The columns of a table but for those that each copy has its own of.
async fn columns_of(pool: &sqlx::AnyPool, table: &str, own: &[&str]) -> String {
    let row = sqlx::query(&format!("SELECT * FROM {table} LIMIT 1")).fetch_one(pool).await.expect("reads");
    row.columns().iter().map(Column::name).filter(|name| !own.contains(name)).collect::<Vec<&str>>().join(", ")
}

/// The first and the last number of what is copied in one transaction.
fn pieces(first: u64, count: u64) -> impl Iterator<Item = (u64, u64)> {
    (first..first + count).step_by(AT_ONCE).map(move |from| (from, (from + AT_ONCE as u64).min(first + count) - 1))
}

/// What the patterns would send.
async fn forget_messages(database: &TestDatabase) {
    let pool = database.raw().await;
    for table in ["wants", "outbox"] {
        sqlx::query(&format!("DELETE FROM {table}")).execute(&pool).await.expect("deletes");
    }
    pool.close().await;
}

fn happening() -> Happening {
    Happening::of_manager("benchmark", json!({}))
}

fn id(number: u64) -> SectorId {
    SectorId { miner: MINER, number: SectorNumber(number) }
}

fn config(directory: &std::path::Path) -> Config {
    let file = directory.join("manager.toml");
    let text = "[database]\npath = \"manager.db\"\n[nats]\nurl = \"nats://127.0.0.1:4222\"\n\
                [chain]\nurl = \"http://127.0.0.1:1234\"\n[[miner]]\nid = \"f01000\"\nsector_size = \"32GiB\"\n";
    std::fs::write(&file, text).expect("writes");
    Config::load(&file).expect("a configuration")
}

/// A node that takes a millisecond for each answer, and has the PreCommit of every sector up to a number.
struct Node {
    head: AtomicI64,
    calls: AtomicU64,
    none_from: u64,
}

impl Node {
    fn new(none_from: u64) -> Node {
        Node { head: AtomicI64::new(HEAD), calls: AtomicU64::new(0), none_from }
    }
}

impl Transport for Node {
    async fn call(&self, method: &'static str, params: Value) -> Result<Value, ChainError> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(1)).await;
        let cid = sealed_cid(&[3; 32]).expect("a commitment").to_string();
        let tipset = |height: i64| {
            let mut commitment = [0; 32];
            commitment[..8].copy_from_slice(&height.to_le_bytes());
            let key = sealed_cid(&commitment).expect("a commitment").to_string();
            json!({
                "Cids": [{ "/": key }], "Height": height,
                "Blocks": [{ "Miner": "t01000", "Parents": null, "Timestamp": 1_700_000_000, "ParentBaseFee": "100" }],
            })
        };
        Ok(match method {
            "ChainHead" => tipset(self.head.load(Ordering::SeqCst)),
            "ChainGetTipSetByHeight" => tipset(params[0].as_i64().unwrap_or_default()),
            "StateGetNetworkParams" => {
                json!({ "NetworkName": "bench", "BlockDelaySecs": 30, "PreCommitChallengeDelay": 150 })
            }
            // Every number that was given out has been used, but for the live sectors'.
            "StateMinerAllocated" => json!([0]),
            "StateSectorPreCommitInfo" if params[1].as_u64().is_some_and(|number| number >= self.none_from) => {
                Value::Null
            }
            "StateSectorPreCommitInfo" => json!({
                "Info": { "SealProof": 8, "SectorNumber": params[1], "SealedCID": { "/": cid }, "SealRandEpoch": HEAD - 900,
                          "DealIDs": null, "Expiration": HEAD + 700_000, "UnsealedCid": null },
                "PreCommitDeposit": "1", "PreCommitEpoch": HEAD - 200,
            }),
            other => return Err(ChainError::refused(other, 1, "a call that the benchmark does not expect")),
        })
    }
}
