//! The configurations of manager and worker, as an operator would write them.

use std::fs;

use super::{Cluster, Identity, nats};

/// What the sectors' logs may take. NATS refuses a stream whose limit is more than three quarters of the free disk, so the
/// default of 10 GiB would make every test depend on the machine's disk.
const MAX_SECTORS_BYTES: u64 = 256 << 20;

/// Writes `manager.toml` and `worker.toml`, and makes the directories that they name.
pub fn write(cluster: &Cluster) -> anyhow::Result<()> {
    let store = cluster.store();
    fs::create_dir_all(&store)?;
    fs::create_dir_all(&cluster.settings.parents)?;
    let address = fs::read_to_string(cluster.root.join("devnet/rpc-addr"))?;
    let settings = &cluster.settings;
    fs::write(
        cluster.manager_config(),
        format!(
            r#"[database]
path = "{root}/manager.db"

[nats]
url = "{nats}"
nkey_seed_file = "{manager_key}"

[streams]
max_sectors_bytes = {max_sectors_bytes}

[chain]
url = "http://{address}/rpc/v1"
token_file = "{root}/devnet/token-sign"
confidence_epochs = {confidence}
poll_interval_ms = {poll}

[[miner]]
id = "{miner}"
sector_size = "2KiB"
prove = {proves}
mine = {mines}

[[store]]
name = "main"
path = "{store}"
"#,
            root = cluster.root.display(),
            nats = cluster.nats_url,
            manager_key = cluster.nkey_file(Identity::Manager).display(),
            max_sectors_bytes = MAX_SECTORS_BYTES,
            address = address.trim(),
            confidence = settings.confidence_epochs,
            poll = settings.epoch_millis.clamp(50, 2000),
            miner = cluster.miner,
            proves = settings.proves,
            mines = settings.mines,
            store = store.display(),
        ),
    )?;
    let mut worker = format!(
        r#"[worker]
name = "{name}"
miners = ["{miner}"]
sector_size = "2KiB"
recover_interval_secs = 2
heartbeat_secs = 1

[nats]
url = "{nats}"
nkey_seed_file = "{worker_key}"
api_prefix = "SEALBUS.API"

[store]
name = "main"
path = "{store}"

[params]
cache = "{params}"
parent_cache = "{parents}"
"#,
        name = nats::WORKER,
        miner = cluster.miner,
        nats = cluster.nats_url,
        worker_key = cluster.nkey_file(Identity::Worker(nats::WORKER)).display(),
        store = store.display(),
        params = settings.params.display(),
        parents = settings.parents.display(),
    );
    let (proves, mines) = (settings.proves, settings.mines);
    worker.push_str(&format!("\n[proving]\nprove = {proves}\nwin = {mines}\n"));
    for index in 0..settings.slots {
        let slot = cluster.slot(index);
        fs::create_dir_all(&slot)?;
        worker.push_str(&format!("\n[[slot]]\npath = \"{}\"\n", slot.display()));
    }
    fs::write(cluster.worker_config(), worker)?;
    Ok(())
}
