//! nats-server's configuration: loopback, durable, alone or in a cluster, and no more rights than each user needs.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context;

/// The name on the bus of a cluster's only worker.
pub const WORKER: &str = "seal-1";

/// A user of the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity<'a> {
    /// May do everything that a manager does.
    Manager,
    /// The worker of this name: may report as itself, and nothing else.
    Worker(&'a str),
    /// May look at everything and change nothing.
    Operator,
}

/// One server.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its name, also of its configuration and its data.
    pub name: String,
    /// Where clients connect, on loopback.
    pub port: u16,
    /// Where the other servers of its cluster connect; none for a server alone.
    pub route_port: Option<u16>,
}

/// Everybody in a cluster with one worker.
pub const ALONE: [Identity<'static>; 3] = [Identity::Manager, Identity::Worker(WORKER), Identity::Operator];

impl<'a> Identity<'a> {
    const fn name(self) -> &'a str {
        match self {
            Identity::Manager => "manager",
            Identity::Worker(name) => name,
            Identity::Operator => "operator",
        }
    }

    /// What the user may publish.
    fn publish(self) -> Vec<String> {
        let subjects: &[&str] = match self {
            Identity::Manager => &[
                "seal.intent.>",
                "seal.sector.*.*.lease.-",
                "seal.sector.*.*.fact.>",
                "seal.cmd.*",
                "$JS.API.>",
                "$JS.ACK.SEAL_SECTORS.>",
            ],
            Identity::Worker(_) => &[
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
        if let Identity::Worker(w) = self {
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
            Identity::Manager | Identity::Worker(_) => &[],
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
        match self {
            Identity::Manager => vec!["_INBOX_manager.>".into(), "$JS.EVENT.ADVISORY.>".into()],
            Identity::Worker(w) => {
                vec![format!("_INBOX_{w}.>"), format!("seal.cmd.{w}"), format!("seal.sector.*.*.fact.{w}.*")]
            }
            Identity::Operator => vec!["_INBOX.>".into()],
        }
    }
}

/// Where an identity's seed lies.
pub fn seed_file(root: &Path, identity: Identity<'_>) -> PathBuf {
    root.join(format!("{}.nk", identity.name()))
}

/// Where a server's configuration lies.
pub fn config_file(root: &Path, server: &Server) -> PathBuf {
    root.join(format!("{}.conf", server.name))
}

/// Writes each server's configuration, and a new seed for each user.
pub fn write_config(root: &Path, servers: &[Server], identities: &[Identity<'_>]) -> anyhow::Result<()> {
    let mut users = Vec::new();
    for identity in identities {
        let pair = nkeys::KeyPair::new_user();
        let path = seed_file(root, *identity);
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
    let routes: Vec<_> = servers.iter().filter_map(|s| s.route_port).map(|p| format!("nats://127.0.0.1:{p}")).collect();
    for server in servers {
        let cluster = server.route_port.map_or(String::new(), |port| {
            format!("cluster {{ name: sealbus, listen: \"127.0.0.1:{port}\", routes: [{}] }}\n", routes.join(", "))
        });
        // The default is an fsync every two minutes: a power cut would lose acknowledged records.
        let text = format!(
            "listen: \"127.0.0.1:{}\"\nserver_name: {}\n{cluster}jetstream {{\n  store_dir: {:?}\n  sync_interval: always\n}}\n\
             authorization {{\n  users: [\n{}\n  ]\n}}\n",
            server.port,
            server.name,
            root.join("nats").join(&server.name).display().to_string(),
            users.join("\n")
        );
        fs::write(config_file(root, server), text)?;
    }
    Ok(())
}
