//! Messages that a node accepted and that no block includes. If that lasts longer than usual, it is reported with what is
//! known of the cause.

use sealbus_schema::ErrorCode;

use super::{DriveError, Driver, Step, View, lock, tick::subject_of};
use crate::{
    chain::{Transport, fees, message::SignedMessage},
    store::{Delegated, Message, MessageState, Stage},
    waits::Cause,
};

/// How many epochs, on top of the confidence, a message may stay unseen before that is reported.
const USUAL_EPOCHS: i64 = 10;

impl<T: Transport + 'static> Driver<T> {
    /// Takes a call's next step. If a block should include it by now, reports why it waits.
    pub(super) async fn follow_up(&self, view: &View, call: Vec<Message>) -> Result<Step, DriveError> {
        self.step_call(view, &call).await?;
        let (signed, epoch) = match call.first().map(|message| message.state.clone()) {
            Some(MessageState::Pushed { signed, epoch }) => (signed, epoch),
            Some(MessageState::Delegated(Delegated {
                signed: Some(signed),
                stage: Stage::HandedOver { epoch },
                ..
            })) => (signed, epoch),
            _ => return Ok(Step::GoesOn),
        };
        let key = call[0].key.clone();
        let first = *lock(&self.pushed).entry(key).and_modify(|first| *first = epoch.min(*first)).or_insert(epoch);
        if view.head.height - first < self.usual_epochs() {
            return Ok(Step::GoesOn);
        }
        let bytes = SignedMessage::from_bytes(&signed.bytes)?;
        let sent = bytes.message();
        let next = self.node.get_actor(&sent.from, &view.head.key).await?.map_or(0, |actor| actor.nonce);
        if next > sent.sequence {
            // A block includes it, or another message with its nonce, but is not confident yet.
            return Ok(Step::GoesOn);
        }
        let gas =
            fees::Gas { limit: sent.gas_limit, fee_cap: sent.gas_fee_cap.clone(), premium: sent.gas_premium.clone() };
        let what = format!(
            "message {} (nonce {} of {}) was pushed at epoch {first}; at epoch {} no block has it",
            signed.cid, sent.sequence, sent.from, view.head.height
        );
        let cause = match view.head.base_fee() {
            _ if next < sent.sequence => {
                let text = format!("{what}: nonce {next} of its sender must land first");
                Cause::passing(ErrorCode::MESSAGE_PENDING, text)
            }
            Some(base_fee) if !gas.covers(base_fee) => {
                let text = format!(
                    "{what}: it pays at most {} attoFIL for a unit of gas, and the base fee is {}",
                    gas.fee_cap.atto(),
                    base_fee.atto()
                );
                Cause::passing(ErrorCode::BASE_FEE_TOO_HIGH, text)
            }
            _ => Cause::passing(ErrorCode::MESSAGE_PENDING, format!("{what}, though it pays enough for one")),
        };
        for message in &call {
            self.waits.waits(&subject_of(message), cause.clone(), self.config.chain.poll_interval());
        }
        Ok(Step::Undecided)
    }

    /// How long a message may stay unseen before that is reported.
    pub(super) fn usual_epochs(&self) -> i64 {
        self.config.chain.confidence_epochs + USUAL_EPOCHS
    }

    /// Forgets what is remembered of messages that have ended.
    pub(super) fn forget_pushed(&self, open: &[Message]) {
        lock(&self.marked_bad).retain(|call, _| open.iter().any(|message| message.state.call() == Some(*call)));
        lock(&self.pushed).retain(|key, _| open.iter().any(|message| message.key == *key));
    }
}
