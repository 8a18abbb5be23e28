//! Measures what a committed-capacity sector saves by sharing tree D.
//!
//! `cargo bench --workspace --profile dev --bench static_tree_d` takes the tree of an 8 MiB and a 512 MiB sector. It
//! builds the tree with the library, writes it without hashing, and shares it, each including sync, and prints the
//! ratios. `SEALBUS_BENCH_DIR` names a directory on the disk to measure; the default is the temporary directory.

#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_macros, reason = "for whoever reads the output")]

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Instant;

use filecoin_hashers::{Domain, Hasher};
use filecoin_proofs::constants::DefaultPieceHasher;
use filecoin_proofs::types::StoreConfig;
use rayon::prelude::*;
use sealbus_schema::SealProof;
use sealbus_worker::stage::static_tree_d::{self, ZeroTree};
use storage_proofs_core::{cache_key::CacheKey, merkle::BinaryMerkleTree};

fn main() {
    let at = std::env::var_os("SEALBUS_BENCH_DIR").map_or_else(std::env::temp_dir, Into::into);
    let dir = tempfile::tempdir_in(at).unwrap();
    for proof in [SealProof::StackedDrg8MiBV1_1, SealProof::StackedDrg512MiBV1_1] {
        let [library, unsealed, shared] =
            ["library", "unsealed", "shared"].map(|name| dir.path().join(format!("{name}-{}", proof.sector_size())));
        fs::create_dir(&library).unwrap();
        File::create(&unsealed).unwrap().set_len(proof.sector_size().bytes()).unwrap();
        let tree = ZeroTree::of(proof).unwrap();
        let dirs = [dir.path().join("static")];
        let share = || static_tree_d::provide(proof, tree.root(), &unsealed, &dirs, &shared).unwrap();

        let built = secs(|| build(proof, &library));
        let made = secs(|| drop(share()));
        fs::remove_file(&shared).unwrap();
        let mut origin = None;
        let given = secs(|| origin = share());
        let (theirs, ours) = (library.join("sc-02-data-tree-d.dat"), &shared);
        println!(
            "tree D of {}: built by the library {built:.3} s, made once and checked {made:.3} s (ratio {:.2}), shared {:.1} ms \
             (ratio {:.5}); on the disk {} instead of {} MiB, once for all sectors; {origin:?}",
            proof.sector_size(),
            made / built,
            given * 1e3,
            given / built,
            fs::metadata(ours).unwrap().blocks() >> 11,
            fs::metadata(&theirs).unwrap().blocks() >> 11,
        );
        fs::remove_dir_all(library).unwrap();
    }
}

fn secs(work: impl FnOnce()) -> f64 {
    let begun = Instant::now();
    work();
    begun.elapsed().as_secs_f64()
}

fn build(proof: SealProof, dir: &Path) {
    let node = <DefaultPieceHasher as Hasher>::Domain::try_from_bytes(&[0; 32]).unwrap();
    let leaves = proof.sector_size().bytes() as usize / 32;
    let config = StoreConfig::new(dir, CacheKey::CommDTree.to_string(), 0);
    let nodes = (0..leaves).into_par_iter().map(|_| node);
    BinaryMerkleTree::<DefaultPieceHasher>::from_par_iter_with_config(nodes, config).unwrap();
    File::open(dir.join("sc-02-data-tree-d.dat")).unwrap().sync_all().unwrap();
}
