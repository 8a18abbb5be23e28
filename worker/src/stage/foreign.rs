//! Stages whose computation is done by an executable made for damocles, with the same guarantees as the built-in ones.
//!
//! The executable replaces only the middle of a stage. Everything before and after it is the stage's own code: records,
//! temporary names, syncs, the copy that PC2 works on, and every check. Inputs that the executable sees are checked
//! afterwards, because it works in the same file system. [`shapes`] defines the messages.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use filecoin_proofs::types::BINARY_ARITY;
use filecoin_proofs_api::seal::{SealCommitPhase1Output, SealPreCommitPhase1Output, SealPreCommitPhase2Output};
use sealbus_schema::{Commitment, SealProof};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use storage_proofs_core::util::default_rows_to_discard;

use super::{Json, Stage, StageCode, StageError, Workspace, files, run_by, sector, workspace};
use super::{add_pieces, c2, parent_cache, pc1, pc2, tree_d};

mod shapes;
mod tree_check;
mod untouched;

use super::parent_cache::Parents;
use shapes::{AddPiecesTask, C2Output, C2Task, Pc1Output, Pc1Task, Pc2Task, Piece, PieceFile, TreeDTask};
use untouched::Untouched;

/// The stages that such an executable can serve.
pub const STAGES: [Stage; 5] = [Stage::AddPieces, Stage::TreeD, Stage::Pc1, Stage::Pc2, Stage::C2];

/// Properties of an executable besides its protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `pc2`: the number of rows of tree D to discard that the executable is told, instead of the one from PC1's
    /// output.
    pub rows_to_discard: Option<usize>,
    /// `pc1`: the executable does not use the library's parent cache, so none is prepared or checked.
    pub own_parents: bool,
    /// `c2`: the executable does not use the library's parameters, so they are not required.
    pub own_params: bool,
}

impl Options {
    /// The same as command line arguments of the processor that runs the executable.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let rows = self.rows_to_discard.map(|rows| ["--rows-to-discard".to_owned(), rows.to_string()]);
        let flags = [(self.own_parents, "--own-parents"), (self.own_params, "--own-params")];
        let flags = flags.into_iter().filter(|(given, _)| *given).map(|(_, flag)| flag.to_owned());
        rows.into_iter().flatten().chain(flags).collect()
    }
}

/// An executable that carries out tasks in its own format.
pub trait Foreign: Sync {
    /// Sends a task and waits for the output.
    ///
    /// # Errors
    /// The executable's error, or how it ended.
    fn ask(&self, task: Json) -> Result<Value, StageError>;
}

/// Like [`run_json`](super::run_json), with the computation done by `foreign`.
///
/// # Errors
/// The built-in stage's errors, and those of the executable.
pub fn run_json(stage: Stage, task: &[u8], foreign: &dyn Foreign, options: &Options) -> Result<Json, StageError> {
    match stage {
        Stage::AddPieces => run_by(task, |request| add_pieces(request, foreign)),
        Stage::TreeD => run_by(task, |request| tree_d(request, foreign)),
        Stage::Pc1 => run_by(task, |request| pc1(request, foreign, options)),
        Stage::Pc2 => run_by(task, |request| pc2(request, foreign, options)),
        Stage::C2 => run_by(task, |request| c2(request, foreign, options)),
        Stage::Transfer | Stage::C1 | Stage::Own(_) => {
            Err(StageError::new(StageCode::RequestInvalid, format!("{stage} is always served by Sealbus itself")))
        }
    }
}

/// Converts between Rust types and the executable's messages.
fn ask<Output: DeserializeOwned>(foreign: &dyn Foreign, task: &impl Serialize) -> Result<Output, StageError> {
    let task = Json::of(task)
        .map_err(|error| StageError::new(StageCode::RequestInvalid, format!("task for the executable: {error}")))?;
    shaped(foreign.ask(task)?)
}

fn shaped<Output: DeserializeOwned>(output: Value) -> Result<Output, StageError> {
    serde_json::from_value(output).map_err(|error| protocol(format!("an output of another shape: {error}")))
}

fn protocol(message: impl Into<String>) -> StageError {
    StageError::new(StageCode::ProcessorProtocol, message)
}

/// Checks the answer `true`, which is all that some stages return.
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

fn pc1(request: &pc1::Request, foreign: &dyn Foreign, options: &Options) -> Result<pc1::Response, StageError> {
    pc1::run_by(request, &|workspace, key| {
        let parents = if options.own_parents { None } else { Some(parent_cache::ensure(key.proof)?) };
        let inputs = Untouched::note(&[workspace.unsealed(), workspace.tree_d()])?;
        let scratch = workspace.fresh_scratch("pc1")?;
        let task = Pc1Task {
            registered_proof: sector::registered(key.proof),
            cache_path: workspace.cache(),
            in_path: workspace.unsealed(),
            // The executable copies the data to where it expects PC2 to want it. Our PC2 makes its own copy instead.
            out_path: scratch.join("sealed"),
            prover_id: sector::prover_id(key.sector.miner),
            sector_id: key.sector.number.0,
            ticket: key.ticket.0,
            piece_infos: sector::api_pieces(&request.pieces)?,
        };
        let path = &task.out_path;
        File::create_new(path).map_err(|error| StageError::io("make", path, &error))?;
        let answer: Value = ask(foreign, &task)?;
        let output: Pc1Output = shaped(answer.clone())?;
        files::remove_tree(&scratch)?;
        inputs.check()?;
        if let Some(before) = parents {
            unchanged_parents(workspace, key, &before)?;
        }
        if output.comm_d != key.comm_d.0 {
            let message = format!("PC1 answered CommD {}, the pieces give {}", hex::encode(output.comm_d), key.comm_d);
            return Err(StageError::new(StageCode::CommDMismatch, message));
        }
        for layer in 1..=sector::layers(key.proof) {
            require_output(&workspace.layer(layer), key.proof.sector_size().bytes())?;
        }
        Ok(Some(answer))
    })
}

/// Fails if the parent cache changed during labelling. The labels are then worthless, so they are removed, and the next
/// run does not continue from them.
fn unchanged_parents(workspace: &Workspace, key: &pc1::ReplicaKey, before: &Parents) -> Result<(), StageError> {
    if parent_cache::ensure(key.proof)? == *before {
        return Ok(());
    }
    files::remove_tree(&workspace.labels_marker())?;
    let message = "the parent cache changed while the executable labelled: its labels are dropped";
    Err(StageError::new(StageCode::ChecksumMismatch, message))
}

fn pc2(request: &pc2::Request, foreign: &dyn Foreign, options: &Options) -> Result<pc2::Response, StageError> {
    pc2::run_by(request, &|pc1::Output { ours, theirs }, cache, sealed| {
        let pc1out = match (theirs, options.rows_to_discard) {
            // The executable that made the labels knows best what belongs in the output.
            (Some(theirs), None) => theirs,
            (_, rows) => {
                let rows = rows.unwrap_or_else(|| old_rows_to_discard(request.proof));
                with_rows_to_discard(&ours, rows)?
            }
        };
        let workspace = Workspace::open(&request.work_dir)?;
        let mut paths = vec![workspace.unsealed(), workspace.tree_d()];
        paths.extend((1..=sector::layers(request.proof)).map(|layer| workspace.layer(layer)));
        let inputs = Untouched::note(&paths)?;
        let task = Pc2Task { pc1out, cache_dir: cache.to_owned(), sealed_file: sealed.to_owned() };
        let output: SealPreCommitPhase2Output = ask(foreign, &task)?;
        inputs.check()?;
        require_output(sealed, request.proof.sector_size().bytes())?;
        Ok(SealPreCommitPhase2Output { registered_proof: sector::registered(request.proof), ..output })
    })
}

/// The number of rows to discard in tree D and the layers, as given by PC1 of the proofs library before version 17. PC2
/// of such a version insists on it ("Invalid cache size specified"). Later versions write 0 and ignore it.
fn old_rows_to_discard(proof: SealProof) -> usize {
    let leaves = usize::try_from(proof.sector_size().bytes() / 32).unwrap_or(usize::MAX);
    default_rows_to_discard(leaves, BINARY_ARITY)
}

/// An output of PC1 with this number in the configuration of every store.
fn with_rows_to_discard(output: &SealPreCommitPhase1Output, rows: usize) -> Result<Value, StageError> {
    fn set(value: &mut Value, rows: usize) {
        match value {
            Value::Object(fields) => fields.iter_mut().for_each(|(name, value)| match name.as_str() {
                "rows_to_discard" => *value = rows.into(),
                _ => set(value, rows),
            }),
            Value::Array(values) => values.iter_mut().for_each(|value| set(value, rows)),
            _ => {}
        }
    }
    let mut output = serde_json::to_value(output)
        .map_err(|error| StageError::new(StageCode::RequestInvalid, format!("PC1's output: {error}")))?;
    set(&mut output, rows);
    Ok(output)
}

fn c2(request: &c2::Request, foreign: &dyn Foreign, options: &Options) -> Result<c2::Response, StageError> {
    c2::run_by(request, &|openings: SealCommitPhase1Output| {
        if !options.own_params {
            c2::require_parameters_of(request.proof)?;
        }
        let task = C2Task {
            c1out: openings,
            prover_id: sector::prover_id(request.sector.miner),
            sector_id: request.sector.number.0,
            miner_id: request.sector.miner.0,
        };
        let output: C2Output = ask(foreign, &task).map_err(about_parameters)?;
        Ok(output.proof)
    })
}

/// Recognises the message about missing parameters. An executable that lacks its parameters lacks them for every
/// sector, so the machine is at fault. The protocol has nothing but text for errors. So this looks for phrases of the
/// proofs library and names of its files.
fn about_parameters(error: StageError) -> StageError {
    let names_them = ["No cached parameters found", ".params", ".vk"].iter().any(|word| error.message.contains(word));
    match error.code {
        StageCode::ProcessorRefused if names_them => StageError { code: StageCode::ParamsMissing, ..error },
        _ => error,
    }
}

/// Checks that the executable created a file of this size.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_that_names_parameters_is_the_machines_condition_and_another_one_is_not() {
        let code_of = |code, text: &str| about_parameters(StageError::new(code, text)).code;
        for text in [
            "No cached parameters found for stacked-proof-of-replication [failure finding /p/v28-x]",
            "open /p/v28-stacked-proof-of-replication-0377ded6.params: No such file or directory (os error 2)",
            "cannot read \"/p/v28-stacked-proof-of-replication-0377ded6.vk\"",
        ] {
            assert_eq!(code_of(StageCode::ProcessorRefused, text), StageCode::ParamsMissing, "{text}");
        }
        assert_eq!(code_of(StageCode::ProcessorRefused, "CUDA: out of memory"), StageCode::ProcessorRefused);
        assert_eq!(code_of(StageCode::ProcessorDied, "x.params"), StageCode::ProcessorDied);
    }

    #[test]
    fn a_library_before_17_leaves_out_seven_rows_of_tree_d_of_real_sectors() {
        assert_eq!(old_rows_to_discard(SealProof::StackedDrg2KiBV1_1), 5);
        assert_eq!(old_rows_to_discard(SealProof::StackedDrg32GiBV1_1), 7);
    }
}
