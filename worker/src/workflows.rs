//! What a worker does for each workflow, a folder each, and the dispatch, which is made from the list of workflows.
//!
//! [`Work`] adds to a workflow's [`Machine`] what only a worker knows: the requests of its steps, and what their answers
//! mean. Everything here is pure. [`driver`](crate::driver) carries it out, and the simulation does so as well.

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
/// A method that has a default is for workflows that need it.
pub trait Work: Machine {
    /// What a step asks of the processor of its phase. `None` for a step without a phase.
    fn request(step: &Self::Step, at: &Workplace) -> Option<serde_json::Result<Json>>;

    /// What the processor's output means. `found` is the id that the store had right after, for stages that write into it.
    ///
    /// # Errors
    /// If the output has another shape than the stage's.
    fn output(
        step: &Self::Step,
        output: Value,
        at: &Workplace,
        found: Option<String>,
    ) -> serde_json::Result<Self::Progress>;

    /// What it means for a step that waits for room that there is room.
    fn room_seen(_step: &Self::Step) -> Option<Self::Progress> {
        None
    }

    /// Whether the job's directory is made for a step if it is not there.
    fn makes_work_dir(_step: &Self::Step) -> bool {
        true
    }

    /// The files in the job's directory that nothing needs after this progress.
    fn spent(_progress: &Self::Progress) -> &'static [&'static str] {
        &[]
    }

    /// Until when the work on a step is worth anything. `None` if it does not expire.
    fn expiry(_step: &Self::Step) -> Option<Expiry> {
        None
    }

    /// What a step that expires comes to instead of being started at this epoch, which is an estimate. `None`: it is started.
    fn refuse_to_start(_step: &Self::Step, _epoch: i64) -> Option<Result<Self::Progress, ErrorReport>> {
        None
    }

    /// Carries out a request of a stage that only this workflow has ([`Stage::Own`]). `None` if the stage is another's.
    fn run_own(_stage: Stage, _task: &[u8]) -> Option<Result<Json, StageError>> {
        None
    }
}

/// Where a job is worked on, as far as requests need to know.
#[derive(Clone, Debug)]
pub struct Workplace {
    /// The job's directory in its slot.
    pub work_dir: PathBuf,
    /// What is being done.
    pub intent: Intent,
    /// The right to it.
    pub token: Token,
    /// The permanent store.
    pub store: Store,
    /// The id that the store must have, if the manager knows it.
    pub store_id: Option<String>,
    /// Where each disk has, or may have, what all jobs on it share.
    pub static_dirs: Vec<PathBuf>,
}

/// Until when the work on a step is worth anything, in epochs of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// The fact that told so.
    pub told_by: FactKind,
    /// The chain's head when it was written.
    pub head_epoch: i64,
    /// The length of an epoch in milliseconds.
    pub epoch_millis: u64,
    /// The last epoch.
    pub last_epoch: i64,
}

macro_rules! define {
    ($($(#[$cfg:meta])* $folder:ident: $name:ident $kinds:tt;)*) => {
        $($(#[$cfg])* use sealbus_schema::workflows::$folder::worker::$name;)*

        /// As [`Work::request`].
        pub fn request(step: &Step, at: &Workplace) -> Option<serde_json::Result<Json>> {
            match step {
                Step::Last(_) => None,
                $($(#[$cfg])* Step::$name(step) => $name::request(step, at),)*
            }
        }

        /// As [`Work::output`].
        ///
        /// # Errors
        /// If the output has another shape than the stage's.
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

        /// As [`Work::room_seen`].
        pub fn room_seen(step: &Step) -> Option<Input> {
            match step {
                Step::Last(_) => None,
                $($(#[$cfg])* Step::$name(step) => $name::room_seen(step).map(Input::from),)*
            }
        }

        /// As [`Work::makes_work_dir`].
        pub fn makes_work_dir(step: &Step) -> bool {
            match step {
                Step::Last(_) => false,
                $($(#[$cfg])* Step::$name(step) => $name::makes_work_dir(step),)*
            }
        }

        /// As [`Work::spent`].
        pub fn spent(progress: &Progress) -> &'static [&'static str] {
            match progress {
                $($(#[$cfg])* Progress::$name(progress) => $name::spent(progress),)*
            }
        }

        /// As [`Work::expiry`].
        pub fn expiry(step: &Step) -> Option<Expiry> {
            match step {
                Step::Last(_) => None,
                $($(#[$cfg])* Step::$name(step) => $name::expiry(step),)*
            }
        }

        /// As [`Work::refuse_to_start`].
        pub fn refuse_to_start(step: &Step, epoch: i64) -> Option<Input> {
            match step {
                Step::Last(_) => None,
                $($(#[$cfg])* Step::$name(step) => Some(match $name::refuse_to_start(step, epoch)? {
                    Ok(progress) => Input::from(progress),
                    Err(error) => Input::Failed { error },
                }),)*
            }
        }

        /// Runs the built-in implementation of a stage of any workflow, as [`stage::run_json`].
        ///
        /// # Errors
        /// As the stage says; [`StageCode::RequestInvalid`] if there is none.
        pub fn run_stage(stage: Stage, task: &[u8]) -> Result<Json, StageError> {
            if !matches!(stage, Stage::Own(_)) {
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
