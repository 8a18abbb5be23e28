//! What proving costs the manager at a million sectors.
//!
//! `cargo bench --workspace --profile dev --bench proving` makes a database of a million sectors by SQL, without sealing any, and
//! plays node, bus and workers: nothing is waited for, so what is measured is the manager's own time. A deadline of the main
//! network has 9 of 425 full partitions of 2349 sectors. Ratios are to a deadline with one such partition.

#![allow(clippy::disallowed_macros, reason = "for whoever reads the output")]

#[path = "../tests/databases/mod.rs"]
mod databases;

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use databases::TestDatabase;
use futures::stream::BoxStream;
use sealbus_manager::{
    chain::{Error as ChainError, NodeClient, Transport, commitment::sealed_cid, sector_set::SectorSet},
    config::Config,
    proofs::{Porep, Verifier},
    proving::{
        Error, Memory, Proving,
        forecast::forecasts,
        proof::{PartitionProof, ProofId, ProofState},
        tasks::Tasks,
        turn::Turn,
    },
    store::Store,
    waits::Waits,
    wake::Wake,
};
use sealbus_nats::post::{PostQueue, PostSaid};
use sealbus_schema::{
    Commitment, ErrorReport, MinerId, ProofBytes, Randomness, SealProof, SectorId, SectorNumber,
    post::{PostJob, PostReport, PostTask, SectorRead},
};
use serde_json::{Value, json};

const MINER: MinerId = MinerId(1000);
const SECTORS: u64 = 1_000_000;
const PARTITION: u64 = 2349;
const PARTITIONS: u64 = 9;
const OPEN: i64 = 28_800;
const CHALLENGE: i64 = OPEN - 20;

#[tokio::main]
async fn main() {
    let load = std::fs::read_to_string("/proc/loadavg").expect("the load");
    println!("{SECTORS} sectors in partitions of {PARTITION}; in ms; load {}", load.trim());
    println!(
        "{:<10} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "partitions", "plan", "quiet", "hear", "begin", "verify", "ask", "tasks", "RSS MiB"
    );
    let one = deadline(1).await;
    let all = deadline(PARTITIONS).await;
    let ratios: Vec<String> =
        one.iter().zip(&all).map(|(one, all)| format!("{:>8.1}", millis(*all) / millis(*one))).collect();
    println!("{:<10} {}", "ratio", ratios.join(" "));
    ahead().await;
    history().await;
}

/// Reading three deadlines of full partitions ahead: how long the manager takes to begin, and for each report.
async fn ahead() {
    let database = TestDatabase::sqlite();
    let store = filled(&database).await;
    let play = Play { partitions: PARTITIONS, ahead: true, head: Mutex::new(OPEN), tasks: Mutex::default() };
    let config = config();
    let (waits, changed) = (Waits::load(&store, 0).await.expect("loads"), Wake::default());
    let (node, verifier): (_, Arc<dyn Verifier>) = (NodeClient::new(&play), Arc::new(Trusting));
    let proving = Proving {
        node: &node,
        store: &store,
        tasks: &play,
        config: &config,
        epoch: 0,
        epoch_millis: 30_000,
        verifier: &verifier,
        waits: &waits,
        changed: &changed,
    };
    let mut memory = Memory::default();
    let begin = timed(async || proving.look(&mut memory).await.expect("looks")).await;
    let quiet = timed(async || proving.look(&mut memory).await.expect("looks")).await;
    let mut reports = 0_u32;
    let took = timed(async || {
        for said in std::iter::from_fn(|| play.tasks.lock().expect("no panic").pop()).take(100).map(|task| said(&task))
        {
            memory.hear(said);
            reports += 1;
            proving.look(&mut memory).await.expect("looks");
        }
    })
    .await;
    let known = store.reads_ahead(Some(MINER)).await.expect("reads");
    println!(
        "reading {} partitions ahead: begin {:.1} ms, quiet {:.1} ms, each of {reports} reports {:.1} ms, RSS {} MiB",
        known.len(),
        millis(begin),
        millis(quiet),
        millis(took) / f64::from(reports.max(1)),
        resident_mib()
    );
}

fn config() -> Config {
    toml::from_str(
        "[database]\npath = \"x.db\"\n[nats]\nurl = \"nats://127.0.0.1:4222\"\n[chain]\nurl = \"http://127.0.0.1:1234\"\n\
         [[miner]]\nid = \"f01000\"\nsector_size = \"32GiB\"\n",
    )
    .expect("reads")
}

/// One deadline from its challenge to the message: how long each step of the manager takes.
async fn deadline(partitions: u64) -> Vec<Duration> {
    let database = TestDatabase::sqlite();
    let store = filled(&database).await;
    let play = Play { partitions, ahead: false, head: Mutex::new(CHALLENGE + 1), tasks: Mutex::default() };
    let config = config();
    let (waits, changed) = (Waits::load(&store, 0).await.expect("loads"), Wake::default());
    let (node, verifier): (_, Arc<dyn Verifier>) = (NodeClient::new(&play), Arc::new(Trusting));
    let proving = Proving {
        node: &node,
        store: &store,
        tasks: &play,
        config: &config,
        epoch: 0,
        epoch_millis: 30_000,
        verifier: &verifier,
        waits: &waits,
        changed: &changed,
    };
    let mut memory = Memory::default();
    let plan = timed(async || proving.look(&mut memory).await.expect("looks")).await;
    let quiet = timed(async || proving.look(&mut memory).await.expect("looks")).await;
    let reads = play.answers();
    let tasks = reads.len();
    let hear = timed(async || {
        reads.into_iter().for_each(|said| memory.hear(said));
    })
    .await;
    let begin = timed(async || proving.look(&mut memory).await.expect("looks")).await;
    play.answers().into_iter().for_each(|said| memory.hear(said));
    let verify = timed(async || proving.look(&mut memory).await.expect("looks")).await;
    *play.head.lock().expect("no panic") = OPEN + 1;
    let ask = timed(async || proving.look(&mut memory).await.expect("looks")).await;
    let asked = store.open_proofs().await.expect("reads");
    assert!(asked.iter().all(|proof| proof.state == ProofState::Asked) && asked.len() as u64 == partitions);
    let took = vec![plan, quiet, hear, begin, verify, ask];
    let columns: Vec<String> = took.iter().map(|took| format!("{:>8.1}", millis(*took))).collect();
    println!("{partitions:<10} {} {tasks:>8} {:>8}", columns.join(" "), resident_mib());
    took
}

/// What the commands read: three periods of all partitions.
async fn history() {
    let database = TestDatabase::sqlite();
    let store = filled(&database).await;
    let of_deadline = |partition: u64| partition % 48;
    let mut tx = store.begin().await.expect("begins");
    for period in 0..3 {
        for partition in 0..SECTORS / PARTITION {
            let (deadline, partition) = (of_deadline(partition), partition / 48);
            let open = OPEN + period * 2880 + deadline as i64 * 60;
            let turn = Turn {
                period: OPEN + period * 2880,
                deadline,
                challenge: open - 20,
                open,
                close: open + 60,
                fault_cutoff: open - 70,
            };
            let id = ProofId { miner: MINER, period: turn.period, deadline, partition };
            let mut proof = PartitionProof::begun(id, &turn, Randomness([1; 32]), (PARTITION, 0));
            tx.begin_proof(&proof).await.expect("begins");
            proof.state = ProofState::Landed;
            proof.proof = Some(ProofBytes(vec![1; 192]));
            (proof.proved_epoch, proof.landed_epoch) = (Some(open), Some(open + 9));
            tx.save_proof(&proof).await.expect("saves");
        }
    }
    tx.commit().await.expect("commits");
    let mut found = 0;
    let forecast = timed(async || {
        found = forecasts(&store.last_proofs(Some(MINER), 4000).await.expect("reads")).len();
    })
    .await;
    println!("the forecast of {found} partitions from 3 periods: {:.0} ms", millis(forecast));
}

/// A database with a million sectors in a store.
async fn filled(database: &TestDatabase) -> Store {
    let store = database.open().await;
    let mut tx = store.begin().await.expect("begins");
    tx.start_fold("SEAL_SECTORS@1").await.expect("starts");
    tx.commit().await.expect("commits");
    let pool = database.raw().await;
    let text = format!(
        "INSERT INTO sectors (miner, number, proof, created_at, store, files) \
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {SECTORS}) \
         SELECT '{MINER}', i, '{}', '', 'main', '{{\"store\":\"main\",\"files\":[]}}' FROM n",
        SealProof::StackedDrg32GiBV1_1.name()
    );
    sqlx::query(&text).execute(&pool).await.expect("fills");
    pool.close().await;
    store
}

/// Node, bus and workers.
struct Play {
    partitions: u64,
    /// The partitions are in the deadlines from the second to the fourth after the open one.
    ahead: bool,
    head: Mutex<i64>,
    tasks: Mutex<Vec<PostTask>>,
}

impl Play {
    fn has(&self, deadline: u64) -> bool {
        if self.ahead { (2..5).contains(&deadline) } else { deadline == 0 }
    }

    /// What the workers say of the tasks in the queue.
    fn answers(&self) -> Vec<PostSaid> {
        let tasks = std::mem::take(&mut *self.tasks.lock().expect("no panic"));
        tasks.into_iter().map(|task| said(&task)).collect()
    }
}

fn said(task: &PostTask) -> PostSaid {
    let of = task.of().expect("of this version").clone();
    let report = match task {
        PostTask::Read(task) => {
            let read = |number| SectorRead { number, ms: 20, error: None };
            PostReport::Read { piece: task.piece, sectors: task.sectors.iter().map(|s| read(s.number)).collect() }
        }
        PostTask::Prove(task) => {
            let proof = ProofBytes(vec![1; 192]);
            PostReport::Proved { attempt: task.attempt, proof, collect_ms: 1, prove_ms: 1 }
        }
        PostTask::Unknown => PostReport::Unknown,
    };
    PostSaid { miner: of.miner, job: of.job, worker: "w1".parse().expect("a name"), report }
}

impl Transport for &Play {
    async fn call(&self, method: &'static str, params: Value) -> Result<Value, ChainError> {
        const CID: &str = "bafy2bzacebbpdegvr3i4cosewthysg5xkxpqfn2wfcz6mv2hmoktwbdxkax4s";
        let head = *self.head.lock().expect("no panic");
        let tipset = |height: i64| {
            json!({
                "Cids": [{"/": CID}], "Height": height,
                "Blocks": [{"Miner": "f01999", "Parents": [], "Timestamp": 0, "ParentBaseFee": "100"}],
            })
        };
        let randomness = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
        Ok(match method {
            "ChainHead" => tipset(head),
            "ChainGetTipSetByHeight" => tipset(params[0].as_i64().expect("a height")),
            "StateMinerProvingDeadline" => json!({
                "CurrentEpoch": head, "PeriodStart": OPEN, "Index": 0, "Open": OPEN, "Close": OPEN + 60,
                "Challenge": CHALLENGE, "FaultCutoff": OPEN - 70, "WPoStPeriodDeadlines": 48,
                "WPoStProvingPeriod": 2880, "WPoStChallengeWindow": 60, "WPoStChallengeLookback": 20,
                "FaultDeclarationCutoff": 70,
            }),
            "StateMinerPartitions" if params[1].as_u64().is_some_and(|index| self.has(index)) => {
                let partition = |index: u64| {
                    let set = json!([1 + index * PARTITION, PARTITION]);
                    json!({
                        "AllSectors": set, "LiveSectors": set, "ActiveSectors": set, "FaultySectors": [0],
                        "RecoveringSectors": [0],
                    })
                };
                (0..self.partitions).map(partition).collect()
            }
            "StateMinerPartitions" => Value::Null,
            "StateMinerSectors" => {
                let sealed = sealed_cid(&[7; 32]).expect("a field element").to_string();
                let numbers: SectorSet = serde_json::from_value(params[1].clone()).expect("a set");
                let sector = |number: u64| {
                    json!({
                        "SectorNumber": number, "SealProof": 8, "SealedCID": {"/": sealed}, "DealIDs": [], "Activation": 1,
                        "Expiration": 900_000, "DealWeight": "0", "VerifiedDealWeight": "0", "InitialPledge": "70000000000",
                        "ExpectedDayReward": "0", "ExpectedStoragePledge": "0", "PowerBaseEpoch": 1, "DailyFee": "123",
                    })
                };
                numbers.iter().map(sector).collect()
            }
            "StateGetRandomnessFromBeacon" | "StateGetRandomnessFromTickets" => json!(randomness),
            "StateMinerAvailableBalance" => json!("0"),
            "StateGetActor" => {
                json!({ "Nonce": 0, "Balance": "1000000000000000000", "Code": {"/": CID}, "Head": {"/": CID} })
            }
            "StateMinerDeadlines" => json!([{"PostSubmissions": [0]}]),
            "StateMinerInfo" => json!({
                "Owner": "f0100", "Worker": "f0101", "ControlAddresses": null, "WindowPoStProofType": 13,
                "SectorSize": 34359738368_u64, "WindowPoStPartitionSectors": PARTITION,
            }),
            other => panic!("{other}"),
        })
    }
}

impl Tasks for Play {
    async fn ensure(&self, _: &PostQueue) -> Result<(), Error> {
        Ok(())
    }

    async fn offer(&self, task: &PostTask) -> Result<(), Error> {
        // What the bus would carry.
        sealbus_schema::codec::encode(task).expect("fits");
        self.tasks.lock().expect("no panic").push(task.clone());
        Ok(())
    }

    async fn withdraw(&self, _: MinerId, _: &PostJob) -> Result<(), Error> {
        Ok(())
    }

    async fn reports(&self) -> Result<BoxStream<'static, Result<PostSaid, Error>>, Error> {
        unreachable!("reports are handed over")
    }
}

/// Takes every proof: what verifying takes is the library's time.
struct Trusting;

impl Verifier for Trusting {
    fn verify_seal(&self, _: SectorId, _: SealProof, _: &Porep) -> Result<(), ErrorReport> {
        Ok(())
    }

    fn verify_window_post(
        &self,
        _: MinerId,
        _: SealProof,
        _: Randomness,
        sectors: &[(SectorNumber, Commitment)],
        _: &ProofBytes,
    ) -> Result<(), ErrorReport> {
        assert_eq!(sectors.len() as u64, PARTITION);
        Ok(())
    }

    fn challenge_files(
        &self,
        _: SectorId,
        _: SealProof,
        _: Commitment,
        _: std::path::PathBuf,
        _: std::path::PathBuf,
        _: [u8; 32],
    ) -> Result<(), ErrorReport> {
        Ok(())
    }
}

async fn timed(work: impl AsyncFnOnce()) -> Duration {
    let began = Instant::now();
    work().await;
    began.elapsed()
}

fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1000.0
}

/// The most memory that this process has had.
fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("its status");
    let line = status.lines().find(|line| line.starts_with("VmHWM")).expect("a line");
    line.split_whitespace().nth(1).and_then(|text| text.parse::<u64>().ok()).expect("a number") / 1024
}
