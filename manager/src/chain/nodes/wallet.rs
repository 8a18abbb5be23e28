//! Signing by the node that has the key.

use serde_json::Value;

use super::{Nodes, Standing};
use crate::chain::error::Error;
use crate::chain::rpc::Transport;

impl<T: Transport + 'static> Nodes<T> {
    /// Asks the wallets one after the other, the one that has signed with the key first, until one has the key. Nodes of
    /// another network are not asked: what they sign would be valid on both.
    pub(super) async fn ask_wallets(&self, method: &'static str, params: Value) -> Result<Value, Error> {
        let reading = self.reader().await;
        let key = params[0].as_str().unwrap_or_default().to_owned();
        let (holder, order) = {
            let state = self.state();
            let holder = state.holders.get(&key).copied();
            let others = (0..self.members.len()).filter(|at| Some(*at) != holder && reading.as_ref().ok() != Some(at));
            let order = holder.into_iter().chain(reading.as_ref().ok().copied().filter(|at| Some(*at) != holder));
            let usable = |at: &usize| !matches!(state.standings[*at], Standing::OtherNetwork { .. });
            (holder, order.chain(others).filter(usable).collect::<Vec<_>>())
        };
        // The answer that says the most, if no wallet has the key.
        let mut best: Option<(Rank, Result<Value, Error>)> = None;
        for at in order {
            let answer = self.members[at].transport.call(method, params.clone()).await;
            let rank = match &answer {
                Ok(Value::Bool(false)) => Rank::WithoutKey,
                Ok(_) => {
                    self.state().holders.insert(key, at);
                    return answer;
                }
                Err(_) if holder == Some(at) => Rank::Holder,
                Err(error) if error.is_key_missing() => Rank::WithoutKey,
                Err(error) if error.is_transient() => Rank::Away,
                Err(_) => Rank::Refusal,
            };
            if best.as_ref().is_none_or(|(known, _)| *known < rank) {
                best = Some((rank, answer));
            }
        }
        match (best, reading) {
            (Some((_, answer)), _) => answer,
            (None, Err(error)) => Err(error),
            (None, Ok(_)) => Err(self.none_well(&self.state().standings.clone())),
        }
    }
}

/// What an answer without a signature is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// The node does not let us ask: it may not be meant to sign.
    Refusal,
    /// This wallet does not have the key.
    WithoutKey,
    /// This wallet may have the key.
    Away,
    /// This wallet has the key.
    Holder,
}
