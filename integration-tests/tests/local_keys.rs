//! A manager that signs with a key of its own, and a node whose wallet it may not use.

use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

use anyhow::Context;
use sealbus_integration_tests::cluster::{Cluster, Settings, wait_within};

#[test]
fn a_sector_is_proved_by_a_manager_that_signs_itself_once_its_key_is_safe() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let mut cluster = Cluster::prepare(directory.path(), Settings::with_scripted_proofs()?)?;
    let devnet = cluster.root().join("devnet");
    let described: serde_json::Value = serde_json::from_str(&fs::read_to_string(devnet.join("devnet.json"))?)?;
    let worker = described["miners"][0]["worker"]["key"].as_str().context("the miner's worker")?;
    let key = devnet.join(format!("key-{worker}"));
    let config = fs::read_to_string(cluster.manager_config())?;
    let signs_itself = config.replace("token-sign\"", &format!("token-write\"\nkey_files = [{key:?}]"));
    fs::write(cluster.manager_config(), signs_itself)?;

    fs::set_permissions(&key, fs::Permissions::from_mode(0o644))?;
    cluster.start_manager()?;
    wait_within(Duration::from_secs(60), "what is wrong with the key", || {
        cluster.check_alive()?;
        let blocked = cluster.manager_json(&["sectors", "blocked"]).unwrap_or_default().to_string();
        Ok((blocked.contains("WALLET_KEY_MISSING") && blocked.contains("chmod 600")).then_some(()))
    })?;

    fs::set_permissions(&key, fs::Permissions::from_mode(0o600))?;
    cluster.start_worker()?;
    cluster.pledge(1)?;
    let id = format!("{}/1", cluster.miner());
    wait_within(Duration::from_secs(300), "an active sector", || {
        cluster.check_alive()?;
        let Ok(sector) = cluster.sector(&id) else { return Ok(None) };
        Ok((sector["state"] == "proving").then_some(()))
    })?;
    Ok(())
}
