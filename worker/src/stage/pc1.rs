//! PC1: labels the layers of the graph.
//!
//! The library's own `seal_pre_commit_phase1` also copies the data to the sealed file and builds tree D again. Here PC2
//! makes its own copy, and [`super::tree_d`] builds the tree. So this stage calls only the library's labelling (`sdr`)
//! and assembles the PC1 output itself. A test compares that with the library's output.
//!
//! The library continues after any layers of the full size, whoever made them. But layers of another sector or ticket
//! also have that size, and so have layers that were renamed before a power loss and may not have reached the disk. So
//! a marker records the key and the boot that the layers belong to. Other layers are removed.

use std::fs;
use std::path::{Path, PathBuf};

use filecoin_proofs::types::StoreConfig;
use filecoin_proofs_api::seal::{self, SealPreCommitPhase1Output};
use sealbus_schema::parts::PieceInfo;
use sealbus_schema::{Commitment, Randomness, SealProof, SectorId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use storage_proofs_core::cache_key::CacheKey;

use super::{Stage, StageCode, StageError, StageRequest, Workspace};
use super::{files, parent_cache, sector, tree_d, workspace};

/// The sector to label.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// The sector's working directory, which contains tree D.
    pub work_dir: PathBuf,
    /// The proof type.
    pub proof: SealProof,
    /// The sector.
    pub sector: SectorId,
    /// The chain's randomness that the replica is bound to.
    pub ticket: Randomness,
    /// The pieces. CommD must follow from them.
    pub pieces: Vec<PieceInfo>,
}

/// The response. The labels themselves stay in the slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// CommD, as it went into the replica id.
    pub comm_d: Commitment,
}

impl StageRequest for Request {
    const STAGE: Stage = Stage::Pc1;
    type Response = Response;

    fn run(&self) -> Result<Response, StageError> {
        run(self)
    }
}

/// Everything that the replica depends on. The records of PC1 and of later stages contain it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaKey {
    /// The proof type.
    pub proof: SealProof,
    /// The sector.
    pub sector: SectorId,
    /// The ticket.
    pub ticket: Randomness,
    /// The commitment to the data.
    pub comm_d: Commitment,
}

impl ReplicaKey {
    /// The replica id: the SHA-256 of prover, sector, ticket, CommD and the proof type's id, truncated to a field
    /// element.
    fn replica_id(&self) -> [u8; 32] {
        let porep_id = sector::registered(self.proof).as_v1_config().porep_id;
        storage_proofs_porep::stacked::generate_replica_id::<filecoin_proofs::constants::DefaultTreeHasher, _>(
            &sector::prover_id(self.sector.miner),
            self.sector.number.0,
            &self.ticket.0,
            self.comm_d.0,
            &porep_id,
        )
        .into()
    }
}

/// The contents of `pc1.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) key: ReplicaKey,
    pub(crate) output: SealPreCommitPhase1Output,
    /// The output of the third-party executable that made the labels. Another version of the library may write other
    /// values than ours, and expect them in PC2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) theirs: Option<Value>,
}

/// The result of labelling. A third-party executable may return its own output.
pub(super) type Labelled = Result<Option<Value>, StageError>;

/// The PC1 output that PC2 starts from.
#[derive(Debug)]
pub(crate) struct Output {
    /// The output as our version of the library writes it.
    pub(crate) ours: SealPreCommitPhase1Output,
    /// The output of the third-party executable, if one made the labels.
    pub(crate) theirs: Option<Value>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct LabelsMarker {
    key: ReplicaKey,
    boot: String,
}

/// Labels all layers and writes `pc1.json`. After a kill it continues after the layers that are complete.
///
/// # Errors
/// [`StageCode::InputMissing`] without tree D; [`StageCode::CommDMismatch`] if its root is not that of the pieces;
/// errors of the library and the file system.
pub fn run(request: &Request) -> Result<Response, StageError> {
    run_by(request, &|workspace, key| {
        parent_cache::ensure(key.proof)?;
        seal::sdr(sector::registered(key.proof), workspace.cache(), key.replica_id().into())
            .map_err(|error| StageError::library("label the layers", &error))?;
        Ok(None)
    })
}

/// Like [`run`], with another function that creates the layers in the cache directory and may return its own output for
/// PC2.
pub(super) fn run_by(
    request: &Request,
    label: &dyn Fn(&Workspace, &ReplicaKey) -> Labelled,
) -> Result<Response, StageError> {
    let workspace = Workspace::open(&request.work_dir)?;
    let Request { proof, sector, ticket, .. } = *request;
    let comm_d = sector::comm_d(proof, &request.pieces)?;
    let key = ReplicaKey { proof, sector, ticket, comm_d };
    check_tree_d(&workspace, &key)?;
    if is_done(&workspace, &key)? {
        return Ok(Response { comm_d });
    }
    files::remove_tree(&workspace.pc1_record())?;
    drop_foreign_layers(&workspace, &key)?;
    let theirs = label(&workspace, &key)?;
    for layer in 1..=sector::layers(proof) {
        files::require_size(&workspace.layer(layer), proof.sector_size().bytes())?;
        files::sync_file(&workspace.layer(layer))?;
    }
    files::sync_dir(&workspace.cache())?;
    let output = output(&workspace, &key);
    files::write_json(&workspace.pc1_record(), &Record { key, output, theirs })?;
    Ok(Response { comm_d })
}

/// The record of PC1 in `workspace`. It must be for this sector and ticket.
pub(crate) fn require_record(
    workspace: &Workspace,
    proof: SealProof,
    sector: SectorId,
    ticket: Randomness,
) -> Result<Record, StageError> {
    let path = workspace.pc1_record();
    let Some(record) = files::read_json::<Record>(&path)? else {
        return Err(StageError::new(
            StageCode::InputMissing,
            format!("{} is not there or not readable", path.display()),
        ));
    };
    let key = &record.key;
    if (key.proof, key.sector, key.ticket) != (proof, sector, ticket) {
        let message = format!("{} is for {key:?}, not for {proof:?} {sector:?} ticket {ticket}", path.display());
        return Err(StageError::new(StageCode::InputMismatch, message));
    }
    Ok(record)
}

fn check_tree_d(workspace: &Workspace, key: &ReplicaKey) -> Result<(), StageError> {
    files::require_size(&workspace.tree_d(), sector::tree_d_bytes(key.proof))?;
    match tree_d::finished_root(workspace, key.proof)? {
        Some(root) if root == key.comm_d => Ok(()),
        root => {
            let message = format!("tree D's root is {root:?}, that of the pieces {}", key.comm_d);
            Err(StageError::new(StageCode::CommDMismatch, message))
        }
    }
}

fn is_done(workspace: &Workspace, key: &ReplicaKey) -> Result<bool, StageError> {
    let Some(record) = files::read_json::<Record>(&workspace.pc1_record())? else { return Ok(false) };
    if record.key != *key {
        return Ok(false);
    }
    for layer in 1..=sector::layers(key.proof) {
        if files::size_of(&workspace.layer(layer))? != Some(key.proof.sector_size().bytes()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Removes all layers except those that a run for `key` has made since the machine booted.
fn drop_foreign_layers(workspace: &Workspace, key: &ReplicaKey) -> Result<(), StageError> {
    let marker = LabelsMarker { key: key.clone(), boot: boot_id()? };
    let ours = files::read_json::<LabelsMarker>(&workspace.labels_marker())?.is_some_and(|found| found == marker);
    for path in files::list(&workspace.cache())? {
        let name = files::name_of(&path);
        let whole = (1..=sector::layers(key.proof)).any(|layer| name == workspace::layer_file(layer))
            && files::size_of(&path)? == Some(key.proof.sector_size().bytes());
        if name.starts_with(workspace::LAYER_PREFIX) && !(ours && whole) {
            tracing::warn!(path = %path.display(), "removing a layer of another or an unfinished run");
            files::remove_tree(&path)?;
        }
    }
    if ours {
        return Ok(());
    }
    // The removal must be durable before the marker. Otherwise, after a power loss, the marker would vouch for layers
    // that it does not know.
    files::sync_dir(&workspace.cache())?;
    files::write_json(&workspace.labels_marker(), &marker)
}

fn boot_id() -> Result<String, StageError> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let text = fs::read_to_string(path).map_err(|error| StageError::io("read", path, &error))?;
    Ok(text.trim().to_owned())
}

/// The output that the library's own PC1 would return.
fn output(workspace: &Workspace, key: &ReplicaKey) -> SealPreCommitPhase1Output {
    let store = |id: String, bytes: u64| StoreConfig {
        path: workspace.cache(),
        id,
        size: Some(usize::try_from(bytes / 32).unwrap_or(usize::MAX)),
        rows_to_discard: 0,
    };
    let layers = (1..=sector::layers(key.proof))
        .map(|layer| store(CacheKey::label_layer(layer), key.proof.sector_size().bytes()))
        .collect();
    let labels = match key.proof {
        SealProof::StackedDrg2KiBV1_1 => seal::Labels::StackedDrg2KiBV1(filecoin_proofs::Labels::new(layers)),
        SealProof::StackedDrg8MiBV1_1 => seal::Labels::StackedDrg8MiBV1(filecoin_proofs::Labels::new(layers)),
        SealProof::StackedDrg512MiBV1_1 => seal::Labels::StackedDrg512MiBV1(filecoin_proofs::Labels::new(layers)),
        SealProof::StackedDrg32GiBV1_1 => seal::Labels::StackedDrg32GiBV1(filecoin_proofs::Labels::new(layers)),
        SealProof::StackedDrg64GiBV1_1 => seal::Labels::StackedDrg64GiBV1(filecoin_proofs::Labels::new(layers)),
    };
    SealPreCommitPhase1Output {
        registered_proof: sector::registered(key.proof),
        labels,
        config: store(CacheKey::CommDTree.to_string(), sector::tree_d_bytes(key.proof)),
        comm_d: key.comm_d.0,
    }
}
