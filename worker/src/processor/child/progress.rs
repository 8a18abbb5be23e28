//! The progress of a built-in stage, as far as its files show it without effort.

use crate::processor::protocol::Progress;
use crate::stage::{Stage, Workspace, files, pc1, sector};

/// A request whose progress can be read from its files.
#[derive(Debug)]
pub struct Watch(pc1::Request);

impl Watch {
    /// `None` if the stage's files do not show progress.
    #[must_use]
    pub fn of(stage: Stage, task: &[u8]) -> Option<Self> {
        match stage {
            Stage::Pc1 => serde_json::from_slice(task).ok().map(Self),
            _ => None,
        }
    }

    /// Reads the progress from the files while they are being written.
    ///
    /// PC1 writes one layer after the other. The library gives a layer's file its final name when it is complete.
    #[must_use]
    pub fn look(&self) -> Option<Progress> {
        let Self(request) = self;
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
        let task = serde_json::to_vec(&request).expect("json");
        let workspace = Workspace::open(dir.path()).expect("workspace");
        std::fs::create_dir(workspace.cache()).expect("directory");
        let watch = Watch::of(Stage::Pc1, &task).expect("watched");
        let note = || watch.look().map(|progress| (progress.done, progress.note));
        assert_eq!(note(), Some((0.0, "layer 1 of 2".to_owned())));
        std::fs::write(workspace.layer(1), vec![1; 2048]).expect("layer");
        std::fs::write(workspace.layer(2), vec![1; 100]).expect("torn layer");
        assert_eq!(note(), Some((0.5, "layer 2 of 2".to_owned())));
        assert!(Watch::of(Stage::C2, &task).is_none() && Watch::of(Stage::Pc1, b"null").is_none());
    }
}
