//! The phases of sealing as blocking functions over the files of one slot.
//!
//! Every stage is a request type, a response type and `fn run(&Request) -> Result<Response, StageError>`. All of them keep one promise: killed at any
//! instruction and run again with the same request they give the same result, because inputs are never changed in place, and an output gets its
//! final name only when it is complete and on the disk ([`files`]). Where the files lie is fixed by [`Workspace`].
//!
//! Order: [`add_pieces`], [`tree_d`], [`pc1`], [`pc2`], [`transfer`], [`c1`], [`c2`].

use serde::{Serialize, de::DeserializeOwned};

pub mod add_pieces;
pub mod c1;
pub mod c2;
pub mod error;
pub mod files;
mod parent_cache;
pub mod pc1;
pub mod pc2;
mod pc2_check;
pub mod sector;
pub mod transfer;
mod transfer_file;
pub mod tree_d;
pub mod wire;
pub mod workspace;

pub use error::{ErrorClass, StageCode, StageError};
pub use sector::{PieceInfo, SealProof, SectorRef};
pub use wire::{Bytes32, HexBytes};
pub use workspace::Workspace;

/// A step of sealing that a processor carries out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Makes the unsealed file.
    AddPieces,
    /// Builds the Merkle tree over the unsealed file.
    TreeD,
    /// Labels the layers of the graph.
    Pc1,
    /// Encodes the replica and builds the trees over it.
    Pc2,
    /// Copies what stays into the permanent store.
    Transfer,
    /// Opens the challenged nodes.
    C1,
    /// Makes the Groth16 proof.
    C2,
}

impl Stage {
    /// All built-in stages, in the order of a sector's life.
    pub const ALL: [Self; 7] = [Self::AddPieces, Self::TreeD, Self::Pc1, Self::Pc2, Self::Transfer, Self::C1, Self::C2];

    /// The name on the command line, in configuration and in the protocol.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AddPieces => "add_pieces",
            Self::TreeD => "tree_d",
            Self::Pc1 => "pc1",
            Self::Pc2 => "pc2",
            Self::Transfer => "transfer",
            Self::C1 => "c1",
            Self::C2 => "c2",
        }
    }

    /// Runs the built-in implementation on a request and gives the response, both as JSON.
    ///
    /// # Errors
    /// [`StageCode::RequestInvalid`] if the request has another shape, otherwise what the stage says.
    pub fn run_json(self, task: serde_json::Value) -> Result<serde_json::Value, StageError> {
        match self {
            Self::AddPieces => run_as::<add_pieces::Request>(task),
            Self::TreeD => run_as::<tree_d::Request>(task),
            Self::Pc1 => run_as::<pc1::Request>(task),
            Self::Pc2 => run_as::<pc2::Request>(task),
            Self::Transfer => run_as::<transfer::Request>(task),
            Self::C1 => run_as::<c1::Request>(task),
            Self::C2 => run_as::<c2::Request>(task),
        }
    }
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Stage {
    type Err = UnknownStage;

    fn from_str(name: &str) -> Result<Self, UnknownStage> {
        Self::ALL.into_iter().find(|stage| stage.name() == name).ok_or_else(|| UnknownStage { name: name.to_owned() })
    }
}

/// No stage has this name.
#[derive(Debug, thiserror::Error)]
#[error("unknown stage {name:?}; known are add_pieces, tree_d, pc1, pc2, transfer, c1, c2")]
pub struct UnknownStage {
    /// What was given.
    pub name: String,
}

/// A request that says by its type which stage serves it and what comes back.
pub trait StageRequest: Serialize + DeserializeOwned {
    /// The stage that serves it.
    const STAGE: Stage;
    /// What the stage answers.
    type Response: Serialize + DeserializeOwned;

    /// Carries the request out in this process, blocking.
    ///
    /// # Errors
    /// As the stage's module says.
    fn run(&self) -> Result<Self::Response, StageError>;
}

fn run_as<R: StageRequest>(task: serde_json::Value) -> Result<serde_json::Value, StageError> {
    let request: R = serde_json::from_value(task)
        .map_err(|error| StageError::new(StageCode::RequestInvalid, format!("{} request: {error}", R::STAGE)))?;
    let response = request.run()?;
    serde_json::to_value(response)
        .map_err(|error| StageError::new(StageCode::RequestInvalid, format!("{} response: {error}", R::STAGE)))
}
