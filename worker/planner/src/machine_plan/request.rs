//! The input and the output of planning.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    path::PathBuf,
};

use sealbus_schema::{Phase, SectorSize};
use serde::Serialize;

use super::{
    check::PlacedGroup,
    times::{Times, UsedTime},
};
use crate::{
    machine::{CpuSet, MemoryPolicy},
    pipeline::Steady,
    pipeline::{PipelineSpec, SpecError},
    units,
};

/// The SNARK of a window PoSt.
pub const WINDOW_POST: Phase = Phase::POST[1];
/// That of a winning PoSt.
pub const WINNING_POST: Phase = Phase::WINNING[1];

/// What to plan for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The sector size.
    pub sector_size: SectorSize,
    /// The GPUs to use.
    pub gpus: Gpus,
    /// Where slots may be. If empty, on the machine's disks that do not rotate.
    pub places: Vec<Place>,
    /// The number of slots; `None` for as many as increase the throughput.
    pub slots: Option<usize>,
    /// How long phases and waits take.
    pub times: Times,
    /// The machine's memory in bytes, overriding its description. It is spread over the nodes.
    pub memory_bytes: Option<u64>,
    /// The memory of a phase in bytes, overriding the assumption.
    pub needs: BTreeMap<Phase, u64>,
    /// Producers of multicore SDR beside its main thread; `None` to search for the best.
    pub producers: Option<usize>,
    /// Whether PC1 uses reserved huge pages.
    pub huge_pages: bool,
    /// Whether each processor has its own cgroup, in which the proofs library sees only its cores.
    pub cgroups: bool,
    /// The phases among PC1, PC2 and C2 that run on this machine; empty for all.
    pub only: BTreeSet<Phase>,
    /// Whether the machine also makes proofs of spacetime. It must do C2 then, whose place they take.
    pub posts: bool,
}

/// The GPUs to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gpus {
    /// All that the machine has.
    All,
    /// This many, including imagined ones if the machine has fewer.
    Count(usize),
    /// Those with these ids.
    Named(Vec<String>),
}

/// A directory or disk for slots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The directory.
    pub path: PathBuf,
    /// The free bytes; `None` if unknown.
    pub bytes: Option<u64>,
}

/// A machine plan: which processors run where, how many slots there are, and the throughput.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MachinePlan {
    /// The machine in one line.
    pub machine: String,
    /// The sector size.
    pub sector_size: SectorSize,
    /// The groups of processors.
    pub groups: Vec<Group>,
    /// How many requests of a phase may run at the same time on the machine.
    pub concurrent: BTreeMap<Phase, usize>,
    /// The shortest time between two starts of a phase, in seconds.
    pub staggered_secs: BTreeMap<Phase, u64>,
    /// The locks, with their units.
    pub locks: BTreeMap<String, usize>,
    /// The phases that run elsewhere, through executables that hand them on.
    pub elsewhere: Vec<Phase>,
    /// Whether each processor should have its own cgroup.
    pub cgroups: bool,
    /// The number of GPUs used.
    pub gpus: usize,
    /// The slots' directories.
    pub slots: Vec<PathBuf>,
    /// The bytes that a slot needs.
    pub slot_bytes: u64,
    /// The time of each phase and wait, with its source.
    pub times: Vec<UsedTime>,
    /// How the memory is divided.
    pub memory: Vec<MemoryShare>,
    /// The plan as a pipeline.
    pub pipeline: PipelineSpec,
    /// The simulated throughput of that pipeline.
    pub steady: Steady,
    /// Why the plan is as it is.
    pub reasons: Vec<Reason>,
    /// What a person should know or do.
    pub notes: Vec<String>,
    /// The gain from additional hardware.
    pub more: Vec<More>,
}

/// The processors of a phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    /// The phase.
    pub stage: Phase,
    /// The number of processes; each works on one request at a time.
    pub count: usize,
    /// The cpus; `None` for all.
    pub cpus: Option<CpuSet>,
    /// The NUMA node of their memory, as OS index.
    pub numa_node: Option<u32>,
    /// Whether memory may come from another node; `None` for the default.
    pub memory: Option<MemoryPolicy>,
    /// The ids of the GPUs that they see.
    pub gpus: Vec<String>,
    /// The locks that each request holds.
    pub locks: Vec<String>,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// The memory of a request in bytes.
    pub memory_bytes: u64,
    /// The number of producers for multicore SDR; `None` if that is off.
    pub producers: Option<usize>,
}

/// A part of the memory and its use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryShare {
    /// The use.
    pub name: String,
    /// The size in bytes.
    pub bytes: u64,
}

/// A reason for something in the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// The subject.
    pub about: String,
    /// The reason.
    pub text: String,
}

/// The gain from additional hardware.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct More {
    /// The hardware.
    pub what: String,
    /// Sectors a day with it.
    pub sectors_per_day: f64,
    /// The gain in sectors a day.
    pub gain_per_day: f64,
}

/// Why a machine cannot be planned.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CannotPlan {
    /// There is no usable core.
    #[error("{machine} has no core that may be used: look at the worker's cpuset")]
    NoCores {
        /// The machine.
        machine: String,
    },
    /// There is not enough memory for a single sector.
    #[error(
        "sorry, {machine} cannot seal {size} sectors: {phase} alone needs {needed} of memory, and {usable} may be used \
         ({total} less {reserve} for the system and the small phases); use a machine with more memory, or smaller sectors"
    )]
    Memory {
        /// The machine.
        machine: String,
        /// The sector size.
        size: SectorSize,
        /// The phase that needs the most.
        phase: Phase,
        /// The memory that it needs.
        needed: String,
        /// The memory that is available for it.
        usable: String,
        /// The machine's memory.
        total: String,
        /// The memory left to the system and the small phases.
        reserve: String,
    },
    /// There is enough memory, but not on one node.
    #[error(
        "sorry, {machine} cannot seal {size} sectors: pc1 needs {needed} on one NUMA node, the largest has {largest} for it; \
         use fewer nodes (a BIOS setting), or smaller sectors"
    )]
    NodeMemory {
        /// The machine.
        machine: String,
        /// The sector size.
        size: SectorSize,
        /// The memory that PC1 needs.
        needed: String,
        /// The most memory that a node has.
        largest: String,
    },
    /// The machine's memory is unknown.
    #[error("the description of {machine} does not give the memory: give it with --memory, such as --memory 512GiB")]
    MemoryUnknown {
        /// The machine.
        machine: String,
    },
    /// There is no room for a slot.
    #[error("no place has room for a slot of {needed}: {places}; give others with --slots-on, or more room")]
    NoRoom {
        /// The size of a slot.
        needed: String,
        /// The places considered.
        places: String,
    },
    /// There is no room for the requested slots.
    #[error(
        "--slots {wanted}: there is room for {room} slots of {needed} each ({places}); ask for fewer, or give more places"
    )]
    TooManySlots {
        /// The requested number.
        wanted: usize,
        /// The number that fits.
        room: usize,
        /// The size of a slot.
        needed: String,
        /// The places considered.
        places: String,
    },
    /// A requested GPU does not exist.
    #[error("--gpus {name}: the machine has no such GPU; it has {has}")]
    NoGpu {
        /// The requested id.
        name: String,
        /// The GPUs of the machine.
        has: String,
    },
    /// A requested GPU is not made by NVIDIA.
    #[error(
        "--gpus {name}: {card} is not NVIDIA's, and the worker chooses cards by CUDA_VISIBLE_DEVICES; leave it out, and give a \
         processor of your own its variable in env"
    )]
    ForeignGpu {
        /// The requested id.
        name: String,
        /// The GPU's name.
        card: String,
    },
    /// A GPU is requested twice.
    #[error("--gpus {name}: is named twice; name each card once")]
    GpuTwice {
        /// The requested id.
        name: String,
    },
    /// A directory is given twice.
    #[error("--slots-on {path}: is given twice; its room counts once, so give each directory once")]
    PlaceTwice {
        /// The given path.
        path: String,
    },
    /// The times do not make a valid pipeline.
    #[error("the plan cannot be simulated")]
    Spec(#[from] SpecError),
}

impl Request {
    /// The default request for a sector size: all of the machine's hardware, and assumed times.
    #[must_use]
    pub fn new(sector_size: SectorSize) -> Self {
        Self {
            sector_size,
            gpus: Gpus::All,
            places: Vec::new(),
            slots: None,
            times: Times::assumed(sector_size),
            memory_bytes: None,
            needs: BTreeMap::new(),
            producers: None,
            huge_pages: false,
            cgroups: false,
            only: BTreeSet::new(),
            posts: false,
        }
    }

    /// Whether a phase runs on this machine. The small phases run where the sector's files are; C2 alone does not need
    /// these.
    #[must_use]
    pub fn does(&self, phase: Phase) -> bool {
        match phase {
            Phase::Pc1 | Phase::Pc2 | Phase::C2 => self.only.is_empty() || self.only.contains(&phase),
            WINDOW_POST | WINNING_POST => self.posts && self.does(Phase::C2),
            _ => self.has_files(),
        }
    }

    /// Whether sectors lie here, in slots.
    #[must_use]
    pub fn has_files(&self) -> bool {
        self.only.is_empty() || self.only.contains(&Phase::Pc1) || self.only.contains(&Phase::Pc2)
    }

    /// Whether PC2 or C2 runs here.
    #[must_use]
    pub fn proves(&self) -> bool {
        self.does(Phase::Pc2) || self.does(Phase::C2)
    }

    /// The memory of a request of a phase, in bytes.
    #[must_use]
    pub fn memory_of(&self, phase: Phase) -> u64 {
        self.needs.get(&phase).copied().unwrap_or_else(|| super::times::memory_bytes(self.sector_size, phase))
    }
}

impl Group {
    /// The group in the form that `check` takes.
    #[must_use]
    pub fn placed(&self, index: usize) -> PlacedGroup {
        PlacedGroup {
            index,
            stage: self.stage,
            cpus: self.cpus.clone(),
            numa_node: self.numa_node,
            memory: self.memory,
            concurrent: self.count,
            gpus: self.gpus.clone(),
            locks: self.locks.clone(),
            memory_bytes: self.memory_bytes,
            producers: self.producers,
            in_cgroup: false,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bytes {
            Some(bytes) => write!(f, "{} has {}", self.path.display(), units::bytes(bytes)),
            None => write!(f, "{} has an unknown size", self.path.display()),
        }
    }
}
