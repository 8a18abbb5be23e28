//! What the driver needs besides the node's head: miners whose messages can be signed and whose proofs can be verified.
//! It is checked periodically, so that a problem is reported before it costs a sector.

use std::{collections::BTreeMap, convert::Infallible, sync::Mutex, time::Duration};

use sealbus_schema::MinerId;

use super::{Driver, lock};
use crate::{
    chain::Transport,
    preflight::{self, Finding, Signing},
    waits::{self, Cause, Subject},
};

/// How often the surroundings are checked.
const PERIOD: Duration = Duration::from_secs(30);
/// The same while a finding keeps a miner's sectors from starting, so that they start soon after it is mended.
const PERIOD_WHILE_HELD: Duration = Duration::from_secs(5);

/// The result of each miner's last check.
#[derive(Debug, Default)]
pub(super) struct Surroundings {
    found: Mutex<BTreeMap<MinerId, Finding>>,
}

impl Surroundings {
    /// Whether no sector of this miner should be started now.
    pub(super) fn is_held(&self, miner: MinerId) -> bool {
        lock(&self.found).get(&miner).is_some_and(|finding| finding.holds)
    }

    fn period(&self) -> Duration {
        if lock(&self.found).values().any(|finding| finding.holds) { PERIOD_WHILE_HELD } else { PERIOD }
    }
}

impl<T: Transport + 'static> Driver<T> {
    pub(super) async fn watch_surroundings(&self) -> Infallible {
        loop {
            tokio::time::sleep(self.surroundings.period()).await;
            self.look_around().await;
        }
    }

    /// Checks once. If the node does not answer, nothing changes, because that is reported elsewhere.
    pub(super) async fn look_around(&self) {
        let (head, local) = (self.node.chain_head().await, self.config.chain.local_keys());
        let signing = self.messager.as_ref().map_or(Signing::Here(&local), Signing::ByMessager);
        for miner in &self.config.miners {
            let found = match (preflight::keys(miner, &*self.verifier), &head) {
                (Some(finding), _) => Ok(vec![finding]),
                (None, Ok(head)) => preflight::miner(&self.node, miner, signing, head).await,
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

    /// Reports why miners wait: because of their last check, or because their sectors could not be numbered.
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
