//! Fixes a call: signed with a nonce of ours, or with an id for the messager. Its bytes are stored before it is sent.

use fvm_shared::message::Message as Unsigned;

use super::signing::note_signed;
use crate::{
    chain::{
        Transport,
        fees::{FeeLimit, Gas},
        message,
    },
    drive::{DriveError, Driver, View},
    store::{Delegated, Envelope, Message, NewDelegated, Signed, Stage, Tx},
};

/// A call that can be stored.
pub(super) enum Ready {
    /// Signed here.
    Signed { unsigned: Unsigned, envelope: Envelope },
    /// For the messager, with its id there.
    ForMessager { unsigned: Unsigned, uid: String },
}

/// A call that is stored.
pub(super) enum Stored {
    Signed(Signed),
    ForMessager(Delegated),
}

impl<T: Transport + 'static> Driver<T> {
    /// Fixes a call of these messages. If the messager does not answer, nothing is fixed: what a call carries ages.
    pub(super) async fn make_ready(
        &self,
        view: &View,
        group: &[&Message],
        mut unsigned: Unsigned,
        gas: Gas,
    ) -> Result<Ready, DriveError> {
        let Some(messager) = &self.messager else {
            let unsigned = self.with_next_nonce(unsigned, gas).await?;
            let envelope = self.envelope(&unsigned).await?;
            return Ok(Ready::Signed { unsigned, envelope });
        };
        // The messager estimates the gas itself, but it does not know of a limit that did not suffice.
        if let [only] = group
            && only.tries.gas_limit_min.is_some()
        {
            unsigned.gas_limit = gas.limit;
        }
        let lead = group.first().map_or("", |message| &message.key);
        // A message's name comes again after a new database was begun, and an errand's after its call was dropped.
        let uid = format!("sealbus/{lead}/{}/{}", view.head.height, message::cid(&unsigned)?);
        messager.has(&uid).await?;
        Ok(Ready::ForMessager { unsigned, uid })
    }

    /// Stores a call.
    pub(super) async fn store_ready(
        &self,
        tx: &mut Tx,
        view: &View,
        group: &[&Message],
        ready: Ready,
        limit: &FeeLimit,
    ) -> Result<Stored, DriveError> {
        let (unsigned, uid) = match ready {
            Ready::Signed { unsigned, envelope } => {
                return Ok(Stored::Signed(self.store_signed(tx, view, group, &unsigned, envelope, limit).await?));
            }
            Ready::ForMessager { unsigned, uid } => (unsigned, uid),
        };
        let (bytes, epoch) = (message::unsigned_bytes(&unsigned)?, view.head.height);
        let (sender, max_fee_atto) = (unsigned.from.to_string(), limit.amount().atto().to_string());
        let new = NewDelegated { sender: &sender, uid: &uid, unsigned: &bytes, max_fee_atto: &max_fee_atto, epoch };
        let call = tx.save_delegated(group, &new).await?;
        note_signed(tx, group, "message_for_messager", &uid, &unsigned, limit).await?;
        let (unsigned, signed, stage) = (bytes, None, Stage::Stored);
        Ok(Stored::ForMessager(Delegated { call, uid, unsigned, max_fee_atto, epoch, signed, stage }))
    }

    /// Sends a call that was stored.
    pub(super) async fn send(&self, view: &View, group: &[Message], stored: Stored) -> Result<(), DriveError> {
        match stored {
            Stored::Signed(signed) => self.push(view, group, &signed).await,
            Stored::ForMessager(delegated) => self.hand_over(view, group, &delegated).await,
        }
    }
}
