//! Makes the unsealed file out of pieces.
//!
//! So far only committed capacity: one piece of zeros as large as the sector, as a sparse file.

use std::fs::File;
use std::path::{Path, PathBuf};

use filecoin_proofs_api::UnpaddedBytesAmount;
use sealbus_schema::parts::PieceInfo;
use sealbus_schema::{Commitment, SealProof};
use serde::{Deserialize, Serialize};

use super::{Stage, StageCode, StageError, StageRequest, Workspace, files};

/// What to put into the sector.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// The sector's working directory.
    pub work_dir: PathBuf,
    /// The proof type, for the size.
    pub proof: SealProof,
    /// The pieces, in the order in which they lie in the sector.
    pub pieces: Vec<Piece>,
}

/// One piece.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Piece {
    /// Zeros.
    Zero {
        /// Padded size in bytes.
        padded_bytes: u64,
    },
    /// A kind that this version does not know; refused.
    #[serde(other)]
    Unknown,
}

/// The pieces as they lie in the sector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// One for each piece of the request.
    pub pieces: Vec<PieceInfo>,
}

impl Request {
    /// The request for a committed-capacity sector.
    #[must_use]
    pub fn committed_capacity(work_dir: PathBuf, proof: SealProof) -> Self {
        Self { work_dir, proof, pieces: vec![Piece::Zero { padded_bytes: proof.sector_size().bytes() }] }
    }
}

impl StageRequest for Request {
    const STAGE: Stage = Stage::AddPieces;
    type Response = Response;

    fn run(&self) -> Result<Response, StageError> {
        run(self)
    }
}

/// Makes `unsealed`; an existing one of the right size is made anew all the same, because zeros cost nothing.
///
/// # Errors
/// [`StageCode::PieceUnsupported`] for anything but one zero piece of the sector's size; of the file system.
pub fn run(request: &Request) -> Result<Response, StageError> {
    run_by(request, &|temporary, size| {
        let make = || -> std::io::Result<()> {
            let file = File::create(temporary)?;
            file.set_len(size)
        };
        make().map_err(|error| StageError::io("make", temporary, &error))
    })
}

/// [`run`] with somebody else to write the file of this size.
pub(super) fn run_by(
    request: &Request,
    make: &dyn Fn(&Path, u64) -> Result<(), StageError>,
) -> Result<Response, StageError> {
    let workspace = Workspace::open(&request.work_dir)?;
    let size = request.proof.sector_size().bytes();
    match request.pieces.as_slice() {
        [Piece::Zero { padded_bytes }] if *padded_bytes == size => {}
        _ => {
            let message = format!("only one zero piece of {size} bytes is supported");
            return Err(StageError::new(StageCode::PieceUnsupported, message));
        }
    }
    let unsealed = workspace.unsealed();
    let temporary = workspace.scratch("unsealed");
    files::remove_tree(&temporary)?;
    make(&temporary, size)?;
    files::require_size(&temporary, size)?;
    files::sync_file(&temporary)?;
    files::rename(&temporary, &unsealed)?;
    files::sync_parent(&unsealed)?;
    Ok(Response { pieces: vec![PieceInfo { commitment: zero_commitment(size)?, padded_bytes: size }] })
}

/// The commitment of a zero piece of `padded_bytes` bytes, without hashing the piece.
pub(super) fn zero_commitment(padded_bytes: u64) -> Result<Commitment, StageError> {
    filecoin_proofs::pieces::zero_padding(UnpaddedBytesAmount(padded_bytes / 128 * 127))
        .map(|piece| Commitment(piece.commitment))
        .map_err(|error| StageError::library("commitment of zeros", &error))
}
