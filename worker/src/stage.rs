//! What processors serve: the phases of sealing as blocking functions over the files of one slot.
//!
//! Every stage is a request type, a response type and `fn run(&Request) -> Result<Response, StageError>`. Every stage
//! can be killed at any instruction and run again with the same request, with the same result. For that, inputs are
//! never changed in place, and an output gets its final name only when it is complete and durable ([`files`]).
//! [`Workspace`] defines where the files lie.
//!
//! Reading order: [`add_pieces`], [`tree_d`], [`pc1`], [`pc2`], [`transfer`], [`c1`], [`c2`]. Apart from them stand
//! [`post_read`] and [`post_prove`], which write no files and belong to no sector's job.

use serde::{Serialize, de::DeserializeOwned};

pub mod add_pieces;
pub mod c1;
pub mod c2;
pub mod error;
pub mod files;
pub mod foreign;
pub mod huge_pages;
pub mod json;
mod lock;
mod parent_cache;
pub mod pc1;
pub mod pc2;
mod pc2_check;
pub mod post;
pub mod post_prove;
pub mod post_read;
pub mod post_trial;
pub mod sector;
pub mod static_tree_d;
pub mod transfer;
mod transfer_file;
pub mod tree_d;
pub mod workspace;

pub use error::{StageCode, StageError};
pub use json::Json;
pub use sealbus_schema::Phase as Stage;
pub use workspace::Workspace;

/// The stages of winning PoSts do the same as those of window PoSts.
const WIN_READ: Stage = Stage::WINNING[0];
const WIN_PROVE: Stage = Stage::WINNING[1];

/// Runs the built-in implementation of `stage`. Request and response are JSON.
///
/// # Errors
/// [`StageCode::RequestInvalid`] if the request has another form; otherwise the stage's errors.
pub fn run_json(stage: Stage, task: &[u8]) -> Result<Json, StageError> {
    match stage {
        Stage::AddPieces => run_as::<add_pieces::Request>(task),
        Stage::TreeD => run_as::<tree_d::Request>(task),
        Stage::Pc1 => run_as::<pc1::Request>(task),
        Stage::Pc2 => run_as::<pc2::Request>(task),
        Stage::Transfer => run_as::<transfer::Request>(task),
        Stage::C1 => run_as::<c1::Request>(task),
        Stage::C2 => run_as::<c2::Request>(task),
        post_read::Request::STAGE | WIN_READ => run_as::<post_read::Request>(task),
        post_prove::Request::STAGE | WIN_PROVE => run_as::<post_prove::Request>(task),
        Stage::Own(_) => {
            Err(StageError::new(StageCode::RequestInvalid, format!("stage {stage} is its workflow's own")))
        }
    }
}

/// Whether a stage writes into the permanent store, which is then looked at before and after.
#[must_use]
pub const fn writes_to_store(stage: Stage) -> bool {
    matches!(stage, Stage::Transfer)
}

/// A request that says by its type which stage serves it and what comes back.
pub trait StageRequest: Serialize + DeserializeOwned {
    /// The stage that serves it.
    const STAGE: Stage;
    /// What the stage answers.
    type Response: Serialize + DeserializeOwned;

    /// Carries out the request in this process. Blocks.
    ///
    /// # Errors
    /// The errors listed at the stage's own `run`.
    fn run(&self) -> Result<Self::Response, StageError>;
}

/// Reads a request, carries it out, and writes the response.
///
/// # Errors
/// As [`run_json`].
pub fn run_as<R: StageRequest>(task: &[u8]) -> Result<Json, StageError> {
    run_by(task, R::run)
}

/// Decodes a request, runs it with `run`, and encodes the response.
fn run_by<R: StageRequest>(
    task: &[u8],
    run: impl FnOnce(&R) -> Result<R::Response, StageError>,
) -> Result<Json, StageError> {
    let request: R = serde_json::from_slice(task)
        .map_err(|error| StageError::new(StageCode::RequestInvalid, format!("{} request: {error}", R::STAGE)))?;
    Json::of(&run(&request)?)
        .map_err(|error| StageError::new(StageCode::RequestInvalid, format!("{} response: {error}", R::STAGE)))
}
