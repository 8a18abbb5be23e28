//! The scripted chain and bus.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cid::Cid;
use futures::stream::{self, BoxStream, StreamExt};
use fvm_ipld_encoding::DAG_CBOR;
use multihash_codetable::{Code, MultihashDigest};
use sealbus_nats::post::PostSaid;
use sealbus_schema::{
    Commitment, ErrorClass, ErrorReport, ProofBytes, Randomness, SealProof, SectorId, SectorNumber, WorkerName,
    post::{PostJob, PostKind, PostReport, PostTask, SectorRead},
};
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::*;
use crate::{
    chain::{commitment, json::base64_text, sector_set::SectorSet},
    config::Database,
};

pub const MINER: MinerId = MinerId(1000);
/// The sector that is challenged.
const SECTOR: u64 = 7;
const WORKER_KEY: &str = "t3aaaqeayeaudaocajbifqydiob4ibceqtcqkrmfyydenbwha5dypsaijcemsckjrhfausukzmfuxc7xayzmkq";

/// A tipset: its epoch, and its blocks by miner and variant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tipset {
    pub height: Epoch,
    pub blocks: Vec<(u64, u8)>,
    pub parents: Value,
    pub timestamp: u64,
}

impl Tipset {
    pub fn of(height: Epoch, blocks: &[(u64, u8)]) -> Tipset {
        Tipset { height, blocks: blocks.to_vec(), parents: json!([]), timestamp: 1_700_000_000 + 4 * height as u64 }
    }

    pub fn on(self, parents: &Tipset) -> Tipset {
        Tipset { parents: parents.key_json(), ..self }
    }

    pub fn cid(&self, (miner, variant): (u64, u8)) -> Cid {
        let content = format!("{} {miner} {variant}", self.height);
        Cid::new_v1(DAG_CBOR, Code::Blake2b256.digest(content.as_bytes()))
    }

    pub fn key_json(&self) -> Value {
        self.blocks.iter().map(|block| json!({"/": self.cid(*block).to_string()})).collect()
    }

    fn to_json(&self) -> Value {
        let block = |(miner, variant): &(u64, u8)| {
            json!({
                "Miner": format!("t0{miner}"), "Ticket": {"VRFProof": base64_text(&[*variant; 96])},
                "Parents": self.parents, "Timestamp": self.timestamp, "ParentBaseFee": "100",
            })
        };
        json!({
            "Cids": self.key_json(), "Height": self.height,
            "Blocks": self.blocks.iter().map(block).collect::<Vec<_>>(),
        })
    }
}

/// Where a call is held up: before or after it has had its effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Before(&'static str),
    After(&'static str),
}

pub struct Script {
    pub head: Tipset,
    /// The tipsets of earlier epochs.
    pub past: Vec<Tipset>,
    /// The miner's power, of a network's 100.
    pub power: u64,
    pub eligible: bool,
    pub has_sectors: bool,
    /// Whether the node's wallet has the worker's key.
    pub has_key: bool,
    /// Where the beacon's entries begin.
    pub beacon: u8,
    /// The epochs that the node can tell of.
    pub known_epochs: Epoch,
    /// Whether workers read and prove.
    pub reads: bool,
    pub proves: bool,
    /// How many proofs are wrong before one is right.
    pub wrong_proofs: usize,
    /// What a reader reports of its first so many tasks.
    pub unreadable: usize,
    /// The head when the SNARK is asked for.
    pub head_at_proof: Option<Tipset>,
    /// Where a call is held up.
    pub held: Option<At>,
    /// What refuses a submitted block.
    pub refuses_blocks: bool,
    pub refuses_creation: bool,
    pub tasks: Vec<PostTask>,
    pub withdrawn: usize,
    pub created: Vec<Value>,
    pub submitted: Vec<Value>,
}

impl Script {
    pub fn beacon_entries(&self) -> Value {
        json!([{ "Round": 5, "Data": base64_text(&[self.beacon; 96]) }])
    }
}

/// What workers have said, as the bus keeps it.
#[derive(Default)]
struct Reports {
    said: Mutex<Vec<PostSaid>>,
    rang: Notify,
}

pub struct World {
    script: Mutex<Script>,
    reports: Arc<Reports>,
    pub store: Store,
    pub config: Config,
    pub waits: Waits,
    verifier: Arc<dyn Verifier>,
    /// Rings when a call is held up.
    pub held: Notify,
    /// Lets the held call go on.
    pub go_on: Notify,
    /// The time that an attempt has, in milliseconds.
    pub left_ms: i64,
    _directory: tempfile::TempDir,
}

/// Takes proofs that begin with 1.
struct Ones;

impl Verifier for Ones {
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

    fn verify_winning_post(
        &self,
        _: MinerId,
        _: SealProof,
        randomness: Randomness,
        sectors: &[(SectorNumber, Commitment)],
        proof: &ProofBytes,
    ) -> Result<(), ErrorReport> {
        assert_eq!((sectors.len(), sectors[0].0.0, randomness.0[31] & !0x3f), (1, SECTOR, 0), "one sector, masked");
        match proof.0[0] {
            1 => Ok(()),
            _ => Err(ErrorReport::new(ErrorClass::Perm, ErrorCode::PROOF_INVALID, "it does not verify")),
        }
    }
}

impl Transport for &World {
    async fn call(&self, method: &'static str, params: Value) -> Result<Value, ChainError> {
        self.hold(At::Before(method)).await;
        let answer = self.answer(method, params);
        self.hold(At::After(method)).await;
        answer
    }
}

impl Tasks for World {
    async fn ensure(&self, _: &PostQueue) -> Result<(), Error> {
        Ok(())
    }

    async fn offer(&self, task: &PostTask) -> Result<(), Error> {
        let name = if matches!(task, PostTask::Read(_)) { "read" } else { "prove" };
        self.hold(At::Before(name)).await;
        self.work(task);
        self.hold(At::After(name)).await;
        Ok(())
    }

    async fn withdraw(&self, _: MinerId, _: &PostJob) -> Result<(), Error> {
        self.script().withdrawn += 1;
        Ok(())
    }

    async fn reports(&self) -> Result<BoxStream<'static, Result<PostSaid, Error>>, Error> {
        let reports = self.reports.clone();
        let next = |(reports, at): (Arc<Reports>, usize)| async move {
            loop {
                let mut rang = std::pin::pin!(reports.rang.notified());
                rang.as_mut().enable();
                let said = reports.said.lock().unwrap_or_else(PoisonError::into_inner).get(at).cloned();
                if let Some(said) = said {
                    return Some((Ok(said), (reports.clone(), at + 1)));
                }
                rang.await;
            }
        };
        Ok(stream::unfold((reports, 0), next).boxed())
    }
}

impl World {
    pub async fn new() -> World {
        World::with("").await
    }

    /// With more lines in the table of the miner.
    pub async fn with(more: &str) -> World {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("manager.db");
        let config: Config = toml::from_str(&format!(
            "[database]\npath = {path:?}\n[nats]\nurl = \"nats://127.0.0.1:4222\"\n\
             [chain]\nurl = \"http://127.0.0.1:1234/rpc/v1\"\nconfidence_epochs = 5\nhead_interval_ms = 10\n\
             [[miner]]\nid = \"f01000\"\nsector_size = \"2KiB\"\nmine = true\n{more}"
        ))
        .expect("reads");
        let store = Store::open(&Database::Sqlite { path }).await.expect("opens");
        let mut tx = store.begin().await.expect("begins");
        tx.start_fold("SEAL_SECTORS@1").await.expect("starts");
        tx.commit().await.expect("commits");
        for miner in &config.miners {
            store.pretend_stored(SectorId { miner: miner.id, number: SectorNumber(SECTOR) }, "main").await;
        }
        let waits = Waits::load(&store, 0).await.expect("loads");
        let script = Script {
            head: Tipset::of(100, &[(2000, 1)]),
            past: Vec::new(),
            power: 100,
            eligible: true,
            has_sectors: true,
            has_key: true,
            beacon: 3,
            known_epochs: Epoch::MAX,
            reads: true,
            proves: true,
            wrong_proofs: 0,
            unreadable: 0,
            head_at_proof: None,
            held: None,
            refuses_blocks: false,
            refuses_creation: false,
            tasks: Vec::new(),
            withdrawn: 0,
            created: Vec::new(),
            submitted: Vec::new(),
        };
        World {
            script: Mutex::new(script),
            reports: Arc::default(),
            store,
            config,
            waits,
            verifier: Arc::new(Ones),
            held: Notify::new(),
            go_on: Notify::new(),
            left_ms: 60_000,
            _directory: directory,
        }
    }

    pub fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many blocks were made, and how often one was submitted.
    pub fn made(&self) -> (usize, usize) {
        let script = self.script();
        (script.created.len(), script.submitted.len())
    }

    /// Whether no worker and no wallet was asked for anything.
    pub fn is_idle(&self) -> bool {
        let script = self.script();
        script.tasks.is_empty() && script.created.is_empty()
    }

    /// Another manager takes the fold. Returns its epoch.
    pub async fn take_over(&self) -> i64 {
        let mut tx = self.store.begin().await.expect("begins");
        let epoch = tx.take_over().await.expect("takes over");
        tx.commit().await.expect("commits");
        epoch
    }

    pub async fn block(&self, epoch: Epoch) -> Option<WonBlock> {
        self.store.won_block(BlockId { miner: MINER, epoch }).await.expect("reads")
    }

    /// The first manager tries an epoch on the head, and must not fail.
    pub async fn attempt(&self, epoch: Epoch) -> Outcome {
        self.attempt_as(0, epoch).await.expect("tries")
    }

    /// A manager with a fold's epoch tries an epoch on the head.
    pub async fn attempt_as(&self, fold_epoch: i64, epoch: Epoch) -> Result<Outcome, Error> {
        let node = NodeClient::new(self);
        let mining = self.mining(&node, fold_epoch, 4_000);
        let base = node.base().await.expect("a head");
        let due = mining.now_ms() + self.left_ms;
        let round = Round { epoch, nulls: epoch - base.height - 1, due, closes: due, is_timed: false };
        tokio::select! {
            outcome = mining.attempt(MINER, &base, &round) => outcome,
            never = mining.listen() => match never {},
        }
    }

    pub fn mining<'a>(
        &'a self,
        node: &'a NodeClient<&'a World>,
        epoch: i64,
        epoch_millis: u64,
    ) -> Mining<'a, &'a World, World> {
        let World { store, config, verifier, waits, .. } = self;
        let with = Surroundings { node, store, tasks: self, config, epoch, epoch_millis, verifier, waits };
        let mut mining = Mining::new(with);
        (mining.pace.equivocation, mining.pace.propagation) = (0, mining.pace.epoch / 3);
        mining
    }

    async fn hold(&self, at: At) {
        if self.script().held == Some(at) {
            self.held.notify_one();
            self.go_on.notified().await;
        }
    }

    fn answer(&self, method: &'static str, params: Value) -> Result<Value, ChainError> {
        let mut script = self.script();
        let sealed_cid = commitment::sealed_cid(&[7; 32]).expect("a field element").to_string();
        Ok(match method {
            "ChainHead" => script.head.to_json(),
            "ChainGetTipSetByHeight" => {
                let height = params[0].as_i64().expect("a height");
                let found = script.past.iter().filter(|tipset| tipset.height <= height).max_by_key(|t| t.height);
                found.expect("a tipset").to_json()
            }
            "MinerGetBaseInfo" if params[1].as_i64() > Some(script.known_epochs) => {
                return Err(ChainError::refused(method, 1, "beacon entry request returned error: it has not come"));
            }
            "MinerGetBaseInfo" if !script.has_sectors => Value::Null,
            "MinerGetBaseInfo" => {
                assert_ne!(params[2], json!([]), "nodes refuse the empty key");
                json!({
                    "MinerPower": script.power.to_string(), "NetworkPower": "100", "SectorSize": 2048,
                    "Sectors": [{
                        "SealProof": 5, "SectorNumber": SECTOR, "SectorKey": null, "SealedCID": {"/": sealed_cid},
                    }],
                    "WorkerKey": WORKER_KEY,
                    "PrevBeaconEntry": {"Round": 4, "Data": base64_text(&[2; 96])},
                    "BeaconEntries": script.beacon_entries(), "EligibleForMining": script.eligible,
                })
            }
            // Not a signature, but different for each input.
            "WalletSign" => json!({ "Type": 2, "Data": params[1] }),
            "MpoolSelect" => json!(["a message"]),
            "MinerCreateBlock" if script.refuses_creation => {
                return Err(ChainError::refused(method, 1, "failed to sign new block: key not found"));
            }
            "MinerCreateBlock" => {
                let template = params[0].clone();
                let header = json!({
                    "Height": template["Epoch"], "Parents": template["Parents"], "Miner": template["Miner"],
                    "BlockSig": script.created.len(),
                });
                script.created.push(template);
                json!({ "Header": header, "BlsMessages": null, "SecpkMessages": null })
            }
            "SyncSubmitBlock" if script.refuses_blocks => {
                return Err(ChainError::refused(method, 1, "sync to submitted block failed"));
            }
            "SyncSubmitBlock" => {
                script.submitted.push(params[0].clone());
                Value::Null
            }
            "StateMinerProvingDeadline" => json!({
                "CurrentEpoch": 100, "PeriodStart": 0, "Index": 0, "Open": 0, "Close": 60, "Challenge": -20,
                "FaultCutoff": -70, "WPoStPeriodDeadlines": 3, "WPoStProvingPeriod": 2880,
                "WPoStChallengeWindow": 60, "WPoStChallengeLookback": 20, "FaultDeclarationCutoff": 70,
            }),
            "StateMinerInfo" => json!({
                "Owner": "t0100", "Worker": "t0101", "ControlAddresses": null, "WindowPoStProofType": 10,
                "SectorSize": 2048, "WindowPoStPartitionSectors": 2,
            }),
            "StateAccountKey" => json!(WORKER_KEY),
            "WalletHas" => json!(script.has_key),
            "StateMinerPartitions" if params[1] == 1 && script.has_sectors => {
                let set = json!(SectorSet::from_numbers([SECTOR]));
                json!([{
                    "AllSectors": set, "FaultySectors": [0], "RecoveringSectors": [0], "LiveSectors": set,
                    "ActiveSectors": set,
                }])
            }
            "StateMinerPartitions" => Value::Null,
            "StateMinerSectors" => json!([{
                "SectorNumber": SECTOR, "SealProof": 5, "SealedCID": {"/": sealed_cid}, "Activation": 1,
                "Expiration": 900_000, "InitialPledge": "7",
            }]),
            other => panic!("{other} is not expected"),
        })
    }

    /// A worker carries out a task.
    fn work(&self, task: &PostTask) {
        let mut script = self.script();
        script.tasks.push(task.clone());
        let said = match task {
            PostTask::Read(read) if script.reads => {
                assert_eq!((read.of.post, read.store.as_str(), read.sectors.len()), (PostKind::Winning, "main", 1));
                let is_bad = script.unreadable > 0;
                script.unreadable = script.unreadable.saturating_sub(1);
                let error = ErrorReport::new(ErrorClass::Temp, ErrorCode::STORE_UNAVAILABLE, "the store is away");
                let sector = SectorRead { number: SectorNumber(SECTOR), ms: 3, error: is_bad.then_some(error) };
                ("reader", &read.of, PostReport::Read { piece: read.piece, sectors: vec![sector] })
            }
            PostTask::Prove(prove) if script.proves => {
                if let Some(head) = script.head_at_proof.take() {
                    script.head = head;
                }
                let is_wrong = script.wrong_proofs > 0;
                script.wrong_proofs = script.wrong_proofs.saturating_sub(1);
                let proof = ProofBytes(vec![u8::from(!is_wrong); 192]);
                let report = PostReport::Proved { attempt: prove.attempt, proof, collect_ms: 1, prove_ms: 2 };
                (if is_wrong { "liar" } else { "prover" }, &prove.of, report)
            }
            _ => return,
        };
        let (worker, of, report) = said;
        let worker: WorkerName = worker.parse().expect("a name");
        let said = PostSaid { miner: of.miner, job: of.job.clone(), worker, report };
        self.reports.said.lock().unwrap_or_else(PoisonError::into_inner).push(said);
        self.reports.rang.notify_waiters();
    }
}
