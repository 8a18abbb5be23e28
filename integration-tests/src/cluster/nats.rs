//! The configuration of nats-server, for a single server or a cluster. It is rendered from the playbook's template, for
//! loopback.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context;

use layout::Keys;
use sealbus_schema::MinerId;

#[path = "../../../nats/tests/support/layout.rs"]
mod layout;

/// The name of the only worker in a cluster.
pub const WORKER: &str = "seal-1";

/// The devnet's first miner.
pub const MINER: MinerId = MinerId(1000);

/// A user of the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity<'a> {
    /// May do everything that a manager needs.
    Manager,
    /// The worker of this name. It may report as itself, and do nothing else.
    Worker(&'a str),
    /// May read everything and change nothing.
    Operator,
}

/// One server.
#[derive(Clone, Debug)]
pub struct Server {
    /// The name, which is also used for its configuration and its data.
    pub name: String,
    /// The port for clients, on loopback.
    pub port: u16,
    /// The port for the other servers of its cluster; `None` for a single server.
    pub route_port: Option<u16>,
}

/// All users of a system with one worker.
pub const ALONE: [Identity<'static>; 3] = [Identity::Manager, Identity::Worker(WORKER), Identity::Operator];

impl<'a> Identity<'a> {
    const fn name(self) -> &'a str {
        match self {
            Identity::Manager => "manager",
            Identity::Worker(name) => name,
            Identity::Operator => "operator",
        }
    }
}

/// The path of an identity's seed.
pub fn seed_file(root: &Path, identity: Identity<'_>) -> PathBuf {
    root.join(format!("{}.nk", identity.name()))
}

/// The path of a server's configuration.
pub fn config_file(root: &Path, server: &Server) -> PathBuf {
    root.join(format!("{}.conf", server.name))
}

/// Writes each server's configuration, and a new seed for each user. All workers seal for all these miners.
pub fn write_config(
    root: &Path,
    servers: &[Server],
    identities: &[Identity<'_>],
    miners: &[MinerId],
) -> anyhow::Result<()> {
    let (mut manager, mut operator, mut workers) = (String::new(), String::new(), Vec::new());
    for identity in identities {
        let pair = nkeys::KeyPair::new_user();
        let path = seed_file(root, *identity);
        fs::write(&path, pair.seed()?).with_context(|| format!("cannot write {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        match identity {
            Identity::Manager => manager = pair.public_key(),
            Identity::Operator => operator = pair.public_key(),
            Identity::Worker(name) => workers.push((*name, pair.public_key())),
        }
    }
    let miners: Vec<String> = miners.iter().map(ToString::to_string).collect();
    let miners = miners.iter().map(|miner| (miner.as_str(), "2KiB")).collect();
    let keys = Keys { manager: &manager, operator: &operator, workers, miners };
    let routes: Vec<_> = servers.iter().filter_map(|s| s.route_port).map(|p| format!("nats://127.0.0.1:{p}")).collect();
    for server in servers {
        let cluster = server.route_port.map_or(String::new(), |port| {
            format!("cluster {{ name: sealbus, listen: \"127.0.0.1:{port}\", routes: [{}] }}", routes.join(", "))
        });
        let listen = format!("127.0.0.1:{}", server.port);
        let store = root.join("nats").join(&server.name).display().to_string();
        fs::write(config_file(root, server), layout::render(&listen, &server.name, &store, &cluster, &keys)?)?;
    }
    Ok(())
}
