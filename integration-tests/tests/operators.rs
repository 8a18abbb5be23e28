//! The commands of `docs/queues.md`, run as printed with the real `nats` command line tool and an operator's
//! permissions.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, ensure};
use sealbus_integration_tests::cluster::{Cluster, Identity, Settings, own_binary, wait_within};
use serde_json::json;

/// The commands of the page: the lines in its `console` blocks. Some need a terminal.
fn documented_commands() -> anyhow::Result<Vec<(String, bool)>> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/queues.md");
    let text = std::fs::read_to_string(&page)?;
    let mut commands = Vec::new();
    let mut inside = None;
    for line in text.lines() {
        match line.trim() {
            "```console" => inside = Some(false),
            "```console terminal" => inside = Some(true),
            "```" => inside = None,
            command if command.starts_with("nats ") => {
                commands.extend(inside.map(|terminal| (command.to_owned(), terminal)));
            }
            _ => {}
        }
    }
    ensure!(commands.len() >= 6, "only {} commands in {}", commands.len(), page.display());
    Ok(commands)
}

#[test]
fn every_documented_nats_command_works_as_printed() -> anyhow::Result<()> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/bin").canonicalize()?;
    ensure!(tools.join("nats").is_file(), "the nats command line is not installed: run `make nats-cli`");
    let directory = tempfile::tempdir()?;
    let mut cluster = Cluster::prepare(directory.path(), Settings { epoch_millis: 200, ..Settings::from_env()? })?;
    // Meanwhile one sector waits for its PreCommit, and the other for a free slot. So no proof is needed.
    cluster.call_chain("Devnet.Fault", json!([{ "kind": "stall_inclusion", "on": true }]))?;
    cluster.start_manager()?;
    cluster.start_worker()?;
    cluster.pledge(2)?;
    let id = format!("{}/1", cluster.miner());
    wait_within(Duration::from_secs(120), "a sealed sector", || {
        cluster.check_alive()?;
        Ok(cluster.sector(&id).ok().filter(|s| s["state"] == "pre_committing").map(drop))
    })?;

    wait_within(Duration::from_secs(60), "a heartbeat", || {
        let workers = cluster.manager_json(&["workers", "list"])?;
        Ok((workers[0]["presence"] == "here").then_some(()))
    })?;

    let own = own_binary("sealbus-manager")?;
    let path = std::env::join_paths(
        [tools.as_path(), own.parent().context("a directory")?]
            .into_iter()
            .map(Path::to_path_buf)
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    )?;
    // The file format of `nats context save`.
    let contexts = directory.path().join("contexts");
    std::fs::create_dir_all(contexts.join("nats/context"))?;
    let (url, nkey) = (cluster.nats_url(), cluster.nkey_file(Identity::Operator));
    let context = json!({ "url": url, "nkey": nkey, "jetstream_api_prefix": "SEALBUS.API" });
    std::fs::write(contexts.join("nats/context/sealbus.json"), context.to_string())?;
    for (command, terminal) in documented_commands()? {
        let mut run = Command::new("timeout");
        if terminal {
            // script(1) runs it in a terminal and passes its exit status on.
            run.args(["60", "script", "-qec", &command, "/dev/null"]);
        } else {
            run.args(["60", "sh", "-c", &command]);
        }
        let output = run
            .env("PATH", &path)
            .env("XDG_CONFIG_HOME", &contexts)
            .env("NATS_CONTEXT", "sealbus")
            .env("HOME", directory.path())
            .stdin(Stdio::null())
            .output()?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "`{command}` ended with {}: {printed}", output.status);
        ensure!(!printed.contains("Permissions Violation"), "`{command}`: {printed}");
        let expected: &[&str] =
            if command.contains("decode") { &["\"kind\"", "\"slots\""] } else { &["SEAL", "seal."] };
        ensure!(expected.iter().any(|word| printed.contains(word)), "`{command}` shows nothing of ours: {printed}");
    }
    Ok(())
}
