//! Times and memory of the phases: assumptions, unless measurements are given.
//!
//! Every figure in the tables below is an assumption about unknown hardware, and each plan says so. The source of a
//! figure stands beside it. A given time overrides the assumption.

use std::collections::BTreeMap;

use sealbus_schema::{Phase, SectorSize};
use serde::Serialize;

use super::request::{WINDOW_POST, WINNING_POST};
use crate::{calc::Waits, units::parse_time_ms};

const SEC: u64 = 1000;
const MIN: u64 = 60 * SEC;
const HOUR: u64 = 60 * MIN;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// How much longer PC1 takes on one core than with multicore SDR.
const SINGLE_CORE_FACTOR: u64 = 2;
/// The names of the waits for the chain, as in `--time`.
pub const WAITS: [&str; 3] = ["precommit", "seed", "prove"];

/// Work on ordinary cores: `core_ms` divided by their number, but never less than `least_ms`.
#[derive(Clone, Copy, Debug)]
struct OnCores {
    core_ms: u64,
    least_ms: u64,
}

/// The assumptions for a sector size.
#[derive(Clone, Copy, Debug)]
struct Assumed {
    add_pieces_ms: u64,
    tree_d_ms: u64,
    pc1_ms: u64,
    pc2_gpu_ms: u64,
    pc2_cpu: OnCores,
    transfer_ms: u64,
    c1_ms: u64,
    c2_gpu_ms: u64,
    c2_cpu: OnCores,
    pc2_bytes: u64,
    c2_bytes: u64,
    window_post_bytes: u64,
    winning_post_bytes: u64,
}

/// 32 GiB. PC1 takes 3 h with multicore SDR, three producers and cores with SHA extensions. PC2 takes 10 min and C2 3
/// to 15 min on a recent GPU. Without a GPU both are known to take hours on many cores; those figures are rough. The
/// other phases read or write 32 GiB at some 100 MB/s and hash meanwhile. The memory of PC2 and C2 is what Lotus
/// reserves (`storiface/resources.go`: 30 GiB, and 150 GiB of which 30 GiB are parameters in the page cache), and so is that
/// of PoSts: 96 GiB for a window and 1 GiB for a block, without parameters.
const GIB32: Assumed = Assumed {
    add_pieces_ms: 5 * MIN,
    tree_d_ms: 5 * MIN,
    pc1_ms: 3 * HOUR,
    pc2_gpu_ms: 10 * MIN,
    pc2_cpu: OnCores { core_ms: 32 * HOUR, least_ms: 30 * MIN },
    transfer_ms: 5 * MIN,
    c1_ms: MIN,
    c2_gpu_ms: 10 * MIN,
    c2_cpu: OnCores { core_ms: 20 * HOUR, least_ms: 20 * MIN },
    pc2_bytes: 30 * GIB,
    c2_bytes: 120 * GIB,
    window_post_bytes: 96 * GIB,
    winning_post_bytes: GIB,
};

/// 64 GiB: twice the values for 32 GiB where they grow with the data. Memory as in Lotus (260 GiB, of which 60 GiB are
/// parameters).
const GIB64: Assumed = Assumed {
    add_pieces_ms: 10 * MIN,
    tree_d_ms: 10 * MIN,
    pc1_ms: 6 * HOUR,
    pc2_gpu_ms: 20 * MIN,
    pc2_cpu: OnCores { core_ms: 64 * HOUR, least_ms: HOUR },
    transfer_ms: 10 * MIN,
    c1_ms: 2 * MIN,
    c2_gpu_ms: 12 * MIN,
    c2_cpu: OnCores { core_ms: 22 * HOUR, least_ms: 22 * MIN },
    pc2_bytes: 60 * GIB,
    c2_bytes: 200 * GIB,
    window_post_bytes: 120 * GIB,
    winning_post_bytes: GIB,
};

/// 512 MiB: scaled from 32 GiB by size and number of layers, on one core. C2 is scaled by the size of its parameters.
const MIB512: Assumed = Assumed {
    add_pieces_ms: 5 * SEC,
    tree_d_ms: 5 * SEC,
    pc1_ms: MIN,
    pc2_gpu_ms: 10 * SEC,
    pc2_cpu: OnCores { core_ms: 8 * MIN, least_ms: 30 * SEC },
    transfer_ms: 5 * SEC,
    c1_ms: SEC,
    c2_gpu_ms: 20 * SEC,
    c2_cpu: OnCores { core_ms: 8 * MIN, least_ms: MIN },
    pc2_bytes: 2 * GIB,
    c2_bytes: 11 * GIB,
    window_post_bytes: 11 * GIB,
    winning_post_bytes: GIB,
};

/// 8 MiB: PC1 and PC2 are scaled by size; the rest is as for 2 KiB.
const MIB8: Assumed = Assumed {
    add_pieces_ms: 100,
    tree_d_ms: 100,
    pc1_ms: SEC,
    pc2_gpu_ms: SEC,
    pc2_cpu: OnCores { core_ms: 4 * SEC, least_ms: SEC },
    transfer_ms: 200,
    c1_ms: 50,
    c2_gpu_ms: 6 * SEC,
    c2_cpu: OnCores { core_ms: 100 * SEC, least_ms: 23 * SEC },
    pc2_bytes: 256 * MIB,
    c2_bytes: 4 * GIB,
    window_post_bytes: GIB,
    winning_post_bytes: GIB,
};

/// 2 KiB: measured. C2 takes 35 to 72 s on 2 cores, 23 s on 16, and 5 to 6 s on an H100. Everything else takes
/// milliseconds, plus a generous allowance for starting a processor.
const KIB2: Assumed = Assumed {
    add_pieces_ms: 20,
    tree_d_ms: 20,
    pc1_ms: 20,
    pc2_gpu_ms: 20,
    pc2_cpu: OnCores { core_ms: 20, least_ms: 20 },
    transfer_ms: 50,
    c1_ms: 20,
    c2_gpu_ms: 6 * SEC,
    c2_cpu: OnCores { core_ms: 100 * SEC, least_ms: 23 * SEC },
    pc2_bytes: 256 * MIB,
    c2_bytes: 4 * GIB,
    window_post_bytes: GIB,
    winning_post_bytes: GIB,
};

/// PreCommit and ProveCommit: the batch, some epochs until it is in a block, and 10 epochs of confidence. Seed: 150
/// epochs of 30 s, plus confidence.
const WAIT_MS: [u64; 3] = [15 * MIN, 80 * MIN, 15 * MIN];

/// What a phase runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// A GPU.
    Gpu,
    /// This many cores.
    Cores(usize),
    /// Multicore SDR.
    Multicore,
    /// Any core; its speed does not matter.
    Any,
}

/// A time and its source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UsedTime {
    /// The name of the phase or wait.
    pub name: String,
    /// The time in milliseconds.
    pub time_ms: u64,
    /// Whether it is an assumption.
    pub assumed: bool,
    /// The basis of the assumption.
    pub basis: String,
}

/// The times to plan with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Times {
    size: SectorSize,
    given: BTreeMap<String, u64>,
}

/// Why a time cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimesError {
    /// The name is neither a phase nor a wait.
    #[error("{0:?} is no phase and no wait: expected one of add_pieces, tree_d, pc1, pc2, transfer, c1, c2, {waits}", waits = WAITS.join(", "))]
    Name(String),
    /// The time cannot be parsed or is 0.
    #[error("the time of {name}: {problem}")]
    Time {
        /// The phase or wait.
        name: String,
        /// The problem.
        problem: String,
    },
    /// The text does not have the form `NAME=TIME`.
    #[error("{0:?} is not NAME=TIME, such as pc1=3h")]
    Form(String),
}

impl Times {
    /// The assumptions for a sector size.
    #[must_use]
    pub fn assumed(size: SectorSize) -> Self {
        Self { size, given: BTreeMap::new() }
    }

    /// Overrides a time with a measured one.
    pub fn give(&mut self, name: &str, time: &str) -> Result<(), TimesError> {
        let name = name.trim();
        if !WAITS.contains(&name) && name.parse::<Phase>().is_err() {
            return Err(TimesError::Name(name.to_owned()));
        }
        let failed = |problem: String| TimesError::Time { name: name.to_owned(), problem };
        let time_ms = parse_time_ms(time).map_err(|error| failed(error.to_string()))?;
        if time_ms == 0 && name.parse::<Phase>().is_ok() {
            return Err(failed("must be more than 0".to_owned()));
        }
        self.given.insert(name.to_owned(), time_ms);
        Ok(())
    }

    /// Overrides a time, given as `NAME=TIME`.
    pub fn give_pair(&mut self, text: &str) -> Result<(), TimesError> {
        let (name, time) = text.split_once('=').ok_or_else(|| TimesError::Form(text.to_owned()))?;
        self.give(name, time)
    }

    /// The waits for the chain.
    #[must_use]
    pub fn waits(&self) -> Waits {
        let [precommit_ms, seed_ms, prove_ms] = [0, 1, 2].map(|wait| self.wait(wait).time_ms);
        Waits { precommit_ms, seed_ms, prove_ms }
    }

    /// A wait and its source, by index into [`WAITS`].
    #[must_use]
    pub fn wait(&self, wait: usize) -> UsedTime {
        let basis = ["a batch, the block, 10 epochs of confidence", "150 epochs and 10 of confidence", "as precommit"];
        self.used(WAITS[wait], WAIT_MS[wait], basis[wait].to_owned())
    }

    /// The time of a phase, and its source.
    #[must_use]
    pub fn phase(&self, phase: Phase, on: On) -> UsedTime {
        let assumed = assumed(self.size);
        let on_cores = |work: OnCores, cores: usize| (work.core_ms / cores.max(1) as u64).max(work.least_ms);
        let (time_ms, basis) = match (phase, on) {
            (Phase::AddPieces, _) => (assumed.add_pieces_ms, "writing and hashing".to_owned()),
            (Phase::TreeD, _) => (assumed.tree_d_ms, "hashing and writing".to_owned()),
            (Phase::Pc1, On::Multicore) => (assumed.pc1_ms, "multicore SDR, cores with SHA extensions".to_owned()),
            (Phase::Pc1, _) if is_large(self.size) => {
                (SINGLE_CORE_FACTOR * assumed.pc1_ms, "one core with SHA extensions".to_owned())
            }
            (Phase::Pc1, _) => (assumed.pc1_ms, "one core".to_owned()),
            (Phase::Pc2, On::Cores(cores)) => {
                (on_cores(assumed.pc2_cpu, cores), format!("{cores} cores, no GPU; rough"))
            }
            (Phase::Pc2, _) => (assumed.pc2_gpu_ms, "one GPU".to_owned()),
            (Phase::Transfer, _) => (assumed.transfer_ms, "a store with some 100 MB/s".to_owned()),
            (Phase::C1, _) => (assumed.c1_ms, "reading challenges".to_owned()),
            (Phase::C2, On::Cores(cores)) => (on_cores(assumed.c2_cpu, cores), format!("{cores} cores, no GPU; rough")),
            (Phase::C2, _) => (assumed.c2_gpu_ms, "one GPU, 3 to 15 min by its kind".to_owned()),
            // Machines are planned for sealing.
            (Phase::Own(_), _) => (0, "not planned for".to_owned()),
        };
        self.used(phase.name(), time_ms, basis)
    }

    fn used(&self, name: &str, assumed_ms: u64, basis: String) -> UsedTime {
        match self.given.get(name) {
            Some(&time_ms) => UsedTime { name: name.to_owned(), time_ms, assumed: false, basis: "given".to_owned() },
            None => UsedTime { name: name.to_owned(), time_ms: assumed_ms, assumed: true, basis },
        }
    }
}

/// The assumed memory of a request of a phase, in bytes.
#[must_use]
pub fn memory_bytes(size: SectorSize, phase: Phase) -> u64 {
    match phase {
        // Two layers. The window into the parent cache is small.
        Phase::Pc1 => 2 * size.bytes() + 256 * MIB,
        Phase::Pc2 => assumed(size).pc2_bytes,
        Phase::C2 => assumed(size).c2_bytes,
        Phase::AddPieces | Phase::TreeD | Phase::Transfer | Phase::C1 if is_large(size) => GIB / 2,
        Phase::AddPieces | Phase::TreeD | Phase::Transfer | Phase::C1 => 128 * MIB,
        WINDOW_POST => assumed(size).window_post_bytes,
        WINNING_POST => assumed(size).winning_post_bytes,
        Phase::Own(_) => 0,
    }
}

/// The size of the parent cache in bytes: 14 parents of 4 bytes for each node of 32 bytes. Every PC1 maps it, so it is
/// in memory once.
#[must_use]
pub fn parent_cache_bytes(size: SectorSize) -> u64 {
    size.bytes() / 32 * 56
}

/// Whether PC1 takes so long that its cores should be kept free of everything else.
#[must_use]
pub fn is_large(size: SectorSize) -> bool {
    matches!(size, SectorSize::GiB32 | SectorSize::GiB64)
}

fn assumed(size: SectorSize) -> &'static Assumed {
    match size {
        SectorSize::KiB2 => &KIB2,
        SectorSize::MiB8 => &MIB8,
        SectorSize::MiB512 => &MIB512,
        SectorSize::GiB32 => &GIB32,
        SectorSize::GiB64 => &GIB64,
    }
}
