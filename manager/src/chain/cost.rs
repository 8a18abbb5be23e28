//! What a message of many sectors costs, by its number of sectors: bytes and gas. Pure.
//!
//! Bytes are exact upper bounds, from the CBOR of [`super::params`] and [`super::message`], for sectors without data.
//! Gas is a model. What the node's software charges (for bytes and for verifying proofs) is taken from its price list,
//! `fvm/src/gas/price_list.rs` of ref-fvm, as it is since network version 25. What the actor's state costs was measured
//! on mainnet with 1 and 4 sectors in a message (FIP-0100) and is continued linearly. In reality a sector's part keeps
//! falling, because sectors share the writes to the state's trees. So for large numbers the model is too high: more
//! sectors may fit than [`Batch::largest`] says, and only the node's estimate tells. Comparisons of singles with
//! aggregates are not affected, because both change the state in the same way.

use fvm_shared::econ::TokenAmount;
use sealbus_schema::SealProof;

use super::message::SIGNED_BYTES_MAX;
use super::params::{AGGREGATED_SECTORS_MAX, AGGREGATED_SECTORS_MIN};

/// The gas limit of a block, and so of a message.
pub const BLOCK_GAS_MAX: u64 = 10_000_000_000;

/// A signed message without its parameters, at most: ten fields with a BLS sender and amounts of up to 12 bytes, and
/// its signature.
const ENVELOPE_BYTES: usize = 240;
/// The parameters of a PreCommit without its sectors: two array headers.
const PRE_COMMIT_BYTES: usize = 1 + 3;
/// A sector in a PreCommit: header, proof type, number, CommR's CID, ticket epoch, no deals, expiration, no CommD.
const PRE_COMMIT_SECTOR_BYTES: usize = 1 + 1 + 9 + 45 + 5 + 1 + 5 + 1;
/// The parameters of a ProveCommit without sectors and proofs: headers, aggregate's type and two flags.
const PROVE_COMMIT_BYTES: usize = 1 + 3 + 3 + 3 + 1 + 1 + 1;
/// A sector's activation: header, number, no pieces.
const ACTIVATION_BYTES: usize = 1 + 9 + 1;
/// A Groth16 proof of one partition.
const PROOF_BYTES: usize = 192;
/// A SnarkPack v2 aggregate without and for each halving of its proofs (`bellperson::groth16::aggregate::proof`).
const AGGREGATE_BYTES: usize = 2260;
const AGGREGATE_HALVING_BYTES: usize = 2976;

/// Gas of any message: `on_chain_message_compute`, and `on_chain_message_storage` for its bytes and 36 more.
const MESSAGE_GAS: u64 = 38_863;
const BYTE_GAS: u64 = 1_300;
const MESSAGE_EXTRA_BYTES: u64 = 36;
/// Gas of verifying a single proof: `verify_seal`.
const VERIFY_SEAL_GAS: u64 = 42_000_000;
/// From how many sectors on each step of [`Verification`] applies.
const STEP_STARTS: [usize; 8] = [4, 7, 13, 26, 52, 103, 205, 410];

/// State gas of a PreCommit, from FIP-0100: 16.7 M for 1 sector, 18.6 M for 4, less what is counted above.
const PRE_COMMIT_GAS: u64 = 15_660_000;
const PRE_COMMIT_SECTOR_GAS: u64 = 545_000;
/// State gas of a ProveCommit, from FIP-0100: 267.5 M for 1 sector, 580 M for 4 with single proofs, less what is
/// counted above. With these the model has 534 M for 4 aggregated; 517.4 M were measured.
const PROVE_COMMIT_GAS: u64 = 162_920_000;
const PROVE_COMMIT_SECTOR_GAS: u64 = 59_650_000;

/// Gas of verifying an aggregate (`verify_aggregate_seal_per` and `verify_aggregate_seal_steps`).
struct Verification {
    per_sector: u64,
    steps: [u64; 8],
}

/// 32 GiB. The price list has no prices for smaller sectors, and charges these.
const VERIFY_32_GIB: Verification = Verification {
    per_sector: 449_900,
    steps: [103_994_170, 112_356_810, 122_912_610, 137_559_930, 162_039_100, 210_960_780, 318_351_180, 528_274_980],
};

const VERIFY_64_GIB: Verification = Verification {
    per_sector: 359_272,
    steps: [102_581_240, 110_803_030, 120_803_700, 134_642_130, 157_357_890, 203_017_690, 304_253_590, 509_880_640],
};

/// What a message of many sectors contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batch {
    /// A PreCommit.
    PreCommits,
    /// A ProveCommit with a proof for each sector.
    Singles,
    /// A ProveCommit with one aggregate.
    Aggregate,
}

/// What one or several messages cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// The number of messages.
    pub messages: usize,
    /// Bytes of all messages, signed.
    pub bytes: usize,
    /// Gas that they use.
    pub gas: u64,
}

impl Batch {
    /// The cost of one message of `sectors`, whether or not it fits.
    pub fn message(self, sectors: usize, proof: SealProof) -> Cost {
        let count = sectors as u64;
        let (params, gas) = match self {
            Batch::PreCommits => {
                (PRE_COMMIT_BYTES + sectors * PRE_COMMIT_SECTOR_BYTES, PRE_COMMIT_GAS + count * PRE_COMMIT_SECTOR_GAS)
            }
            Batch::Singles => (
                PROVE_COMMIT_BYTES + sectors * (ACTIVATION_BYTES + single_bytes(proof)),
                PROVE_COMMIT_GAS + count * (PROVE_COMMIT_SECTOR_GAS + VERIFY_SEAL_GAS),
            ),
            Batch::Aggregate => (
                PROVE_COMMIT_BYTES + sectors * ACTIVATION_BYTES + aggregate_bytes(sectors, proof),
                PROVE_COMMIT_GAS + count * PROVE_COMMIT_SECTOR_GAS + verify_aggregate_gas(sectors, proof),
            ),
        };
        let bytes = ENVELOPE_BYTES + params;
        Cost { messages: 1, bytes, gas: MESSAGE_GAS + (bytes as u64 + MESSAGE_EXTRA_BYTES) * BYTE_GAS + gas }
    }

    /// The largest number of sectors in a message that surely fits into the message pool and a block.
    pub fn largest(self, proof: SealProof) -> usize {
        let most = if self == Batch::Aggregate { AGGREGATED_SECTORS_MAX } else { SIGNED_BYTES_MAX };
        // Both costs grow with the number.
        let (mut fits, mut exceeds) = (0, most + 1);
        while exceeds - fits > 1 {
            let middle = fits.midpoint(exceeds);
            let cost = self.message(middle, proof);
            let does_fit = cost.bytes <= SIGNED_BYTES_MAX && gas_limit(cost.gas) <= BLOCK_GAS_MAX;
            *(if does_fit { &mut fits } else { &mut exceeds }) = middle;
        }
        fits
    }

    /// The cost of `sectors` in as few messages as fit, all of about the same size. `None` if there are no sectors, or
    /// too few for an aggregate.
    pub fn cost(self, sectors: usize, proof: SealProof) -> Option<Cost> {
        let least = if self == Batch::Aggregate { AGGREGATED_SECTORS_MIN } else { 1 };
        if sectors < least {
            return None;
        }
        let messages = sectors.div_ceil(self.largest(proof));
        let larger = sectors % messages;
        let sizes = (0..messages).map(|message| sectors / messages + usize::from(message < larger));
        let none = Cost { messages: 0, bytes: 0, gas: 0 };
        Some(sizes.map(|size| self.message(size, proof)).fold(none, |sum, cost| Cost {
            messages: sum.messages + 1,
            bytes: sum.bytes + cost.bytes,
            gas: sum.gas + cost.gas,
        }))
    }
}

impl Cost {
    /// What the sender pays at this base fee and premium, in attoFIL a unit of gas. The gas limit is the node's
    /// estimate, a quarter above what is used. A part of that quarter is burnt too (`fvm/src/gas/outputs.rs`): for a
    /// limit of 1.25 times the gas used it is (0.25 · 0.15) of it.
    pub fn fee(&self, base_fee: &TokenAmount, premium: &TokenAmount) -> TokenAmount {
        base_fee.clone() * (self.gas + self.gas * 3 / 80) + premium.clone() * gas_limit(self.gas)
    }
}

/// How to prove `sectors` at this base fee and premium: aggregated only if that saves at least `worth_while` in all. An
/// aggregate has its own price: the sectors share its fate, and somebody has to compute it.
pub fn cheaper(
    sectors: usize,
    proof: SealProof,
    (base_fee, premium): (&TokenAmount, &TokenAmount),
    worth_while: &TokenAmount,
) -> Batch {
    let fee = |batch: Batch| Some(batch.cost(sectors, proof)?.fee(base_fee, premium));
    let saving = fee(Batch::Singles).zip(fee(Batch::Aggregate)).map(|(singles, aggregate)| singles - aggregate);
    match saving {
        Some(saving) if saving.is_positive() && saving >= *worth_while => Batch::Aggregate,
        _ => Batch::Singles,
    }
}

/// The gas limit that the node estimates for a message that uses `gas` (`GasEstimateGasLimit` of Lotus).
pub const fn gas_limit(gas: u64) -> u64 {
    gas + gas / 4
}

/// The bytes of an aggregate.
fn aggregate_bytes(sectors: usize, proof: SealProof) -> usize {
    // Padded to a power of two, and at least two.
    let proofs = (sectors * partitions(proof)).next_power_of_two().max(2);
    AGGREGATE_BYTES + AGGREGATE_HALVING_BYTES * proofs.ilog2() as usize
}

/// The bytes of a single proof, with its header in CBOR.
fn single_bytes(proof: SealProof) -> usize {
    let bytes = PROOF_BYTES * partitions(proof);
    bytes + if bytes < 256 { 2 } else { 3 }
}

fn verify_aggregate_gas(sectors: usize, proof: SealProof) -> u64 {
    let Verification { per_sector, steps } =
        if proof == SealProof::StackedDrg64GiBV1_1 { &VERIFY_64_GIB } else { &VERIFY_32_GIB };
    let reached = STEP_STARTS.partition_point(|start| *start <= sectors).max(1);
    sectors as u64 * per_sector + steps[reached - 1]
}

/// The partitions of a proof of replication.
const fn partitions(proof: SealProof) -> usize {
    match proof {
        SealProof::StackedDrg2KiBV1_1 | SealProof::StackedDrg8MiBV1_1 | SealProof::StackedDrg512MiBV1_1 => 1,
        SealProof::StackedDrg32GiBV1_1 | SealProof::StackedDrg64GiBV1_1 => 10,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;
