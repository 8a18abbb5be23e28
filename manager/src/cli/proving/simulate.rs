//! `proving simulate`: reads and proves a deadline now, with made-up randomness. Nothing is sent.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::bail;
use clap::Args;
use sealbus_schema::{MinerId, SectorNumber, post::PostSubject};
use serde::Serialize;
use serde_json::json;

use super::{
    super::{ConfigArg, errand::Site, person::Usage, print_json},
    hand::{Hand, deadline, next_turn, now_millis, progress},
};
use crate::{
    chain::types::{Index, Partition},
    proofs,
    proving::{ahead::Unread, begin::to_prove, by_hand::Made, proof::ProofId, reads::Reads, turn::Turn},
};

/// How many of the slowest sectors are shown.
const SLOWEST: usize = 5;
/// How many bad sectors are printed for people.
const SHOWN: usize = 50;

/// What is simulated.
#[derive(Debug, Args)]
pub struct Simulate {
    #[command(flatten)]
    config: ConfigArg,
    /// The miner, such as f01000.
    miner: MinerId,
    /// The deadline's number.
    deadline: u64,
    /// Only this partition of it.
    #[arg(long, value_name = "INDEX")]
    partition: Option<u64>,
    /// Make the SNARK as well, and verify it.
    #[arg(long)]
    prove: bool,
    /// Even if a proof is being made for the chain, which may be late by that.
    #[arg(long)]
    anyway: bool,
    /// Print JSON, with all sectors that cannot be read.
    #[arg(long)]
    json: bool,
}

/// What became of a partition.
#[derive(Debug, Serialize)]
struct Simulated {
    partition: Index,
    sectors: usize,
    read: usize,
    read_ms: u64,
    /// The slowest sectors, each with its milliseconds.
    slowest: Vec<(SectorNumber, u64)>,
    bad: Vec<Unread>,
    proof: Option<Proof>,
    /// Why there is no proof, or why it is wrong.
    problem: Option<String>,
}

/// A proof that verifies.
#[derive(Debug, Serialize)]
struct Proof {
    worker: String,
    collect_ms: u64,
    prove_ms: u64,
    verify_ms: u64,
}

impl Simulate {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let site = Site::open(&self.config).await?;
        site.miner(self.miner).await?;
        let (told, partitions) = deadline(&site, self.miner, self.deadline).await?;
        if let Some(index) = self.partition.filter(|index| *index >= partitions.len() as u64) {
            let has = match partitions.len() {
                0 => "has no partitions".to_owned(),
                count => format!("has the partitions 0 to {}", count - 1),
            };
            return Err(Usage(format!("--partition {index}: deadline {} {has}", self.deadline)).into());
        }
        let hand = Hand::reach(&site).await?;
        if !self.anyway {
            hand.insist_on_idle().await?;
        }
        let turn = next_turn(&told, self.deadline);
        let mut simulated = Vec::new();
        for (partition, index) in partitions.iter().zip(0..) {
            if self.partition.is_none_or(|wanted| wanted == index) && !to_prove(partition).is_empty() {
                let done = self.simulate(&site, &hand, &turn, partition, index).await?;
                if !self.json {
                    self.show(&hand, &turn, &done);
                }
                simulated.push(done);
            }
        }
        if self.json {
            print_json(&json!({
                "miner": self.miner, "deadline": self.deadline, "epoch": site.head.height, "partitions": simulated,
            }))?;
        } else if simulated.is_empty() {
            outln!("deadline {} of {} has nothing to prove", self.deadline, self.miner);
        }
        let bad: usize = simulated.iter().map(|done| done.bad.len()).sum();
        let problems = simulated.iter().filter(|done| done.problem.is_some()).count();
        match (bad, problems) {
            (0, 0) => Ok(()),
            (bad, 0) => bail!("{bad} sector(s) cannot be read: their next proof would leave them out"),
            (_, problems) => bail!("{problems} of {} proof(s) would not be made", simulated.len()),
        }
    }

    async fn simulate(
        &self,
        site: &Site,
        hand: &Hand<'_>,
        turn: &Turn,
        partition: &Partition,
        index: Index,
    ) -> anyhow::Result<Simulated> {
        let (proving, (read_limit, prove_limit)) = (hand.proving(), hand.limits(turn));
        let sectors = proving.provables(self.miner, &to_prove(partition), &site.head).await?;
        let of = proving.by_hand(self.miner, &format!("{}-{index}", self.deadline), now_millis())?;
        let began = Instant::now();
        let told = progress(format!("partition {index}"));
        let reads = proving.read_now(&of, sectors, (read_limit, !self.prove), told).await?;
        let mut done = Simulated::of(index, &reads, began.elapsed());
        if self.prove && done.read == 0 {
            done.problem = Some("no sector was read".to_owned());
        } else if self.prove {
            match proving.prove_now(&of, &reads, prove_limit).await? {
                Ok(made) => match verified(&of, &reads, &made, proving.verifier.clone()).await {
                    Ok(proof) => done.proof = Some(proof),
                    Err(problem) => done.problem = Some(problem),
                },
                Err(problem) => done.problem = Some(problem),
            }
        }
        Ok(done)
    }

    fn show(&self, hand: &Hand<'_>, turn: &Turn, done: &Simulated) {
        let id = ProofId { miner: self.miner, period: turn.period, deadline: self.deadline, partition: done.partition };
        let (read_limit, prove_limit) = hand.limits(turn);
        outln!(
            "{id}: {} of {} sectors read in {}; a proof has {} for that",
            done.read,
            done.sectors,
            secs(done.read_ms),
            secs(read_limit.as_millis() as u64)
        );
        let slowest: Vec<String> =
            done.slowest.iter().map(|(number, ms)| format!("sector {number} {}", secs(*ms))).collect();
        if !slowest.is_empty() {
            outln!("  slowest  {}", slowest.join(", "));
        }
        for Unread { number, store, cause, .. } in done.bad.iter().take(SHOWN) {
            let store = store.as_ref().map(|store| format!(" (store `{store}`)")).unwrap_or_default();
            outln!("  bad      sector {number}{store}: {cause}");
        }
        if done.bad.len() > SHOWN {
            outln!("  bad      and {} more; --json has all", done.bad.len() - SHOWN);
        }
        if let Some(Proof { worker, collect_ms, prove_ms, verify_ms }) = &done.proof {
            outln!(
                "  proved   by {worker}: vanilla proofs collected in {}, SNARK in {}, verified in {}; a proof has {} for that",
                secs(*collect_ms),
                secs(*prove_ms),
                secs(*verify_ms),
                secs(prove_limit.as_millis() as u64)
            );
        }
        if let Some(problem) = &done.problem {
            outln!("  no proof {problem}");
        }
    }
}

impl Simulated {
    fn of(partition: Index, reads: &Reads, took: Duration) -> Simulated {
        let mut times: Vec<(SectorNumber, u64)> = reads.times().collect();
        let read = times.len();
        times.sort_by_key(|(_, ms)| std::cmp::Reverse(*ms));
        times.truncate(SLOWEST);
        let causes: BTreeMap<SectorNumber, String> = reads.unread().into_iter().collect();
        let lasting: BTreeSet<SectorNumber> =
            reads.failed().filter(|(_, _, is_lasting)| *is_lasting).map(|(sector, ..)| sector.number).collect();
        let bad = reads.sectors().iter().filter_map(|sector| {
            let (number, store, cause) = (sector.number, sector.store.clone(), causes.get(&sector.number)?.clone());
            Some(Unread { number, store, cause, is_lasting: lasting.contains(&number) })
        });
        Simulated {
            partition,
            sectors: reads.sectors().len(),
            read,
            read_ms: took.as_millis() as u64,
            slowest: times,
            bad: bad.collect(),
            proof: None,
            problem: None,
        }
    }
}

/// Verifies a proof as it is done before it is sent.
async fn verified(
    of: &PostSubject,
    reads: &Reads,
    made: &Made,
    verifier: Arc<dyn proofs::Verifier>,
) -> Result<Proof, String> {
    let sectors: Vec<_> = reads.read().map(|(sector, _)| (sector.number, sector.comm_r)).collect();
    let (miner, proof, randomness, bytes) = (of.miner, of.proof, of.randomness, made.proof.clone());
    let began = Instant::now();
    let checked = proofs::blocking(move || verifier.verify_window_post(miner, proof, randomness, &sectors, &bytes));
    match checked.await.and_then(|checked| checked) {
        Ok(()) => Ok(Proof {
            worker: made.worker.to_string(),
            collect_ms: made.collect_ms,
            prove_ms: made.prove_ms,
            verify_ms: began.elapsed().as_millis() as u64,
        }),
        Err(error) => Err(format!("the proof of worker {} is wrong: {}", made.worker, error.message())),
    }
}

fn secs(ms: u64) -> String {
    format!("{:.1} s", ms as f64 / 1000.0)
}
