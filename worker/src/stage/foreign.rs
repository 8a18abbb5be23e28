//! Stages whose work an executable made for damocles does, under the promises of the built-in ones.
//!
//! What the executable does is put into the middle of the stage: everything before and after (records, temporary names,
//! syncs, the copy that PC2 works on, every check) is the stage's own code. Inputs that the executable is shown are looked
//! at again afterwards, because it works in the same file system. [`shapes`] has what is said to it.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use filecoin_proofs_api::seal::{SealCommitPhase1Output, SealPreCommitPhase1Output, SealPreCommitPhase2Output};
use sealbus_schema::Commitment;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Json, Stage, StageCode, StageError, Workspace, files, run_by, sector, workspace};
use super::{add_pieces, c2, pc1, pc2, tree_d};

mod shapes;
mod tree_check;
mod untouched;

use shapes::{AddPiecesTask, C2Output, C2Task, Pc1Output, Pc1Task, Pc2Task, Piece, PieceFile, TreeDTask};
use untouched::Untouched;

/// The stages that such an executable can serve here.
pub const STAGES: [Stage; 5] = [Stage::AddPieces, Stage::TreeD, Stage::Pc1, Stage::Pc2, Stage::C2];

/// An executable that carries out tasks of its own shapes.
pub trait Foreign: Sync {
    /// Hands over a task and waits for the output.
    ///
    /// # Errors
    /// What the executable says, or what became of it.
    fn ask(&self, task: Json) -> Result<Value, StageError>;
}

/// As [`run_json`](super::run_json), with the work itself done by `foreign`.
///
/// # Errors
/// As the built-in stage; besides, what becomes of the executable.
pub fn run_json(stage: Stage, task: &[u8], foreign: &dyn Foreign) -> Result<Json, StageError> {
    match stage {
        Stage::AddPieces => run_by(task, |request| add_pieces(request, foreign)),
        Stage::TreeD => run_by(task, |request| tree_d(request, foreign)),
        Stage::Pc1 => run_by(task, |request| pc1(request, foreign)),
        Stage::Pc2 => run_by(task, |request| pc2(request, foreign)),
        Stage::C2 => run_by(task, |request| c2(request, foreign)),
        Stage::Transfer | Stage::C1 => {
            Err(StageError::new(StageCode::RequestInvalid, format!("{stage} is always served by Sealbus itself")))
        }
    }
}

/// Asks in the executable's shapes.
fn ask<Output: DeserializeOwned>(foreign: &dyn Foreign, task: &impl Serialize) -> Result<Output, StageError> {
    let task = Json::of(task)
        .map_err(|error| StageError::new(StageCode::RequestInvalid, format!("task for the executable: {error}")))?;
    serde_json::from_value(foreign.ask(task)?).map_err(|error| protocol(format!("an output of another shape: {error}")))
}

fn protocol(message: impl Into<String>) -> StageError {
    StageError::new(StageCode::ProcessorProtocol, message)
}

/// The executable says that it has done it, which is all that some stages answer.
fn require_true(done: bool) -> Result<(), StageError> {
    match done {
        true => Ok(()),
        false => Err(StageError::new(StageCode::ProcessorRefused, "the executable answered false")),
    }
}

fn add_pieces(request: &add_pieces::Request, foreign: &dyn Foreign) -> Result<add_pieces::Response, StageError> {
    add_pieces::run_by(request, &|temporary, size| {
        let unpadded = size / 128 * 127;
        let task = AddPiecesTask {
            seal_proof_type: sector::registered(request.proof),
            pieces: vec![Piece { piece_file: PieceFile::Pledge, payload_size: unpadded, piece_size: unpadded }],
            staged_filepath: temporary.to_owned(),
        };
        let added: Vec<filecoin_proofs_api::PieceInfo> = ask(foreign, &task)?;
        let expected = add_pieces::zero_commitment(size)?;
        match added.as_slice() {
            [piece] if piece.commitment == expected.0 && piece.size.0 == unpadded => Ok(()),
            _ => Err(StageError::new(
                StageCode::CommDMismatch,
                format!("the executable answered the pieces {added:?} for one of zeros"),
            )),
        }
    })
}

fn tree_d(request: &tree_d::Request, foreign: &dyn Foreign) -> Result<tree_d::Response, StageError> {
    tree_d::run_by(request, &|unsealed, scratch, _| {
        let inputs = Untouched::note(&[unsealed.to_owned()])?;
        let task = TreeDTask {
            registered_proof: sector::registered(request.proof),
            staged_file: unsealed.to_owned(),
            cache_dir: scratch.to_owned(),
        };
        require_true(ask(foreign, &task)?)?;
        inputs.check()?;
        let built = scratch.join(workspace::TREE_D_FILE);
        let bytes = sector::tree_d_bytes(request.proof);
        require_output(&built, bytes)?;
        tree_check::sample(unsealed, &built, request.proof.sector_size().bytes())?;
        last_node(&built, bytes)
    })
}

fn pc1(request: &pc1::Request, foreign: &dyn Foreign) -> Result<pc1::Response, StageError> {
    pc1::run_by(request, &|workspace, key| {
        let inputs = Untouched::note(&[workspace.unsealed(), workspace.tree_d()])?;
        let scratch = workspace.fresh_scratch("pc1")?;
        let task = Pc1Task {
            registered_proof: sector::registered(key.proof),
            cache_path: workspace.cache(),
            in_path: workspace.unsealed(),
            // It copies the data to where it believes that PC2 will want it. Ours makes its own copy.
            out_path: scratch.join("sealed"),
            prover_id: sector::prover_id(key.sector.miner),
            sector_id: key.sector.number.0,
            ticket: key.ticket.0,
            piece_infos: sector::api_pieces(&request.pieces)?,
        };
        let path = &task.out_path;
        File::create_new(path).map_err(|error| StageError::io("make", path, &error))?;
        let output: Pc1Output = ask(foreign, &task)?;
        files::remove_tree(&scratch)?;
        inputs.check()?;
        if output.comm_d != key.comm_d.0 {
            let message = format!("PC1 answered CommD {}, the pieces give {}", hex::encode(output.comm_d), key.comm_d);
            return Err(StageError::new(StageCode::CommDMismatch, message));
        }
        for layer in 1..=sector::layers(key.proof) {
            require_output(&workspace.layer(layer), key.proof.sector_size().bytes())?;
        }
        Ok(())
    })
}

fn pc2(request: &pc2::Request, foreign: &dyn Foreign) -> Result<pc2::Response, StageError> {
    pc2::run_by(request, &|labels: SealPreCommitPhase1Output, cache, sealed| {
        let workspace = Workspace::open(&request.work_dir)?;
        let mut paths = vec![workspace.unsealed(), workspace.tree_d()];
        paths.extend((1..=sector::layers(request.proof)).map(|layer| workspace.layer(layer)));
        let inputs = Untouched::note(&paths)?;
        let task = Pc2Task { pc1out: labels, cache_dir: cache.to_owned(), sealed_file: sealed.to_owned() };
        let output: SealPreCommitPhase2Output = ask(foreign, &task)?;
        inputs.check()?;
        require_output(sealed, request.proof.sector_size().bytes())?;
        Ok(SealPreCommitPhase2Output { registered_proof: sector::registered(request.proof), ..output })
    })
}

fn c2(request: &c2::Request, foreign: &dyn Foreign) -> Result<c2::Response, StageError> {
    c2::run_by(request, &|openings: SealCommitPhase1Output| {
        let task = C2Task {
            c1out: openings,
            prover_id: sector::prover_id(request.sector.miner),
            sector_id: request.sector.number.0,
            miner_id: request.sector.miner.0,
        };
        let output: C2Output = ask(foreign, &task)?;
        Ok(output.proof)
    })
}

/// Demands that the executable left a file of this size.
fn require_output(path: &Path, bytes: u64) -> Result<(), StageError> {
    match files::size_of(path)? {
        Some(found) if found == bytes => Ok(()),
        found => {
            let found = found.map_or("nothing".to_owned(), |found| format!("{found} bytes"));
            Err(protocol(format!("the executable left {found} as {}, not {bytes} bytes", path.display())))
        }
    }
}

fn last_node(path: &Path, bytes: u64) -> Result<Commitment, StageError> {
    let mut root = [0; 32];
    File::open(path)
        .and_then(|file| file.read_exact_at(&mut root, bytes - 32))
        .map_err(|error| StageError::io("read", path, &error))?;
    Ok(Commitment(root))
}
