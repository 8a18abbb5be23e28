//! `check`: whether a configuration makes sense, and whether all is there that it names. Two answers, told apart.

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

/// How long each of the servers may take to answer.
const LIMIT: Duration = Duration::from_secs(10);

/// What to check.
#[derive(Debug, Args)]
pub struct Check {
    #[command(flatten)]
    config: ConfigArg,
    /// Only whether the file makes sense: look at nothing that it names, and ask no server.
    #[arg(long)]
    offline: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The configuration makes sense, and something that it names is not there.
#[derive(Debug, thiserror::Error)]
#[error("the configuration makes sense, but not all is there that it names; a manager that runs waits for it")]
pub struct NotAllThere;

impl Check {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let config = self.config.load()?;
        let found = if self.offline { Vec::new() } else { not_there(&config).await? };
        let path = self.config.config.display().to_string();
        if self.json {
            let miners: Vec<_> = config.miners.iter().map(|miner| miner.id).collect();
            let stores: Vec<_> = config.stores.iter().map(|store| &store.name).collect();
            let missing: Vec<_> =
                found.iter().map(|NotThere { field, problem }| json!({ "field": field, "problem": problem })).collect();
            let good = found.is_empty();
            print_json(
                &json!({ "config": path, "good": good, "miners": miners, "stores": stores, "not_there": missing }),
            )?;
        } else if found.is_empty() {
            outln!("{path} is good: miners {}", config.miner_names());
        } else {
            outln!("{path} makes sense: miners {}", config.miner_names());
            for missing in &found {
                outln!("not there now: {missing}");
            }
        }
        if found.is_empty() { Ok(()) } else { Err(NotAllThere.into()) }
    }
}

/// What is not there of all that the configuration names. An error is a mistake of the configuration that a server showed.
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
        // What the database knows of a store is compared while the manager runs.
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
        // Told with the token's file.
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
    // What `run` looks at again and again, where nothing was found of the same thing yet.
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

/// What a server says.
enum Answer {
    /// All is there.
    Good,
    /// Something is not.
    Lacks(String),
    /// It could not be asked for want of a file, which is told with that file.
    Told,
}

/// Asks within a limit. An error is a mistake of the configuration.
async fn limited(asking: impl Future<Output = Result<(), ServeError>>) -> Result<Answer, ServeError> {
    match tokio::time::timeout(LIMIT, asking).await {
        Ok(Ok(())) => Ok(Answer::Good),
        Ok(Err(error)) if error.is_misconfigured() => Err(error),
        Ok(Err(error)) if is_of_a_file(&error) => Ok(Answer::Told),
        Ok(Err(error)) => Ok(Answer::Lacks(chain_of(&error))),
        Err(_) => Ok(Answer::Lacks(format!("no answer within {} s", LIMIT.as_secs()))),
    }
}

/// Whether an error is about a file with a secret.
const fn is_of_a_file(error: &ServeError) -> bool {
    matches!(
        error,
        ServeError::Store(StoreError::PasswordFile { .. })
            | ServeError::Connect(ConnectError::Identity(_))
            | ServeError::Chain(ChainError::TokenUnreadable { .. } | ChainError::TokenMalformed { .. })
    )
}

/// What may be wrong with an address that parses.
fn hint(config: &Config) -> &'static str {
    if config.chain.endpoint().shown().starts_with("https") {
        "; does the port speak TLS? A node's own port does not: write http:// then"
    } else {
        ""
    }
}
