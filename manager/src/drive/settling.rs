//! After the restoration of a backup nothing is signed while a message may land that the database does not know.
//!
//! Such a message may have any purpose. Once it is on the confident part of the chain, the sectors' states show what it did,
//! and once it is gone from the pools, its nonce is free.

use std::sync::atomic::Ordering;

use fvm_shared::address::Address;
use sealbus_schema::ErrorCode;
use serde_json::json;

use super::{DriveError, Driver, View, lock, tick::subject_of};
use crate::{
    chain::Transport,
    store::{AuditEntry, Message, MessageKind},
    waits::{Cause, Subject},
};

/// For how many epochs on top of the confidence the pools are watched at least: what our nodes have forgotten may still be in
/// others' pools, and lands in this time or pays too little.
pub const SETTLE_EPOCHS: i64 = 10;

/// The nonces of a sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nonces {
    /// The one after the last that the database knows.
    pub known: u64,
    /// Those of the messages in the pools.
    pub pending: Vec<u64>,
    /// The next one by the state at the head.
    pub head: u64,
    /// The next one by the state at the confident tipset.
    pub confident: u64,
}

impl Nonces {
    /// Whether every message of this sender that may still land is one that the database knows.
    pub fn are_known(&self) -> bool {
        self.pending.iter().all(|nonce| *nonce < self.known) && self.head <= self.known.max(self.confident)
    }

    /// The nonce that nothing has and without which what is in the pools can never land. Only once everything before it is
    /// confident, because a filler makes the nonces before it known.
    pub fn gap(&self) -> Option<u64> {
        let first = *self.pending.iter().min()?;
        (first > self.head && self.head == self.confident).then_some(self.head)
    }
}

impl<T: Transport + 'static> Driver<T> {
    /// Whether nothing may be signed yet. Shows why at what is wanted.
    pub(super) async fn is_settling(&self, view: &View, wanted: &[Message]) -> Result<bool, DriveError> {
        if !self.restored.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let head = view.head.height;
        let from = *lock(&self.settles_from).get_or_insert(head);
        let until = from + self.config.chain.confidence_epochs + SETTLE_EPOCHS;
        let subject = Subject::Bus("restoration".to_owned());
        let Some(text) = self.unsettled(view, until, wanted).await? else {
            let mut tx = self.store.begin_as(self.epoch).await?;
            tx.end_restoration().await?;
            let why = "every message that was sent after the backup is on chain or gone";
            let entry = AuditEntry::new("manager", "restore end", "database".to_owned(), why, json!({ "epoch": head }));
            tx.add_audit(&entry).await?;
            tx.commit().await?;
            tracing::info!("the restored database has caught up with the chain; messages are signed again");
            self.restored.store(false, Ordering::Relaxed);
            self.waits.goes_on(&subject);
            for message in wanted {
                self.waits.goes_on(&subject_of(message));
            }
            return Ok(false);
        };
        let pause = self.config.chain.poll_interval();
        let cause = Cause::passing(ErrorCode::RESTORED, text);
        for subject in wanted.iter().map(subject_of).chain([subject]) {
            self.waits.waits(&subject, cause.clone(), pause);
        }
        Ok(true)
    }

    /// What is still waited for, if anything is.
    async fn unsettled(&self, view: &View, until: i64, wanted: &[Message]) -> Result<Option<String>, DriveError> {
        let begin = "the database was restored from a backup. Nothing is signed";
        if view.head.height < until {
            return Ok(Some(format!("{begin} before epoch {until}, because unknown messages may be on their way")));
        }
        let mut senders: Vec<Address> = Vec::new();
        for miner in &self.config.miners {
            for kind in [MessageKind::PreCommit, MessageKind::ProveCommit] {
                senders.extend(self.senders(miner.id, kind, view).await?);
            }
        }
        senders.sort();
        senders.dedup();
        let pending = self.node.mpool_nonces(&senders).await?;
        for sender in senders {
            let head = self.node.get_actor(&sender, &view.head.key).await?;
            let nonces = Nonces {
                known: self.store.next_nonce(&sender.to_string()).await?,
                pending: pending.iter().filter(|(from, _)| *from == sender).map(|(_, nonce)| *nonce).collect(),
                head: head.map_or(0, |actor| actor.nonce),
                confident: self.next_on_chain(view, &sender).await?,
            };
            if let (Some(gap), Some(message)) = (nonces.gap(), wanted.first()) {
                self.fill_gap(view, (message.miner, message.sector), &sender, gap + 1).await?;
            }
            if !nonces.are_known() {
                let unknown: Vec<_> = nonces.pending.iter().filter(|nonce| **nonce >= nonces.known).collect();
                return Ok(Some(match unknown.as_slice() {
                    [] => format!(
                        "{begin} until the last messages of {sender} are confident: the chain is at nonce {}",
                        nonces.head
                    ),
                    unknown => format!(
                        "{begin} while messages of {sender} with unknown content are in the pool: nonces {unknown:?}. They land, \
                         or replace them with the node's tools"
                    ),
                }));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_signed_again_once_none_can_land_that_is_unknown() {
        let settled = |known, pending: &[u64], head, confident| {
            Nonces { known, pending: pending.to_vec(), head, confident }.are_known()
        };
        assert!(settled(5, &[], 5, 5));
        assert!(settled(5, &[3, 4], 3, 3), "all of them are ours");
        assert!(!settled(5, &[4, 5], 4, 4), "one is in the pool");
        assert!(!settled(5, &[9], 5, 5), "it waits behind a gap");
        assert!(!settled(5, &[], 7, 5), "two are on chain, and may be gone again");
        assert!(settled(5, &[], 7, 7));
        assert!(settled(5, &[], 5, 3), "what is not confident is known");
    }

    #[test]
    fn a_nonce_that_is_missing_is_filled_when_all_before_it_are_confident() {
        let gap =
            |pending: &[u64], head, confident| Nonces { known: 5, pending: pending.to_vec(), head, confident }.gap();
        assert_eq!(gap(&[8, 7], 6, 6), Some(6));
        assert_eq!(gap(&[7], 6, 5), None, "nonce 5 may be on chain again");
        assert_eq!(gap(&[6, 8], 6, 6), None, "nonce 6 lands first");
        assert_eq!(gap(&[], 6, 6), None);
    }
}
