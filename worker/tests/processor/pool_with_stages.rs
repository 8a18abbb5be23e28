//! The pool with the built-in processors.

use std::time::Duration;

use sealbus_schema::SealProof;
use sealbus_worker::processor::{GroupConfig, PoolConfig, ProcessorPool};
use sealbus_worker::stage::{Stage, add_pieces};

use crate::support::{Bench, SEED};

fn built_in(bench: &Bench) -> ProcessorPool {
    let groups = Stage::SEALING.map(|stage| {
        let mut group = GroupConfig::built_in(stage, 1);
        group.bin = Some(env!("CARGO_BIN_EXE_sealbus-worker").into());
        group.args = vec!["processor".into(), stage.name().into()];
        group.env.insert("FIL_PROOFS_PARENT_CACHE".into(), bench.dir.path().join("parents").display().to_string());
        group
    });
    ProcessorPool::new(PoolConfig { groups: groups.into(), tmp_roots: vec![bench.dir.path().join("tmp")] })
        .expect("pool")
}

#[tokio::test]
async fn a_sector_goes_through_the_pool() {
    let bench = Bench::prepared(SealProof::StackedDrg2KiBV1_1);
    let pool = built_in(&bench);
    let added = pool.run(&add_pieces::Request::committed_capacity(bench.slot(), bench.proof)).await.expect("pieces");
    assert_eq!(added.pieces, bench.pieces);
    let comm_d = pool.run(&bench.tree_d()).await.expect("tree D").comm_d;
    assert_eq!(pool.run(&bench.pc1()).await.expect("PC1").comm_d, comm_d);
    let sealed = pool.run(&bench.pc2()).await.expect("PC2");
    assert_eq!(pool.run(&bench.transfer(sealed.comm_r, 1)).await.expect("transfer").files.len(), 4);
    assert!(pool.run(&bench.c1(sealed.comm_r, SEED)).await.expect("C1").bytes > 1000);
    assert_eq!(pool.snapshot().iter().filter(|processor| processor.pid.is_some()).count(), 6);
}

#[tokio::test]
async fn processors_end_with_the_pool() {
    let bench = Bench::prepared(SealProof::StackedDrg2KiBV1_1);
    let pool = built_in(&bench);
    pool.run(&bench.pc1()).await.expect("PC1");
    let pids: Vec<u32> = pool.snapshot().into_iter().filter_map(|processor| processor.pid).collect();
    assert_eq!(pids.len(), 1);
    drop(pool);
    for _ in 0..1000 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pids[0])).unwrap_or_default();
        if stat.rsplit(") ").next().is_none_or(|rest| rest.is_empty() || rest.starts_with('Z')) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the processor lives on");
}
