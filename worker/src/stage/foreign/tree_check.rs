//! Spot checks of a tree D that a third-party executable has built.
//!
//! The root alone says nothing about the nodes below it. A wrong node would first be noticed by PC2's openings, hours
//! later. Comparing all nodes would cost as much as building the tree. So the paths of leaves spread over the sector
//! are checked up to the root, and PC2's check does the rest.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use filecoin_hashers::{Domain, HashFunction, Hasher};
use filecoin_proofs::constants::DefaultPieceHasher;

use crate::stage::{StageCode, StageError};

type Node = <DefaultPieceHasher as Hasher>::Domain;

/// The number of leaves to check.
const LEAVES: u64 = 256;
const NODE: u64 = 32;

/// Checks the paths of some leaves of `data`, which has `bytes` bytes, up to the root of the tree.
pub(super) fn sample(data: &Path, tree: &Path, bytes: u64) -> Result<(), StageError> {
    let read = |path: &Path| File::open(path).map_err(|error| StageError::io("open", path, &error));
    let (data_file, tree_file) = (read(data)?, read(tree)?);
    let leaves = bytes / NODE;
    // An odd step, so that left and right children alternate.
    let step = (leaves / LEAVES).max(1) | 1;
    let mut leaf = 0;
    while leaf < leaves {
        let node = node_at(&data_file, data, leaf)?;
        if node != node_at(&tree_file, tree, leaf)? {
            return Err(wrong(tree, leaf));
        }
        follow(&tree_file, tree, leaf, leaves)?;
        leaf += step;
    }
    Ok(())
}

/// Checks one leaf's path. In the file the nodes of each level follow those of the level below.
fn follow(file: &File, tree: &Path, leaf: u64, leaves: u64) -> Result<(), StageError> {
    let (mut index, mut start, mut width) = (leaf, 0, leaves);
    while width > 1 {
        let left = start + (index & !1);
        let (left, right) = (node_at(file, tree, left)?, node_at(file, tree, left + 1)?);
        start += width;
        index /= 2;
        width /= 2;
        if <DefaultPieceHasher as Hasher>::Function::hash2(&left, &right) != node_at(file, tree, start + index)? {
            return Err(wrong(tree, start + index));
        }
    }
    Ok(())
}

fn node_at(file: &File, path: &Path, index: u64) -> Result<Node, StageError> {
    let mut bytes = [0; 32];
    file.read_exact_at(&mut bytes, index * NODE).map_err(|error| StageError::io("read", path, &error))?;
    Node::try_from_bytes(&bytes).map_err(|_| wrong(path, index))
}

fn wrong(tree: &Path, index: u64) -> StageError {
    StageError::new(StageCode::CommDMismatch, format!("node {index} of {} is wrong", tree.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_node_on_a_path_is_found() {
        let dir = tempfile::tempdir().expect("directory");
        let (data, tree) = (dir.path().join("data"), dir.path().join("tree"));
        let mut level: Vec<Node> = (0..64_u8)
            .map(|leaf| {
                let mut bytes = [leaf; 32];
                bytes[31] &= 0x3f;
                Node::try_from_bytes(&bytes).expect("node")
            })
            .collect();
        let bytes_of = |nodes: &[Node]| -> Vec<u8> {
            nodes.iter().flat_map(|node| <Node as AsRef<[u8]>>::as_ref(node).to_vec()).collect()
        };
        std::fs::write(&data, bytes_of(&level)).expect("data");
        let mut whole = bytes_of(&level);
        while level.len() > 1 {
            level = level
                .chunks(2)
                .map(|pair| <DefaultPieceHasher as Hasher>::Function::hash2(&pair[0], &pair[1]))
                .collect();
            whole.extend(bytes_of(&level));
        }
        std::fs::write(&tree, &whole).expect("tree");
        sample(&data, &tree, 2048).expect("right");
        for wrong in [5, 70, 126] {
            let mut torn = whole.clone();
            torn[wrong * 32] ^= 1;
            std::fs::write(&tree, torn).expect("tree");
            assert_eq!(sample(&data, &tree, 2048).expect_err("wrong").code, StageCode::CommDMismatch);
        }
    }
}
