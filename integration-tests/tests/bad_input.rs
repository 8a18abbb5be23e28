//! What a new operator gets wrong, and what the manager says to it. (The worker's side: `worker/tests`.)

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use sealbus_integration_tests::cluster::{Cluster, Settings, own_binary, wait_within};

/// A cluster whose manager is not started. No proofs are needed here.
fn cluster(directory: &Path) -> Cluster {
    let nowhere = directory.join("nowhere");
    let settings = Settings {
        slots: 1,
        seed: 1,
        epoch_millis: 200,
        confidence_epochs: 1,
        params: nowhere.clone(),
        parents: nowhere,
    };
    Cluster::prepare(directory, settings).expect("a cluster")
}

fn rewrite(cluster: &Cluster, from: &str, to: &str) {
    let path = cluster.manager_config();
    let text = fs::read_to_string(&path).expect("reads");
    assert!(text.contains(from), "{from} is not in {text}");
    fs::write(&path, text.replace(from, to)).expect("writes");
}

/// Runs the manager to its end. For mistakes that no waiting cures.
fn run_to_its_end(cluster: &Cluster, arguments: &[&str]) -> (Output, String) {
    let config = cluster.manager_config();
    let output = Command::new("timeout")
        .arg("60")
        .arg(own_binary("sealbus-manager").expect("built"))
        .args(arguments)
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .output()
        .expect("runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_ne!(output.status.code(), Some(124), "it did not end: {said}");
    (output, said)
}

fn refused(cluster: &Cluster, arguments: &[&str], words: &[&str]) {
    let (output, said) = run_to_its_end(cluster, arguments);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for word in words {
        assert!(said.contains(word), "`{word}` is not in: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

/// Starts the manager, waits until its log says all the words, and expects it to be still there, trying.
fn keeps_trying(cluster: &mut Cluster, words: &[&str]) {
    cluster.start_manager().expect("starts");
    let log = cluster.root().join("manager.log");
    let said = wait_within(Duration::from_secs(60), "the words in the log", || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        Ok(words.iter().all(|word| text.contains(word)).then_some(text))
    });
    let said = said.unwrap_or_else(|e| panic!("{e}: {}", fs::read_to_string(&log).unwrap_or_default()));
    cluster.check_alive().expect("still trying");
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn a_configuration_that_makes_no_sense_names_the_field() {
    let directory = tempfile::tempdir().expect("directory");
    let cluster = cluster(directory.path());
    let original = fs::read_to_string(cluster.manager_config()).expect("reads");
    for (from, to, words) in [
        ("[chain]", "[chain]\nconfidence = 3", ["confidence", "unknown field"]),
        ("\"2KiB\"", "\"3KiB\"", ["3KiB", "2KiB, 8MiB, 512MiB, 32GiB, 64GiB"]),
        ("/store\"", "/no-store\"", ["store[0].path", "no-store"]),
        ("\"f01000\"", "\"f01x\"", ["f01x", "id"]),
    ] {
        fs::write(cluster.manager_config(), &original).expect("writes");
        rewrite(&cluster, from, to);
        refused(&cluster, &["run"], &words);
        refused(&cluster, &["check"], &words);
    }
}

#[test]
fn a_miner_that_the_chain_does_not_have_or_has_otherwise_is_refused() {
    let directory = tempfile::tempdir().expect("directory");
    let cluster = cluster(directory.path());
    refused(&cluster, &["pledge", "--miner", "f07777"], &["f07777", "f01000"]);
    rewrite(&cluster, "\"2KiB\"", "\"8MiB\"");
    refused(&cluster, &["run"], &["sector_size", "8MiB", "2KiB"]);
    rewrite(&cluster, "\"f01000\"", "\"f07777\"");
    refused(&cluster, &["run"], &["f07777", "sealbus-devnet"]);
}

#[test]
fn a_token_that_the_node_does_not_take_is_refused_with_its_file_and_without_its_text() {
    let directory = tempfile::tempdir().expect("directory");
    let cluster = cluster(directory.path());
    let token = directory.path().join("bad-token");
    fs::write(&token, "eyJhbGciOiJIUzI1NiJ9.c2VjcmV0.bm9wZQ").expect("writes");
    rewrite(&cluster, "devnet/token-sign", "bad-token");
    let (output, said) = run_to_its_end(&cluster, &["run"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("bad-token"), "{said}");
    assert!(!said.contains("c2VjcmV0"), "the token is in the output: {said}");
    rewrite(&cluster, "bad-token", "no-such-token");
    refused(&cluster, &["run"], &["no-such-token"]);
}

#[test]
fn a_node_that_is_not_there_is_named_and_waited_for() {
    let directory = tempfile::tempdir().expect("directory");
    let mut cluster = cluster(directory.path());
    let text = fs::read_to_string(cluster.manager_config()).expect("reads");
    let url = text.lines().find_map(|line| line.strip_prefix("url = \"http")).expect("an address").to_owned();
    rewrite(&cluster, &url, "://127.0.0.1:9/rpc/v1\"");
    keeps_trying(&mut cluster, &["127.0.0.1:9", "trying again"]);
}

#[test]
fn a_nats_server_that_is_not_there_is_named_and_waited_for_until_it_comes() {
    let directory = tempfile::tempdir().expect("directory");
    let mut cluster = cluster(directory.path());
    cluster.kill_nats();
    let url = cluster.nats_url().to_owned();
    keeps_trying(&mut cluster, &[&url, "trying again"]);
    cluster.start_nats().expect("starts");
    let log = cluster.root().join("manager.log");
    wait_within(Duration::from_secs(60), "the running manager", || {
        Ok(fs::read_to_string(&log)?.contains("the manager runs").then_some(()))
    })
    .expect("it goes on by itself");
}

#[test]
fn an_identity_that_nats_does_not_know_is_refused() {
    let directory = tempfile::tempdir().expect("directory");
    let cluster = cluster(directory.path());
    let stranger = nkeys::KeyPair::new_user().seed().expect("a seed");
    fs::write(directory.path().join("stranger.nk"), stranger).expect("writes");
    rewrite(&cluster, "manager.nk", "stranger.nk");
    refused(&cluster, &["run"], &["nkey_seed_file", "127.0.0.1"]);
    rewrite(&cluster, "stranger.nk", "missing.nk");
    refused(&cluster, &["run"], &["nats.nkey_seed_file", "missing.nk"]);
}

#[test]
fn a_database_folded_from_another_stream_is_refused() {
    let directory = tempfile::tempdir().expect("directory");
    let mut cluster = cluster(directory.path());
    cluster.start_manager().expect("starts");
    let log = cluster.root().join("manager.log");
    wait_within(Duration::from_secs(60), "the running manager", || {
        Ok(fs::read_to_string(&log)?.contains("the manager runs").then_some(()))
    })
    .expect("runs");
    cluster.kill_manager();
    cluster.kill_nats();
    fs::remove_dir_all(cluster.root().join("nats")).expect("the queue loses its data");
    cluster.start_nats().expect("starts");
    refused(&cluster, &["run"], &["SEAL_SECTORS", "made anew"]);
}

#[test]
fn a_queue_that_is_replaced_under_a_running_manager_ends_it() {
    let directory = tempfile::tempdir().expect("directory");
    let mut cluster = cluster(directory.path());
    keeps_trying(&mut cluster, &["the manager runs"]);
    cluster.kill_nats();
    fs::remove_dir_all(cluster.root().join("nats")).expect("the queue loses its data");
    cluster.start_nats().expect("starts");
    let end = wait_within(Duration::from_secs(120), "the manager's end", || Ok(cluster.check_alive().err()));
    let said = end.expect("it does not work on another queue").to_string();
    assert!(said.contains("made anew") && said.contains("bus recover"), "{said}");
}

#[test]
fn commands_on_things_that_do_not_exist_say_so() {
    let directory = tempfile::tempdir().expect("directory");
    let cluster = cluster(directory.path());
    refused(&cluster, &["sectors", "show", "f01000/99"], &["f01000/99", "sectors list"]);
    let (output, said) = run_to_its_end(&cluster, &["sectors", "show", "nonsense"]);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("f01000/42"), "{said}");
}
