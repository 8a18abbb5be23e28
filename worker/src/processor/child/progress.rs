//! How far a request of the built-in stages has come, as far as their files tell at no cost.

use serde_json::Value;

use crate::processor::protocol::Progress;
use crate::stage::{Stage, Workspace, files, pc1, sector};

/// Looks at the files of a request that is being worked on. `None` where they tell nothing.
#[must_use]
pub fn look(stage: Stage, task: &Value) -> Option<Progress> {
    match stage {
        Stage::Pc1 => layers(&serde_json::from_value(task.clone()).ok()?),
        _ => None,
    }
}

/// PC1 makes one layer after the other; the library names a layer's file when it is whole.
fn layers(request: &pc1::Request) -> Option<Progress> {
    let workspace = Workspace::open(&request.work_dir).ok()?;
    let (all, bytes) = (sector::layers(request.proof), request.proof.sector_size().bytes());
    let whole = |layer: &usize| matches!(files::size_of(&workspace.layer(*layer)), Ok(Some(size)) if size == bytes);
    let done = (1..=all).take_while(whole).count();
    let note = match done {
        done if done == all => "writing down what was made".to_owned(),
        done => format!("layer {} of {all}", done + 1),
    };
    Some(Progress { done: done as f64 / all as f64, note })
}

#[cfg(test)]
mod tests {
    use sealbus_schema::{MinerId, Randomness, SealProof, SectorId, SectorNumber};

    use super::*;

    #[test]
    fn whole_layers_in_a_row_are_counted() {
        let dir = tempfile::tempdir().expect("directory");
        let sector = SectorId { miner: MinerId(1000), number: SectorNumber(1) };
        let (proof, ticket) = (SealProof::StackedDrg2KiBV1_1, Randomness([1; 32]));
        let request = pc1::Request { work_dir: dir.path().to_owned(), proof, sector, ticket, pieces: Vec::new() };
        let task = serde_json::to_value(&request).expect("json");
        let workspace = Workspace::open(dir.path()).expect("workspace");
        std::fs::create_dir(workspace.cache()).expect("directory");
        let note = |progress: Option<Progress>| progress.map(|progress| (progress.done, progress.note));
        assert_eq!(note(look(Stage::Pc1, &task)), Some((0.0, "layer 1 of 2".to_owned())));
        std::fs::write(workspace.layer(1), vec![1; 2048]).expect("layer");
        std::fs::write(workspace.layer(2), vec![1; 100]).expect("torn layer");
        assert_eq!(note(look(Stage::Pc1, &task)), Some((0.5, "layer 2 of 2".to_owned())));
        assert_eq!(look(Stage::C2, &task), None);
    }
}
