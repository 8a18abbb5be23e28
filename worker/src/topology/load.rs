//! A [`Machine`] from where it is described.

use std::{fmt, fs::File, io, io::Read, path::PathBuf};

use super::{
    Machine,
    describe::describe,
    devices,
    hwloc::{HwlocError, Topology},
    synthetic,
    system::{System, SystemError},
    xml,
};

/// Where a machine is described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// By itself, here and now.
    ThisMachine,
    /// In a file that `lstopo` or `sealbus-worker topology --export-xml` wrote.
    Xml(PathBuf),
    /// By hwloc's synthetic description, for example `package:2 l3:8 core:8 pu:2`.
    Synthetic(String),
}

/// Why a machine cannot be described.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// hwloc fails.
    #[error("cannot look at {machine}")]
    Hwloc {
        /// Which machine.
        machine: String,
        /// What fails.
        #[source]
        source: HwlocError,
    },
    /// A file of the system cannot be understood.
    #[error("cannot look at this machine")]
    System(#[from] SystemError),
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file that does not describe a machine.
    #[error("{} is no XML of hwloc 2: {problem}; `lstopo FILE.xml` writes one", path.display())]
    Xml {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A text that does not describe a machine.
    #[error("{text:?} is no synthetic description: {problem}; an example is \"package:2 l3:8 core:8 pu:2\"")]
    Synthetic {
        /// The text, or its beginning.
        text: String,
        /// What is wrong.
        problem: String,
    },
    /// Nothing to compute with.
    #[error("{machine} has no processing unit that may be used: give the worker some by its cpuset")]
    NoUnits {
        /// Which machine.
        machine: String,
    },
    /// No memory.
    #[error("{machine} has no NUMA node whose memory may be used: give the worker one by its cpuset's mems")]
    NoNodes {
        /// Which machine.
        machine: String,
    },
    /// Units that are not there were asked for.
    #[error("{machine} has no units {missing} that may be used; it has {units}")]
    NotThere {
        /// Which machine.
        machine: String,
        /// What it lacks.
        missing: super::CpuSet,
        /// What it has.
        units: super::CpuSet,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ThisMachine => f.write_str("this machine"),
            Self::Xml(path) => write!(f, "{}", path.display()),
            Self::Synthetic(text) => write!(f, "synthetic {text:?}"),
        }
    }
}

/// Describes the machine of a source. What the worker may not use is left out.
///
/// # Errors
/// [`TopologyError`]; a description of any content or size is answered by an error, not by a panic.
pub fn load(source: Source) -> Result<Machine, TopologyError> {
    describe_opened(&source, &open(&source)?)
}

/// Describes a machine that was [opened](open).
///
/// # Errors
/// As for [`load`].
pub fn describe_opened(source: &Source, topology: &Topology) -> Result<Machine, TopologyError> {
    let hwloc_failed = |error| hwloc_failed(source, error);
    let root = topology.root().map_err(hwloc_failed)?;
    let mut units = topology.allowed_units().map_err(hwloc_failed)?;
    let mut nodes = topology.allowed_nodes().map_err(hwloc_failed)?;
    if *source != Source::ThisMachine {
        return describe(&source.to_string(), &root, &units, &nodes);
    }
    let system = System::default();
    let given = system.given()?;
    units = units.intersection(&given.units);
    nodes = nodes.intersection(&given.nodes);
    let mut machine = describe(&source.to_string(), &root, &units, &nodes)?;
    system.count_huge_pages(&mut machine.nodes);
    machine.gpus = devices::with_cards(devices::cards_of_tree(&root, &machine.nodes), system.cards(), &machine.nodes);
    machine.disks = system.disks(&machine.nodes);
    let memory: u64 = machine.nodes.iter().map(|node| node.memory_bytes).sum();
    machine.memory_max_bytes = system.memory_max().filter(|max| *max < memory);
    Ok(machine)
}

/// Lets hwloc look at the machine of a source.
///
/// # Errors
/// As for [`load`].
pub fn open(source: &Source) -> Result<Topology, TopologyError> {
    match source {
        Source::ThisMachine => Topology::this_machine().map_err(|error| hwloc_failed(source, error)),
        Source::Xml(path) => {
            let read_failed = |error| TopologyError::Read { path: path.clone(), source: error };
            let refused = |problem: String| TopologyError::Xml { path: path.clone(), problem };
            let mut bytes = Vec::new();
            let file = File::open(path).map_err(read_failed)?;
            file.take(xml::BYTES_MAX + 1).read_to_end(&mut bytes).map_err(read_failed)?;
            let text = xml::checked(bytes).map_err(|problem| refused(problem.to_string()))?;
            Topology::from_xml(&text).map_err(|error| match error {
                HwlocError::Failed { .. } => refused(format!("{error}")),
                other => hwloc_failed(source, other),
            })
        }
        Source::Synthetic(text) => {
            let refused =
                |problem: String| TopologyError::Synthetic { text: text.chars().take(200).collect(), problem };
            synthetic::check(text).map_err(|problem| refused(problem.to_string()))?;
            Topology::from_synthetic(text).map_err(|error| match error {
                HwlocError::Failed { .. } => refused(format!("{error}")),
                other => hwloc_failed(source, other),
            })
        }
    }
}

fn hwloc_failed(source: &Source, error: HwlocError) -> TopologyError {
    TopologyError::Hwloc { machine: source.to_string(), source: error }
}
