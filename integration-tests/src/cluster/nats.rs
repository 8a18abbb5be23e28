//! nats-server's configuration: loopback, durable, and no more rights than each user needs.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context;

/// The worker's name on the bus.
pub const WORKER: &str = "seal-1";

/// A user of the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// May do everything that a manager does.
    Manager,
    /// May report as itself, and nothing else.
    Worker,
    /// May look at everything and change nothing.
    Operator,
}

impl Identity {
    const ALL: [Identity; 3] = [Identity::Manager, Identity::Worker, Identity::Operator];

    const fn name(self) -> &'static str {
        match self {
            Identity::Manager => "manager",
            Identity::Worker => "worker",
            Identity::Operator => "operator",
        }
    }

    /// What the user may publish.
    fn publish(self) -> Vec<String> {
        let w = WORKER;
        let subjects: &[&str] = match self {
            Identity::Manager => &[
                "seal.intent.>",
                "seal.sector.*.*.lease.-",
                "seal.sector.*.*.fact.>",
                "seal.cmd.*",
                "$JS.API.>",
                "$JS.ACK.SEAL_SECTORS.>",
            ],
            Identity::Worker => &[
                "$JS.API.CONSUMER.MSG.NEXT.SEAL_INTENTS.*",
                "$JS.API.CONSUMER.INFO.SEAL_INTENTS.*",
                "$JS.ACK.SEAL_INTENTS.>",
                "$JS.API.STREAM.INFO.SEAL_SECTORS",
                "$JS.API.STREAM.MSG.GET.SEAL_SECTORS",
            ],
            Identity::Operator => &[
                "$JS.API.INFO",
                "$JS.API.STREAM.INFO.>",
                "$JS.API.STREAM.LIST",
                "$JS.API.STREAM.NAMES",
                "$JS.API.STREAM.MSG.GET.>",
                "$JS.API.DIRECT.GET.>",
                "$JS.API.CONSUMER.INFO.>",
                "$JS.API.CONSUMER.LIST.>",
                "$JS.API.CONSUMER.NAMES.>",
                // `nats stream view` reads through a consumer of its own, which the server forgets.
                "$JS.API.CONSUMER.CREATE.SEAL_SECTORS.>",
                "$JS.API.CONSUMER.MSG.NEXT.SEAL_SECTORS.>",
                "$JS.API.CONSUMER.DELETE.SEAL_SECTORS.>",
                "$JS.ACK.SEAL_SECTORS.>",
                "$JS.API.CONSUMER.CREATE.SEAL_HEARTBEATS.>",
                "$JS.API.CONSUMER.MSG.NEXT.SEAL_HEARTBEATS.>",
                "$JS.API.CONSUMER.DELETE.SEAL_HEARTBEATS.>",
                "$JS.ACK.SEAL_HEARTBEATS.>",
            ],
        };
        let mut all: Vec<String> = subjects.iter().map(|s| (*s).to_owned()).collect();
        if self == Identity::Worker {
            all.push(format!("seal.sector.*.*.lease.{w}"));
            all.push(format!("seal.sector.*.*.ev.{w}"));
            all.push(format!("seal.hb.{w}"));
            all.push(format!("$JS.API.DIRECT.GET.SEAL_HEARTBEATS.seal.hb.{w}"));
            all.push(format!("$JS.API.DIRECT.GET.SEAL_COMMANDS.seal.cmd.{w}"));
        }
        all
    }

    /// What the user may not publish all the same: the operator's own consumers must not be the manager's.
    fn publish_denied(self) -> Vec<String> {
        let subjects: &[&str] = match self {
            Identity::Manager | Identity::Worker => &[],
            Identity::Operator => &[
                "$JS.API.CONSUMER.CREATE.SEAL_SECTORS.mgr",
                "$JS.API.CONSUMER.CREATE.SEAL_SECTORS.mgr.>",
                "$JS.API.CONSUMER.DELETE.SEAL_SECTORS.mgr",
                "$JS.API.CONSUMER.MSG.NEXT.SEAL_SECTORS.mgr",
                "$JS.ACK.SEAL_SECTORS.mgr.>",
            ],
        };
        subjects.iter().map(|s| (*s).to_owned()).collect()
    }

    /// What the user may subscribe to.
    fn subscribe(self) -> Vec<String> {
        let w = WORKER;
        match self {
            Identity::Manager => vec!["_INBOX_manager.>".into(), "$JS.EVENT.ADVISORY.>".into()],
            Identity::Worker => {
                vec![format!("_INBOX_{w}.>"), format!("seal.cmd.{w}"), format!("seal.sector.*.*.fact.{w}.*")]
            }
            Identity::Operator => vec!["_INBOX.>".into()],
        }
    }
}

/// Where an identity's seed lies.
pub fn seed_file(root: &Path, identity: Identity) -> PathBuf {
    root.join(format!("{}.nk", identity.name()))
}

/// Writes `nats.conf` and a new seed for each user.
pub fn write_config(root: &Path, port: u16) -> anyhow::Result<()> {
    let mut users = Vec::new();
    for identity in Identity::ALL {
        let pair = nkeys::KeyPair::new_user();
        let path = seed_file(root, identity);
        fs::write(&path, pair.seed()?).with_context(|| format!("cannot write {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        let quoted = |subjects: Vec<String>| {
            format!("[{}]", subjects.iter().map(|s| format!("{s:?}")).collect::<Vec<_>>().join(", "))
        };
        users.push(format!(
            "    {{ nkey: {}, permissions: {{ publish: {{ allow: {}, deny: {} }}, subscribe: {{ allow: {} }} }} }}",
            pair.public_key(),
            quoted(identity.publish()),
            quoted(identity.publish_denied()),
            quoted(identity.subscribe())
        ));
    }
    // The default is an fsync every two minutes: a power cut would lose acknowledged records.
    let text = format!(
        "listen: \"127.0.0.1:{port}\"\nserver_name: sealbus\njetstream {{\n  store_dir: {:?}\n  sync_interval: always\n}}\n\
         authorization {{\n  users: [\n{}\n  ]\n}}\n",
        root.join("nats").display().to_string(),
        users.join("\n")
    );
    fs::write(root.join("nats.conf"), text)?;
    Ok(())
}
