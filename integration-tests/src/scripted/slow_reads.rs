//! The reads of one partition from a store with given latencies: a real server and a real worker with its pool of
//! readers, which are scripted, and the manager's own loop. The chain is played: it has one partition, and its time passes.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use sealbus_manager::{
    chain::{Error as ChainError, NodeClient, Transport, commitment::sealed_cid, sector_set::SectorSet},
    config::Config,
    proofs::Verifier,
    proving::{
        Proving,
        proof::{PartitionProof, ProofId, ProofState},
        tasks::{Queues, Tasks},
    },
    store::{Existing, Store},
    waits::Waits,
    wake::Wake,
};
use sealbus_nats::post::PostQueue;
use sealbus_schema::{SealProof, SectorId, SectorNumber, parts::StoredSector};
use serde_json::{Value, json};

use super::{control::Control, latencies::Latencies, verifier::Scripted};
use crate::cluster::{Cluster, MINER, Settings, own_binary};

const OPEN: i64 = 28_800;
const CHALLENGE: i64 = OPEN - 20;
const CLOSE: i64 = OPEN + 60;

/// What is measured.
#[derive(Clone, Debug)]
pub struct Case {
    /// The partition's sectors: numbers from 1 on.
    pub sectors: u64,
    /// How long each takes.
    pub latencies: Latencies,
    /// How many readers the worker has.
    pub readers: u64,
    /// How long the read of a sector may take.
    pub sector_limit_secs: u64,
    /// The length of an epoch. At the 30th one the proof goes on without what was not read.
    pub epoch_millis: u64,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// From the challenge until the proving task is offered.
    pub read: Duration,
    /// From then until the proof is verified.
    pub proved: Duration,
    /// The proof.
    pub proof: PartitionProof,
}

impl Case {
    /// The least time in which the readers can read what is read within the limit.
    pub fn ideal(&self) -> Duration {
        let limit = Duration::from_secs(self.sector_limit_secs);
        let times = || (1..=self.sectors).map(|number| self.latencies.of(number).min(limit));
        let together: Duration = times().sum();
        times().max().unwrap_or_default().max(together / self.readers as u32)
    }

    /// The sectors that take longer than they may.
    pub fn too_slow(&self) -> BTreeSet<SectorNumber> {
        let limit = Duration::from_secs(self.sector_limit_secs);
        (1..=self.sectors).filter(|number| self.latencies.of(*number) > limit).map(SectorNumber).collect()
    }

    /// Reads and proves the partition.
    pub async fn run(&self, root: &Path) -> anyhow::Result<Outcome> {
        let settings = Settings { epoch_millis: 500, ..Settings::with_scripted_proofs()? };
        let mut cluster = Cluster::prepare(root, settings)?;
        self.configure(&cluster)?;
        let config = Config::load(&cluster.manager_config())?;
        let bus = config.nats.connect("manager").await?;
        bus.ensure_streams(config.streams.layout()).await?;
        let store = self.filled(&config).await?;
        cluster.start_worker()?;
        // The challenge comes when the worker is there.
        let (reads, proves) =
            (PostQueue::Reads { miner: MINER, store: "main".to_owned() }, PostQueue::Proves { miner: MINER });
        let queues = Queues::new(&bus, &config);
        for queue in [reads, proves] {
            queues.ensure(&queue).await?;
            while !bus.post_takers(&queue).await?.is_some_and(|takers| takers.is_somebody()) {
                cluster.check_alive()?;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        let outcome = self.prove(&config, &queues, &store).await;
        cluster.check_alive()?;
        outcome
    }

    fn configure(&self, cluster: &Cluster) -> anyhow::Result<()> {
        let control = cluster.root().join("control");
        fs::create_dir_all(&control)?;
        self.latencies.write(&Control::new(control.clone()))?;
        let program = own_binary("sealbus-scripted-processor")?;
        let mut worker = fs::read_to_string(cluster.worker_config())?;
        worker = worker.replace("[proving]\nprove = false\n", "[proving]\nprove = true\ntrial = false\n");
        for (stage, count) in [("post_read", self.readers), ("post_prove", 1)] {
            write!(
                worker,
                "\n[[processor]]\nstage = \"{stage}\"\nbin = {program:?}\nargs = [\"{stage}\", {control:?}]\ncount = {count}\n\
                 readable = [{:?}]\nwritable = [{control:?}]\n",
                program.parent().unwrap_or(Path::new("/")),
            )?;
        }
        fs::write(cluster.worker_config(), worker)?;
        let manager = fs::read_to_string(cluster.manager_config())?.replace("prove = false", "prove = true");
        let limit = format!("\n[proving]\nsector_limit_secs = {}\n", self.sector_limit_secs);
        Ok(fs::write(cluster.manager_config(), manager + &limit)?)
    }

    /// A database in which the sectors' files are in the store.
    async fn filled(&self, config: &Config) -> anyhow::Result<Store> {
        let store = Store::open(&config.database).await?;
        let mut tx = store.begin().await?;
        tx.start_fold("SEAL_SECTORS@1").await?;
        let mut existing = Vec::new();
        for number in (1..=self.sectors).map(SectorNumber) {
            let id = SectorId { miner: MINER, number };
            tx.give_out_number(id, SealProof::StackedDrg2KiBV1_1).await?;
            let files = StoredSector { store: "main".to_owned(), files: Vec::new(), identity: None };
            existing.push((id, Existing { files: Some(files), on_chain: None }));
        }
        tx.save_existing(&existing).await?;
        tx.commit().await?;
        Ok(store)
    }

    /// Runs the manager's loop until the proof is verified.
    async fn prove(&self, config: &Config, queues: &Queues, store: &Store) -> anyhow::Result<Outcome> {
        let play = Play { sectors: self.sectors, began: Instant::now(), epoch_millis: self.epoch_millis };
        let (node, verifier): (_, Arc<dyn Verifier>) = (NodeClient::new(&play), Arc::new(Scripted));
        let (waits, changed) = (Waits::load(store, 0).await?, Wake::default());
        let proving = Proving {
            node: &node,
            store,
            tasks: queues,
            config,
            epoch: 0,
            epoch_millis: self.epoch_millis,
            verifier: &verifier,
            waits: &waits,
            changed: &changed,
        };
        let watched = async {
            let mut read = None;
            loop {
                tokio::time::sleep(Duration::from_millis(10)).await;
                let id = ProofId { miner: MINER, period: OPEN, deadline: 0, partition: 0 };
                let Some(proof) = store.proof(id).await? else { continue };
                if read.is_none() && proof.read_epoch.is_some() {
                    read = Some(play.began.elapsed());
                }
                match (proof.state, read) {
                    (ProofState::Making, _) => {}
                    (ProofState::Missed | ProofState::Nothing, _) => bail!("no proof was made: {:?}", proof.problem),
                    (_, Some(read)) => return Ok(Outcome { read, proved: play.began.elapsed() - read, proof }),
                    (_, None) => bail!("a proof that was not read"),
                }
            }
        };
        tokio::select! {
            outcome = watched => outcome,
            ended = proving.run() => Err(ended.err().context("the loop has ended")?.into()),
        }
    }
}

/// The chain: one partition in deadline 0, whose challenge is known.
struct Play {
    sectors: u64,
    began: Instant,
    epoch_millis: u64,
}

impl Transport for &Play {
    async fn call(&self, method: &'static str, params: Value) -> Result<Value, ChainError> {
        const CID: &str = "bafy2bzacebbpdegvr3i4cosewthysg5xkxpqfn2wfcz6mv2hmoktwbdxkax4s";
        let passed = self.began.elapsed().as_millis() as u64 / self.epoch_millis;
        let head = CHALLENGE + 1 + passed as i64;
        let tipset = |height: i64| {
            json!({
                "Cids": [{"/": CID}], "Height": height,
                "Blocks": [{"Miner": "f01999", "Parents": [], "Timestamp": 0, "ParentBaseFee": "100"}],
            })
        };
        Ok(match method {
            "ChainHead" => tipset(head),
            "ChainGetTipSetByHeight" => tipset(params[0].as_i64().unwrap_or_default()),
            "StateMinerProvingDeadline" => json!({
                "CurrentEpoch": head, "PeriodStart": OPEN, "Index": 0, "Open": OPEN, "Close": CLOSE, "Challenge": CHALLENGE,
                "FaultCutoff": OPEN - 70, "WPoStPeriodDeadlines": 48, "WPoStProvingPeriod": 2880,
                "WPoStChallengeWindow": 60, "WPoStChallengeLookback": 20, "FaultDeclarationCutoff": 70,
            }),
            "StateMinerPartitions" if params[1] == 0 => {
                let set = json!([1, self.sectors]);
                json!([{
                    "AllSectors": set, "LiveSectors": set, "ActiveSectors": set, "FaultySectors": [0],
                    "RecoveringSectors": [0],
                }])
            }
            "StateMinerSectors" => {
                let sealed = sealed_cid(&[7; 32]).map(|cid| cid.to_string()).unwrap_or_default();
                let numbers: SectorSet = serde_json::from_value(params[1].clone()).unwrap_or_default();
                let sector = |number: u64| {
                    json!({
                        "SectorNumber": number, "SealProof": 5, "SealedCID": {"/": sealed}, "Activation": 1,
                        "Expiration": 900_000, "InitialPledge": "7",
                    })
                };
                numbers.iter().map(sector).collect()
            }
            "StateGetRandomnessFromBeacon" | "StateGetRandomnessFromTickets" => {
                json!("AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=")
            }
            "StateMinerDeadlines" => json!([{"PostSubmissions": [0]}]),
            "StateMinerInfo" => json!({
                "Owner": "f0100", "Worker": "f0101", "ControlAddresses": null, "WindowPoStProofType": 10,
                "SectorSize": 2048, "WindowPoStPartitionSectors": self.sectors,
            }),
            _ => Value::Null,
        })
    }
}
