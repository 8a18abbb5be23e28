//! Whether the labels of an 8 MiB sector really lie where they were wished, read back from the kernel.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use sealbus_schema::SealProof;
use sealbus_worker::processor::protocol::{Answer, AnswerResult, Request};
use sealbus_worker::stage::huge_pages::{HugePages, Impossible, InUse, MULTICORE, Transparent, Wish};

use crate::support::Bench;

const PROOF: SealProof = SealProof::StackedDrg8MiBV1_1;

/// Labels with `wish`, and gives the most that lay on huge pages at one time; or why it is not possible here.
fn labelled(wish: Wish, multicore: bool) -> Result<InUse, Impossible> {
    let mut environment = BTreeMap::from([(MULTICORE.to_owned(), u8::from(multicore).to_string())]);
    let machine = HugePages::read(Path::new("/sys"));
    environment.extend(machine.variables(wish, PROOF.sector_size(), &environment)?);
    let bench = Bench::prepared(PROOF);
    let mut child = Command::new(env!("CARGO_BIN_EXE_sealbus-worker"))
        .args(["processor", "pc1"])
        .env("FIL_PROOFS_PARENT_CACHE", bench.dir.path().join("parents"))
        .envs(&environment)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("processor");
    let mut answers = BufReader::new(child.stdout.take().expect("stdout"));
    let mut line = String::new();
    answers.read_line(&mut line).expect("greeting");
    let request = Request { id: 1, task: serde_json::to_value(bench.pc1()).expect("json") };
    let mut stdin = child.stdin.take().expect("stdin");
    writeln!(stdin, "{}", serde_json::to_string(&request).expect("json")).expect("write");
    let reader = std::thread::spawn(move || {
        // Signs of life and progress come before the answer.
        let is_answer = |line: &String| serde_json::from_str::<Answer>(line).is_ok();
        answers.lines().map_while(Result::ok).find(is_answer)
    });
    let mut most = InUse::default();
    while !reader.is_finished() {
        if let Ok(now) = InUse::of(Path::new("/proc"), child.id()) {
            most = std::cmp::max_by_key(most, now, InUse::huge_bytes);
        }
        // Each look holds up the process that is looked at.
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let answer: Answer = serde_json::from_str(&reader.join().expect("reader").expect("line")).expect("answer");
    assert!(matches!(answer.result, AnswerResult::Output(_)), "PC1 failed");
    drop(stdin);
    child.wait().expect("ends");
    Ok(most)
}

#[test]
fn labels_of_one_core_lie_on_transparent_huge_pages() {
    match labelled(Wish::Transparent, false) {
        // Two layers of 8 MiB; the first block may not begin at a boundary of a page.
        Ok(in_use) => assert!(in_use.transparent_bytes >= 10 << 20, "{in_use:?}"),
        Err(reason) => eprintln!("SKIPPED: {reason}"),
    }
}

#[test]
fn labels_of_one_core_lie_on_reserved_huge_pages() {
    match labelled(Wish::Reserved, false) {
        Ok(in_use) => assert!(in_use.reserved_bytes >= 16 << 20, "{in_use:?}"),
        Err(reason) => eprintln!("SKIPPED: {reason}"),
    }
}

#[test]
fn labels_of_several_cores_lie_on_transparent_huge_pages() {
    match labelled(Wish::Transparent, true) {
        Ok(in_use) => assert!(in_use.transparent_bytes >= 12 << 20, "{in_use:?}"),
        Err(reason) => eprintln!("SKIPPED: {reason}"),
    }
}

#[test]
fn without_a_wish_and_without_the_setting_they_do_not() {
    match HugePages::read(Path::new("/sys")).transparent {
        Transparent::Always => eprintln!("SKIPPED: transparent_hugepage/enabled is \"always\""),
        Transparent::Madvise | Transparent::Never => {
            let in_use = labelled(Wish::Any, false).expect("nothing wished");
            assert_eq!(in_use.huge_bytes(), 0, "{in_use:?}");
        }
    }
}
