//! How long things take, and how much memory: assumed unless somebody measured it.
//!
//! Every figure in the table below is an assumption about hardware that nobody has seen, and is called so in each plan.
//! Where a figure comes from stands beside it. A time that is given wins.

use std::collections::BTreeMap;

use sealbus_schema::{Phase, SectorSize};
use serde::Serialize;

use crate::{calc::Waits, units::parse_time_ms};

const SEC: u64 = 1000;
const MIN: u64 = 60 * SEC;
const HOUR: u64 = 60 * MIN;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// How much longer PC1 takes on one core than with multicore SDR.
const SINGLE_CORE_FACTOR: u64 = 2;
/// The waits for the chain, as they are named in `--time`.
pub const WAITS: [&str; 3] = ["precommit", "seed", "prove"];

/// Work on ordinary cores: so much for all of them together, and no faster than `least_ms` however many there are.
#[derive(Clone, Copy, Debug)]
struct OnCores {
    core_ms: u64,
    least_ms: u64,
}

/// What is assumed for a sector size.
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
}

/// 32 GiB. PC1 3 h: multicore SDR, three producers, cores with SHA extensions. PC2 10 min and C2 3 to 15 min: one GPU of
/// the last years. Without one both are known to take hours of many cores; the figures are rough. The rest: 32 GiB read
/// or written at some 100 MB/s, hashed meanwhile. Memory of PC2 and C2: what Lotus reserves (`storiface/resources.go`:
/// 30 GiB, and 150 GiB of which 30 GiB are parameters in the page cache).
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
};

/// 64 GiB: twice as much of everything that grows with the data. Memory as Lotus (260 GiB of which 60 GiB are parameters).
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
};

/// 512 MiB: 32 GiB by size and by number of layers, on one core; C2 by the size of its parameters.
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
};

/// 8 MiB: PC1 and PC2 by size, the rest as 2 KiB.
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
};

/// 2 KiB: measured. C2 takes 35 to 72 s on 2 cores, 23 s on 16, 5 to 6 s on an H100; everything else some milliseconds, to
/// which the start of a processor is added generously.
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
};

/// PreCommit and ProveCommit: a batch, some epochs until it is in a block, 10 epochs of confidence. The seed: 150 epochs of
/// 30 s, and the confidence.
const WAIT_MS: [u64; 3] = [15 * MIN, 80 * MIN, 15 * MIN];

/// What a phase runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// A GPU.
    Gpu,
    /// So many cores.
    Cores(usize),
    /// Multicore SDR.
    Multicore,
    /// Some core; it does not matter which.
    Any,
}

/// A time and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UsedTime {
    /// The phase or the wait.
    pub name: String,
    /// How long it takes.
    pub time_ms: u64,
    /// Whether nobody gave it.
    pub assumed: bool,
    /// What it assumes.
    pub basis: String,
}

/// The times to plan with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Times {
    size: SectorSize,
    given: BTreeMap<String, u64>,
}

/// A time that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimesError {
    /// No phase and no wait.
    #[error("{0:?} is no phase and no wait: expected one of add_pieces, tree_d, pc1, pc2, transfer, c1, c2, {waits}", waits = WAITS.join(", "))]
    Name(String),
    /// No time.
    #[error("the time of {name}: {problem}")]
    Time {
        /// Of what.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// Not `NAME=TIME`.
    #[error("{0:?} is not NAME=TIME, such as pc1=3h")]
    Form(String),
}

impl Times {
    /// What is assumed for a size.
    #[must_use]
    pub fn assumed(size: SectorSize) -> Self {
        Self { size, given: BTreeMap::new() }
    }

    /// Takes a time that somebody measured.
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

    /// Takes `NAME=TIME`.
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

    /// A wait with its source, by its position in [`WAITS`].
    #[must_use]
    pub fn wait(&self, wait: usize) -> UsedTime {
        let basis = ["a batch, the block, 10 epochs of confidence", "150 epochs and 10 of confidence", "as precommit"];
        self.used(WAITS[wait], WAIT_MS[wait], basis[wait].to_owned())
    }

    /// How long a phase takes.
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

/// Memory that one request of a phase needs.
#[must_use]
pub fn memory_bytes(size: SectorSize, phase: Phase) -> u64 {
    match phase {
        // Two layers; the window into the parents is small.
        Phase::Pc1 => 2 * size.bytes() + 256 * MIB,
        Phase::Pc2 => assumed(size).pc2_bytes,
        Phase::C2 => assumed(size).c2_bytes,
        Phase::AddPieces | Phase::TreeD | Phase::Transfer | Phase::C1 if is_large(size) => GIB / 2,
        Phase::AddPieces | Phase::TreeD | Phase::Transfer | Phase::C1 => 128 * MIB,
        Phase::Own(_) => 0,
    }
}

/// The cache of the graph's parents: 14 numbers of 4 bytes for each node of 32 bytes. Mapped by every PC1, once in memory.
#[must_use]
pub fn parent_cache_bytes(size: SectorSize) -> u64 {
    size.bytes() / 32 * 56
}

/// Whether PC1 takes hours, so that its cores are worth being kept free of everything else.
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
