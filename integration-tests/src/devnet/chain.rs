//! Stores tipsets: the current chain by height, and every tipset ever made by its key.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use cid::Cid;
use fvm_shared::clock::ChainEpoch;
use fvm_shared::receipt::Receipt;
use thiserror::Error;

use super::message::SignedMessage;
use super::randomness::blake2b256;
use super::tipset::Tipset;

/// Why the chain has no answer. The messages are those of a real node.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ChainError {
    /// There is no such tipset.
    #[error("load tipset: {0}: block not found")]
    TipsetNotFound(String),
    /// The requested height is above the tipset from which the search starts.
    #[error("looking for tipset with height greater than start point (wanted {wanted}, have {have})")]
    HeightAboveStart {
        /// The requested height.
        wanted: ChainEpoch,
        /// The height of the starting point.
        have: ChainEpoch,
    },
    /// The height is negative.
    #[error("looking for tipset with negative height {0}")]
    NegativeHeight(ChainEpoch),
    /// The epoch of the randomness is after the tipset's.
    #[error("cannot draw randomness from the future")]
    RandomnessFromFuture,
}

/// The results of executing a tipset's messages.
#[derive(Debug, Clone)]
pub struct Execution {
    /// The state root after the messages.
    pub state_root: Cid,
    /// A receipt for each message, in order.
    pub receipts: Vec<Receipt>,
}

/// Whether a tipset on a path is removed or added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The tipset leaves the chain.
    Revert,
    /// The tipset joins the chain.
    Apply,
}

/// All tipsets, and the chain that leads to the head.
pub struct Chain {
    tipsets: HashMap<Cid, Arc<Tipset>>,
    executions: HashMap<Cid, Arc<Execution>>,
    messages: HashMap<Cid, Arc<SignedMessage>>,
    canonical: BTreeMap<ChainEpoch, Cid>,
    head: Arc<Tipset>,
}

impl Chain {
    /// A chain with a single executed tipset.
    pub fn new(genesis: Tipset, execution: Execution) -> Self {
        let genesis = Arc::new(genesis);
        Self {
            tipsets: HashMap::from([(genesis.cid, genesis.clone())]),
            executions: HashMap::from([(genesis.cid, Arc::new(execution))]),
            messages: HashMap::new(),
            canonical: BTreeMap::from([(genesis.height(), genesis.cid)]),
            head: genesis,
        }
    }

    /// The heaviest tipset.
    pub fn head(&self) -> &Arc<Tipset> {
        &self.head
    }

    /// Adds an executed child of the head, which becomes the new head.
    pub fn extend(&mut self, tipset: Tipset, execution: Execution) {
        let tipset = Arc::new(tipset);
        for (cid, message) in &tipset.messages {
            self.messages.insert(*cid, message.clone());
        }
        self.canonical.insert(tipset.height(), tipset.cid);
        self.executions.insert(tipset.cid, Arc::new(execution));
        self.tipsets.insert(tipset.cid, tipset.clone());
        self.head = tipset;
    }

    /// Makes the tipset at a height, or the one before a null round, the head. Returns the messages of the reverted tipsets,
    /// oldest first. The node still knows all of them.
    pub fn rewind(&mut self, height: ChainEpoch) -> Result<Vec<Arc<SignedMessage>>, ChainError> {
        let head = self.at_height(height, &self.head)?;
        let reverted = self.canonical.split_off(&(head.height() + 1));
        self.head = head;
        let tipsets = reverted.values().filter_map(|cid| self.tipsets.get(cid));
        Ok(tipsets.flat_map(|tipset| &tipset.messages).map(|(_, message)| message.clone()).collect())
    }

    /// Stores a message by its CID, as a node does with every message it sees.
    pub fn remember(&mut self, cid: Cid, message: Arc<SignedMessage>) {
        self.messages.insert(cid, message);
    }

    /// A message that the node has seen.
    pub fn message(&self, cid: &Cid) -> Option<&Arc<SignedMessage>> {
        self.messages.get(cid)
    }

    /// The tipset with this key.
    pub fn tipset(&self, cid: &Cid) -> Result<&Arc<Tipset>, ChainError> {
        self.tipsets.get(cid).ok_or_else(|| ChainError::TipsetNotFound(cid.to_string()))
    }

    /// The results of the tipset's messages.
    pub fn execution(&self, cid: &Cid) -> Result<&Arc<Execution>, ChainError> {
        self.executions.get(cid).ok_or_else(|| ChainError::TipsetNotFound(cid.to_string()))
    }

    /// The parent of a tipset; `None` for genesis.
    pub fn parent(&self, tipset: &Tipset) -> Result<Option<&Arc<Tipset>>, ChainError> {
        tipset.parent().map(|cid| self.tipset(&cid)).transpose()
    }

    /// The tipset at a height on the chain that ends in `start`; for a null round, the one before.
    pub fn at_height(&self, height: ChainEpoch, start: &Arc<Tipset>) -> Result<Arc<Tipset>, ChainError> {
        check_height(height, start)?;
        let mut current = start;
        while current.height() > height {
            if self.is_canonical(current) {
                let found = self.canonical.range(..=height).next_back();
                return found.map(|(_, cid)| self.tipset(cid).cloned()).unwrap_or_else(|| Ok(current.clone()));
            }
            match self.parent(current)? {
                Some(parent) => current = parent,
                None => break,
            }
        }
        Ok(current.clone())
    }

    /// The tipset at a height on the chain that ends in `start`; for a null round, the one after.
    pub fn after_height(&self, height: ChainEpoch, start: &Arc<Tipset>) -> Result<Arc<Tipset>, ChainError> {
        check_height(height, start)?;
        let mut current = start;
        loop {
            if self.is_canonical(current) {
                let found = self.canonical.range(height..=current.height()).next();
                return found.map(|(_, cid)| self.tipset(cid).cloned()).unwrap_or_else(|| Ok(current.clone()));
            }
            match self.parent(current)? {
                Some(parent) if parent.height() >= height => current = parent,
                _ => return Ok(current.clone()),
            }
        }
    }

    /// The tipsets to revert and apply, in order, to get from one tipset to another.
    pub fn path(&self, from: Cid, to: Cid) -> Result<Vec<(Change, Arc<Tipset>)>, ChainError> {
        let mut reverts = Vec::new();
        let mut applies = Vec::new();
        let mut left = self.tipset(&from)?;
        let mut right = self.tipset(&to)?;
        while left.cid != right.cid {
            if left.height() >= right.height() {
                reverts.push((Change::Revert, left.clone()));
                match self.parent(left)? {
                    Some(parent) => left = parent,
                    None => break,
                }
            } else {
                applies.push((Change::Apply, right.clone()));
                match self.parent(right)? {
                    Some(parent) => right = parent,
                    None => break,
                }
            }
        }
        reverts.extend(applies.into_iter().rev());
        Ok(reverts)
    }

    /// The digest of the ticket for an epoch: that of the first tipset at or after it.
    pub fn ticket_digest(&self, epoch: ChainEpoch, tipset: &Arc<Tipset>) -> Result<[u8; 32], ChainError> {
        if epoch > tipset.height() {
            return Err(ChainError::RandomnessFromFuture);
        }
        let found = self.after_height(epoch.max(0), tipset)?;
        Ok(blake2b256(&found.header.ticket_vrf_proof))
    }

    fn is_canonical(&self, tipset: &Tipset) -> bool {
        self.canonical.get(&tipset.height()) == Some(&tipset.cid)
    }
}

fn check_height(height: ChainEpoch, start: &Tipset) -> Result<(), ChainError> {
    if height < 0 {
        return Err(ChainError::NegativeHeight(height));
    }
    if height > start.height() {
        return Err(ChainError::HeightAboveStart { wanted: height, have: start.height() });
    }
    Ok(())
}
