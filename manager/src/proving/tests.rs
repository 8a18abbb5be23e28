//! The loop on a scripted chain and a scripted bus, with a real database.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use cid::Cid;
use futures::stream::BoxStream;
use fvm_ipld_encoding::DAG_CBOR;
use multihash_codetable::{Code, MultihashDigest};
use sealbus_nats::post::PostTakers;
use sealbus_schema::{
    Commitment, ErrorClass, ErrorReport, ProofBytes, Randomness, SealProof, SectorId, SectorNumber, WorkerName,
    post::{PostReport, PostTask, ProveTask, ReadTask, SectorRead},
};
use serde_json::{Value, json};

mod ahead;

use super::*;
use crate::{
    chain::{
        params::{
            DeclareFaultsRecoveredParams, METHOD_DECLARE_FAULTS_RECOVERED, METHOD_SUBMIT_WINDOWED_POST,
            SubmitWindowedPoStParams,
        },
        sector_set::SectorSet,
    },
    config::Database,
    proving::turn::{Turn, tests::told},
    store::{Errand, ErrandState},
};

const MINER: MinerId = MinerId(1000);
/// Deadline 0 of the period from 28800.
const OPEN: Epoch = 28_800;
const CHALLENGE: Epoch = OPEN - 20;
const CLOSE: Epoch = OPEN + 60;

#[derive(Default)]
struct Script {
    head: Epoch,
    /// The sectors of deadline 0, in one partition.
    sectors: Vec<u64>,
    faulty: Vec<u64>,
    /// From which epoch on the chain has the proof.
    proven_at: Option<Epoch>,
    /// Changes when the chain is reorganised below the challenge.
    fork: u8,
    /// The faulty sectors of deadline 3, and the other ones.
    faulty_later: Vec<u64>,
    sound_later: Vec<u64>,
    /// Nobody takes tasks.
    workers_away: bool,
    /// The sender has no funds.
    is_poor: bool,
    /// The miner is in debt.
    owes: bool,
    /// The tasks in the queue, and those that were withdrawn.
    tasks: Vec<PostTask>,
    withdrawn: usize,
    /// How often it was said that proofs are due.
    told_due: usize,
}

struct World {
    script: Mutex<Script>,
    store: Store,
    config: Config,
    waits: Waits,
    changed: Wake,
    verifier: Arc<dyn Verifier>,
    _directory: tempfile::TempDir,
}

/// Takes every proof that begins with the number of its sectors.
struct Counts;

impl Verifier for Counts {
    fn verify_seal(&self, _: SectorId, _: SealProof, _: &crate::proofs::Porep) -> Result<(), ErrorReport> {
        unreachable!("nothing is sealed")
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
        unreachable!("no files are checked")
    }

    fn verify_window_post(
        &self,
        miner: MinerId,
        _: SealProof,
        randomness: Randomness,
        sectors: &[(SectorNumber, Commitment)],
        proof: &ProofBytes,
    ) -> Result<(), ErrorReport> {
        assert_eq!((miner, randomness.0[31]), (MINER, 0x3f), "masked");
        match usize::from(proof.0[0]) == sectors.len() {
            true => Ok(()),
            false => Err(ErrorReport::new(ErrorClass::Perm, ErrorCode::PROOF_INVALID, "it does not verify")),
        }
    }
}

fn comm_r_cid(number: u64) -> String {
    commitment::sealed_cid(&[number as u8; 32]).expect("a field element").to_string()
}

impl Transport for &World {
    async fn call(&self, method: &'static str, params: Value) -> Result<Value, ChainError> {
        let script = self.script();
        let tipset = |height: Epoch| {
            let key = Cid::new_v1(DAG_CBOR, Code::Blake2b256.digest(&height.to_be_bytes())).to_string();
            json!({
                "Cids": [{"/": key}], "Height": height,
                "Blocks": [{"Miner": "t01999", "Parents": [], "Timestamp": 0, "ParentBaseFee": "100"}],
            })
        };
        // Keys say nothing of heights, so the confident tipset is told by the one who asks.
        Ok(match method {
            "ChainHead" => tipset(script.head),
            "ChainGetTipSetByHeight" => tipset(params[0].as_i64().expect("a height")),
            "StateMinerProvingDeadline" => {
                let mut told = told(0);
                told.current_epoch = script.head;
                json!({
                    "CurrentEpoch": script.head, "PeriodStart": told.period_start, "Index": 0, "Open": told.open,
                    "Close": told.close, "Challenge": told.challenge, "FaultCutoff": told.fault_cutoff,
                    "WPoStPeriodDeadlines": 48, "WPoStProvingPeriod": 2880, "WPoStChallengeWindow": 60,
                    "WPoStChallengeLookback": 20, "FaultDeclarationCutoff": 70,
                })
            }
            "StateMinerPartitions" if params[1] == 0 => {
                let set = |numbers: &[u64]| json!(SectorSet::from_numbers(numbers.iter().copied()));
                json!([{
                    "AllSectors": set(&script.sectors), "FaultySectors": set(&script.faulty), "RecoveringSectors": set(&[]),
                    "LiveSectors": set(&script.sectors), "ActiveSectors": set(&[]),
                }])
            }
            "StateMinerPartitions"
                if params[1] == 3 && !(script.faulty_later.is_empty() && script.sound_later.is_empty()) =>
            {
                let faulty = json!(SectorSet::from_numbers(script.faulty_later.iter().copied()));
                let all = script.faulty_later.iter().chain(&script.sound_later).copied();
                let all = json!(SectorSet::from_numbers(all));
                json!([{
                    "AllSectors": all, "FaultySectors": faulty, "RecoveringSectors": [0], "LiveSectors": all,
                    "ActiveSectors": [0],
                }])
            }
            "StateMinerPartitions" => Value::Null,
            "StateMinerSectors" => {
                let numbers: SectorSet = serde_json::from_value(params[1].clone()).expect("a set");
                let sector = |number: u64| {
                    json!({
                        "SectorNumber": number, "SealProof": 5, "SealedCID": {"/": comm_r_cid(number)}, "Activation": 1,
                        "Expiration": 900_000, "InitialPledge": "7",
                    })
                };
                numbers.iter().map(sector).collect()
            }
            "StateGetRandomnessFromBeacon" => {
                // Deadline 3 is challenged three windows later.
                let later = (!script.sound_later.is_empty()).then_some(CHALLENGE + 3 * 60);
                let challenges = [Some(CHALLENGE), later];
                assert!(params[0] == 4 && challenges.contains(&params[1].as_i64()), "{params}");
                json!(crate::chain::json::base64_text(&[0xff; 32]))
            }
            "StateGetRandomnessFromTickets" => {
                assert_eq!((params[0].as_i64(), params[1].as_i64()), (Some(9), Some(CHALLENGE)));
                json!(crate::chain::json::base64_text(&[script.fork; 32]))
            }
            "StateMinerDeadlines" => {
                let lagged = tipset(script.head - 5);
                let at = if params[1] == lagged["Cids"] { script.head - 5 } else { script.head };
                let proven = script.proven_at.filter(|epoch| at >= *epoch).map(|_| 0);
                json!([{"PostSubmissions": SectorSet::from_numbers(proven)}])
            }
            "StateMinerInfo" => json!({
                "Owner": "t0100", "Worker": "t0101", "ControlAddresses": null, "WindowPoStProofType": 10,
                "SectorSize": 2048, "WindowPoStPartitionSectors": 2,
            }),
            "StateMinerAvailableBalance" => json!(if script.owes { "-7" } else { "0" }),
            "StateGetActor" => {
                let balance = if script.is_poor { "7" } else { "1000000000000000000" };
                json!({ "Nonce": 0, "Balance": balance, "Code": {"/": comm_r_cid(1)}, "Head": {"/": comm_r_cid(1)} })
            }
            other => panic!("{other} is not expected"),
        })
    }
}

impl Tasks for World {
    async fn ensure(&self, _: &PostQueue) -> Result<(), Error> {
        Ok(())
    }

    async fn offer(&self, task: &PostTask) -> Result<(), Error> {
        let mut script = self.script();
        if !script.tasks.contains(task) {
            script.tasks.push(task.clone());
        }
        Ok(())
    }

    async fn withdraw(&self, _: MinerId, _: &PostJob) -> Result<(), Error> {
        let mut script = self.script();
        script.tasks.clear();
        script.withdrawn += 1;
        Ok(())
    }

    async fn tell_due(&self, _: MinerId) -> Result<(), Error> {
        self.script().told_due += 1;
        Ok(())
    }

    async fn takers(&self, _: &PostQueue) -> Result<Option<PostTakers>, Error> {
        let waiting = u64::from(!self.script().workers_away);
        Ok(Some(PostTakers { waiting, working: 0, queued: 0 }))
    }

    async fn reports(&self) -> Result<BoxStream<'static, Result<PostSaid, Error>>, Error> {
        unreachable!("the test says what workers report")
    }
}

impl World {
    async fn new(sectors: &[u64]) -> World {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("manager.db");
        let config: Config = toml::from_str(&format!(
            "[database]\npath = {path:?}\n[nats]\nurl = \"nats://127.0.0.1:4222\"\n\
             [chain]\nurl = \"http://127.0.0.1:1234/rpc/v1\"\nconfidence_epochs = 5\n\
             [[miner]]\nid = \"f01000\"\nsector_size = \"2KiB\"\n"
        ))
        .expect("reads");
        let store = Store::open(&Database::Sqlite { path }).await.expect("opens");
        let mut tx = store.begin().await.expect("begins");
        tx.start_fold("SEAL_SECTORS@1").await.expect("starts");
        tx.commit().await.expect("commits");
        for number in sectors {
            store.pretend_stored(SectorId { miner: MINER, number: SectorNumber(*number) }, "main").await;
        }
        let waits = Waits::load(&store, 0).await.expect("loads");
        let script = Mutex::new(Script { head: CHALLENGE, sectors: sectors.to_vec(), ..Script::default() });
        let (changed, verifier): (Wake, Arc<dyn Verifier>) = (Wake::default(), Arc::new(Counts));
        World { script, store, config, waits, changed, verifier, _directory: directory }
    }

    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks once at an epoch.
    async fn look(&self, memory: &mut Memory, head: Epoch) {
        self.script().head = head;
        let node = NodeClient::new(self);
        let proving = Proving {
            node: &node,
            store: &self.store,
            tasks: self,
            config: &self.config,
            epoch: 0,
            epoch_millis: 30_000,
            verifier: &self.verifier,
            waits: &self.waits,
            changed: &self.changed,
        };
        proving.look(memory).await.expect("looks");
    }

    /// A worker says what became of a task.
    fn say(&self, memory: &mut Memory, worker: &str, report: PostReport) {
        self.say_of(memory, job(), worker, report);
    }

    fn say_of(&self, memory: &mut Memory, job: PostJob, worker: &str, report: PostReport) {
        let worker = worker.parse().expect("a name");
        let said = PostSaid { miner: MINER, job, worker, report };
        memory.hear(said);
    }

    fn reads(&self) -> Vec<ReadTask> {
        let script = self.script();
        let reads = script.tasks.iter().filter_map(|task| match task {
            PostTask::Read(task) => Some(task.clone()),
            _ => None,
        });
        reads.collect()
    }

    fn proves(&self) -> Vec<ProveTask> {
        let script = self.script();
        let proves = script.tasks.iter().filter_map(|task| match task {
            PostTask::Prove(task) => Some(task.clone()),
            _ => None,
        });
        proves.collect()
    }

    async fn proof(&self) -> PartitionProof {
        let id = ProofId { miner: MINER, period: OPEN, deadline: 0, partition: 0 };
        self.store.proof(id).await.expect("reads").expect("it was begun")
    }

    async fn errands(&self) -> Vec<Errand> {
        self.store.errands(Some(100)).await.expect("reads")
    }

    fn cause(&self) -> Option<String> {
        let id = ProofId { miner: MINER, period: OPEN, deadline: 0, partition: 0 };
        self.waits.cause(&Subject::Proof(id)).map(|cause| cause.text)
    }
}

fn job() -> PostJob {
    "w-28800-0-0".parse().expect("a name")
}

fn read(piece: u32, sectors: &[(u64, Option<ErrorClass>)]) -> PostReport {
    let said = |(number, class): &(u64, Option<ErrorClass>)| SectorRead {
        number: SectorNumber(*number),
        ms: 20,
        error: class
            .map(|class| ErrorReport::new(class, ErrorCode::FILES_UNPROVABLE, "sealed/s-t01000-2 is not there")),
    };
    PostReport::Read { piece, sectors: sectors.iter().map(said).collect() }
}

fn proved(attempt: u32, sectors: u8) -> PostReport {
    PostReport::Proved { attempt, proof: ProofBytes(vec![sectors; 192]), collect_ms: 1, prove_ms: 2 }
}

fn submitted(errand: &Errand) -> SubmitWindowedPoStParams {
    assert_eq!((errand.asked.kind.as_str(), errand.asked.method), ("window_post", METHOD_SUBMIT_WINDOWED_POST));
    fvm_ipld_encoding::from_slice(&errand.asked.params).expect("parameters")
}

#[tokio::test]
async fn a_partition_is_read_proven_sent_and_seen() {
    let (world, mut memory) = (World::new(&[1, 2, 3]).await, Memory::default());
    world.look(&mut memory, CHALLENGE).await;
    assert!(world.store.open_proofs().await.expect("reads").is_empty(), "the challenge is not known yet");

    world.look(&mut memory, CHALLENGE + 1).await;
    let reads = world.reads();
    assert_eq!((reads.len(), reads[0].store.as_str(), reads[0].sectors.len()), (1, "main", 3));
    assert_eq!((reads[0].sector_limit_ms, reads[0].limit_ms), (60_000, 29 * 30_000), "until the cut");
    assert_eq!(reads[0].sectors[1].comm_r, Commitment([2; 32]));

    world.say(&mut memory, "w1", read(0, &[(1, None), (2, None), (3, None)]));
    world.look(&mut memory, CHALLENGE + 2).await;
    let proves = world.proves();
    assert_eq!((proves.len(), proves[0].sectors.len(), proves[0].readers.len()), (1, 3, 1));

    world.say(&mut memory, "p1", proved(0, 3));
    world.look(&mut memory, CHALLENGE + 3).await;
    let proof = world.proof().await;
    assert_eq!(
        (proof.state, proof.read_epoch, proof.proved_epoch),
        (ProofState::Proved, Some(CHALLENGE + 2), Some(CHALLENGE + 3))
    );
    world.look(&mut memory, OPEN).await;
    assert_eq!(world.script().withdrawn, 1, "its tasks are of no use any more");
    assert!(world.errands().await.is_empty(), "the deadline is not open yet");

    world.look(&mut memory, OPEN + 1).await;
    let errands = world.errands().await;
    let sent = submitted(&errands[0]);
    assert_eq!((sent.deadline, sent.partitions.len(), sent.partitions[0].index), (0, 1, 0));
    assert!(sent.partitions[0].skipped.is_empty());
    assert_eq!((sent.chain_commit_epoch, sent.proofs[0].proof_bytes.len()), (CHALLENGE, 192));
    assert_eq!(errands[0].asked.until_epoch(), Some(CLOSE));
    world.look(&mut memory, OPEN + 2).await;
    assert_eq!(world.errands().await.len(), 1, "once");

    world.script().proven_at = Some(OPEN + 3);
    world.look(&mut memory, OPEN + 4).await;
    assert_eq!(world.proof().await.state, ProofState::Asked, "a reorganisation may take it back");
    world.look(&mut memory, OPEN + 9).await;
    let proof = world.proof().await;
    assert_eq!((proof.state, proof.landed_epoch), (ProofState::Landed, Some(OPEN + 9)));
    assert_eq!((proof.attempts.len(), world.cause()), (0, None));
    world.look(&mut memory, CLOSE + 1).await;
    assert_eq!(world.proof().await.state, ProofState::Landed);
}

#[tokio::test]
async fn a_sector_that_cannot_be_read_is_skipped_and_named() {
    let (world, mut memory) = (World::new(&[1, 2, 3]).await, Memory::default());
    world.look(&mut memory, CHALLENGE + 1).await;
    world.say(&mut memory, "w1", read(0, &[(1, None), (2, Some(ErrorClass::Perm)), (3, None)]));
    world.look(&mut memory, CHALLENGE + 2).await;
    assert!(world.proves().is_empty());
    world.look(&mut memory, CHALLENGE + 3).await;
    let again = world.reads().pop().expect("a task");
    assert_eq!(again.sectors.iter().map(|sector| sector.number.0).collect::<Vec<_>>(), [2], "alone");
    world.say(&mut memory, "w2", read(again.piece, &[(2, Some(ErrorClass::Perm))]));
    world.look(&mut memory, CHALLENGE + 4).await;
    assert_eq!(world.proves()[0].sectors.len(), 2);
    world.say(&mut memory, "p1", proved(0, 2));
    world.look(&mut memory, OPEN + 1).await;
    world.look(&mut memory, OPEN + 2).await;
    let skipped = world.proof().await.skipped;
    assert_eq!((skipped.len(), skipped[0].number), (1, SectorNumber(2)));
    assert!(skipped[0].cause.contains("sealed/s-t01000-2") && skipped[0].cause.contains("w2"), "{skipped:?}");
    let sent = submitted(&world.errands().await[0]);
    assert_eq!(sent.partitions[0].skipped.iter().collect::<Vec<_>>(), [2]);
}

#[tokio::test]
async fn at_the_cut_it_goes_on_without_what_does_not_answer() {
    let (world, mut memory) = (World::new(&[1, 2]).await, Memory::default());
    world.look(&mut memory, CHALLENGE + 1).await;
    world.say(&mut memory, "w1", read(0, &[(1, None), (2, Some(ErrorClass::Temp))]));
    let cut = Turn::of(&told(0)).cut();
    world.look(&mut memory, cut - 1).await;
    assert!(world.proves().is_empty());
    world.look(&mut memory, cut).await;
    assert_eq!(world.proves()[0].sectors.len(), 1);
}

#[tokio::test]
async fn what_nobody_reads_is_told_with_the_close() {
    let (world, mut memory) = (World::new(&[1]).await, Memory::default());
    world.look(&mut memory, CHALLENGE + 1).await;
    assert_eq!(world.cause(), None);
    world.look(&mut memory, Turn::of(&told(0)).cut()).await;
    let cause = world.cause().expect("it is late");
    assert!(cause.contains("1 of 1 sectors are not read") && cause.contains("`main`"), "{cause}");
    assert!(cause.contains(&format!("closes at epoch {CLOSE}")), "{cause}");
    world.look(&mut memory, CLOSE).await;
    let proof = world.proof().await;
    assert_eq!((proof.state, proof.problem.as_deref()), (ProofState::Missed, Some("no proof was made in time")));
    world.look(&mut memory, CLOSE + 1).await;
    assert_eq!(world.cause(), None, "nothing can be done about it any more");
}

#[tokio::test]
async fn a_wrong_proof_is_not_sent_and_another_worker_makes_it() {
    let (world, mut memory) = (World::new(&[1, 2]).await, Memory::default());
    world.look(&mut memory, CHALLENGE + 1).await;
    world.say(&mut memory, "w1", read(0, &[(1, None), (2, None)]));
    world.look(&mut memory, CHALLENGE + 2).await;
    world.say(&mut memory, "liar", proved(0, 9));
    world.look(&mut memory, CHALLENGE + 3).await;
    world.look(&mut memory, CHALLENGE + 4).await;
    let proves = world.proves();
    assert_eq!((proves.len(), proves[1].attempt), (2, 1));
    assert_eq!(proves[1].failed_at, ["liar".parse::<WorkerName>().expect("a name")]);
    assert!(world.cause().is_some_and(|cause| cause.contains("worker liar")), "{:?}", world.cause());
    world.say(&mut memory, "p1", proved(1, 2));
    world.look(&mut memory, CHALLENGE + 5).await;
    assert_eq!(world.proof().await.state, ProofState::Proved);
}

#[tokio::test]
async fn what_a_prover_cannot_use_is_read_again() {
    let (world, mut memory) = (World::new(&[1, 2]).await, Memory::default());
    world.look(&mut memory, CHALLENGE + 1).await;
    world.say(&mut memory, "w1", read(0, &[(1, None), (2, None)]));
    world.look(&mut memory, CHALLENGE + 2).await;
    let error = ErrorReport::new(ErrorClass::Temp, ErrorCode::FILES_UNPROVABLE, "no vanilla proof on the bus");
    let culprits = vec![SectorNumber(2)];
    world.say(&mut memory, "p1", PostReport::NotProved { attempt: 0, error, culprits });
    world.look(&mut memory, CHALLENGE + 3).await;
    world.look(&mut memory, CHALLENGE + 4).await;
    let again = world.reads().pop().expect("a task");
    assert_eq!(again.sectors.len(), 1);
    world.say(&mut memory, "w1", read(again.piece, &[(2, None)]));
    world.look(&mut memory, CHALLENGE + 5).await;
    assert_eq!(world.proves().last().expect("a task").attempt, 1);
}

/// A manager that takes over knows only the database, and hears again what the bus has.
#[tokio::test]
async fn a_restart_at_any_moment_loses_nothing_and_repeats_nothing() {
    let reports = [
        ("w1", read(0, &[(1, None), (2, Some(ErrorClass::Temp)), (3, None)])),
        ("w1", read(4097, &[(2, None)])),
        ("p1", proved(0, 3)),
    ];
    let world = World::new(&[1, 2, 3]).await;
    world.look(&mut Memory::default(), CHALLENGE + 1).await;
    for (said, head) in (1..=3).zip((CHALLENGE + 2..).step_by(3)) {
        for again in 0..3 {
            let mut memory = Memory::default();
            for (worker, report) in &reports[..said] {
                world.say(&mut memory, worker, report.clone());
            }
            // What is heard is taken at the first look, and what follows from it at the second.
            world.look(&mut memory, head + again).await;
        }
    }
    assert_eq!(world.proof().await.state, ProofState::Proved);
    for head in OPEN + 1..OPEN + 4 {
        world.look(&mut Memory::default(), head).await;
    }
    assert_eq!(world.errands().await.len(), 1);
    world.script().proven_at = Some(OPEN + 4);
    world.look(&mut Memory::default(), OPEN + 20).await;
    assert_eq!(world.proof().await.state, ProofState::Landed);
}

#[tokio::test]
async fn after_a_reorganisation_below_the_challenge_the_same_proof_goes_into_another_message() {
    let (world, mut memory) = (World::new(&[1]).await, Memory::default());
    world.look(&mut memory, CHALLENGE + 1).await;
    world.say(&mut memory, "w1", read(0, &[(1, None)]));
    world.look(&mut memory, CHALLENGE + 2).await;
    world.say(&mut memory, "p1", proved(0, 1));
    world.look(&mut memory, CHALLENGE + 3).await;
    world.look(&mut memory, OPEN + 1).await;
    world.script().fork = 7;
    world.look(&mut memory, OPEN + 2).await;
    world.look(&mut memory, OPEN + 3).await;
    let errands = world.errands().await;
    let states: BTreeSet<&str> = errands.iter().map(|errand| errand.state.name()).collect();
    assert_eq!((errands.len(), states), (2, BTreeSet::from(["cancelled", "wanted"])));
    let new = errands.iter().find(|errand| errand.state == ErrandState::Wanted).expect("one");
    assert_eq!(submitted(new).chain_commit_rand, [7; 32]);
}

#[tokio::test]
async fn a_partition_without_sectors_to_prove_is_no_trouble() {
    let (world, mut memory) = (World::new(&[1, 2]).await, Memory::default());
    world.script().faulty = vec![1, 2];
    for head in [CHALLENGE + 1, OPEN + 1, CLOSE - 1, CLOSE] {
        world.look(&mut memory, head).await;
        assert_eq!((world.proof().await.state, world.cause()), (ProofState::Nothing, None));
    }
    assert!(world.reads().is_empty() && world.errands().await.is_empty());
}

#[tokio::test]
async fn a_proof_that_somebody_else_sent_is_not_sent_again() {
    let (world, mut memory) = (World::new(&[1]).await, Memory::default());
    world.look(&mut memory, CHALLENGE + 1).await;
    world.say(&mut memory, "w1", read(0, &[(1, None)]));
    world.look(&mut memory, CHALLENGE + 2).await;
    world.say(&mut memory, "p1", proved(0, 1));
    world.look(&mut memory, CHALLENGE + 3).await;
    world.script().proven_at = Some(OPEN + 1);
    world.look(&mut memory, OPEN + 2).await;
    world.look(&mut memory, OPEN + 8).await;
    assert_eq!((world.errands().await.len(), world.proof().await.state), (0, ProofState::Landed));
}

#[tokio::test]
async fn faulty_sectors_that_can_be_read_again_are_declared_before_it_is_too_late() {
    let (world, mut memory) = (World::new(&[1, 2, 7]).await, Memory::default());
    world.script().sectors = vec![];
    world.script().faulty_later = vec![1, 2];
    world.look(&mut memory, OPEN).await;
    let reads = world.reads();
    assert_eq!((reads.len(), reads[0].sectors.len(), reads[0].of.job.as_str()), (1, 2, "r-28800-3-0"));
    let later = |memory: &mut Memory, report| world.say_of(memory, reads[0].of.job.clone(), "w1", report);
    later(&mut memory, read(0, &[(1, None), (2, Some(ErrorClass::Perm))]));
    world.look(&mut memory, OPEN + 1).await;
    assert!(world.errands().await.is_empty(), "the other one is tried again");
    world.look(&mut memory, OPEN + 2).await;
    let again = world.reads().pop().expect("a task").piece;
    later(&mut memory, read(again, &[(2, Some(ErrorClass::Perm))]));
    world.look(&mut memory, OPEN + 3).await;
    let errand = world.errands().await.pop().expect("a recovery");
    assert_eq!((errand.asked.kind.as_str(), errand.asked.method), ("recover", METHOD_DECLARE_FAULTS_RECOVERED));
    let cutoff = OPEN + 3 * 60 - 70;
    assert_eq!(errand.asked.until_epoch(), Some(cutoff));
    let sent: DeclareFaultsRecoveredParams = fvm_ipld_encoding::from_slice(&errand.asked.params).expect("parameters");
    let declared = &sent.recoveries[0];
    assert_eq!((declared.deadline, declared.partition, declared.sectors.iter().collect()), (3, 0, vec![1]));
    // After a restart, and as long as the message may land, it is not asked for again.
    for head in [OPEN + 4, cutoff - 1, cutoff] {
        world.look(&mut Memory::default(), head).await;
        assert_eq!(world.errands().await.len(), 1);
    }
}

#[tokio::test]
async fn it_is_said_that_proofs_are_due_from_five_epochs_before_the_challenge_until_they_are_made() {
    let (world, mut memory) = (World::new(&[1]).await, Memory::default());
    let told = |world: &World| std::mem::take(&mut world.script().told_due);
    world.look(&mut memory, CHALLENGE - 6).await;
    assert_eq!(told(&world), 0);
    world.look(&mut memory, CHALLENGE - 5).await;
    world.look(&mut memory, CHALLENGE - 4).await;
    assert_eq!(told(&world), 1, "and again after ten seconds");

    // As after ten seconds.
    memory.seats = seats::Seats::default();
    world.look(&mut memory, CHALLENGE + 1).await;
    assert_eq!(told(&world), 1);
    world.say(&mut memory, "w1", read(0, &[(1, None)]));
    world.look(&mut memory, CHALLENGE + 2).await;
    world.say(&mut memory, "w1", proved(0, 1));
    world.look(&mut memory, CHALLENGE + 3).await;
    assert!(world.proof().await.state != ProofState::Making);
    memory.seats = seats::Seats::default();
    told(&world);
    world.look(&mut memory, CHALLENGE + 4).await;
    assert_eq!(told(&world), 0, "the proof is made");

    let (empty, mut memory) = (World::new(&[]).await, Memory::default());
    empty.look(&mut memory, CHALLENGE - 3).await;
    assert_eq!(told(&empty), 0, "nothing is to be proven");
}
