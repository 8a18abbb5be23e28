//! What the driver needs beside the node's head: miners whose messages can be signed and whose proofs can be verified. Looked at again and again, so that a cause is told before it costs a sector.

use std::{collections::BTreeMap, convert::Infallible, sync::Mutex, time::Duration};

use sealbus_schema::MinerId;

use super::{Driver, lock};
use crate::{
    chain::Transport,
    preflight::{self, Finding},
    waits::{self, Cause, Subject},
};

/// How often the surroundings are looked at.
const PERIOD: Duration = Duration::from_secs(30);

/// What was found of each miner when it was last looked at.
#[derive(Debug, Default)]
pub(super) struct Surroundings {
    found: Mutex<BTreeMap<MinerId, Finding>>,
}

impl Surroundings {
    /// Whether no sector of a miner should be begun now.
    pub(super) fn is_held(&self, miner: MinerId) -> bool {
        lock(&self.found).get(&miner).is_some_and(|finding| finding.holds)
    }
}

impl<T: Transport + 'static> Driver<T> {
    pub(super) async fn watch_surroundings(&self) -> Infallible {
        loop {
            tokio::time::sleep(PERIOD).await;
            self.look_around().await;
        }
    }

    /// Looks once. A node that does not answer changes nothing: that is told elsewhere.
    pub(super) async fn look_around(&self) {
        let head = self.node.chain_head().await;
        for miner in &self.config.miners {
            let found = match (preflight::keys(miner, &*self.verifier), &head) {
                (Some(finding), _) => Ok(vec![finding]),
                (None, Ok(head)) => preflight::miner(&self.node, miner, head).await,
                (None, Err(_)) => continue,
            };
            let found = match found {
                Ok(found) => found,
                Err(error) if error.is_transient() => continue,
                Err(error) => vec![Finding { cause: waits::of_error(&error.into()), holds: false }],
            };
            let found: Vec<_> = found.into_iter().chain(preflight::fee_limit(&self.config.chain)).collect();
            let worst = found.iter().find(|finding| finding.holds).or(found.first()).cloned();
            match worst {
                Some(finding) => drop(lock(&self.surroundings.found).insert(miner.id, finding)),
                None => drop(lock(&self.surroundings.found).remove(&miner.id)),
            }
        }
    }

    /// Tells why miners wait: for what was found of them, or because their sectors could not be numbered.
    pub(super) fn tell_miners(&self, short: &BTreeMap<MinerId, Cause>) {
        let mut causes = short.clone();
        for (miner, finding) in lock(&self.surroundings.found).iter() {
            if finding.holds || !causes.contains_key(miner) {
                causes.insert(*miner, finding.cause.clone());
            }
        }
        let there = causes.keys().map(|miner| Subject::Miner(*miner)).collect();
        self.waits.keep_only(&["miner"], &there);
        for (miner, cause) in causes {
            self.waits.waits(&Subject::Miner(miner), cause, self.config.chain.poll_interval());
        }
    }
}
