//! The cost of waiting: until when the chain accepts a sector's next message.

use std::time::Duration;

use futures::future::join_all;
use sealbus_schema::{
    machine::manager::AtStake,
    parts::{PreCommitInfo, Ticket},
};
use serde_json::{Value, json};

use super::fleet::lasting;
use crate::{
    chain::{NodeClient, RpcClient},
    config::Config,
    store::Job,
};

/// How long the node may take to answer before a command continues without it.
const LIMIT: Duration = Duration::from_secs(4);

/// The chain's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainTime {
    /// The head's epoch, if known.
    pub epoch: Option<i64>,
    /// Whether the node has just said so; otherwise this is a lower bound.
    pub live: bool,
}

/// The cost of waiting for a sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// Only the slot is unavailable to other sectors.
    Slot,
    /// Nothing: it is in the queue.
    Nothing,
    /// The ticket expires; then the work that is bound to it is lost.
    Ticket(Ticket),
    /// A PreCommit is sent; it is not known yet whether it has landed.
    InFlight,
    /// The PreCommit expires unless it is proven; then its deposit is burnt and the number is lost.
    Deposit(PreCommitInfo),
}

impl ChainTime {
    /// Asks the nodes, and falls back on the last epoch that the manager recorded.
    pub async fn look(config: &Config, sectors: &[Job]) -> ChainTime {
        let asked = config.chain.nodes().into_iter().map(|node| async {
            let head = async { NodeClient::new(RpcClient::new(node.endpoint)?).chain_head().await };
            tokio::time::timeout(LIMIT, head).await.ok()?.ok().map(|head| head.height)
        });
        match join_all(asked).await.into_iter().flatten().max() {
            Some(epoch) => ChainTime { epoch: Some(epoch), live: true },
            None => ChainTime { epoch: sectors.iter().filter_map(last_known).max(), live: false },
        }
    }

    /// In words.
    pub fn words(&self) -> String {
        match self {
            ChainTime { epoch: Some(epoch), live: true } => format!("the chain is at epoch {epoch}"),
            ChainTime { epoch: Some(epoch), live: false } => {
                format!("the node does not answer; the chain is at epoch {epoch} or later")
            }
            ChainTime { epoch: None, .. } => "the node does not answer".to_owned(),
        }
    }
}

/// The epoch of the head that the manager recorded with a sector's latest answer from the chain.
fn last_known(sector: &Job) -> Option<i64> {
    match sector.state.at_stake() {
        AtStake::Deposit(precommit) => Some(precommit.head_epoch),
        AtStake::Ticket(ticket) => Some(ticket.head_epoch),
        AtStake::Nothing | AtStake::Slot => None,
    }
}

impl Cost {
    /// The cost of waiting for a sector.
    pub fn of(sector: &Job) -> Cost {
        match sector.state.at_stake() {
            AtStake::Nothing => Cost::Nothing,
            AtStake::Slot => Cost::Slot,
            AtStake::Ticket(_) if sector.signed => Cost::InFlight,
            AtStake::Ticket(ticket) => Cost::Ticket(ticket),
            AtStake::Deposit(precommit) => Cost::Deposit(precommit),
        }
    }

    /// The epoch at which something expires, if anything does.
    pub fn until_epoch(&self) -> Option<i64> {
        self.until().map(|(epoch, _)| epoch)
    }

    fn until(&self) -> Option<(i64, u64)> {
        match self {
            Cost::Ticket(ticket) => Some((ticket.expires_epoch, ticket.epoch_millis)),
            Cost::Deposit(precommit) => Some((precommit.prove_by_epoch, precommit.epoch_millis)),
            Cost::Slot | Cost::Nothing | Cost::InFlight => None,
        }
    }

    /// How many seconds are left, if something expires and the chain's time is known. Negative if it has expired.
    pub fn secs_left(&self, now: ChainTime) -> Option<i64> {
        let ((until, millis), now) = (self.until()?, now.epoch?);
        Some((until - now).saturating_mul(millis as i64) / 1000)
    }

    /// In words.
    pub fn words(&self, now: ChainTime) -> String {
        let left = |until: i64, secs: Option<i64>| match (secs, now.epoch) {
            (Some(secs), Some(epoch)) if until >= epoch => {
                let most = if now.live { "" } else { "at most " };
                format!("epoch {until}, {most}{} epochs or {} from now", until - epoch, lasting(secs))
            }
            (Some(secs), Some(epoch)) => format!("epoch {until}, {} epochs or {} ago", epoch - until, lasting(-secs)),
            _ => format!("epoch {until}"),
        };
        let secs = self.secs_left(now);
        let is_over = secs.is_some_and(|secs| secs < 0);
        match self {
            Cost::Nothing => "nothing".to_owned(),
            Cost::Slot => "the slot, which no other sector can use meanwhile".to_owned(),
            Cost::InFlight => "its PreCommit is on its way; from its landing on a deposit is at stake".to_owned(),
            Cost::Ticket(ticket) if is_over => {
                format!("the ticket expired at {}; what was sealed with it is lost", left(ticket.expires_epoch, secs))
            }
            Cost::Deposit(precommit) if is_over => {
                format!("the PreCommit expired at {}; its deposit is lost", left(precommit.prove_by_epoch, secs))
            }
            Cost::Ticket(ticket) => {
                format!("the ticket expires at {}; then what is sealed is lost", left(ticket.expires_epoch, secs))
            }
            Cost::Deposit(precommit) => {
                format!("the PreCommit expires at {}; then its deposit is lost", left(precommit.prove_by_epoch, secs))
            }
        }
    }

    /// For scripts.
    pub fn json(&self, now: ChainTime) -> Value {
        let kind = match self {
            Cost::Nothing => "nothing",
            Cost::Slot => "slot",
            Cost::InFlight => "precommit_in_flight",
            Cost::Ticket(_) => "ticket",
            Cost::Deposit(_) => "deposit",
        };
        json!({
            "cost": kind,
            "expires_epoch": self.until().map(|(epoch, _)| epoch),
            "now_epoch": now.epoch,
            "now_is_live": now.live,
            "secs_left": self.secs_left(now),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_that_has_expired_is_told_as_past() {
        let randomness = sealbus_schema::Randomness([3; 32]);
        let ticket = Ticket { draw: 1, randomness, epoch: 1, expires_epoch: 100, head_epoch: 1, epoch_millis: 30_000 };
        let words = |epoch| Cost::Ticket(ticket).words(ChainTime { epoch: Some(epoch), live: true });
        assert_eq!(
            words(110),
            "the ticket expired at epoch 100, 10 epochs or 5 min ago; what was sealed with it is lost"
        );
        assert_eq!(
            words(90),
            "the ticket expires at epoch 100, 10 epochs or 5 min from now; then what is sealed is lost"
        );
    }

    #[test]
    fn a_deadline_is_told_in_epochs_and_in_time() {
        let precommit = PreCommitInfo { epoch: 30, prove_by_epoch: 86_440, head_epoch: 31, epoch_millis: 30_000 };
        let cost = Cost::Deposit(precommit);
        let at = |epoch, live| ChainTime { epoch, live };
        assert!(cost.words(at(Some(40), true)).contains("epoch 86440, 86400 epochs or 30 days from now"));
        assert!(cost.words(at(Some(40), false)).contains("at most 86400 epochs"));
        let over = cost.words(at(Some(86_442), true));
        assert_eq!(over, "the PreCommit expired at epoch 86440, 2 epochs or 60 s ago; its deposit is lost");
        assert!(cost.words(at(Some(86_440), true)).contains("expires at epoch 86440, 0 epochs or 0 s from now"));
        assert!(cost.words(at(None, false)).contains("expires at epoch 86440;"));
        assert_eq!(cost.secs_left(at(Some(86_439), true)), Some(30));
    }
}
