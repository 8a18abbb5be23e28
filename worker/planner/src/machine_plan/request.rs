//! What is wanted of a machine plan, and what one is.

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

/// What to plan for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The sectors' size.
    pub sector_size: SectorSize,
    /// Which GPUs.
    pub gpus: Gpus,
    /// Where slots may be. With none, on the machine's disks that do not turn.
    pub places: Vec<Place>,
    /// How many slots; as many as are worth it where it is not given.
    pub slots: Option<usize>,
    /// How long things take.
    pub times: Times,
    /// The machine's memory, spread evenly over its nodes, instead of what its description says.
    pub memory_bytes: Option<u64>,
    /// Memory of a phase, instead of what is assumed.
    pub needs: BTreeMap<Phase, u64>,
    /// Producers of multicore SDR beside its main thread; searched for where not given.
    pub producers: Option<usize>,
    /// Whether PC1 takes its memory from reserved huge pages.
    pub huge_pages: bool,
    /// Whether each processor has a cgroup of its own, in which the proofs library finds only its cores.
    pub cgroups: bool,
    /// Which of PC1, PC2 and C2 the machine does itself; all of them with none named.
    pub only: BTreeSet<Phase>,
}

/// Which GPUs to use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gpus {
    /// All that the machine has.
    All,
    /// So many; those that the machine does not have are imagined.
    Count(usize),
    /// These.
    Named(Vec<String>),
}

/// A directory that may take slots, or a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The directory.
    pub path: PathBuf,
    /// How much room there is; `None` where nobody knows.
    pub bytes: Option<u64>,
}

/// A machine plan: which processors run where, how many slots there are, and what that comes to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MachinePlan {
    /// The machine, in a line.
    pub machine: String,
    /// The sectors' size.
    pub sector_size: SectorSize,
    /// Who serves which phase, where.
    pub groups: Vec<Group>,
    /// The most of a phase at the same time, on the machine.
    pub concurrent: BTreeMap<Phase, usize>,
    /// The least seconds between two starts of a phase.
    pub staggered_secs: BTreeMap<Phase, u64>,
    /// Locks, and how many may hold each.
    pub locks: BTreeMap<String, usize>,
    /// Phases that are done elsewhere, by executables that hand them on.
    pub elsewhere: Vec<Phase>,
    /// Whether each processor is to have a cgroup of its own.
    pub cgroups: bool,
    /// How many GPUs are used.
    pub gpus: usize,
    /// The slots' directories.
    pub slots: Vec<PathBuf>,
    /// What one slot takes.
    pub slot_bytes: u64,
    /// How long each phase and wait takes, and who says so.
    pub times: Vec<UsedTime>,
    /// Memory, as it is shared out.
    pub memory: Vec<MemoryShare>,
    /// The plan as a pipeline.
    pub pipeline: PipelineSpec,
    /// What it does in the long run.
    pub steady: Steady,
    /// Why it is as it is.
    pub reasons: Vec<Reason>,
    /// What a person should know or do.
    pub notes: Vec<String>,
    /// What one more of something would bring.
    pub more: Vec<More>,
}

/// Processors of a phase.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    /// The phase.
    pub stage: Phase,
    /// How many processes, each with one request at a time.
    pub count: usize,
    /// Where they run; everywhere if it is not given.
    pub cpus: Option<CpuSet>,
    /// The NUMA node that their memory comes from, by OS index.
    pub numa_node: Option<u32>,
    /// Whether it must come from there.
    pub memory: Option<MemoryPolicy>,
    /// The GPUs that they see.
    pub gpus: Vec<String>,
    /// The locks that each request holds.
    pub locks: Vec<String>,
    /// Environment variables.
    pub env: BTreeMap<String, String>,
    /// Memory of one request.
    pub memory_bytes: u64,
    /// Producers of multicore SDR, where that is used.
    pub producers: Option<usize>,
}

/// A part of the memory and what it is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryShare {
    /// What for.
    pub name: String,
    /// How much.
    pub bytes: u64,
}

/// Why something is as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// What.
    pub about: String,
    /// Why.
    pub text: String,
}

/// What one more of something would bring.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct More {
    /// Of what.
    pub what: String,
    /// Sectors a day with it.
    pub sectors_per_day: f64,
    /// How many more that is.
    pub gain_per_day: f64,
}

/// Why a machine cannot seal such sectors.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CannotPlan {
    /// No core may be used.
    #[error("{machine} has no core that may be used: look at the worker's cpuset")]
    NoCores {
        /// The machine.
        machine: String,
    },
    /// Not enough memory for a single sector.
    #[error(
        "sorry, {machine} cannot seal {size} sectors: {phase} alone needs {needed} of memory, and {usable} may be used \
         ({total} less {reserve} for the system and the small phases); use a machine with more memory, or smaller sectors"
    )]
    Memory {
        /// The machine.
        machine: String,
        /// The sectors' size.
        size: SectorSize,
        /// The phase that needs most.
        phase: Phase,
        /// What it needs.
        needed: String,
        /// What there is for it.
        usable: String,
        /// What the machine has.
        total: String,
        /// What is left to the system and the small phases.
        reserve: String,
    },
    /// Memory enough, but not on one node.
    #[error(
        "sorry, {machine} cannot seal {size} sectors: pc1 needs {needed} on one NUMA node, the largest has {largest} for it; \
         use fewer nodes (a BIOS setting), or smaller sectors"
    )]
    NodeMemory {
        /// The machine.
        machine: String,
        /// The sectors' size.
        size: SectorSize,
        /// What PC1 needs.
        needed: String,
        /// The most that a node has.
        largest: String,
    },
    /// Nobody says how much memory there is.
    #[error("the description of {machine} tells of no memory: give it with --memory, such as --memory 512GiB")]
    MemoryUnknown {
        /// The machine.
        machine: String,
    },
    /// No room for a slot.
    #[error("no place has room for a slot of {needed}: {places}; give others with --slots-on, or more room")]
    NoRoom {
        /// What a slot takes.
        needed: String,
        /// What was looked at.
        places: String,
    },
    /// More slots than there is room for.
    #[error(
        "--slots {wanted}: there is room for {room} slots of {needed} each ({places}); ask for fewer, or give more places"
    )]
    TooManySlots {
        /// As asked for.
        wanted: usize,
        /// As many as fit.
        room: usize,
        /// What a slot takes.
        needed: String,
        /// What was looked at.
        places: String,
    },
    /// A GPU that is not there.
    #[error("--gpus {name}: the machine has no such GPU; it has {has}")]
    NoGpu {
        /// As asked for.
        name: String,
        /// What there is.
        has: String,
    },
    /// A GPU of another maker.
    #[error(
        "--gpus {name}: {card} is not NVIDIA's, and the worker chooses cards by CUDA_VISIBLE_DEVICES; leave it out, and give a \
         processor of your own its variable in env"
    )]
    ForeignGpu {
        /// As asked for.
        name: String,
        /// What it is.
        card: String,
    },
    /// A GPU that is asked for twice.
    #[error("--gpus {name}: is named twice; name each card once")]
    GpuTwice {
        /// As asked for.
        name: String,
    },
    /// A directory that is given twice.
    #[error("--slots-on {path}: is given twice; its room counts once, so give each directory once")]
    PlaceTwice {
        /// As given.
        path: String,
    },
    /// The times make no pipeline.
    #[error("the plan cannot be simulated")]
    Spec(#[from] SpecError),
}

impl Request {
    /// For sectors of a size, with everything that the machine has and what is assumed.
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
        }
    }

    /// Whether a phase is done on this machine. The small ones are where the sector's files are, and C2 alone needs none of them.
    #[must_use]
    pub fn does(&self, phase: Phase) -> bool {
        match phase {
            Phase::Pc1 | Phase::Pc2 | Phase::C2 => self.only.is_empty() || self.only.contains(&phase),
            _ => self.has_files(),
        }
    }

    /// Whether sectors lie here, in slots.
    #[must_use]
    pub fn has_files(&self) -> bool {
        self.only.is_empty() || self.only.contains(&Phase::Pc1) || self.only.contains(&Phase::Pc2)
    }

    /// Whether PC2 or C2 is done here.
    #[must_use]
    pub fn proves(&self) -> bool {
        self.does(Phase::Pc2) || self.does(Phase::C2)
    }

    /// Memory that one request of a phase needs.
    #[must_use]
    pub fn memory_of(&self, phase: Phase) -> u64 {
        self.needs.get(&phase).copied().unwrap_or_else(|| super::times::memory_bytes(self.sector_size, phase))
    }
}

impl Group {
    /// As it is checked.
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
