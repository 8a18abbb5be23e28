//! The toy workflow on a worker: one stage that it shares with sealing, and one of its own.

use std::{fs, path::PathBuf};

use sealbus_schema::{
    Phase,
    workflows::toy::worker::{MEASURE, Progress, Step, Toy},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, from_value};

use super::{Work, Workplace};
use crate::stage::{self, Json, Stage, StageCode, StageError, StageRequest, Workspace, add_pieces};

/// A request to measure the staged data.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// The job's directory in its slot.
    pub work_dir: PathBuf,
}

/// The result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Response {
    /// The staged file's length in bytes.
    pub bytes: u64,
}

impl StageRequest for Request {
    const STAGE: Stage = MEASURE;
    type Response = Response;

    fn run(&self) -> Result<Response, StageError> {
        let path = Workspace::open(&self.work_dir)?.unsealed();
        let missing = |error| StageError::new(StageCode::InputMissing, format!("{}: {error}", path.display()));
        Ok(Response { bytes: fs::metadata(&path).map_err(missing)?.len() })
    }
}

impl Work for Toy {
    fn request(step: &Step, at: &Workplace) -> Option<serde_json::Result<Json>> {
        let work_dir = at.work_dir.clone();
        match step {
            Step::ToyStaging {} => Some(Json::of(&add_pieces::Request::committed_capacity(work_dir, at.intent.proof))),
            Step::ToyAwaitingTicket { .. } => None,
            Step::ToyMeasuring { .. } => Some(Json::of(&Request { work_dir })),
        }
    }

    fn output(step: &Step, output: Value, _at: &Workplace, _found: Option<String>) -> serde_json::Result<Progress> {
        Ok(match step {
            Step::ToyStaging {} => Progress::Staged { pieces: from_value::<add_pieces::Response>(output)?.pieces },
            Step::ToyMeasuring { .. } => Progress::Measured { bytes: from_value::<Response>(output)?.bytes },
            Step::ToyAwaitingTicket { .. } => return Err(serde::de::Error::custom("the step has no output")),
        })
    }

    fn run_own(stage: Phase, task: &[u8]) -> Option<Result<Json, StageError>> {
        (stage == MEASURE).then(|| stage::run_as::<Request>(task))
    }
}
