//! Checks with the kernel that the labels of an 8 MiB sector are on the wished kind of pages.
//!
//! Reserved pages are given or not. Transparent ones depend on what the kernel has free, so the test checks what was
//! asked for.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use sealbus_schema::SealProof;
use sealbus_worker::processor::protocol::{Answer, AnswerResult, Request};
use sealbus_worker::stage::huge_pages::{HugePages, Impossible, InUse, MULTICORE, Transparent, Wish};

use crate::support::Bench;

const PROOF: SealProof = SealProof::StackedDrg8MiBV1_1;

/// The highest values seen: bytes on huge pages, and bytes that the kernel may put on transparent ones.
#[derive(Debug, Default)]
struct Most {
    in_use: InUse,
    eligible_bytes: u64,
}

/// The bytes of a process that the kernel may put on transparent huge pages.
fn eligible_bytes(process: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/smaps")).unwrap_or_default();
    let (mut size_kib, mut sum_kib) = (0, 0);
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next().and_then(|word| word.parse::<u64>().ok())) {
            (Some("Size:"), Some(kib)) => size_kib = kib,
            (Some("THPeligible:"), Some(1)) => sum_kib += size_kib,
            _ => {}
        }
    }
    sum_kib * 1024
}

/// Labels with `wish` and returns where the labels were, or why that is not possible here.
fn labelled(wish: Wish, multicore: bool) -> Result<Most, Impossible> {
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
        // Heartbeats and progress come before the answer.
        let is_answer = |line: &String| serde_json::from_str::<Answer>(line).is_ok();
        answers.lines().map_while(Result::ok).find(is_answer)
    });
    let mut most = Most::default();
    while !reader.is_finished() {
        if let Ok(now) = InUse::of(Path::new("/proc"), child.id()) {
            most.in_use = std::cmp::max_by_key(most.in_use, now, InUse::huge_bytes);
        }
        most.eligible_bytes = most.eligible_bytes.max(eligible_bytes(child.id()));
        // Each reading stops the process for a moment.
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
        // Two layers of 8 MiB, minus some, because the first block may not begin at a page boundary.
        Ok(most) => assert!(most.eligible_bytes >= 10 << 20, "{most:?}"),
        Err(reason) => eprintln!("SKIPPED: {reason}"),
    }
}

#[test]
fn labels_of_one_core_lie_on_reserved_huge_pages() {
    match labelled(Wish::Reserved, false) {
        Ok(most) => assert!(most.in_use.reserved_bytes >= 16 << 20, "{most:?}"),
        Err(reason) => eprintln!("SKIPPED: {reason}"),
    }
}

#[test]
fn labels_of_several_cores_lie_on_transparent_huge_pages() {
    match labelled(Wish::Transparent, true) {
        Ok(most) => assert!(most.eligible_bytes >= 12 << 20, "{most:?}"),
        Err(reason) => eprintln!("SKIPPED: {reason}"),
    }
}

#[test]
fn without_a_wish_and_without_the_setting_they_do_not() {
    match HugePages::read(Path::new("/sys")).transparent {
        Transparent::Always => eprintln!("SKIPPED: transparent_hugepage/enabled is \"always\""),
        Transparent::Madvise | Transparent::Never => {
            let most = labelled(Wish::Any, false).expect("nothing wished");
            assert_eq!((most.in_use.huge_bytes(), most.eligible_bytes), (0, 0), "{most:?}");
        }
    }
}
