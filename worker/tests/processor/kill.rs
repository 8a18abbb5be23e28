//! `kill -9` in the middle of a stage, then the stage again.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sealbus_schema::SealProof;
use sealbus_worker::stage::{Stage, StageRequest};

use crate::support::{Bench, contents};

/// Runs `request` on the state that `reset` creates and kills it, a little later each time, until it completes. After
/// each kill the stage runs again to its end, and `check` examines the result.
fn kill_ever_later<R: StageRequest>(bench: &Bench, request: &R, reset: impl Fn(), check: impl Fn(R::Response)) {
    reset();
    let mut undisturbed = bench.processor(R::STAGE);
    let begin = Instant::now();
    undisturbed.send(request);
    assert!(!undisturbed.line().is_empty());
    let step = begin.elapsed() / 20;
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
    assert!(killed > 3, "killed only {killed} times");
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
    kill_ever_later(&bench, &bench.pc1(), reset, |response| {
        assert_eq!(response, comm_d);
        assert!(contents(&bench.slot()) == labels);
    });
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
    kill_ever_later(&bench, &bench.pc2(), reset, |response| {
        assert_eq!(response, sealed);
        assert!(contents(&bench.slot()) == whole);
    });
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
    // PC2's own check opens challenged nodes, so it would notice a wrong label, tree or encoding.
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
    kill_ever_later(&bench, &request, reset, |response| {
        assert_eq!(response, stored);
        assert!(contents(&bench.store()) == whole);
    });
}

#[test]
fn a_processor_dies_with_its_parent_even_while_its_stdin_is_open() {
    let mut parent = Command::new("sh")
        .args(["-c", "exec 3<&0; SEALBUS_PARENT_PID=$$ \"$0\" processor c2 <&3 & wait"])
        .arg(env!("CARGO_BIN_EXE_sealbus-worker"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("shell");
    let stdin = parent.stdin.take().expect("stdin");
    let mut stdout = BufReader::new(parent.stdout.take().expect("stdout"));
    let mut hello = String::new();
    stdout.read_line(&mut hello).expect("greeting");
    assert!(hello.contains("sealbus_processor"), "{hello}");
    parent.kill().expect("kill");
    parent.wait().expect("wait");
    // The child holds the other end of the pipe until it dies.
    assert_eq!(stdout.read_to_end(&mut Vec::new()).expect("end"), 0);
    drop(stdin);
}

#[test]
fn a_processor_whose_parent_is_gone_already_does_not_serve() {
    let output = Command::new(env!("CARGO_BIN_EXE_sealbus-worker"))
        .args(["processor", "c2"])
        .env("SEALBUS_PARENT_PID", "1073741824")
        .output()
        .expect("processor");
    assert!(!output.status.success() && output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("the parent process is gone"));
}
