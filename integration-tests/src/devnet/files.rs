//! The files by which other processes find a devnet.
//!
//! They are `rpc-addr` (host and port), `token-admin`, `token-sign`, `token-write`, `token-read`, `key-<address>` for each key
//! of the wallet, and `devnet.json`. Each is written atomically, `rpc-addr` last: once it exists, the others can be read and the server accepts connections.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::json;
use thiserror::Error;

use super::address::{id_to_text, to_text};
use super::node::Node;
use super::rpc::auth::Tokens;

/// The name of the file with the address. It is removed first and written last.
const ADDRESS_FILE: &str = "rpc-addr";

/// A file could not be written.
#[derive(Debug, Error)]
#[error("data-dir: failed to {operation} {path}")]
pub struct FileError {
    operation: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// Creates the directory, and removes the address of an earlier devnet.
pub fn prepare(directory: &Path) -> Result<(), FileError> {
    fs::create_dir_all(directory).map_err(failed("create", directory))?;
    retract(directory)
}

/// Removes the address, because nothing listens there any more.
pub fn retract(directory: &Path) -> Result<(), FileError> {
    let address = directory.join(ADDRESS_FILE);
    match fs::remove_file(&address) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", &address)(error)),
        _ => Ok(()),
    }
}

/// Writes all files of a devnet that is serving.
pub fn write(directory: &Path, node: &Node, tokens: &Tokens, address: SocketAddr) -> Result<(), FileError> {
    replace(directory, "token-admin", 0o600, &tokens.admin)?;
    replace(directory, "token-sign", 0o600, &tokens.sign)?;
    replace(directory, "token-write", 0o600, &tokens.write)?;
    for (address, exported) in node.wallet.exported() {
        replace(directory, &format!("key-{}", to_text(&address)), 0o600, &exported)?;
    }
    replace(directory, "token-read", 0o600, &tokens.read)?;
    replace(directory, "devnet.json", 0o644, &format!("{:#}\n", description(node)))?;
    replace(directory, ADDRESS_FILE, 0o644, &address.to_string())
}

/// What a client needs to know about the chain before its first call.
pub fn description(node: &Node) -> serde_json::Value {
    let miners = node.miners.iter().map(|miner| {
        json!({
            "id": id_to_text(miner.id),
            "actor_id": miner.id,
            "owner": {"id": id_to_text(miner.owner), "key": to_text(&miner.owner_key)},
            "worker": {"id": id_to_text(miner.worker), "key": to_text(&miner.worker_key)},
        })
    });
    json!({
        "network_name": node.config.network_name,
        "network_version": node.config.network_version,
        "sector_size": node.config.sector_size as u64,
        "seal_proof": i64::from(node.config.seal_proof()),
        "genesis_timestamp": node.config.genesis_timestamp,
        "block_delay_secs": node.config.block_delay_secs,
        "pre_commit_challenge_delay": node.policy.pre_commit_challenge_delay,
        "miners": miners.collect::<Vec<_>>(),
    })
}

fn replace(directory: &Path, name: &str, mode: u32, content: &str) -> Result<(), FileError> {
    let path = directory.join(name);
    let temporary = directory.join(format!(".{name}.{}", std::process::id()));
    let written =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&temporary).and_then(|mut file| {
            file.set_permissions(Permissions::from_mode(mode))?;
            file.write_all(content.as_bytes())?;
            file.sync_all()
        });
    written.map_err(failed("write", &temporary))?;
    fs::rename(&temporary, &path).map_err(failed("rename to", &path))
}

fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError {
    let path = path.to_owned();
    move |source| FileError { operation, path, source }
}
