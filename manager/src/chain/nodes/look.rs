//! Looks at all nodes and compares them.

use std::str::FromStr;
use std::time::Duration;

use futures::future;
use fvm_shared::bigint::BigInt;
use serde_json::{Value, json};

use super::{Member, NetworkId, Nodes, Standing};
use crate::chain::error::Error;
use crate::chain::rpc::Transport;
use crate::chain::types::{Epoch, TipSet, TipSetKey};

/// How long a node may take to say what a look asks. One that is slower than that is left out while others are well.
const LIMIT: Duration = Duration::from_secs(10);

/// What a node says of itself.
struct Seen {
    head: Head,
    network: NetworkId,
}

/// A head, with what makes it the best one.
#[derive(Clone)]
pub(super) struct Head {
    tipset: TipSet,
    /// The weight of its parents. Nodes that agree on them differ at most by blocks of the last epoch.
    weight: BigInt,
}

impl<T: Transport + 'static> Nodes<T> {
    /// Asks all nodes for their heads and networks, compares them, and chooses whom reads go to.
    pub async fn look(&self) {
        let looks = self.state().looks;
        self.look_after(looks).await;
    }

    /// Looks, unless somebody else's look has ended since there were this many.
    pub(super) async fn look_after(&self, looks: u64) {
        let mut ended = self.looks.lock().await;
        if *ended > looks {
            return;
        }
        let seen = future::join_all(self.members.iter().map(|member| see(member))).await;
        self.compare(seen).await;
        *ended += 1;
        self.state().looks = *ended;
    }

    async fn compare(&self, seen: Vec<Result<Seen, Error>>) {
        let before: Vec<Standing> = self.state().standings.clone();
        let mut standings = Vec::with_capacity(seen.len());
        let mut heads: Vec<(usize, Head)> = Vec::new();
        let mut expected = self.state().network.clone();
        for (at, seen) in seen.into_iter().enumerate() {
            standings.push(match seen {
                Err(error) => Standing::of_error(error),
                Ok(Seen { head, network }) => match expected.get_or_insert_with(|| network.clone()) {
                    expected if expected.is(&network) => {
                        let height = head.tipset.height;
                        heads.push((at, head));
                        Standing::Well { head: height }
                    }
                    expected => Standing::OtherNetwork { found: network, expected: expected.clone() },
                },
            });
        }
        let reading = self.state().reading;
        // The heaviest first; of equal ones the one that is read from, then in the configured order.
        heads.sort_by(|(a, one), (b, other)| {
            let rank = |head: &Head| (head.weight.clone(), head.tipset.height);
            rank(other).cmp(&rank(one)).then((Some(*b) == reading).cmp(&(Some(*a) == reading))).then(a.cmp(b))
        });
        let best = heads.iter().map(|(_, head)| head.tipset.height).max().unwrap_or_default();
        heads.retain(|(at, head)| {
            let head = head.tipset.height;
            let lags = before[*at].lags(head, best);
            if lags {
                standings[*at] = Standing::Behind { head, best };
            }
            !lags
        });
        self.find_forks(&mut heads, &mut standings).await;
        let best_first: Vec<usize> = heads.iter().map(|(at, _)| *at).collect();
        let mut state = self.state();
        state.network = expected;
        state.standings = standings;
        self.choose(&mut state, &best_first);
    }

    /// Compares the chains of all heads with that of the first one, at a tipset that is confident on both.
    async fn find_forks(&self, heads: &mut Vec<(usize, Head)>, standings: &mut [Standing]) {
        while heads.len() > 1 {
            let (first, others) = (heads[0].clone(), heads[1..].to_vec());
            let compared = others.iter().map(|(at, head)| async {
                let at_epoch = (head.tipset.height.min(first.1.tipset.height) - self.confidence).max(0);
                let ours = self.tipset(first.0, at_epoch, &first.1.tipset.key).await;
                (ours, self.tipset(*at, at_epoch, &head.tipset.key).await, at_epoch)
            });
            let compared = future::join_all(compared).await;
            if let Some(ours) = compared.iter().position(|(ours, ..)| ours.is_err()) {
                // The best head is worth nothing if its node cannot say what it stands on.
                if let Some((Err(error), ..)) = compared.into_iter().nth(ours) {
                    standings[first.0] = Standing::of_error(error);
                }
                heads.remove(0);
                continue;
            }
            for ((at, head), (ours, theirs, at_epoch)) in others.iter().zip(compared) {
                match (ours, theirs) {
                    (Ok(ours), Ok(theirs)) if ours == theirs => continue,
                    (_, Err(error)) => standings[*at] = Standing::of_error(error),
                    _ => standings[*at] = Standing::Forked { head: head.tipset.height, at: at_epoch },
                }
                heads.retain(|(kept, _)| kept != at);
            }
            return;
        }
    }

    /// The key of the tipset at an epoch on the chain of a head, according to a member.
    async fn tipset(&self, at: usize, epoch: Epoch, head: &TipSetKey) -> Result<TipSetKey, Error> {
        const METHOD: &str = "ChainGetTipSetByHeight";
        let answer = ask(&self.members[at], METHOD, json!([epoch, head])).await?;
        Ok(head_of_method(METHOD, &answer)?.tipset.key)
    }
}

async fn see<T: Transport>(member: &Member<T>) -> Result<Seen, Error> {
    let head = head_of(&ask(member, "ChainHead", json!([])).await?)?;
    let name = ask(member, "StateNetworkName", json!([]));
    let (name, genesis) = future::join(name, ask(member, "ChainGetGenesis", json!([]))).await;
    let name = match name? {
        Value::String(name) => name,
        other => return Err(Error::bad_answer("StateNetworkName", format!("{other} is no name"))),
    };
    let genesis = match genesis {
        Ok(genesis) => Some(head_of_method("ChainGetGenesis", &genesis)?.tipset.key.to_string()),
        // A gateway may not offer it.
        Err(Error::MethodNotFound { .. } | Error::Unauthorized { .. } | Error::Refused { .. }) => None,
        Err(error) => return Err(error),
    };
    Ok(Seen { head, network: NetworkId { name, genesis } })
}

async fn ask<T: Transport>(member: &Member<T>, method: &'static str, params: Value) -> Result<Value, Error> {
    let answer = tokio::time::timeout(LIMIT, member.transport.call(method, params)).await;
    answer.unwrap_or_else(|_| Err(Error::TimedOut { url: member.name.clone(), method, limit: LIMIT }))
}

/// Reads the answer of `ChainHead`.
pub(super) fn head_of(answer: &Value) -> Result<Head, Error> {
    head_of_method("ChainHead", answer)
}

fn head_of_method(method: &'static str, answer: &Value) -> Result<Head, Error> {
    let wrong = |what: String| Error::bad_answer(method, what);
    let tipset: TipSet = serde_json::from_value(answer.clone()).map_err(|error| wrong(error.to_string()))?;
    if tipset.blocks.is_empty() || tipset.key.0.len() != tipset.blocks.len() || tipset.height < 0 {
        return Err(wrong("Blocks: a tipset without its blocks".to_owned()));
    }
    let weight = answer["Blocks"][0]["ParentWeight"].as_str().unwrap_or("0");
    let weight = BigInt::from_str(weight).map_err(|error| wrong(format!("ParentWeight: {error}")))?;
    Ok(Head { tipset, weight })
}
