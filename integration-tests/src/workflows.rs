//! Stand-ins for each workflow's stages, one file or folder each. In simulated worlds a stand-in gives an answer; in
//! scripted processors it gives files and an answer. Both get the requests that production makes.

pub mod seal;
#[cfg(feature = "toy-workflow")]
pub mod toy;
pub mod winning;

use std::{collections::HashMap, path::PathBuf, time::Duration};

use sealbus_schema::{
    Phase, SectorId,
    machine::worker::Machine,
    message::FactBody,
    workflows::{self, Step},
};
use sealbus_worker::{processor::protocol::Failure, stage::Json};
use serde_json::Value;

/// The permanent store of a simulated world: the replica of each sector.
pub type SimulatedStore = HashMap<SectorId, [u8; 32]>;

/// The stand-ins for a workflow's stages. The methods return `None` for a stage that the workflow does not have.
pub trait StandIns: Machine {
    /// What a scripted processor does with a request. With `real_replicas`, the stages before the last one are real.
    fn script(stage: Phase, task: &Value, real_replicas: bool) -> Option<Result<Script, Failure>>;

    /// The answer in a simulated world. It depends only on the request, the sector and the store.
    fn simulate(stage: Phase, task: &[u8], _sector: SectorId, _store: &mut SimulatedStore) -> Option<Value> {
        let task = serde_json::from_slice(task).ok()?;
        Some(Self::script(stage, &task, false)?.ok()?.answer)
    }

    /// The number of the fact that a step works with, if a later fact of the same kind withdraws it.
    fn draw_used(_step: &Self::Step) -> Option<u32> {
        None
    }

    /// The number of a fact that withdraws earlier ones.
    fn draw_told(_fact: &Self::Fact) -> Option<u32> {
        None
    }
}

/// The actions of a scripted processor, in this order.
#[derive(Debug, Default)]
pub struct Script {
    /// The files that earlier stages must have left, with their content.
    pub inputs: Vec<(PathBuf, Vec<u8>)>,
    /// The store that must be there before and after the work.
    pub store: Option<NamedStore>,
    /// How long it takes.
    pub pause: Duration,
    /// The file that it leaves.
    pub output: Option<ScriptedFile>,
    /// What it answers.
    pub answer: Value,
}

/// A file that a script leaves.
#[derive(Debug)]
pub struct ScriptedFile {
    /// Its path until it is complete.
    pub temporary: PathBuf,
    /// Its final path.
    pub path: PathBuf,
    /// Its content.
    pub content: Vec<u8>,
}

/// A permanent store that a script writes into. An existing file is compared, and never overwritten.
#[derive(Debug)]
pub struct NamedStore {
    /// Its root.
    pub dir: PathBuf,
    /// Its name; empty if it must not be checked.
    pub name: String,
    /// Its id, if it is known.
    pub id: Option<String>,
}

impl ScriptedFile {
    /// A file in a slot.
    pub fn new(path: PathBuf, content: Vec<u8>) -> ScriptedFile {
        ScriptedFile { temporary: path.with_extension("tmp"), path, content }
    }
}

macro_rules! define {
    ($($(#[$cfg:meta])* $folder:ident: $name:ident $kinds:tt;)*) => {
        $($(#[$cfg])* use workflows::$folder::worker::$name;)*

        /// [`StandIns::script`] of the workflow that has the stage, or what a scripted prover of blocks does.
        pub fn script(stage: Phase, task: &Value, real_replicas: bool) -> Option<Result<Script, Failure>> {
            $($(#[$cfg])* if let Some(script) = $name::script(stage, task, real_replicas) {
                return Some(script);
            })*
            winning::script(stage, task)
        }

        /// [`StandIns::simulate`] of the workflow that has the stage.
        pub fn simulate(stage: Phase, task: &Json, sector: SectorId, store: &mut SimulatedStore) -> Option<Value> {
            $($(#[$cfg])* if let Some(answer) = $name::simulate(stage, task.as_bytes(), sector, store) {
                return Some(answer);
            })*
            None
        }

        /// See [`StandIns::draw_used`].
        pub fn draw_used(step: &Step) -> Option<u32> {
            match step {
                Step::Last(_) => None,
                $($(#[$cfg])* Step::$name(step) => $name::draw_used(step),)*
            }
        }

        /// See [`StandIns::draw_told`].
        pub fn draw_told(fact: &FactBody) -> Option<u32> {
            match fact {
                FactBody::Common(_) | FactBody::Newer(_) => None,
                $($(#[$cfg])* FactBody::$name(fact) => $name::draw_told(fact),)*
            }
        }
    };
}
sealbus_schema::for_each_workflow!(define);
