//! What aggregation costs and saves, for 2 KiB sectors: time, bytes and gas a sector.
//!
//! `cargo bench -p sealbus-integration-tests --profile dev --bench aggregate` forges the proofs, because C2 takes half a
//! minute for each, and no replica is needed. Bytes are those of signed messages really built; gas is the model's
//! (`manager/src/chain/cost.rs`), beside the same for singles. The times do not depend on the sector size except by the
//! number of partitions: a 32 GiB sector counts as ten here. Needs the parameters in `FIL_PROOFS_PARAMETER_CACHE`.

#![allow(clippy::disallowed_macros, reason = "for whoever reads the output")]

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use fvm_ipld_encoding::RawBytes;
use fvm_shared::address::Address;
use fvm_shared::crypto::signature::Signature;
use fvm_shared::econ::TokenAmount;
use sealbus_devnet_params::{Forger, SectorSize, Statement};
use sealbus_integration_tests::devnet::proofs::prover_id;
use sealbus_manager::aggregates::{Member, Request, make};
use sealbus_manager::chain::cost::{Batch, Cost};
use sealbus_manager::chain::fees::Gas;
use sealbus_manager::chain::message;
use sealbus_manager::chain::params::{ProveCommitSectors3Params, SectorActivationManifest};
use sealbus_manager::proofs::{Library, Porep, Verifier};
use sealbus_schema::{Commitment, ErrorReport, MinerId, ProofBytes, Randomness, SealProof, SectorNumber};

const MINER: u64 = 1000;
const COUNTS: [u64; 5] = [4, 13, 64, 256, 819];

fn main() -> anyhow::Result<()> {
    let dir = std::env::var_os("FIL_PROOFS_PARAMETER_CACHE").context("FIL_PROOFS_PARAMETER_CACHE is not set")?;
    let forger = Forger::new(&PathBuf::from(dir), SectorSize::KiB2)?;
    let members: Vec<Member> = (1..=819).map(|number| member(&forger, number)).collect::<anyhow::Result<_>>()?;

    let proof = SealProof::StackedDrg2KiBV1_1;
    let request = |count: u64| {
        let sectors = members.iter().take(count as usize).cloned().collect();
        Request { miner: MinerId(MINER), proof, sectors }
    };
    let cpus = std::thread::available_parallelism()?;
    let (_, first) = timed(|| make(&request(4), &Library))?;
    println!("{cpus} cores; seconds by the clock, and CPU seconds, which count on a busy machine");
    println!("The first aggregate of a process, with verification, which reads the SRS: {first}\n");
    println!("sectors      aggregate         verify");
    let mut aggregates = Vec::new();
    for count in COUNTS {
        let Request { miner, sectors, .. } = request(count);
        let (aggregate, made) = timed(|| Library.aggregate(proof, &sectors))?;
        let ((), verified) = timed(|| Library.verify_aggregate(miner, proof, &sectors, &aggregate))?;
        println!("{count:7}  {made}  {verified}");
        aggregates.push((count, aggregate));
    }

    println!("\n          bytes a sector      million gas a sector (model)");
    println!("sectors  singles  aggregate  singles  aggregate  saved");
    for (count, aggregate) in aggregates {
        let activations = || (1..=count).map(SectorActivationManifest::committed_capacity);
        let proofs = members.iter().map(|member| member.porep.proof.0.clone());
        let singles = signed_bytes(&ProveCommitSectors3Params::batch(activations().zip(proofs).collect()))?;
        let aggregate = RawBytes::new(aggregate.0);
        let together = signed_bytes(&ProveCommitSectors3Params::aggregate(activations().collect(), aggregate))?;
        let a_sector = |bytes: usize| bytes / count as usize;
        let gas =
            |batch: Batch| batch.cost(count as usize, proof).context("too few").map(|cost| (cost, mega(cost, count)));
        let ((one_by_one, singles_gas), (_, together_gas)) = (gas(Batch::Singles)?, gas(Batch::Aggregate)?);
        println!(
            "{count:7}  {:7}  {:9}  {singles_gas:7.1}  {together_gas:9.1}  {:4.0} %  ({} messages of singles)",
            a_sector(singles),
            a_sector(together),
            100.0 * (1.0 - together_gas / singles_gas),
            one_by_one.messages,
        );
    }

    println!("\n32 GiB, by the model: kB and million gas a sector");
    println!("sectors  singles  aggregate  singles  aggregate");
    let proof = SealProof::StackedDrg32GiBV1_1;
    for count in COUNTS {
        let cost = |batch: Batch| batch.cost(count as usize, proof).context("too few");
        let (singles, together) = (cost(Batch::Singles)?, cost(Batch::Aggregate)?);
        let kilobytes = |cost: Cost| cost.bytes as f64 / 1000.0 / count as f64;
        println!(
            "{count:7}  {:7.2}  {:9.2}  {:7.1}  {:9.1}",
            kilobytes(singles),
            kilobytes(together),
            mega(singles, count),
            mega(together, count)
        );
    }
    Ok(())
}

fn mega(cost: Cost, sectors: u64) -> f64 {
    cost.gas as f64 / 1e6 / sectors as f64
}

/// How long something took.
struct Took {
    wall: Duration,
    cpu: Duration,
}

impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:6.2} ({:5.2})", self.wall.as_secs_f64(), self.cpu.as_secs_f64())
    }
}

fn timed<T>(work: impl FnOnce() -> Result<T, ErrorReport>) -> anyhow::Result<(T, Took)> {
    let (began, cpu) = (Instant::now(), cpu_time()?);
    let outcome = work().map_err(|error| anyhow::anyhow!("{}", error.message()))?;
    Ok((outcome, Took { wall: began.elapsed(), cpu: cpu_time()?.saturating_sub(cpu) }))
}

/// The CPU time of all threads of this process: fields 14 and 15 of proc_pid_stat(5), in hundredths of a second.
fn cpu_time() -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, after_name) = stat.rsplit_once(')').context("no name in /proc/self/stat")?;
    let ticks = after_name.split_whitespace().skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    Ok(Duration::from_millis(10 * ticks))
}

/// A sector that exists only in its proof.
fn member(forger: &Forger, number: u64) -> anyhow::Result<Member> {
    let commitment = |salt: u8| {
        let mut bytes = [salt; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        // Below the field's modulus.
        bytes[31] &= 0x3f;
        bytes
    };
    let (comm_r, comm_d, ticket, seed) = (commitment(1), commitment(2), commitment(3), commitment(4));
    let proof =
        forger.porep(&Statement { comm_r, comm_d, prover_id: prover_id(MINER), sector: number, ticket, seed })?;
    let porep = Porep {
        comm_r: Commitment(comm_r),
        comm_d: Commitment(comm_d),
        ticket: Randomness(ticket),
        seed: Randomness(seed),
        proof: ProofBytes(proof),
    };
    Ok(Member { number: SectorNumber(number), porep })
}

fn signed_bytes(params: &ProveCommitSectors3Params) -> anyhow::Result<usize> {
    let (from, value) = (Address::new_bls(&[3; 48])?, TokenAmount::from_whole(1));
    let message = message::prove_commit(from, Address::new_id(MINER), params, value)?;
    let fee = TokenAmount::from_atto(1_000_000);
    let gas = Gas { limit: 5_000_000_000, fee_cap: fee.clone(), premium: fee };
    let message = message::with_gas_and_nonce(message, gas, 1000);
    Ok(fvm_ipld_encoding::to_vec(&(message, Signature::new_bls(vec![1; 96])))?.len())
}
