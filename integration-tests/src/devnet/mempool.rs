//! Messages that wait for a block. Rules and error messages are those of Lotus for messages pushed through its RPC.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use cid::Cid;
use fvm_shared::ActorID;
use fvm_shared::address::{Address, Protocol};
use fvm_shared::bigint::BigInt;
use fvm_shared::econ::TokenAmount;
use fvm_shared::message::Message;
use thiserror::Error;

use super::address::to_text;
use super::execution::{BASE_FEE_MIN_ATTO, BLOCK_GAS_LIMIT};
use super::message::{EncodeError, SignedMessage, required_funds};
use super::world::World;

/// The maximum size of a message in bytes.
pub const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// How far a nonce may be beyond the next one.
pub const NONCE_GAP_MAX: u64 = 4;
/// The maximum number of waiting messages per sender.
pub const PENDING_MAX: usize = 1000;

/// Why a message was refused. `Display` gives the text that a client of Lotus sees.
#[derive(Debug, Error)]
pub enum MempoolError {
    /// The message has more than 64 KiB.
    #[error("mpool message too large ({0}B): message too big")]
    TooBig(usize),
    /// A field has a value that no block may contain.
    #[error("message not valid for block inclusion: {0}")]
    Invalid(String),
    /// The fee cap is below the minimum base fee.
    #[error("gas fee cap too low")]
    GasFeeCapTooLow,
    /// The signature is not the sender's.
    #[error("signature verification failed: invalid signature: {0}")]
    Signature(String),
    /// The sender does not exist on chain.
    #[error("failed to get actor: {0}: actor not found")]
    ActorNotFound(String),
    /// The nonce was used by an executed message.
    #[error("minimum expected nonce is {expected}, got {got}: message nonce too low")]
    NonceTooLow {
        /// The sender's next nonce.
        expected: u64,
        /// The message's nonce.
        got: u64,
    },
    /// The nonce is too far ahead.
    #[error(
        "message nonce has too big a gap from expected nonce (Nonce: {nonce}, nextNonce: {next}): unfulfilled nonce gap"
    )]
    NonceGap {
        /// The message's nonce.
        nonce: u64,
        /// The expected nonce.
        next: u64,
    },
    /// A replacement, while an earlier nonce is missing.
    #[error("rejecting replace by fee because of nonce gap (Nonce: {nonce}, nextNonce: {next}): unfulfilled nonce gap")]
    ReplaceInGap {
        /// The message's nonce.
        nonce: u64,
        /// The expected nonce.
        next: u64,
    },
    /// The premium is too low for a replacement.
    #[error(
        "failed to add locked: message from {from} with nonce {nonce} already in mpool, increase GasPremium to {wanted} from {given} to trigger replace by fee: replace by fee has too low GasPremium"
    )]
    PremiumTooLow {
        /// The sender.
        from: String,
        /// The nonce of both messages.
        nonce: u64,
        /// The minimum premium in attoFIL.
        wanted: BigInt,
        /// The message's premium in attoFIL.
        given: BigInt,
    },
    /// The same message was pushed again.
    #[error(
        "failed to add locked: message from {from} with nonce {nonce} already in mpool: message with nonce already exists"
    )]
    AlreadyPending {
        /// The sender.
        from: String,
        /// The nonce.
        nonce: u64,
    },
    /// The sender has too many waiting messages.
    #[error("too many pending messages for actor")]
    TooManyPending,
    /// The sender cannot pay for the message.
    #[error(
        "failed to check balance: not enough funds{including_pending} (required: {required} FIL, balance: {balance} FIL): not enough funds to execute transaction"
    )]
    NotEnoughFunds {
        /// A note in the text, if the sender could pay without its other pending messages.
        including_pending: &'static str,
        /// The sender's funds.
        balance: TokenAmount,
        /// The maximum cost of this message, or of all pending ones including it.
        required: TokenAmount,
    },
    /// The message could not be encoded.
    #[error("failed to encode the message")]
    Encode(#[from] EncodeError),
}

type Pending = BTreeMap<u64, (Cid, Arc<SignedMessage>)>;

/// The waiting messages by sender (ID) and nonce.
#[derive(Debug, Default)]
pub struct Mempool {
    pending: HashMap<ActorID, Pending>,
}

impl Mempool {
    /// Accepts a message. It is judged by the state after the head's messages.
    pub fn push(&mut self, world: &World, signed: SignedMessage) -> Result<Cid, MempoolError> {
        let (sender, cid) = self.check(world, &signed)?;
        let queue = self.pending.entry(sender).or_default();
        queue.insert(signed.message.sequence, (cid, Arc::new(signed)));
        Ok(cid)
    }

    /// Checks whether a message would be accepted. Returns its sender and CID.
    pub fn check(&self, world: &World, signed: &SignedMessage) -> Result<(ActorID, Cid), MempoolError> {
        let message = &signed.message;
        let length = signed.chain_length()?;
        if length > MESSAGE_BYTES_MAX {
            return Err(MempoolError::TooBig(length));
        }
        check_fields(message)?;
        if !matches!(message.from.protocol(), Protocol::BLS | Protocol::Secp256k1) {
            let text = format!("cannot validate a signature against {}", to_text(&message.from));
            return Err(MempoolError::Signature(text));
        }
        signed.verify().map_err(MempoolError::Signature)?;
        let cid = signed.cid()?;
        let (sender, actor) = world
            .resolve(&message.from)
            .and_then(|id| world.get(id).map(|actor| (id, actor)))
            .ok_or_else(|| MempoolError::ActorNotFound(to_text(&message.from)))?;
        if message.sequence < actor.nonce {
            return Err(MempoolError::NonceTooLow { expected: actor.nonce, got: message.sequence });
        }
        self.check_nonce(sender, actor.nonce, cid, message)?;
        self.check_funds(sender, &actor.balance, message)?;
        Ok((sender, cid))
    }

    /// The nonce for the sender's next message.
    pub fn next_nonce(&self, sender: ActorID, on_chain: u64) -> u64 {
        let queue = self.pending.get(&sender);
        let mut next = on_chain;
        while queue.is_some_and(|queue| queue.contains_key(&next)) {
            next += 1;
        }
        next
    }

    /// All waiting messages, ordered by sender and nonce.
    pub fn pending(&self) -> Vec<(Cid, Arc<SignedMessage>)> {
        let mut senders: Vec<_> = self.pending.iter().collect();
        senders.sort_by_key(|(id, _)| **id);
        senders.into_iter().flat_map(|(_, queue)| queue.values().cloned()).collect()
    }

    /// The waiting messages of a sender that could be executed now, by nonce.
    pub fn executable(&self, sender: ActorID, on_chain: u64) -> Vec<Arc<SignedMessage>> {
        let Some(queue) = self.pending.get(&sender) else {
            return Vec::new();
        };
        let until = self.next_nonce(sender, on_chain);
        queue.range(on_chain..until.max(on_chain)).map(|(_, (_, message))| message.clone()).collect()
    }

    /// The messages of the next block, which has this base fee. Those of a sender are in nonce order without gaps, and affordable. All of them
    /// fit the gas limit.
    pub fn select(&self, world: &World, base_fee_atto: u64) -> Vec<(Cid, Arc<SignedMessage>)> {
        let base_fee = TokenAmount::from_atto(base_fee_atto);
        let mut chosen = Vec::new();
        let mut gas_left = BLOCK_GAS_LIMIT;
        let mut senders: Vec<_> = self.pending.iter().collect();
        senders.sort_by_key(|(id, _)| **id);
        for (sender, queue) in senders {
            let Some(actor) = world.get(*sender) else {
                continue;
            };
            let mut nonce = actor.nonce;
            let mut funds = actor.balance.clone();
            while let Some((cid, signed)) = queue.get(&nonce) {
                let message = &signed.message;
                let cost = required_funds(message);
                if message.gas_fee_cap < base_fee || message.gas_limit > gas_left || cost > funds {
                    break;
                }
                gas_left -= message.gas_limit;
                funds -= cost;
                nonce += 1;
                chosen.push((*cid, signed.clone()));
            }
        }
        chosen
    }

    /// Removes messages whose nonces the chain has used.
    pub fn prune(&mut self, world: &World) {
        for (sender, queue) in &mut self.pending {
            let nonce = world.get(*sender).map_or(0, |actor| actor.nonce);
            *queue = queue.split_off(&nonce);
        }
        self.pending.retain(|_, queue| !queue.is_empty());
    }

    /// Takes messages back whose tipsets were reverted, as a node does. They were checked before.
    pub fn restore(&mut self, world: &World, messages: Vec<Arc<SignedMessage>>) -> Result<(), MempoolError> {
        for signed in messages {
            let Some(sender) = world.resolve(&signed.message.from) else { continue };
            let waiting = (signed.cid()?, signed.clone());
            self.pending.entry(sender).or_default().insert(signed.message.sequence, waiting);
        }
        Ok(())
    }

    /// Removes all messages, as a restart does on a node that does not store its mempool.
    pub fn clear(&mut self) {
        self.pending.clear();
    }

    fn check_nonce(&self, sender: ActorID, on_chain: u64, cid: Cid, message: &Message) -> Result<(), MempoolError> {
        let nonce = message.sequence;
        let next = self.next_nonce(sender, on_chain);
        if nonce > next + NONCE_GAP_MAX {
            return Err(MempoolError::NonceGap { nonce, next });
        }
        let Some(queue) = self.pending.get(&sender) else {
            return Ok(());
        };
        let Some((existing_cid, existing)) = queue.get(&nonce) else {
            return if queue.len() >= PENDING_MAX { Err(MempoolError::TooManyPending) } else { Ok(()) };
        };
        if nonce > next {
            return Err(MempoolError::ReplaceInGap { nonce, next });
        }
        let from = to_text(&message.from);
        if *existing_cid == cid {
            return Err(MempoolError::AlreadyPending { from, nonce });
        }
        let wanted = least_replacement_premium(&existing.message.gas_premium);
        if message.gas_premium < wanted {
            return Err(MempoolError::PremiumTooLow {
                from,
                nonce,
                wanted: wanted.atto().clone(),
                given: message.gas_premium.atto().clone(),
            });
        }
        Ok(())
    }

    fn check_funds(&self, sender: ActorID, balance: &TokenAmount, message: &Message) -> Result<(), MempoolError> {
        let mut required = required_funds(message);
        let refused = |including_pending, required| {
            Err(MempoolError::NotEnoughFunds { including_pending, balance: balance.clone(), required })
        };
        if *balance < required {
            return refused("", required);
        }
        for (nonce, (_, pending)) in self.pending.get(&sender).into_iter().flatten() {
            if *nonce != message.sequence {
                required += required_funds(&pending.message);
            }
        }
        if *balance < required {
            return refused(" including pending", required);
        }
        Ok(())
    }
}

/// The minimum premium for replacing a message: ten per cent more, plus one.
pub fn least_replacement_premium(old: &TokenAmount) -> TokenAmount {
    (old * 110).div_floor(100) + TokenAmount::from_atto(1)
}

fn check_fields(message: &Message) -> Result<(), MempoolError> {
    let invalid = |text: &str| Err(MempoolError::Invalid(text.to_owned()));
    if message.version != 0 {
        return invalid("'Version' unsupported");
    }
    if message.to == Address::new_id(0) && message.method_num == 0 {
        return invalid("invalid 'To' address");
    }
    if message.value.is_negative() {
        return invalid("'Value' field cannot be negative");
    }
    if message.value > TokenAmount::from_whole(2_000_000_000) {
        return invalid("'Value' field cannot be greater than total filecoin supply");
    }
    if message.gas_fee_cap.is_negative() {
        return invalid("'GasFeeCap' field cannot be negative");
    }
    if message.gas_premium.is_negative() {
        return invalid("'GasPremium' field cannot be negative");
    }
    if message.gas_premium > message.gas_fee_cap {
        return invalid("'GasFeeCap' less than 'GasPremium'");
    }
    if message.gas_limit == 0 {
        return invalid("'GasLimit' field cannot be zero");
    }
    if message.gas_limit > BLOCK_GAS_LIMIT {
        return invalid("'GasLimit' field cannot be greater than a block's gas limit");
    }
    if message.gas_fee_cap < TokenAmount::from_atto(BASE_FEE_MIN_ATTO) {
        return Err(MempoolError::GasFeeCapTooLow);
    }
    Ok(())
}
