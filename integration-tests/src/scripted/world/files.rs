//! The configurations of manager and workers.

use std::{fmt::Write, fs, path::PathBuf};

use sealbus_schema::{MinerId, Phase};

use super::{Worker, World};
use crate::cluster::{self, Identity, own_binary};

/// Writes all configurations, and creates the directories that they name.
pub fn write(world: &World) -> anyhow::Result<()> {
    fs::create_dir_all(world.store_dir())?;
    fs::create_dir_all(world.root.join("logs"))?;
    let address = fs::read_to_string(world.root.join("devnet/rpc-addr"))?;
    fs::write(world.manager_config(), manager(world, address.trim()))?;
    for worker in &world.workers {
        fs::create_dir_all(worker.control.path())?;
        for slot in &worker.slots {
            fs::create_dir_all(slot)?;
        }
        fs::write(world.root.join(format!("{}.toml", worker.name)), self::worker(world, worker)?)?;
    }
    Ok(())
}

fn manager(world: &World, chain: &str) -> String {
    let liveness = world.options.liveness;
    let proves = world.options.proves;
    let is_proven = proves.is_some();
    let miner =
        |miner: &MinerId| format!("[[miner]]\nid = \"{miner}\"\nsector_size = \"2KiB\"\nprove = {is_proven}\n\n");
    let miners: Vec<String> = world.miners.iter().map(miner).collect();
    format!(
        r#"[database]
path = "{root}/manager.db"

[nats]
url = "{nats}"
nkey_seed_file = "{key}"

[streams]
replicas = {replicas}
max_sectors_bytes = 1073741824

[chain]
url = "http://{chain}/rpc/v1"
token_file = "{root}/devnet/token-sign"
confidence_epochs = 1
poll_interval_ms = {poll}
{chain_lines}
[liveness]
dead_after_secs = {dead}
grace_secs = {grace}
short_grace_secs = {short_grace}
orphan_after_secs = {orphan}
reissue_interval_secs = {reissue}

[policy]
max_issues = 50

{proving}{miners}[[store]]
name = "main"
path = "{store}"
"#,
        root = world.root.display(),
        nats = world.nats_urls(),
        key = cluster::seed_file(&world.root, Identity::Manager).display(),
        replicas = world.options.nats,
        dead = liveness.dead_after_secs,
        grace = liveness.grace_secs,
        short_grace = liveness.short_grace_secs,
        orphan = liveness.orphan_after_secs,
        reissue = liveness.reissue_interval_secs,
        poll = world.options.poll_millis.unwrap_or(world.options.epoch_millis.clamp(50, 2000)),
        proving = proves.map_or(String::new(), |proves| {
            format!("[proving]\nsector_limit_secs = 5\nsilence_secs = {}\n\n", proves.silence_secs)
        }),
        miners = miners.concat(),
        chain_lines = world.options.chain_lines,
        store = world.store_dir().display(),
    )
}

fn worker(world: &World, worker: &Worker) -> anyhow::Result<String> {
    let mut text = format!(
        r#"[worker]
name = "{name}"
host = "{name}"
miners = {miners:?}
sector_size = "2KiB"
recover_interval_secs = 1
heartbeat_secs = {heartbeat}
workflows = {workflows:?}

[nats]
url = "{nats}"
nkey_seed_file = "{key}"
api_prefix = "SEALBUS.API"

[store]
name = "main"
path = "{store}"
"#,
        name = worker.name,
        miners = world.miners.iter().map(ToString::to_string).collect::<Vec<_>>(),
        heartbeat = world.options.heartbeat_secs,
        workflows = world.options.workflows.iter().map(|workflow| workflow.name()).collect::<Vec<_>>(),
        nats = world.nats_urls(),
        key = cluster::seed_file(&world.root, Identity::Worker(&worker.name)).display(),
        store = world.store_dir().display(),
    );
    for slot in &worker.slots {
        write!(text, "\n[[slot]]\npath = \"{}\"\n", slot.display())?;
    }
    let bin = own_binary("sealbus-scripted-processor")?;
    let control = worker.control.path();
    let mut phases = Phase::of(&world.options.workflows);
    if let Some(proves) = world.options.proves {
        let [read, prove] = Phase::POST;
        let is_prover = world.workers.iter().take(proves.provers).any(|prover| prover.name == worker.name);
        // Nobody tries provers by a proof of a made-up sector: scripted ones would not make it.
        write!(text, "\n[proving]\nprove = {is_prover}\ntrial = false\n")?;
        phases.push(read);
        phases.extend(is_prover.then_some(prove));
    }
    for phase in phases {
        // Unlike the real one, the scripted C2 writes a file.
        let slots = worker.slots.iter().filter(|_| phase == Phase::C2);
        let writable: Vec<_> = slots.map(PathBuf::as_path).chain([control]).collect();
        write!(
            text,
            "\n[[processor]]\nstage = \"{phase}\"\ncount = {}\nbin = {bin:?}\nargs = [\"{phase}\", {control:?}]\nwritable = {writable:?}\n",
            world.options.processors,
        )?;
    }
    Ok(text)
}
