//! The stand-ins for the toy workflow's stages.

use std::path::PathBuf;

use sealbus_manager::{
    life,
    store::{Happening, Store, StoreError},
};
use sealbus_schema::{
    Phase, SealProof, SectorId, Workflow,
    workflows::toy::worker::{MEASURE, Toy},
};
use sealbus_worker::{processor::protocol::Failure, workflows::toy};
use serde_json::{Value, json};

use super::{Script, ScriptedFile, StandIns};

/// The data length of a 2 KiB sector, in bytes.
pub const SECTOR_BYTES: u64 = 2048;

impl StandIns for Toy {
    /// Its other stage, `add_pieces`, belongs to sealing and has a script there.
    fn script(stage: Phase, task: &Value, _real_replicas: bool) -> Option<Result<Script, Failure>> {
        if stage != MEASURE {
            return None;
        }
        let work_dir = PathBuf::from(task["work_dir"].as_str().unwrap_or_default());
        // The real stage leaves no file. The scripted one writes a file, because it can be held only while it writes.
        let output = ScriptedFile::new(work_dir.join("measured"), b"2048 bytes".to_vec());
        let answer = json!(toy::Response { bytes: SECTOR_BYTES });
        Some(Ok(Script { output: Some(output), answer, ..Script::default() }))
    }
}

/// Begins a toy job for each of these sectors, as a command would. Gives out the numbers that are not given out yet.
pub async fn begin(store: &Store, sectors: &[SectorId]) -> Result<(), StoreError> {
    let mut tx = store.begin().await?;
    let mut offers = Vec::new();
    for id in sectors {
        if store.sector(*id).await?.is_none() {
            tx.give_out_number(*id, SealProof::StackedDrg2KiBV1_1).await?;
        }
        tx.start_job(*id, Workflow::Toy).await?;
        if let Some(job) = tx.sector(*id).await? {
            offers.push(life::offer(job, Happening::of_manager("wanted", json!({ "why": "a test" }))));
        }
    }
    tx.store_outcomes(offers).await?;
    tx.commit().await
}
