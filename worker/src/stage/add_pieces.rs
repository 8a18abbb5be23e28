//! Creates the unsealed file from pieces.
//!
//! So far only committed capacity (CC) is supported: one piece of zeros as large as the sector, written as a sparse
//! file.

use std::fs::File;
use std::path::{Path, PathBuf};

use filecoin_proofs_api::UnpaddedBytesAmount;
use sealbus_schema::parts::PieceInfo;
use sealbus_schema::{Commitment, SealProof};
use serde::{Deserialize, Serialize};

use super::{Stage, StageCode, StageError, StageRequest, Workspace, files};

/// The pieces to put into a sector.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// The sector's working directory.
    pub work_dir: PathBuf,
    /// The proof type, which determines the size.
    pub proof: SealProof,
    /// The pieces, in their order in the sector.
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
    /// A kind that this version does not know. It is refused.
    #[serde(other)]
    Unknown,
}

/// The pieces in the sector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// One entry for each piece of the request.
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

/// Creates `unsealed`. An existing file is rewritten, because a sparse file costs nothing.
///
/// # Errors
/// [`StageCode::PieceUnsupported`] for anything but one zero piece of the sector's size; errors of the file system.
pub fn run(request: &Request) -> Result<Response, StageError> {
    run_by(request, &|temporary, size| {
        let make = || -> std::io::Result<()> {
            let file = File::create(temporary)?;
            file.set_len(size)
        };
        make().map_err(|error| StageError::io("make", temporary, &error))
    })
}

/// Like [`run`], with another function that writes the file of the given size.
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

/// The piece commitment (CommP) of `padded_bytes` zero bytes, computed without hashing the data.
pub(super) fn zero_commitment(padded_bytes: u64) -> Result<Commitment, StageError> {
    filecoin_proofs::pieces::zero_padding(UnpaddedBytesAmount(padded_bytes / 128 * 127))
        .map(|piece| Commitment(piece.commitment))
        .map_err(|error| StageError::library("commitment of zeros", &error))
}
