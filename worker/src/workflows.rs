//! What a worker does for each workflow, one file or folder each, and the dispatch, which is generated from the list of
//! workflows.
//!
//! [`Work`] adds to a workflow's [`Machine`] what only a worker knows: the requests of its steps, and what the answers
//! mean. Everything here is pure. [`driver`](crate::driver) and the simulation carry it out.

pub mod seal;
#[cfg(feature = "toy-workflow")]
pub mod toy;

use std::path::PathBuf;

use sealbus_schema::{
    ErrorReport, Token,
    machine::worker::{Input, Machine},
    message::{FactKind, Intent},
    workflows::{Progress, Step},
};
use serde_json::Value;

use crate::{
    config::Store,
    stage::{self, Json, Stage, StageCode, StageError},
};

/// The worker's part of a workflow.
///
/// Only workflows that need them implement the methods with a default.
pub trait Work: Machine {
    /// A step's request to the processor of its phase. `None` for a step without a phase.
    fn request(step: &Self::Step, at: &Workplace) -> Option<serde_json::Result<Json>>;

    /// The progress that a processor's output stands for. For stages that write into the store, `found` is the id that
    /// the store had right after.
    ///
    /// # Errors
    /// If the output does not have the stage's shape.
    fn output(
        step: &Self::Step,
        output: Value,
        at: &Workplace,
        found: Option<String>,
    ) -> serde_json::Result<Self::Progress>;

    /// The progress of a step that waits for a free processor, once there is one.
    fn room_seen(_step: &Self::Step) -> Option<Self::Progress> {
        None
    }

    /// Whether the job's directory is created for a step if it is missing.
    fn makes_work_dir(_step: &Self::Step) -> bool {
        true
    }

    /// The files in the job's directory that are no longer needed after this progress.
    fn spent(_progress: &Self::Progress) -> &'static [&'static str] {
        &[]
    }

    /// When work on a step becomes worthless. `None` if it does not expire.
    fn expiry(_step: &Self::Step) -> Option<Expiry> {
        None
    }

    /// The outcome of an expiring step if it must not be started at this epoch, which is an estimate. `None` if it may be
    /// started.
    fn refuse_to_start(_step: &Self::Step, _epoch: i64) -> Option<Result<Self::Progress, ErrorReport>> {
        None
    }

    /// Carries out a request of a stage that only this workflow has ([`Stage::Own`]). `None` if the stage belongs to
    /// another workflow.
    fn run_own(_stage: Stage, _task: &[u8]) -> Option<Result<Json, StageError>> {
        None
    }
}

/// Where a job is processed, as far as requests need to know.
#[derive(Clone, Debug)]
pub struct Workplace {
    /// The job's directory in its slot.
    pub work_dir: PathBuf,
    /// The job's intent.
    pub intent: Intent,
    /// The lease's token.
    pub token: Token,
    /// The permanent store.
    pub store: Store,
    /// The id that the store must have, if the manager knows it.
    pub store_id: Option<String>,
    /// The directories, one per disk, for files that all jobs on that disk share. They may not exist yet.
    pub static_dirs: Vec<PathBuf>,
}

/// When work on a step becomes worthless, in epochs of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// The kind of the fact that said so.
    pub told_by: FactKind,
    /// The epoch of the chain's head when the fact was written.
    pub head_epoch: i64,
    /// The length of an epoch in milliseconds.
    pub epoch_millis: u64,
    /// The last epoch at which the work is of use.
    pub last_epoch: i64,
}

macro_rules! define {
    ($($(#[$cfg:meta])* $folder:ident: $name:ident $kinds:tt;)*) => {
        $($(#[$cfg])* use sealbus_schema::workflows::$folder::worker::$name;)*

        /// See [`Work::request`].
        pub fn request(step: &Step, at: &Workplace) -> Option<serde_json::Result<Json>> {
            match step {
                Step::Last(_) => None,
                $($(#[$cfg])* Step::$name(step) => $name::request(step, at),)*
            }
        }

        /// See [`Work::output`].
        ///
        /// # Errors
        /// If the output does not have the stage's shape.
        pub fn output(
            step: &Step,
            output: Value,
            at: &Workplace,
            found: Option<String>,
        ) -> serde_json::Result<Progress> {
            match step {
                Step::Last(_) => Err(serde::de::Error::custom("the last step has no output")),
                $($(#[$cfg])* Step::$name(step) => $name::output(step, output, at, found).map(Progress::$name),)*
            }
        }

        /// See [`Work::room_seen`].
        pub fn room_seen(step: &Step) -> Option<Input> {
            match step {
                Step::Last(_) => None,
                $($(#[$cfg])* Step::$name(step) => $name::room_seen(step).map(Input::from),)*
            }
        }

        /// See [`Work::makes_work_dir`].
        pub fn makes_work_dir(step: &Step) -> bool {
            match step {
                Step::Last(_) => false,
                $($(#[$cfg])* Step::$name(step) => $name::makes_work_dir(step),)*
            }
        }

        /// See [`Work::spent`].
        pub fn spent(progress: &Progress) -> &'static [&'static str] {
            match progress {
                $($(#[$cfg])* Progress::$name(progress) => $name::spent(progress),)*
            }
        }

        /// See [`Work::expiry`].
        pub fn expiry(step: &Step) -> Option<Expiry> {
            match step {
                Step::Last(_) => None,
                $($(#[$cfg])* Step::$name(step) => $name::expiry(step),)*
            }
        }

        /// See [`Work::refuse_to_start`].
        pub fn refuse_to_start(step: &Step, epoch: i64) -> Option<Input> {
            match step {
                Step::Last(_) => None,
                $($(#[$cfg])* Step::$name(step) => Some(match $name::refuse_to_start(step, epoch)? {
                    Ok(progress) => Input::from(progress),
                    Err(error) => Input::Failed { error },
                }),)*
            }
        }

        /// Runs the built-in implementation of a stage of any workflow; see [`stage::run_json`].
        ///
        /// # Errors
        /// The stage's error; [`StageCode::RequestInvalid`] if there is no such stage.
        pub fn run_stage(stage: Stage, task: &[u8]) -> Result<Json, StageError> {
            if !matches!(stage, Stage::Own(_)) || Stage::POST.contains(&stage) || Stage::WINNING.contains(&stage) {
                return stage::run_json(stage, task);
            }
            $($(#[$cfg])* if let Some(done) = $name::run_own(stage, task) {
                return done;
            })*
            Err(StageError::new(StageCode::RequestInvalid, format!("there is no built-in stage {stage}")))
        }
    };
}
sealbus_schema::for_each_workflow!(define);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_that_no_workflow_has_is_refused() {
        let refused = run_stage(Stage::Own("melt"), b"{}").expect_err("nobody has it");
        assert_eq!(refused.code, StageCode::RequestInvalid);
        assert!(refused.to_string().contains("no built-in stage melt"), "{refused}");
    }
}
