//! Messages, as `manager/src/store/messages` stores them: wants, the calls that carry them, and fillers.

use sealbus_manager::store::{CallId, Message, MessageKind, MessageState, Place, Signed, Tries, WantId};
use sealbus_schema::{SectorId, codec};

use super::{
    Db,
    rows::{Call, CallState, Want, WantState, message},
};
use crate::sim::{
    bug::Bug,
    chain::{Carries, SimMessage},
};

impl Db {
    /// Every message that has not ended: those without a call first, then by nonce.
    pub fn open_messages(&self) -> Vec<Message> {
        let wants = self.wants.values().filter(|want| want.is_open()).filter_map(|want| self.message(want));
        let fillers = self.calls.values().filter(|call| call.kind == MessageKind::Filler).filter_map(Call::filler);
        let mut open: Vec<_> = wants.chain(fillers).collect();
        open.sort_by(|(a, x), (b, y)| (a, &x.key).cmp(&(b, &y.key)));
        open.into_iter().map(|(_, message)| message).collect()
    }

    /// A want with its nonce, as the driver sees it. `None` if its call has ended.
    fn message(&self, want: &Want) -> Option<(Option<u64>, Message)> {
        let mut message = want.message.clone();
        let Some(call) = want.call.and_then(|call| self.calls.get(&call.0)) else { return Some((None, message)) };
        let position = call.wants.iter().position(|key| *key == message.key).unwrap_or_default() as u32;
        message.place = Place { position, of: call.wants.len() as u32 };
        message.state = call.message_state()?;
        Some((Some(call.nonce), message))
    }

    /// Records that a message is wanted. If there is one already, another is wanted only if all earlier ones have failed
    /// or are withdrawn.
    pub(super) fn want(&mut self, sector: SectorId, kind: MessageKind, attempt: u32) {
        let of_purpose = self.wants.values().filter(|want| want.is_of(sector, kind) && want.message.attempt == attempt);
        let in_vain = |want: &Want| matches!(want.state, WantState::Failed | WantState::Withdrawn);
        if self.bug != Some(Bug::WantAgain) && !of_purpose.clone().all(in_vain) {
            return;
        }
        let key = kind.key(sector, attempt, of_purpose.count() as u32 + 1);
        let want = Some(WantId(self.wants.len() as i64));
        let message = Message { want, attempt, ..message(key.clone(), kind, sector, MessageState::Wanted) };
        self.wants.entry(key).or_insert(Want { message, state: WantState::Wanted, call: None });
    }

    /// Wants the same again for a message that has ended without its effect or is withdrawn.
    pub fn want_once_more(&mut self, message: &Message, tries: Tries) {
        let Some(sector) = message.sector else { return };
        self.want(sector, message.kind, message.attempt);
        for want in self.wants.values_mut().filter(|want| want.is_of(sector, message.kind)) {
            if want.message.attempt == message.attempt && want.state == WantState::Wanted {
                want.message.tries = tries;
            }
        }
    }

    /// Records that a landed PreCommit has vanished for good, and that another one is wanted.
    pub fn want_precommit_again(&mut self, sector: SectorId) {
        let Some(attempt) = self.sectors.get(&sector).map(|sector| sector.attempt) else { return };
        for key in self.keys_of(MessageKind::PreCommit, sector, &[WantState::Landed]) {
            let Some(want) = self.wants.get_mut(&key) else { continue };
            want.state = WantState::Failed;
            // What else the call carries is looked at with its own sector.
            if let Some(call) = want.call
                && !self.carries(call, &[WantState::Called, WantState::Withdrawn, WantState::Landed])
                && let Some(call) = self.calls.get_mut(&call.0)
            {
                call.state = CallState::Replaced;
            }
        }
        self.want(sector, MessageKind::PreCommit, attempt);
    }

    /// Whether an earlier message of the same purpose may still land.
    pub fn has_earlier(&self, message: &Message) -> bool {
        self.beside(message).any(|want| matches!(want.state, WantState::Called | WantState::Withdrawn))
    }

    /// The nonces of the calls that carried other wants of the same purpose.
    pub fn spent(&self, message: &Message) -> Vec<u64> {
        self.beside(message).filter_map(|want| Some(self.calls.get(&want.call?.0)?.nonce)).collect()
    }

    /// Something that may still get its effect, or wants a call, while this message gets one.
    pub fn rival(&self, message: &Message) -> Option<&str> {
        let may_land = |want: &&Want| {
            matches!(want.state, WantState::Called | WantState::Withdrawn)
                || want.state == WantState::Wanted && want.message.attempt == message.attempt
        };
        self.beside(message).find(may_land).map(|want| want.message.key.as_str())
    }

    /// Other wants of the same kind and sector.
    fn beside(&self, message: &Message) -> impl Iterator<Item = &Want> {
        let (kind, sector) = (message.kind, message.sector);
        self.wants.values().filter(move |want| {
            (want.message.kind, want.message.sector) == (kind, sector) && want.message.key != message.key
        })
    }

    /// Records that a call is no longer wanted. A filler takes its nonce.
    pub fn withdraw(&mut self, call: CallId) {
        let Some(row) = self.calls.get_mut(&call.0) else { return };
        if !row.is_followed() {
            return;
        }
        row.state = CallState::Withdrawn;
        let (sector, nonce) = (row.sector, row.nonce);
        for key in row.wants.clone() {
            if let Some(want) = self.wants.get_mut(&key).filter(|want| want.state == WantState::Called) {
                want.state = WantState::Withdrawn;
            }
        }
        self.fill(sector, nonce);
    }

    /// Records that a filler is wanted for a nonce.
    pub fn fill(&mut self, sector: SectorId, nonce: u64) {
        if let Some(filler) = self.calls.values_mut().find(|c| c.kind == MessageKind::Filler && c.nonce == nonce) {
            if filler.state == CallState::Replaced {
                filler.state = CallState::Signed;
            }
            return;
        }
        let Ok(bytes) = codec::encode(&SimMessage { nonce, carries: Carries::Nothing }) else { return };
        self.insert_call(MessageKind::Filler, sector, nonce, (bytes, None), Vec::new());
    }

    /// Whether a call that has not ended, or one that is being pushed again, has this nonce.
    pub fn has_nonce(&self, nonce: u64) -> bool {
        self.calls.values().any(|call| call.nonce == nonce && call.state != CallState::Replaced)
    }

    /// The nonce after the highest signed one.
    pub fn next_nonce(&self) -> u64 {
        self.calls.values().map(|call| call.nonce).max().map_or(0, |nonce| nonce + 1)
    }

    /// Whether a message still wants its call.
    pub fn is_wanted(&self, message: &Message) -> bool {
        self.wants.get(&message.key).is_some_and(|want| want.state == WantState::Wanted)
    }

    /// Gives messages their call, with these bytes that were signed at an epoch.
    pub fn save_signed(&mut self, messages: &[&Message], nonce: u64, bytes: Vec<u8>, epoch: i64) -> Option<CallId> {
        let (first, keys) = (messages.first()?, messages.iter().map(|message| message.key.clone()).collect());
        let call = self.insert_call(first.kind, first.sector?, nonce, (bytes, Some(epoch)), keys);
        for message in messages {
            if let Some(want) = self.wants.get_mut(&message.key) {
                (want.state, want.call) = (WantState::Called, Some(call));
                self.note_precommit(message, true);
            }
        }
        Some(call)
    }

    fn insert_call(
        &mut self,
        kind: MessageKind,
        sector: SectorId,
        nonce: u64,
        (bytes, epoch): (Vec<u8>, Option<i64>),
        wants: Vec<String>,
    ) -> CallId {
        let call = CallId(self.calls.len() as i64);
        let signed = Signed { call, cid: format!("{nonce}"), bytes, epoch };
        let row = Call { kind, nonce, wants, signed, state: CallState::Signed, sector, landed: false };
        self.calls.insert(call.0, row);
        call
    }

    /// Records that a node accepted a call.
    pub fn mark_pushed(&mut self, call: CallId, epoch: i64) {
        if let Some(call) = self.calls.get_mut(&call.0)
            && call.is_followed()
        {
            call.state = CallState::Pushed(epoch);
        }
    }

    /// Records that the effect of a sector's messages of this kind is on chain.
    pub fn mark_landed(&mut self, kind: MessageKind, sector: SectorId) {
        use WantState::{Called, Failed, Landed, Wanted};
        let carriers = self.calls_of(kind, sector, &[Called, Landed]);
        let is_followed = |call: &&CallId| self.calls.get(&call.0).is_some_and(Call::is_followed);
        let carriers: Vec<_> = carriers.iter().filter(is_followed).copied().collect();
        for key in self.keys_of(kind, sector, &[Wanted, Called]) {
            let Some(want) = self.wants.get_mut(&key) else { continue };
            want.state = if want.state == Wanted { Failed } else { Landed };
        }
        for call in carriers {
            self.land(call);
        }
    }

    /// Records that a call was seen on chain. It ends when all that it carries has ended.
    fn land(&mut self, call: CallId) {
        let Some(row) = self.calls.get_mut(&call.0) else { return };
        row.landed = true;
        if self.bug == Some(Bug::LandTogether) {
            for key in row.wants.clone() {
                if let Some(want) = self.wants.get_mut(&key).filter(|want| want.state == WantState::Called) {
                    want.state = WantState::Landed;
                }
            }
        }
        self.end_call(call, CallState::Landed);
    }

    /// Records that a message that had landed is no longer on chain. Its call is followed again. What else that carries
    /// stays landed until its own sector is looked at.
    pub fn mark_reverted(&mut self, kind: MessageKind, sector: SectorId) {
        for call in self.calls_of(kind, sector, &[WantState::Landed]) {
            if let Some(call) = self.calls.get_mut(&call.0)
                && matches!(call.state, CallState::Landed | CallState::Pushed(_))
            {
                (call.state, call.landed) = (CallState::Pushed(0), false);
            }
        }
        for key in self.keys_of(kind, sector, &[WantState::Landed]) {
            if let Some(want) = self.wants.get_mut(&key) {
                want.state = WantState::Called;
            }
        }
        // If nothing had landed, it was the effect of a withdrawn call, which is not pushed again.
        if let Some(attempt) = self.sectors.get(&sector).map(|sector| sector.attempt) {
            self.want(sector, kind, attempt);
        }
    }

    /// Records that a message was executed with success, while no sector waited for it.
    pub fn mark_executed(&mut self, message: &Message) {
        if let Some(want) = self.wants.get_mut(&message.key) {
            want.state = WantState::Landed;
        }
        if let Some(call) = message.state.call() {
            self.land(call);
        }
    }

    /// Records that a message has ended without its effect, and so its call if that carries nothing else.
    pub fn mark_failed(&mut self, message: &Message, end: CallState) {
        if let Some(want) = self.wants.get_mut(&message.key) {
            want.state = WantState::Failed;
            self.note_precommit(message, false);
        }
        if let Some(call) = message.state.call() {
            self.end_call(call, end);
        }
    }

    /// Ends a call that carries nothing any more that has not ended. If any of it has landed, so has the call.
    fn end_call(&mut self, call: CallId, end: CallState) {
        let is_open = self.carries(call, &[WantState::Called, WantState::Withdrawn]);
        let has_landed = self.carries(call, &[WantState::Landed]);
        if let Some(call) = self.calls.get_mut(&call.0)
            && !is_open
            // One that a reorganisation took away, and whose other sectors have not seen that yet, goes on.
            && (call.landed || !has_landed)
        {
            call.state = if call.landed { CallState::Landed } else { end };
        }
    }

    /// Records since when the node refuses to estimate a message.
    pub fn note_refusal(&mut self, message: &Message, since: Option<i64>) {
        if let Some(want) = self.wants.get_mut(&message.key) {
            want.message.tries.refused_epoch = since;
        }
    }

    /// Records since when messages may be signed.
    pub fn note_ready(&mut self, keys: &[String], epoch: i64) {
        for key in keys {
            if let Some(want) = self.wants.get_mut(key) {
                want.message.ready.epoch.get_or_insert(epoch);
            }
        }
    }

    /// Takes all that is wanted for signed, because it may have been signed after the backup.
    pub fn doubt_wanted(&mut self) {
        let wanted: Vec<_> = self.wants.values().filter(|want| want.state == WantState::Wanted).cloned().collect();
        for want in wanted {
            self.note_precommit(&want.message, true);
        }
    }

    fn note_precommit(&mut self, message: &Message, signed: bool) {
        let may_be_known = signed || self.restored.is_none() || self.bug == Some(Bug::ForgetSigned);
        if may_be_known
            && message.kind == MessageKind::PreCommit
            && let Some(sector) = message.sector.and_then(|sector| self.sectors.get_mut(&sector))
            && sector.attempt == message.attempt
        {
            sector.signed = signed;
        }
    }

    /// The calls in which a sector's messages of this kind have landed.
    pub fn landed(&self, kind: MessageKind, sector: SectorId) -> Vec<&Call> {
        let calls = self.calls_of(kind, sector, &[WantState::Landed]);
        calls.iter().filter_map(|call| self.calls.get(&call.0)).collect()
    }

    /// Whether something of this kind is wanted for a sector, or may still land and is not withdrawn.
    pub fn is_open(&self, kind: MessageKind, sector: SectorId) -> bool {
        !self.keys_of(kind, sector, &[WantState::Wanted, WantState::Called]).is_empty()
    }

    /// The names of what is wanted of this kind for a sector, in these states.
    fn keys_of(&self, kind: MessageKind, sector: SectorId, states: &[WantState]) -> Vec<String> {
        let of = self.wants.values().filter(|want| want.is_of(sector, kind) && states.contains(&want.state));
        of.map(|want| want.message.key.clone()).collect()
    }

    /// The calls that carry these and may take effect.
    fn calls_of(&self, kind: MessageKind, sector: SectorId, states: &[WantState]) -> Vec<CallId> {
        let of = self.wants.values().filter(|want| want.is_of(sector, kind) && states.contains(&want.state));
        let has_ended = |call: &Call| matches!(call.state, CallState::Failed | CallState::Replaced);
        of.filter_map(|want| want.call)
            .filter(|call| self.calls.get(&call.0).is_some_and(|call| !has_ended(call)))
            .collect()
    }

    /// Whether a call carries anything in one of these states. A want may have another call by now.
    fn carries(&self, call: CallId, states: &[WantState]) -> bool {
        let carried = self.calls.get(&call.0).map(|call| call.wants.as_slice()).unwrap_or_default();
        carried.iter().filter_map(|key| self.wants.get(key)).any(|want| states.contains(&want.state))
    }
}
