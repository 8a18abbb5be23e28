//! Several full nodes, used as one.
//!
//! Reads go to one node. It is kept as long as it is well; then the heaviest of those that are well takes its place. So
//! the reads of one tick agree, unless the node fails in the middle of it; and then they still name their tipsets. A
//! signed message goes to all nodes. A signature comes from the node that has the key.
//!
//! [`look`](Nodes::look) compares the nodes ([`standing`] has the rules), and each read that fails takes its node out at
//! once. A node that is left out is asked for its head at each look, and counts again when it is well.
//!
//! With a single node nothing is compared but the network. The errors of its calls are passed on as they are.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt, future, stream};
use serde_json::Value;

use super::error::Error;
use super::rpc::Transport;
use super::types::Epoch;
use crate::wake::Wake;

mod look;
pub mod standing;
mod wallet;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests;

use look::head_of;
pub use standing::{NetworkId, Standing};

/// A node with its name.
#[derive(Debug)]
pub struct Member<T> {
    /// The name for people.
    pub name: String,
    /// How it is asked.
    pub transport: T,
}

/// Several nodes as one [`Transport`].
#[derive(Debug)]
pub struct Nodes<T> {
    members: Vec<Arc<Member<T>>>,
    /// How many epochs must be on top of a tipset before it counts.
    confidence: Epoch,
    state: Mutex<State>,
    /// The number of looks. Held while a look runs, so that callers who need one share it.
    looks: tokio::sync::Mutex<u64>,
}

#[derive(Debug)]
struct State {
    /// In the order of the members.
    standings: Vec<Standing>,
    /// The member that reads go to.
    reading: Option<usize>,
    /// The only network whose nodes are used, once it is known.
    network: Option<NetworkId>,
    /// The members whose wallets have signed, by key.
    holders: HashMap<String, usize>,
    looks: u64,
}

impl<T: Transport + 'static> Nodes<T> {
    /// Nodes in the order of preference. Makes no call. `network` is the only one whose nodes are used; if it is `None`,
    /// that of the first node that answers.
    pub fn new(members: Vec<Member<T>>, confidence: Epoch, network: Option<NetworkId>) -> Nodes<T> {
        let standings = members.iter().map(|_| Standing::Unknown).collect();
        let state = State { standings, reading: None, network, holders: HashMap::new(), looks: 0 };
        Nodes {
            members: members.into_iter().map(Arc::new).collect(),
            confidence,
            state: Mutex::new(state),
            looks: tokio::sync::Mutex::new(0),
        }
    }

    /// Whether there are several nodes.
    pub fn are_several(&self) -> bool {
        self.members.len() > 1
    }

    /// The nodes and their standings, in the configured order.
    pub fn standings(&self) -> Vec<(String, Standing)> {
        let state = self.state();
        self.members.iter().map(|member| member.name.clone()).zip(state.standings.iter().cloned()).collect()
    }

    /// The node that reads go to.
    pub fn reading(&self) -> Option<String> {
        self.state().reading.map(|at| self.members[at].name.clone())
    }

    /// The only network whose nodes are used, once it is known.
    pub fn network_id(&self) -> Option<NetworkId> {
        self.state().network.clone()
    }

    /// Uses only nodes of this network from now on.
    pub fn expect(&self, network: NetworkId) {
        self.state().network = Some(network);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The member that reads go to. Looks for one if there is none.
    async fn reader(&self) -> Result<usize, Error> {
        let (reading, looks) = {
            let state = self.state();
            (state.reading.or_else(|| self.only_one(&state.standings)), state.looks)
        };
        if let Some(at) = reading {
            return Ok(at);
        }
        self.look_after(looks).await;
        let state = self.state();
        match (state.reading, state.standings.as_slice()) {
            (Some(at), _) => Ok(at),
            // Its own error says the most.
            (None, [only]) if !matches!(only, Standing::OtherNetwork { .. }) => Ok(0),
            (None, standings) => Err(self.none_well(standings)),
        }
    }

    /// A single node is used whatever it answers, unless it may be another one than before: one of another network.
    fn only_one(&self, standings: &[Standing]) -> Option<usize> {
        match standings {
            [Standing::Unusable(error)] if !is_lost(error) => Some(0),
            _ => None,
        }
    }

    fn none_well(&self, standings: &[Standing]) -> Error {
        let described: Vec<String> =
            self.members.iter().zip(standings).map(|(m, s)| format!("{} {s}", m.name)).collect();
        let is_other_network = standings.iter().all(|standing| matches!(standing, Standing::OtherNetwork { .. }));
        Error::NoNodeWell { nodes: described.join("; "), is_other_network }
    }

    /// Takes a node out because a read failed. Another one that is well takes its place at once.
    fn take_out(&self, at: usize, error: Error) {
        let mut state = self.state();
        state.standings[at] = Standing::of_error(error);
        self.choose(&mut state, &[]);
    }

    /// Chooses whom reads go to: the same as before if it is well, otherwise the best, otherwise nobody. `best_first` has
    /// the members that were compared. Without a comparison the highest head decides.
    fn choose(&self, state: &mut State, best_first: &[usize]) {
        let mut well: Vec<(usize, Epoch)> = Vec::new();
        for (at, standing) in state.standings.iter().enumerate() {
            if let Standing::Well { head } = standing {
                well.push((at, *head));
            }
        }
        well.sort_by_key(|(at, head)| (best_first.iter().position(|best| best == at), Reverse(*head), *at));
        let stays = state.reading.filter(|reading| well.iter().any(|(at, _)| at == reading));
        let chosen = stays.or(well.first().map(|(at, _)| *at));
        if chosen != state.reading {
            if let (Some(at), true) = (chosen, self.are_several()) {
                tracing::info!(node = self.members[at].name, "the chain is read from this node now");
            }
            state.reading = chosen;
        }
    }

    /// Reads from one node, and from the next one if that shows that it is not well.
    async fn read(&self, method: &'static str, params: Value) -> Result<Value, Error> {
        loop {
            let at = self.reader().await?;
            let transport = &self.members[at].transport;
            if !self.are_several() {
                let answer = transport.call(method, params).await;
                // Before the next call it is asked again which network it is on: it may be another node then.
                if answer.as_ref().is_err_and(is_lost) {
                    self.state().reading = None;
                }
                return answer;
            }
            let mut answer = transport.call(method, params.clone()).await;
            if method == "ChainHead" {
                answer = answer.and_then(|head| head_of(&head).map(|_| head));
            }
            match answer {
                Err(error) if is_nodes_fault(&error, method) => self.take_out(at, error),
                answer => return answer,
            }
        }
    }

    /// The members that a message is pushed to: all that answer and are on the right network.
    fn open_to_messages(&self) -> Vec<Arc<Member<T>>> {
        let state = self.state();
        let takes = |standing: &Standing| {
            matches!(standing, Standing::Well { .. } | Standing::Behind { .. } | Standing::Forked { .. })
        };
        let members = self.members.iter().zip(&state.standings);
        members.filter(|(_, standing)| takes(standing)).map(|(member, _)| Arc::clone(member)).collect()
    }
}

impl<T: Transport + 'static> Transport for Nodes<T> {
    async fn call(&self, method: &'static str, params: Value) -> Result<Value, Error> {
        match method {
            "WalletHas" | "WalletSign" | "WalletSignMessage" => self.ask_wallets(method, params).await,
            // A second block of one epoch is a fault that is punished. So no other node is asked if this one fails.
            "MinerCreateBlock" => {
                let at = self.reader().await?;
                self.members[at].transport.call(method, params).await
            }
            _ => self.read(method, params).await,
        }
    }

    fn everywhere(&self, method: &'static str, params: Value) -> impl Stream<Item = Result<Value, Error>> + Send {
        let asked = async move {
            if let Err(error) = self.reader().await {
                return stream::once(future::ready(Err(error))).left_stream();
            }
            let members = self.open_to_messages();
            if members.is_empty() {
                return stream::once(future::ready(self.read(method, params).await)).left_stream();
            }
            // Tasks of their own: whoever is content with the first answer does not cut off the others.
            let calls: FuturesUnordered<_> = members
                .into_iter()
                .map(|member| {
                    let params = params.clone();
                    tokio::spawn(async move {
                        let answer = member.transport.call(method, params).await;
                        if let Err(error) = &answer {
                            tracing::debug!(node = member.name, method, %error, "this node did not take it");
                        }
                        answer
                    })
                })
                .collect();
            calls.filter_map(|ended| future::ready(ended.ok())).right_stream()
        };
        stream::once(asked).flatten()
    }

    async fn permissions(&self) -> Result<Option<Vec<String>>, Error> {
        let mut all: Option<Vec<String>> = None;
        let mut failure = None;
        for member in &self.members {
            match member.transport.permissions().await {
                Ok(Some(permissions)) => all.get_or_insert_default().extend(permissions),
                Ok(None) => {}
                Err(error) => failure = Some(error),
            }
        }
        match (all, failure) {
            (None, Some(error)) => Err(error),
            (all, _) => Ok(all),
        }
    }

    async fn follow_heads(&self, silence: Duration, noticed: &Wake) -> Infallible {
        // A ring of a node that is left out costs one question more.
        let followed = self.members.iter().map(|member| member.transport.follow_heads(silence, noticed));
        future::select_all(followed.map(Box::pin)).await.0
    }
}

/// Whether there may be another node at the address when it answers again.
const fn is_lost(error: &Error) -> bool {
    matches!(error, Error::Unreachable { .. } | Error::ConnectionLost { .. })
}

/// Whether an error shows that the node is not well, and not only that this call failed. A slow call says nothing about
/// others, except for the smallest one.
fn is_nodes_fault(error: &Error, method: &'static str) -> bool {
    match error {
        Error::Unreachable { .. } | Error::ConnectionLost { .. } | Error::Unauthorized { .. } => true,
        Error::TokenUnreadable { .. } | Error::TokenMalformed { .. } | Error::Http { .. } => true,
        Error::BadAnswer { .. } | Error::TimedOut { .. } | Error::Refused { .. } => method == "ChainHead",
        _ => false,
    }
}
