//! Loads a [`Machine`] from this machine or from a description.

use std::{fmt, io, path::PathBuf};

use super::{
    Machine,
    describe::describe,
    devices,
    hwloc::{HwlocError, Topology, View},
    read::read_bounded,
    synthetic,
    system::{System, SystemError},
    trial, xml,
};

/// Where the description of a machine comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// This machine, inspected now.
    ThisMachine,
    /// A file written by `lstopo` or by `sealbus-worker topology --export-xml`.
    Xml(PathBuf),
    /// hwloc's synthetic description, for example `package:2 l3:8 core:8 pu:2`.
    Synthetic(String),
}

/// A machine that hwloc has loaded.
#[derive(Debug)]
pub struct Opened {
    /// Everything, including what may not be used.
    whole: Topology,
    /// The view that the proofs library gets.
    plain: Topology,
}

/// Why a machine cannot be described.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// hwloc failed.
    #[error("cannot inspect {machine}")]
    Hwloc {
        /// The machine's description or name.
        machine: String,
        /// hwloc's error.
        #[source]
        source: HwlocError,
    },
    /// A file of the system cannot be read.
    #[error("cannot inspect this machine")]
    System(#[from] SystemError),
    /// A file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The file does not describe a machine.
    #[error("{} is not an XML file of hwloc 2: {problem}; `lstopo FILE.xml` writes one", path.display())]
    Xml {
        /// The file.
        path: PathBuf,
        /// The problem.
        problem: String,
    },
    /// The file has hwloc's format 3, which libhwloc 2 cannot read.
    #[error(
        "{} is of hwloc's format {version}, and 2 is needed: write it with `lstopo --export-xml-flags v2 FILE.xml`",
        path.display()
    )]
    XmlVersion {
        /// The file.
        path: PathBuf,
        /// The format version in the file.
        version: String,
    },
    /// The text does not describe a machine.
    #[error("{text:?} is no synthetic description: {problem}; an example is \"package:2 l3:8 core:8 pu:2\"")]
    Synthetic {
        /// The text, or its beginning.
        text: String,
        /// The problem.
        problem: String,
    },
    /// There is no usable processing unit.
    #[error("{machine} has no processing unit that may be used: give the worker some by its cpuset")]
    NoUnits {
        /// The machine's description or name.
        machine: String,
    },
    /// There is no usable memory.
    #[error("{machine} has no NUMA node whose memory may be used: give the worker one by its cpuset's mems")]
    NoNodes {
        /// The machine's description or name.
        machine: String,
    },
    /// A node's memory size is impossible.
    #[error("node {node} of {machine} has {value}: {problem}; correct the description")]
    Memory {
        /// The machine's description or name.
        machine: String,
        /// The node's OS index.
        node: u32,
        /// The value in the description.
        value: String,
        /// The problem.
        problem: String,
    },
    /// Two nodes have the same number.
    #[error("{machine} has two nodes with the number {node}: correct the description")]
    NodeTwice {
        /// The machine's description or name.
        machine: String,
        /// The OS index.
        node: u32,
    },
    /// Two cores have the same thread.
    #[error("{machine} has two cores with the thread {unit}: correct the description")]
    UnitTwice {
        /// The machine's description or name.
        machine: String,
        /// The thread's OS index.
        unit: u32,
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

/// Loads the machine of a source. What the worker may not use is left out.
///
/// # Errors
/// [`TopologyError`]. No description, of whatever content or size, causes a panic.
pub fn load(source: Source) -> Result<Machine, TopologyError> {
    describe_opened(&source, &open(&source)?)
}

/// Describes a machine that was [opened](open).
///
/// # Errors
/// The errors of [`load`].
pub fn describe_opened(source: &Source, opened: &Opened) -> Result<Machine, TopologyError> {
    let hwloc_failed = |error| hwloc_failed(source, error);
    let root = opened.whole.root().map_err(hwloc_failed)?;
    let mut units = opened.whole.allowed_units().map_err(hwloc_failed)?;
    let mut nodes = opened.whole.allowed_nodes().map_err(hwloc_failed)?;
    let sight = opened.plain.sight().map_err(hwloc_failed)?;
    if *source != Source::ThisMachine {
        return Ok(Machine { sight, ..describe(&source.to_string(), &root, &units, &nodes)? });
    }
    let system = System::default();
    let given = system.given()?;
    units = units.intersection(&given.units);
    nodes = nodes.intersection(&given.nodes);
    let mut machine = Machine { sight, ..describe(&source.to_string(), &root, &units, &nodes)? };
    system.count_huge_pages(&mut machine.nodes);
    let cards = devices::cards_of_tree(&root, &machine.nodes);
    machine.gpus = devices::with_cards(cards, system.cards(), &machine.nodes, &machine.nodes_present);
    machine.disks = system.disks(&machine.nodes, &machine.nodes_present);
    let memory = machine.memory_bytes();
    machine.memory_max_bytes = system.memory_max().filter(|max| *max < memory);
    Ok(machine)
}

/// Loads the machine of a source into hwloc.
///
/// # Errors
/// The errors of [`load`].
pub fn open(source: &Source) -> Result<Opened, TopologyError> {
    match source {
        Source::ThisMachine => both(Topology::of_this_machine).map_err(|error| hwloc_failed(source, error)),
        Source::Xml(path) => {
            let refused = |problem: String| TopologyError::Xml { path: path.clone(), problem };
            let bytes = read_bounded(path, xml::BYTES_MAX)
                .map_err(|source| TopologyError::Read { path: path.clone(), source })?;
            let text = xml::checked(bytes).map_err(|problem| match problem {
                xml::XmlProblem::Version(version) => TopologyError::XmlVersion { path: path.clone(), version },
                other => refused(other.to_string()),
            })?;
            tried(source, |view| Topology::from_xml(&text, view), refused)
        }
        Source::Synthetic(text) => {
            let refused =
                |problem: String| TopologyError::Synthetic { text: text.chars().take(200).collect(), problem };
            synthetic::check(text).map_err(|problem| refused(problem.to_string()))?;
            tried(source, |view| Topology::from_synthetic(text, view), refused)
        }
    }
}

/// Opens a description, if a forked process could do it without crashing.
fn tried(
    source: &Source,
    open: impl Fn(View) -> Result<Topology, HwlocError>,
    refused: impl Fn(String) -> TopologyError,
) -> Result<Opened, TopologyError> {
    trial::of(|| both(&open)).map_err(|failure| refused(failure.to_string()))?;
    both(&open).map_err(|error| match error {
        HwlocError::Failed { .. } => refused(format!("{error}")),
        other => hwloc_failed(source, other),
    })
}

fn both(open: impl Fn(View) -> Result<Topology, HwlocError>) -> Result<Opened, HwlocError> {
    Ok(Opened { whole: open(View::Everything)?, plain: open(View::Plain)? })
}

impl Opened {
    /// An XML document from which the same machine can be loaded again.
    ///
    /// # Errors
    /// [`HwlocError`] if hwloc cannot write it.
    pub fn to_xml(&self) -> Result<String, HwlocError> {
        self.whole.to_xml()
    }

    /// Copies everything that is used of it.
    pub(super) fn read(&self) -> Result<(), HwlocError> {
        self.whole.allowed_units()?;
        self.whole.allowed_nodes()?;
        self.whole.root()?;
        self.plain.sight()?;
        Ok(())
    }
}

fn hwloc_failed(source: &Source, error: HwlocError) -> TopologyError {
    TopologyError::Hwloc { machine: source.to_string(), source: error }
}
