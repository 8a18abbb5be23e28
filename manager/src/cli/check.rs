//! `check`: whether a configuration is valid, and whether everything that it names is available. These are two answers.

use std::{sync::Arc, time::Duration};

use clap::Args;
use futures::future::join_all;
use sealbus_nats::{ConnectError, NotThere};
use serde::Serialize;
use serde_json::json;
use tokio::time::timeout;

use super::{ConfigArg, broken::Broken, print_json};
use crate::{
    chain::{Error as ChainError, NodeClient, RpcClient, network, nodes::Standing, types::TipSetKey},
    config::{Config, NamedNode},
    drive::{DriveError, chain_of},
    preflight,
    proofs::Library,
    serve::{self, ServeError},
    store::{Store, StoreError},
    stores::{self, Look, Users},
    waits::{self, Subject, advice},
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
        let Found { not_there: found, nodes, broken } =
            if self.offline { Found::default() } else { look(&config).await? };
        let restored = if self.offline { None } else { Store::restored_in(&config.database).await };
        let path = self.config.config.display().to_string();
        if self.json {
            let miners: Vec<_> = config.miners.iter().map(|miner| miner.id).collect();
            let stores: Vec<_> = config.stores.iter().map(|store| &store.name).collect();
            let missing: Vec<_> =
                found.iter().map(|NotThere { field, problem }| json!({ "field": field, "problem": problem })).collect();
            let good = found.is_empty();
            print_json(&json!({
                "config": path, "good": good, "miners": miners, "stores": stores, "not_there": missing, "nodes": nodes,
                "broken": broken.json(), "restored": restored,
            }))?;
        } else if found.is_empty() {
            outln!("{path} is valid, and everything is available: miners {}", config.miner_names());
        } else {
            outln!("{path} is valid: miners {}", config.miner_names());
            for missing in &found {
                outln!("not there now: {missing}");
            }
        }
        if !self.json {
            for node in &nodes {
                outln!("{node}");
            }
            broken.show();
            if let Some(restored) = restored {
                outln!("the manager is {restored}");
            }
        }
        if found.is_empty() { Ok(()) } else { Err(NotAllThere.into()) }
    }
}

/// A chain node, as it is now.
#[derive(Debug, Serialize)]
struct NodeNow {
    name: String,
    url: String,
    /// [`Standing::name`].
    standing: &'static str,
    head: Option<i64>,
    /// Why it does not announce its heads. A node without announcements is as good, but each head comes a little later.
    asked_because: Option<String>,
}

impl NodeNow {
    async fn look(node: NamedNode, standing: &Standing) -> NodeNow {
        let subscribed = async { RpcClient::with_any_token(node.endpoint.clone())?.head_changes().await };
        let asked_because = match timeout(LIMIT, subscribed).await {
            Ok(Ok(_)) => None,
            Ok(Err(error)) => Some(chain_of(&error)),
            Err(_) => Some(format!("no answer within {} s", LIMIT.as_secs())),
        };
        let head = match standing {
            Standing::Well { head } | Standing::Behind { head, .. } | Standing::Forked { head, .. } => Some(*head),
            _ => None,
        };
        NodeNow { name: node.name, url: node.endpoint.shown(), standing: standing.name(), head, asked_because }
    }
}

impl std::fmt::Display for NodeNow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "chain node {} ({}): {}", self.name, self.url, self.standing.replace('_', " "))?;
        if let Some(head) = self.head {
            write!(f, ", head at epoch {head}")?;
        }
        match &self.asked_because {
            None => f.write_str(", announces its heads"),
            Some(why) => write!(f, ", is asked for its head periodically ({why})"),
        }
    }
}

/// What `check` has found.
#[derive(Default)]
struct Found {
    /// Everything that the configuration names and that is unavailable.
    not_there: Vec<NotThere>,
    nodes: Vec<NodeNow>,
    /// The broken invariants that the database and the workers tell of.
    broken: Broken,
}

/// Looks at everything that the configuration names. An error means that the configuration is invalid, as a server's answer
/// showed.
async fn look(config: &Config) -> Result<Found, ServeError> {
    let mut broken = Broken::default();
    let (not_there, nodes) = not_there(config, &mut broken).await?;
    Ok(Found { not_there, nodes, broken })
}

async fn not_there(config: &Config, broken: &mut Broken) -> Result<(Vec<NotThere>, Vec<NodeNow>), ServeError> {
    let mut found = config.not_there();
    let mut add = |field: &str, problem: String| found.push(NotThere { field: field.to_owned(), problem });
    let database = limited(async {
        broken.by_manager = Store::look(&config.database).await?;
        Ok(())
    });
    if let Answer::Lacks(problem) = database.await? {
        add("database", problem);
    }
    let mut is_clustered = true;
    let bus = limited(async {
        let bus = config.nats.connect("manager").await?;
        is_clustered = bus.is_clustered();
        bus.check_jetstream().await?;
        // Before the manager's first start there are no heartbeats.
        broken.by_workers = bus.workers().await.unwrap_or_default();
        Ok(())
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
    // The network that a manager has seen, if the database can be read.
    let known = timeout(LIMIT, Store::network_in(&config.database)).await;
    let known = known.unwrap_or(Ok(None)).unwrap_or_default();
    let client = match config.chain.client(known).map_err(ServeError::from) {
        Ok(client) => Arc::new(client),
        Err(error) if error.is_misconfigured() => return Err(error),
        // Already reported with the token's file.
        Err(_) => return Ok((found, Vec::new())),
    };
    client.look().await;
    let standings = client.standings().into_iter().map(|(_, standing)| standing);
    let nodes: Vec<_> = config.chain.nodes().into_iter().zip(standings).collect();
    for (node, standing) in nodes.iter().filter(|_| client.are_several()) {
        if let Some(cause) = waits::of_standing(standing) {
            add(&node.field, format!("{}: {}", node.name, cause.text));
        }
    }
    let nodes = join_all(nodes.into_iter().map(async |(node, standing)| NodeNow::look(node, &standing).await)).await;
    let node = NodeClient::new(client);
    let asked = limited(async { Ok(network::check_supported(node.network_version(&TipSetKey::head()).await?)?) });
    match asked.await? {
        Answer::Good => {}
        Answer::Lacks(problem) => {
            add("chain.url", problem + hint(config));
            return Ok((found, nodes));
        }
        Answer::Told => return Ok((found, nodes)),
    }
    for (index, miner) in config.miners.iter().enumerate() {
        if let Answer::Lacks(problem) = limited(serve::check_miner(&node, miner, &config.chain)).await? {
            found.push(NotThere { field: format!("miner[{index}]"), problem });
        }
    }
    if let Ok(Some(messager)) = config.chain.messager_client() {
        let asked = limited(async { Ok(messager.has("sealbus").await.map(drop).map_err(DriveError::from)?) });
        if let Answer::Lacks(problem) = asked.await? {
            found.push(NotThere { field: "chain.messager".to_owned(), problem });
            return Ok((found, nodes));
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
    Ok((found, nodes))
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
    match timeout(LIMIT, asking).await {
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
    if config.chain.nodes().iter().any(|node| node.endpoint.shown().starts_with("https")) {
        "; does the port speak TLS? A node's own port does not: write http:// then"
    } else {
        ""
    }
}
