//! `check`: whether a configuration is valid, and whether everything that it names is available. These are two answers.

use std::time::Duration;

use clap::Args;
use sealbus_nats::{ConnectError, NotThere};
use serde_json::json;

use super::{ConfigArg, print_json};
use crate::{
    chain::{Error as ChainError, NodeClient, RpcClient, network, types::TipSetKey},
    config::Config,
    drive::chain_of,
    preflight,
    proofs::Library,
    serve::{self, ServeError},
    store::{Store, StoreError},
    stores::{self, Look, Users},
    waits::{Subject, advice},
};

/// How long each server may take to answer.
const LIMIT: Duration = Duration::from_secs(10);

/// What to check.
#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    config: ConfigArg,
    /// Only validate the file: do not look at anything that it names, and do not connect to any server.
    #[arg(long)]
    offline: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The configuration is valid, but something that it names is unavailable.
#[derive(Debug, thiserror::Error)]
#[error("the configuration is valid, but something that it names is unavailable; a running manager would wait for it")]
pub struct NotAllThere;

impl Check {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let config = self.config.load()?;
        let (found, node) =
            if self.offline { (Vec::new(), None) } else { (not_there(&config).await?, Some(heads(&config).await)) };
        let path = self.config.config.display().to_string();
        if self.json {
            let miners: Vec<_> = config.miners.iter().map(|miner| miner.id).collect();
            let stores: Vec<_> = config.stores.iter().map(|store| &store.name).collect();
            let missing: Vec<_> =
                found.iter().map(|NotThere { field, problem }| json!({ "field": field, "problem": problem })).collect();
            let good = found.is_empty();
            print_json(&json!({
                "config": path, "good": good, "miners": miners, "stores": stores, "not_there": missing, "heads": node,
            }))?;
        } else if found.is_empty() {
            outln!("{path} is valid, and everything is available: miners {}", config.miner_names());
        } else {
            outln!("{path} is valid: miners {}", config.miner_names());
            for missing in &found {
                outln!("not there now: {missing}");
            }
        }
        if let (Some(node), false) = (&node, self.json) {
            outln!("new heads: {node}");
        }
        if found.is_empty() { Ok(()) } else { Err(NotAllThere.into()) }
    }
}

/// How the manager would hear of new heads. A node without announcements is as good, but each head comes a little later.
async fn heads(config: &Config) -> String {
    let subscribed = async { RpcClient::new(config.chain.endpoint())?.head_changes().await };
    match tokio::time::timeout(LIMIT, subscribed).await {
        Ok(Ok(_)) => "announced by the node".to_owned(),
        Ok(Err(error)) => format!("the node is asked for them periodically, because {}", chain_of(&error)),
        Err(_) => {
            format!("the node is asked for them periodically, because it did not answer within {} s", LIMIT.as_secs())
        }
    }
}

/// Everything that the configuration names and that is unavailable. An error means that the configuration is invalid,
/// as a server's answer showed.
async fn not_there(config: &Config) -> Result<Vec<NotThere>, ServeError> {
    let mut found = config.not_there();
    let mut add = |field: &str, problem: String| found.push(NotThere { field: field.to_owned(), problem });
    if let Answer::Lacks(problem) = limited(async { Ok(Store::look(&config.database).await?) }).await? {
        add("database", problem);
    }
    let mut is_clustered = true;
    let bus = limited(async {
        let bus = config.nats.connect("manager").await?;
        is_clustered = bus.is_clustered();
        Ok(bus.check_jetstream().await?)
    });
    if let Answer::Lacks(problem) = bus.await? {
        add("nats.url", problem);
    }
    let replicas = config.streams.replicas;
    if replicas > 1 && !is_clustered {
        add(
            "streams.replicas",
            format!("the server is in no cluster and keeps one copy of each stream, not {replicas}"),
        );
    }
    for (index, store) in config.stores.iter().enumerate() {
        // The running manager compares stores with what the database knows about them.
        let users = Users { network: String::new(), miners: config.miners.iter().map(|miner| miner.id).collect() };
        if store.path.is_dir()
            && let Look::Away(cause) = stores::judge(store, &[], &users, &[])
        {
            add(&format!("store[{index}].path"), cause.text);
        }
    }
    let client = match RpcClient::new(config.chain.endpoint()).map_err(ServeError::from) {
        Ok(client) => client,
        Err(error) if error.is_misconfigured() => return Err(error),
        // Already reported with the token's file.
        Err(_) => return Ok(found),
    };
    let node = NodeClient::new(client);
    let asked = limited(async { Ok(network::check_supported(node.network_version(&TipSetKey::head()).await?)?) });
    match asked.await? {
        Answer::Good => {}
        Answer::Lacks(problem) => {
            add("chain.url", problem + hint(config));
            return Ok(found);
        }
        Answer::Told => return Ok(found),
    }
    for (index, miner) in config.miners.iter().enumerate() {
        if let Answer::Lacks(problem) = limited(serve::check_miner(&node, miner)).await? {
            found.push(NotThere { field: format!("miner[{index}]"), problem });
        }
    }
    // The checks that `run` repeats, for fields without a finding so far.
    let told: Vec<String> = found.iter().map(|known| known.field.clone()).collect();
    for (subject, cause) in preflight::everything(&node, config, &Library).await {
        let field = match &subject {
            Subject::Miner(id) => {
                config.miners.iter().position(|miner| miner.id == *id).map(|at| format!("miner[{at}]"))
            }
            Subject::Store(name) => {
                config.stores.iter().position(|store| store.name == *name).map(|at| format!("store[{at}]"))
            }
            _ => None,
        };
        let field = field.unwrap_or_else(|| subject.to_string());
        if !told.iter().any(|known| known.starts_with(&field)) {
            let problem = format!("{} ({}): {}", cause.code, cause.class, cause.text);
            found.push(NotThere { field, problem: format!("{problem}; {}", advice(&cause.code)) });
        }
    }
    Ok(found)
}

/// The outcome of asking a server.
enum Answer {
    /// Everything is available.
    Good,
    /// Something is missing.
    Lacks(String),
    /// The server could not be asked because a file is missing, which is reported with that file.
    Told,
}

/// Asks within [`LIMIT`]. An error means that the configuration is invalid.
async fn limited(asking: impl Future<Output = Result<(), ServeError>>) -> Result<Answer, ServeError> {
    match tokio::time::timeout(LIMIT, asking).await {
        Ok(Ok(())) => Ok(Answer::Good),
        Ok(Err(error)) if error.is_misconfigured() => Err(error),
        Ok(Err(error)) if is_of_a_file(&error) => Ok(Answer::Told),
        Ok(Err(error)) => Ok(Answer::Lacks(chain_of(&error))),
        Err(_) => Ok(Answer::Lacks(format!("no answer within {} s", LIMIT.as_secs()))),
    }
}

/// Whether an error is about a secret file.
const fn is_of_a_file(error: &ServeError) -> bool {
    matches!(
        error,
        ServeError::Store(StoreError::PasswordFile { .. })
            | ServeError::Connect(ConnectError::Identity(_))
            | ServeError::Chain(ChainError::TokenUnreadable { .. } | ChainError::TokenMalformed { .. })
    )
}

/// What may be wrong with a valid address.
fn hint(config: &Config) -> &'static str {
    if config.chain.endpoint().shown().starts_with("https") {
        "; does the port speak TLS? A node's own port does not: write http:// then"
    } else {
        ""
    }
}
