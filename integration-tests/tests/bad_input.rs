//! Mistakes of a new operator, and the manager's messages about them. (Those for the worker are in `worker/tests`.)

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use sealbus_integration_tests::cluster::{Cluster, Settings, own_binary, wait_within};

/// The exit code of a wrong configuration.
const MISCONFIGURED: i32 = 78;
/// The exit code if something that the configuration names does not exist at present.
const NOT_THERE: i32 = 75;

/// A cluster whose manager is not started. These tests need no proofs.
fn cluster(directory: &Path) -> Cluster {
    let nowhere = directory.join("nowhere");
    let settings =
        Settings { epoch_millis: 200, confidence_epochs: 1, ..Settings::with_parameters(nowhere.clone(), nowhere) };
    Cluster::prepare(directory, settings).expect("a cluster")
}

fn rewrite(cluster: &Cluster, from: &str, to: &str) {
    let path = cluster.manager_config();
    let text = fs::read_to_string(&path).expect("reads");
    assert!(text.contains(from), "{from} is not in {text}");
    fs::write(&path, text.replace(from, to)).expect("writes");
}

/// Runs the manager until it exits. For mistakes that waiting cannot fix.
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

fn refused(cluster: &Cluster, arguments: &[&str], code: i32, words: &[&str]) {
    let (output, said) = run_to_its_end(cluster, arguments);
    assert_eq!(output.status.code(), Some(code), "{said}");
    for word in words {
        assert!(said.contains(word), "`{word}` is not in: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

/// Starts the manager, waits until its log contains all the words, and expects it to keep running and trying.
fn keeps_trying(cluster: &mut Cluster, words: &[&str]) {
    cluster.start_manager().expect("starts");
    keeps_saying(cluster, words);
}

/// Waits until the manager's log contains all the words, and expects it to keep running.
fn keeps_saying(cluster: &mut Cluster, words: &[&str]) {
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
        ("url = \"http", "url = \"ws", ["chain.url", "http:// for ws://"]),
        ("\"f01000\"", "\"f01x\"", ["f01x", "id"]),
    ] {
        fs::write(cluster.manager_config(), &original).expect("writes");
        rewrite(&cluster, from, to);
        refused(&cluster, &["run"], MISCONFIGURED, &words);
        refused(&cluster, &["check"], MISCONFIGURED, &words);
    }
}

#[test]
fn a_miner_that_the_chain_has_otherwise_is_refused_and_one_that_it_has_not_yet_is_waited_for() {
    let directory = tempfile::tempdir().expect("directory");
    let mut cluster = cluster(directory.path());
    refused(&cluster, &["pledge", "--miner", "f07777"], 1, &["f07777", "f01000"]);
    rewrite(&cluster, "\"2KiB\"", "\"8MiB\"");
    refused(&cluster, &["run"], MISCONFIGURED, &["sector_size", "8MiB", "2KiB"]);
    refused(&cluster, &["check"], MISCONFIGURED, &["sector_size", "8MiB", "2KiB"]);
    rewrite(&cluster, "\"f01000\"", "\"f07777\"");
    let (output, said) = run_to_its_end(&cluster, &["check"]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(NOT_THERE), "{said}");
    assert!(told.contains("not there now: miner[0]") && told.contains("f07777"), "{told}");
    keeps_trying(&mut cluster, &["f07777", "sealbus-devnet", "trying again"]);
}

#[test]
fn a_sender_that_the_miner_does_not_name_is_waited_for_at_the_start_and_told_by_check() {
    let directory = tempfile::tempdir().expect("directory");
    let mut cluster = cluster(directory.path());
    // The reward actor cannot send messages for anybody.
    rewrite(&cluster, "[[miner]]", "[[miner]]\nsender = \"f02\"");
    let (output, said) = run_to_its_end(&cluster, &["check"]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(NOT_THERE), "{said}");
    assert!(told.contains("miner[0]") && told.contains("neither its owner nor its worker"), "{told}");
    keeps_trying(&mut cluster, &["sender f02 of miner f01000", "neither its owner nor its worker", "trying again"]);
}

#[test]
fn a_miner_that_cannot_be_served_does_not_keep_the_others_waiting() {
    let directory = tempfile::tempdir().expect("directory");
    let mut cluster = cluster(directory.path());
    rewrite(&cluster, "[[miner]]", "[[miner]]\nid = \"f07777\"\nsector_size = \"2KiB\"\n\n[[miner]]");
    keeps_trying(&mut cluster, &["f07777", "the manager runs"]);
    wait_within(Duration::from_secs(60), "the wait of the one", || {
        let (output, _) = run_to_its_end(&cluster, &["sectors", "blocked", "--json"]);
        Ok(String::from_utf8_lossy(&output.stdout).contains("f07777").then_some(()))
    })
    .expect("it is shown");
}

#[test]
fn a_command_needs_only_what_it_uses_and_check_names_what_is_not_there() {
    let directory = tempfile::tempdir().expect("directory");
    let mut cluster = cluster(directory.path());
    keeps_trying(&mut cluster, &["the manager runs"]);
    let (output, said) = run_to_its_end(&cluster, &["check"]);
    assert!(said.is_empty() || output.status.code() == Some(NOT_THERE), "{said}");
    rewrite(&cluster, "[streams]", "[streams]\nreplicas = 3");
    let (output, said) = run_to_its_end(&cluster, &["check"]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(NOT_THERE), "{said}");
    assert!(told.contains("not there now: streams.replicas: the server is in no cluster"), "{told}");
    rewrite(&cluster, "replicas = 3\n", "");
    rewrite(&cluster, "/store\"", "/no-store\"");
    let (output, said) = run_to_its_end(&cluster, &["sectors", "blocked"]);
    assert!(output.status.success(), "{said}");
    let (output, said) = run_to_its_end(&cluster, &["check"]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(NOT_THERE), "{said}");
    assert!(told.contains("not there now: store[0].path") && told.contains("no-store"), "{told}");
    let (output, said) = run_to_its_end(&cluster, &["check", "--offline"]);
    assert!(output.status.success(), "{said}");
}

#[test]
fn several_nodes_are_served_by_those_that_are_well_and_each_other_one_is_named_with_its_cause() {
    let directory = tempfile::tempdir().expect("directory");
    let mut cluster = cluster(directory.path());
    let path = directory.path().join("manager.toml");
    let text = fs::read_to_string(&path).expect("reads");
    let line = |begins: &str| text.lines().find(|line| line.starts_with(begins)).expect("is there").to_owned();
    let (url, token_file) = (line("url = \"http"), line("token_file"));
    let nodes = format!(
        "[[chain.node]]\nname = \"gone\"\nurl = \"http://127.0.0.1:1\"\n\
         [[chain.node]]\nname = \"unsigned\"\n{}\ntoken_file = \"/no/such/token\"\n\
         [[chain.node]]\nname = \"good\"\n{url}\n{token_file}\n",
        url.replace("127.0.0.1", "localhost")
    );
    let text = text.replace(&format!("{url}\n"), "").replace(&format!("{token_file}\n"), "");
    fs::write(&path, format!("{text}\n{nodes}")).expect("writes");

    let (output, said) = run_to_its_end(&cluster, &["check"]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(NOT_THERE), "{said}");
    for named in [
        "not there now: chain.node[0]: gone: it cannot be used: cannot reach the node",
        "not there now: chain.node[1].token_file",
        "chain node gone (http://127.0.0.1:1/rpc/v1): away",
        "): well, head at epoch ",
        ", announces its heads",
    ] {
        assert!(told.contains(named), "{named}: {told}");
    }
    keeps_trying(&mut cluster, &["the chain is read from this node now", "node=\"good\"", "the manager runs"]);
    wait_within(Duration::from_secs(60), "the waits of the others", || {
        let (output, _) = run_to_its_end(&cluster, &["sectors", "blocked"]);
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(["the chain node gone", "the chain node unsigned"].iter().all(|node| told.contains(node)).then_some(()))
    })
    .expect("they are shown");
}

#[test]
fn check_tells_of_an_open_secret_and_of_a_server_that_is_away_as_well() {
    let directory = tempfile::tempdir().expect("directory");
    let mut cluster = cluster(directory.path());
    let open = fs::Permissions::from_mode(0o644);
    fs::set_permissions(directory.path().join("manager.nk"), open).expect("sets the mode");
    cluster.kill_nats();
    let (output, said) = run_to_its_end(&cluster, &["check"]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(NOT_THERE), "{said}");
    assert!(told.contains("chmod 600") && told.contains("not there now: nats.url"), "{told}");
}

/// A record of the sectors' log, whatever it says.
fn put_a_record(cluster: &Cluster) {
    let seed = fs::read_to_string(cluster.root().join("manager.nk")).expect("reads");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let options = async_nats::ConnectOptions::with_nkey(seed).custom_inbox_prefix("_INBOX_manager");
        let client = options.connect(cluster.nats_url()).await.expect("connects");
        let js = async_nats::jetstream::new(client);
        js.publish("seal.sector.f01000.1.lease.-", "x".into()).await.expect("sends").await.expect("stored");
    });
}

#[test]
fn a_database_whose_disk_is_away_is_not_begun_anew() {
    let directory = tempfile::tempdir().expect("directory");
    let mut cluster = cluster(directory.path());
    keeps_trying(&mut cluster, &["the manager runs"]);
    cluster.kill_manager();
    // A record, whatever it says, that the database would have to know.
    put_a_record(&cluster);
    // With what the manager that was killed left beside it.
    let there: Vec<_> = ["-wal", "-shm", ""].map(|end| directory.path().join(format!("manager.db{end}"))).into();
    let away = |path: &Path| path.with_extension(format!("{}.away", path.extension().unwrap_or_default().display()));
    let moved: Vec<_> = there.iter().filter(|path| path.exists()).collect();
    moved.iter().for_each(|path| fs::rename(path, away(path)).expect("moves"));
    keeps_trying(&mut cluster, &["is not there or empty", "trying again"]);
    refused(&cluster, &["pledge", "--miner", "f01000"], 1, &["there is no database"]);
    assert!(!there[2].exists(), "nothing was begun");
    moved.iter().for_each(|path| fs::rename(away(path), path).expect("moves"));
    let log = cluster.root().join("manager.log");
    wait_within(Duration::from_secs(60), "the manager with its database", || {
        Ok((fs::read_to_string(&log)?.matches("the manager runs").count() == 2).then_some(()))
    })
    .expect("it goes on by itself");
}

#[test]
fn a_token_that_the_node_does_not_take_is_waited_for_with_its_file_and_without_its_text() {
    let directory = tempfile::tempdir().expect("directory");
    let mut cluster = cluster(directory.path());
    let token = directory.path().join("bad-token");
    fs::write(&token, "eyJhbGciOiJIUzI1NiJ9.c2VjcmV0.bm9wZQ").expect("writes");
    rewrite(&cluster, "devnet/token-sign", "bad-token");
    keeps_trying(&mut cluster, &["bad-token", "trying again"]);
    let log = cluster.root().join("manager.log");
    let said = fs::read_to_string(&log).expect("reads");
    assert!(!said.contains("c2VjcmV0"), "the token is in the output: {said}");
    // The node issues a new one.
    fs::copy(cluster.root().join("devnet/token-sign"), &token).expect("copies");
    wait_within(Duration::from_secs(60), "the running manager", || {
        Ok(fs::read_to_string(&log)?.contains("the manager runs").then_some(()))
    })
    .expect("it goes on by itself");
}

#[test]
fn a_hang_up_and_a_log_that_nobody_reads_do_not_end_the_manager() {
    let directory = tempfile::tempdir().expect("directory");
    let cluster = cluster(directory.path());
    let mut manager = Command::new(own_binary("sealbus-manager").expect("built"))
        .args(["run", "--config"])
        .arg(cluster.manager_config())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut log = BufReader::new(manager.stderr.take().expect("a pipe"));
    let mut said = String::new();
    let mut until = |words: &str| {
        while !said.contains(words) {
            assert_ne!(log.read_line(&mut said).expect("reads"), 0, "it ended: {said}");
        }
    };
    until("the manager runs");
    let pid = manager.id().to_string();
    let send = |signal: &str| assert!(Command::new("kill").args([signal, &pid]).status().expect("runs").success());
    for signal in ["HUP", "USR1", "USR2"] {
        send(&format!("-{signal}"));
        until(&format!("SIG{signal}: nothing to reload"));
    }
    // Whatever is logged from now on meets a closed pipe.
    drop(log);
    send("-HUP");
    let pledge = run_to_its_end(&cluster, &["pledge", "--miner", "f01000"]);
    assert!(pledge.0.status.success(), "{}", pledge.1);
    let taken = wait_within(Duration::from_secs(60), "a sector with a number", || {
        assert!(manager.try_wait()?.is_none(), "it ended");
        let (output, _) = run_to_its_end(&cluster, &["sectors", "list", "--json"]);
        Ok(String::from_utf8_lossy(&output.stdout).contains("f01000/1\"").then_some(()))
    });
    manager.kill().expect("kills");
    manager.wait().expect("reaps");
    taken.expect("it works on");
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
fn an_identity_that_nats_does_not_know_is_waited_for_until_its_file_has_another() {
    let directory = tempfile::tempdir().expect("directory");
    let mut cluster = cluster(directory.path());
    let stranger = nkeys::KeyPair::new_user().seed().expect("a seed");
    fs::write(directory.path().join("stranger.nk"), stranger).expect("writes");
    rewrite(&cluster, "manager.nk", "stranger.nk");
    keeps_trying(&mut cluster, &["nkey_seed_file", "127.0.0.1", "trying again"]);
    let path = directory.path().join("stranger.nk");
    fs::remove_file(&path).expect("removes");
    keeps_saying(&mut cluster, &["cannot read nats.nkey_seed_file", "stranger.nk"]);
    fs::copy(directory.path().join("manager.nk"), &path).expect("copies");
    keeps_saying(&mut cluster, &["the manager runs"]);
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
    keeps_trying(&mut cluster, &["SEAL_SECTORS", "made anew"]);
}

#[test]
fn a_manager_whose_queue_was_replaced_waits_for_the_order_to_go_on() {
    let directory = tempfile::tempdir().expect("directory");
    let mut cluster = cluster(directory.path());
    keeps_trying(&mut cluster, &["the manager runs"]);
    cluster.kill_nats();
    fs::remove_dir_all(cluster.root().join("nats")).expect("the queue loses its data");
    cluster.start_nats().expect("starts");
    keeps_saying(&mut cluster, &["made anew", "bus recover", "trying again"]);
    // The queue may be in use by another manager, whose records are not deleted unasked.
    put_a_record(&cluster);
    let (output, said) = run_to_its_end(&cluster, &["bus", "recover", "--yes"]);
    assert!(!output.status.success() && said.contains("holds 1 record"), "{said}");
    let (_, stream) = said.split_once("--delete-records ").expect("it says how to go on");
    let stream = stream.split_whitespace().next().expect("a stream's identity");
    let (output, said) = run_to_its_end(&cluster, &["bus", "recover", "--yes", "--delete-records", "SEAL_SECTORS@1"]);
    assert!(!output.status.success(), "of another stream: {said}");
    let (output, said) = run_to_its_end(&cluster, &["bus", "recover", "--yes", "--delete-records", stream]);
    assert!(output.status.success(), "{said}");
    let log = cluster.root().join("manager.log");
    wait_within(Duration::from_secs(60), "the manager on the new queue", || {
        Ok((fs::read_to_string(&log)?.matches("the manager runs").count() == 2).then_some(()))
    })
    .expect("it goes on by itself");
}

#[test]
fn commands_on_things_that_do_not_exist_say_so() {
    let directory = tempfile::tempdir().expect("directory");
    let mut cluster = cluster(directory.path());
    // No command creates a database that nothing else would use.
    refused(&cluster, &["sectors", "show", "f01000/99"], 1, &["there is no database", "start the manager"]);
    keeps_trying(&mut cluster, &["the manager runs"]);
    refused(&cluster, &["sectors", "show", "f01000/99"], 1, &["f01000/99", "sectors list"]);
    let (output, said) = run_to_its_end(&cluster, &["sectors", "show", "nonsense"]);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("f01000/42"), "{said}");
}
