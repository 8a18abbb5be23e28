//! `kill -9` in the middle of a stage, then the stage again.

use std::fs;
use std::time::{Duration, Instant};

use sealbus_schema::SealProof;
use sealbus_worker::stage::{Stage, StageRequest};

use crate::support::{Bench, contents};

/// Runs `request` on a fresh copy of the state that `reset` makes, killed ever later until it gets through; after each
/// kill the stage runs again to its end and `check` looks at the result. Says how many runs were killed before they had
/// answered.
fn kill_ever_later<R: StageRequest>(
    bench: &Bench,
    request: &R,
    step: Duration,
    reset: impl Fn(),
    check: impl Fn(R::Response),
) -> usize {
    let mut killed = 0;
    for round in 0.. {
        reset();
        let mut processor = bench.processor(R::STAGE);
        processor.send(request);
        let until = Instant::now() + step * round;
        while Instant::now() < until {
            std::hint::spin_loop();
        }
        let answered = processor.kill();
        check(bench.ask(request).expect("second run"));
        if answered {
            break;
        }
        killed += 1;
    }
    killed
}

#[test]
fn pc1_killed_anywhere_gives_the_same_labels() {
    let bench = Bench::prepared(SealProof::StackedDrg2KiBV1_1);
    let comm_d = bench.ask(&bench.pc1()).expect("PC1");
    let labels = contents(&bench.slot());
    let reset = || {
        for path in ["pc1.json", "labels.json", "cache/sc-02-data-layer-1.dat", "cache/sc-02-data-layer-2.dat"] {
            fs::remove_file(bench.slot().join(path)).expect("remove");
        }
        fs::remove_dir_all(bench.dir.path().join("parents")).expect("remove");
    };
    let killed = kill_ever_later(&bench, &bench.pc1(), Duration::from_micros(400), reset, |response| {
        assert_eq!(response, comm_d);
        assert!(contents(&bench.slot()) == labels);
    });
    assert!(killed > 3, "killed only {killed} times");
}

#[test]
fn pc2_killed_anywhere_gives_the_same_comm_r() {
    let (bench, sealed) = Bench::sealed(SealProof::StackedDrg2KiBV1_1);
    let whole = contents(&bench.slot());
    let reset = || {
        for path in [
            "pc2.json",
            "sealed",
            "cache/p_aux",
            "cache/t_aux",
            "cache/sc-02-data-tree-c.dat",
            "cache/sc-02-data-tree-r-last.dat",
        ] {
            fs::remove_file(bench.slot().join(path)).expect("remove");
        }
    };
    let killed = kill_ever_later(&bench, &bench.pc2(), Duration::from_micros(500), reset, |response| {
        assert_eq!(response, sealed);
        assert!(contents(&bench.slot()) == whole);
    });
    assert!(killed > 3, "killed only {killed} times");
}

#[test]
fn a_larger_sector_survives_a_kill_in_pc1_and_pc2() {
    let bench = Bench::prepared(SealProof::StackedDrg8MiBV1_1);
    for delay in [50, 400] {
        let mut processor = bench.processor(Stage::Pc1);
        processor.send(&bench.pc1());
        std::thread::sleep(Duration::from_millis(delay));
        processor.kill();
    }
    bench.ask(&bench.pc1()).expect("PC1");
    for delay in [100, 1500] {
        let mut processor = bench.processor(Stage::Pc2);
        processor.send(&bench.pc2());
        std::thread::sleep(Duration::from_millis(delay));
        processor.kill();
    }
    // The check of PC2 opens challenged nodes, so a wrong label, tree or encoding would be found.
    bench.ask(&bench.pc2()).expect("PC2");
}

#[test]
fn a_transfer_killed_anywhere_is_finished_by_the_next_run() {
    let (bench, sealed) = Bench::sealed(SealProof::StackedDrg2KiBV1_1);
    let request = bench.transfer(sealed.comm_r, 42);
    let stored = bench.ask(&request).expect("transfer");
    let whole = contents(&bench.store());
    let reset = || {
        fs::remove_dir_all(bench.store()).expect("remove");
        fs::create_dir(bench.store()).expect("create");
    };
    let killed = kill_ever_later(&bench, &request, Duration::from_micros(200), reset, |response| {
        assert_eq!(response, stored);
        assert!(contents(&bench.store()) == whole);
    });
    assert!(killed > 3, "killed only {killed} times");
}
