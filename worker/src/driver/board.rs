//! What each slot holds, and which invariants were seen broken. It is shown to people, and keeps two slots from taking the
//! same sector.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use sealbus_schema::{
    ErrorReport, Invariant, Phase, SectorId, Token, Violation,
    machine::worker::State,
    message::{BrokenInvariant, Holding, Intent, SlotStatus},
};
use tokio::sync::Notify;

use crate::broken::Broken;

/// How many finished sectors are remembered, so that a late copy of an intent does not start one again.
const REMEMBERED: usize = 1000;

/// The slots' states.
#[derive(Debug)]
pub struct Board {
    inner: Mutex<Inner>,
    broken: Broken,
    changed: Notify,
    beaten: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Inner {
    slots: Vec<Entry>,
    finished: VecDeque<(SectorId, Token)>,
}

#[derive(Debug)]
struct Entry {
    path: String,
    content: Content,
    blocked: Option<ErrorReport>,
    /// Why it is unknown whether the sector is still ours.
    doubt: Option<ErrorReport>,
    released: u64,
    /// The slot's id, once it was found to be the right slot.
    identity: Option<String>,
    /// Whether it was checked since the start that the slot can take a sector.
    checked: bool,
}

#[derive(Debug)]
enum Content {
    Nothing,
    /// The slot may hold something, but it is unknown what.
    Unreadable,
    Claiming {
        sector: SectorId,
        lease_sequence: u64,
    },
    Holding {
        sector: SectorId,
        token: Token,
        step: &'static str,
        phase: Option<Phase>,
        attempt: u32,
        /// Whether the sector itself, and not the slot, waits for a person.
        waits: bool,
        /// The serial of the last order to resubmit that was carried out.
        resubmitted: u32,
    },
}

/// What to do with an intent that a slot was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Claim it.
    Claim,
    /// A slot of this worker has it already: take it out of the queue.
    Held,
    /// Another slot is about to claim it: leave it to that one.
    Leave,
}

impl Board {
    /// A board of free slots.
    pub fn new(paths: impl IntoIterator<Item = String>) -> Board {
        let free = |path| Entry {
            path,
            content: Content::Nothing,
            blocked: None,
            doubt: None,
            released: 0,
            identity: None,
            checked: false,
        };
        let slots = paths.into_iter().map(free).collect();
        let inner = Mutex::new(Inner { slots, finished: VecDeque::new() });
        Board { inner, broken: Broken::default(), changed: Notify::new(), beaten: Mutex::default() }
    }

    /// Records that a slot was given an intent, and decides what to do with it.
    pub fn begin_claim(&self, slot: usize, intent: &Intent) -> Verdict {
        let mut inner = self.lock();
        for entry in &inner.slots {
            match entry.content {
                // The token comes after the intent's lease record, so the slot already works on this intent or a newer
                // one.
                Content::Holding { sector, token, .. }
                    if sector == intent.sector && token.0 > intent.lease_sequence =>
                {
                    return Verdict::Held;
                }
                Content::Claiming { sector, lease_sequence }
                    if sector == intent.sector && lease_sequence >= intent.lease_sequence =>
                {
                    return Verdict::Leave;
                }
                _ => {}
            }
        }
        if let Some(entry) = inner.slots.get_mut(slot) {
            // This changes nothing that a heartbeat shows.
            entry.content = Content::Claiming { sector: intent.sector, lease_sequence: intent.lease_sequence };
        }
        Verdict::Claim
    }

    /// Records that a claim failed.
    pub fn end_claim(&self, slot: usize) {
        self.change(slot, |entry| entry.content = Content::Nothing);
    }

    /// Whether this process has finished this lease of the sector.
    pub fn has_finished(&self, sector: SectorId, token: Token) -> bool {
        self.lock().finished.contains(&(sector, token))
    }

    /// Records that a slot holds a sector, and its state.
    pub fn hold(&self, slot: usize, sector: SectorId, token: Token, state: &State) {
        let other = self.lock().other_in(slot, sector, token);
        if let Some((other, under)) = other {
            let seen = format!("it holds {sector} under {token} and {other} under {under}");
            self.count(Violation::new(Invariant::OneSectorASlot, self.of_slot(slot, &seen)));
        }
        self.found(slot, sector, token, state);
    }

    /// Records that a slot was opened and holds a sector. It may have held another one before: the disk may be another.
    pub fn found(&self, slot: usize, sector: SectorId, token: Token, state: &State) {
        let other = self.lock().also_in(slot, sector, token).map(str::to_owned);
        if let Some(other) = other {
            let seen = format!("it holds {sector} under {token}, and so does {other}");
            self.count(Violation::new(Invariant::OneSlotALease, self.of_slot(slot, &seen)));
        }
        self.set_holding(slot, sector, token, state);
    }

    /// Counts a broken invariant.
    pub fn count(&self, violation: Violation) {
        self.broken.count(violation);
        self.changed.notify_one();
    }

    /// The invariants that were seen broken, in the form that a heartbeat shows.
    pub fn broken(&self) -> Vec<BrokenInvariant> {
        self.broken.shown()
    }

    fn of_slot(&self, slot: usize, seen: &str) -> String {
        let path = self.lock().slots.get(slot).map(|entry| entry.path.clone()).unwrap_or_default();
        format!("slot {path}: {seen}")
    }

    fn set_holding(&self, slot: usize, sector: SectorId, token: Token, state: &State) {
        let step = state.step().map_or("over", |step| step.name());
        let (phase, attempt) = (state.step().and_then(|step| step.phase()), state.attempt());
        let blocked = match state {
            State::Blocked { error, .. } => Some(error.clone()),
            // It is unknown how long this wait takes, so it is shown like a block. It ends by itself.
            State::BackingOff { error, .. } if error.code.is_waited_for() => Some(error.clone()),
            _ => None,
        };
        let waits = matches!(state, State::Blocked { .. });
        self.change(slot, |entry| {
            let resubmitted = match entry.content {
                Content::Holding { sector: held, token: under, resubmitted, .. }
                    if (held, under) == (sector, token) =>
                {
                    resubmitted
                }
                _ => 0,
            };
            entry.content = Content::Holding { sector, token, step, phase, attempt, waits, resubmitted };
            entry.set_blocked(blocked);
        });
    }

    /// Records the last order to resubmit a slot's sector that was carried out.
    pub fn resubmitted(&self, slot: usize, serial: u32) {
        self.change(slot, |entry| {
            if let Content::Holding { resubmitted, .. } = &mut entry.content {
                *resubmitted = serial;
            }
        });
    }

    /// Records that a slot's sector has ended here.
    pub fn finish(&self, slot: usize, sector: SectorId, token: Token) {
        self.empty(slot);
        let mut inner = self.lock();
        inner.finished.push_back((sector, token));
        if inner.finished.len() > REMEMBERED {
            inner.finished.pop_front();
        }
    }

    /// Records that a slot is empty.
    pub fn empty(&self, slot: usize) {
        self.change(slot, |entry| {
            entry.content = Content::Nothing;
            entry.blocked = None;
        });
    }

    /// Records that it is not known yet what a slot holds.
    pub fn unsettled(&self, slot: usize) {
        self.change(slot, |entry| {
            entry.content = Content::Unreadable;
            entry.blocked = None;
        });
    }

    /// Records that it cannot be determined what a slot holds.
    pub fn unreadable(&self, slot: usize, why: ErrorReport) {
        self.change(slot, |entry| {
            entry.content = Content::Unreadable;
            entry.set_blocked(Some(why));
        });
    }

    /// Records a slot's id. Fails with the path of another slot that already has the id, because one of them is a copy.
    pub fn identify(&self, slot: usize, id: &str) -> Result<(), String> {
        let mut inner = self.lock();
        let other =
            inner.slots.iter().enumerate().find(|(at, entry)| *at != slot && entry.identity.as_deref() == Some(id));
        if let Some((_, entry)) = other {
            return Err(entry.path.clone());
        }
        if let Some(entry) = inner.slots.get_mut(slot) {
            entry.identity = Some(id.to_owned());
        }
        Ok(())
    }

    /// The id that the slot had when it was last in use.
    pub fn identity(&self, slot: usize) -> Option<String> {
        self.lock().slots.get(slot).and_then(|entry| entry.identity.clone())
    }

    /// Records the last order to release a slot that was carried out.
    pub fn released(&self, slot: usize, id: u64) {
        self.change(slot, |entry| entry.released = id);
    }

    /// Records that it was checked whether a slot can take a sector.
    pub fn checked(&self, slot: usize) {
        self.change(slot, |entry| entry.checked = true);
    }

    /// Records that a slot's sector was given up, so that it is not started again.
    pub fn give_up(&self, slot: usize) {
        let held = match self.lock().slots.get(slot).map(|entry| &entry.content) {
            Some(Content::Holding { sector, token, .. }) => Some((*sector, *token)),
            _ => None,
        };
        match held {
            Some((sector, token)) => self.finish(slot, sector, token),
            None => self.empty(slot),
        }
    }

    /// Records that a slot is blocked. The report names the phase, if its sector is in one.
    pub fn block(&self, slot: usize, why: ErrorReport) {
        self.change(slot, |entry| {
            let why = match &entry.content {
                Content::Holding { phase, attempt, .. } if why.phase.is_none() => {
                    ErrorReport { phase: *phase, attempt: *attempt, ..why }
                }
                _ => why,
            };
            entry.set_blocked(Some(why));
        });
    }

    /// Records why the log does not say who owns a slot's sector; `None` if it does. Returns whether that has changed.
    pub fn doubt(&self, slot: usize, why: Option<ErrorReport>) -> bool {
        let why = why.map(ErrorReport::bounded);
        let code = |report: &Option<ErrorReport>| report.as_ref().map(|report| report.code.clone());
        let mut is_news = false;
        self.change(slot, |entry| {
            is_news = code(&entry.doubt) != code(&why);
            entry.doubt = why;
        });
        is_news
    }

    /// Records that a slot is no longer blocked.
    pub fn unblock(&self, slot: usize) {
        self.change(slot, |entry| entry.blocked = None);
    }

    /// Waits until something changes that a heartbeat shows. One change is remembered while nobody waits.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// All slots, in the form that a heartbeat shows.
    pub fn statuses(&self) -> Vec<SlotStatus> {
        self.lock().slots.iter().map(Entry::status).collect()
    }

    /// Records that a heartbeat was stored.
    pub fn note_beat(&self) {
        *self.beaten.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// When the last heartbeat was stored.
    pub fn beaten(&self) -> Option<Instant> {
        *self.beaten.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, slot: usize, change: impl FnOnce(&mut Entry)) {
        let mut inner = self.lock();
        let Some(entry) = inner.slots.get_mut(slot) else { return };
        let before = entry.status();
        change(entry);
        if entry.status() != before {
            self.changed.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// What a slot holds, if that is not this lease of this sector.
    fn other_in(&self, slot: usize, sector: SectorId, token: Token) -> Option<(SectorId, Token)> {
        self.slots.get(slot).and_then(Entry::lease).filter(|held| *held != (sector, token))
    }

    /// The path of another slot that holds this lease of this sector too. `None` if that was known before.
    fn also_in(&self, slot: usize, sector: SectorId, token: Token) -> Option<&str> {
        let holds = |entry: &Entry| entry.lease() == Some((sector, token));
        if self.slots.get(slot).is_some_and(holds) {
            return None;
        }
        self.slots.iter().find(|entry| holds(entry)).map(|entry| entry.path.as_str())
    }
}

impl Entry {
    /// The sector that the slot holds, and under which token.
    const fn lease(&self) -> Option<(SectorId, Token)> {
        match self.content {
            Content::Holding { sector, token, .. } => Some((sector, token)),
            Content::Nothing | Content::Unreadable | Content::Claiming { .. } => None,
        }
    }

    fn set_blocked(&mut self, blocked: Option<ErrorReport>) {
        self.blocked = blocked.map(ErrorReport::bounded);
    }

    fn status(&self) -> SlotStatus {
        let holding = match &self.content {
            Content::Holding { sector, token, step, waits, resubmitted, .. } => Some(Holding {
                sector: *sector,
                token: *token,
                step: (*step).to_owned(),
                resubmitted: waits.then_some(*resubmitted),
            }),
            Content::Nothing | Content::Unreadable | Content::Claiming { .. } => None,
        };
        SlotStatus {
            path: self.path.clone(),
            holding,
            blocked: self.blocked.as_ref().or(self.doubt.as_ref()).map(ErrorReport::brief),
            unreadable: matches!(self.content, Content::Unreadable),
            identity: self.identity.clone(),
            released: self.released,
            checking: !self.checked && self.blocked.is_none() && matches!(self.content, Content::Nothing),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use sealbus_schema::{ErrorClass, ErrorCode, IntentKind, SealProof};

    use super::*;

    fn claimed() -> State {
        State::claimed(IntentKind::Seal).expect("a known kind")
    }

    fn intent(number: u64, lease_sequence: u64) -> Intent {
        let sector = format!("f01000/{number}").parse().expect("sector");
        Intent { sector, kind: IntentKind::Seal, proof: SealProof::StackedDrg2KiBV1_1, lease_sequence, attempt: 1 }
    }

    #[test]
    fn what_a_heartbeat_shows_wakes_it_and_what_it_does_not_show_does_not() {
        let board = Board::new(["a".to_owned()]);
        let woken = || board.changed().now_or_never().is_some();
        assert!(!woken() && board.statuses()[0].checking, "nothing is known of the slot yet");
        board.checked(0);
        assert!(woken() && !board.statuses()[0].checking);
        board.checked(0);
        assert_eq!(board.begin_claim(0, &intent(1, 5)), Verdict::Claim);
        assert!(!woken(), "a claim is not shown before it is won");
        let sector = intent(1, 5).sector;
        board.hold(0, sector, Token(9), &claimed());
        assert!(woken());
        board.hold(0, sector, Token(9), &claimed());
        assert!(!woken(), "the same again");
        board.block(0, ErrorReport::new(ErrorClass::Crit, ErrorCode::IO_FAILED, "no journal"));
        board.unblock(0);
        assert!(woken());
        assert!(!woken(), "two changes are told in one");
    }

    /// The invariants that were seen broken, how often, and what was seen last.
    fn broken(board: &Board) -> Vec<(String, u64, String)> {
        board.broken().into_iter().map(|broken| (broken.invariant, broken.times, broken.seen)).collect()
    }

    #[test]
    fn a_slot_that_takes_a_second_sector_is_counted_and_one_whose_disk_was_changed_is_not() {
        let board = Board::new(["a".to_owned()]);
        board.hold(0, intent(1, 5).sector, Token(9), &claimed());
        board.hold(0, intent(1, 5).sector, Token(9), &claimed());
        board.found(0, intent(2, 5).sector, Token(10), &claimed());
        assert_eq!(broken(&board), []);
        let woken = || board.changed().now_or_never().is_some();
        woken();
        board.hold(0, intent(1, 5).sector, Token(9), &claimed());
        let seen = "slot a: it holds f01000/1 under 9 and f01000/2 under 10".to_owned();
        assert_eq!(broken(&board), [("one_sector_a_slot".to_owned(), 1, seen)]);
        assert!(woken(), "the next heartbeat tells it");
    }

    #[test]
    fn two_slots_with_one_lease_are_counted_once_each_time_that_a_slot_takes_it() {
        let board = Board::new(["a".to_owned(), "b".to_owned()]);
        for _ in 0..2 {
            board.hold(0, intent(1, 5).sector, Token(9), &claimed());
            board.hold(1, intent(1, 5).sector, Token(10), &claimed());
        }
        assert_eq!(broken(&board), [], "another lease");
        board.empty(1);
        for _ in 0..2 {
            board.found(1, intent(1, 5).sector, Token(9), &claimed());
        }
        let seen = "slot b: it holds f01000/1 under 9, and so does a".to_owned();
        assert_eq!(broken(&board), [("one_slot_a_lease".to_owned(), 1, seen)]);
    }

    #[test]
    fn a_sector_that_waits_for_a_person_says_which_order_it_has_followed() {
        let board = Board::new(["a".to_owned()]);
        let sector = intent(1, 5).sector;
        let serial = || board.statuses()[0].holding.as_ref().and_then(|held| held.resubmitted);
        let error = ErrorReport::new(ErrorClass::Perm, ErrorCode::PROOFS_FAILED, "no");
        let step = claimed().step().expect("a step").clone();
        let blocked = State::Blocked { step, attempt: 1, error };
        board.hold(0, sector, Token(9), &blocked);
        board.resubmitted(0, 3);
        assert_eq!(serial(), Some(3));
        board.hold(0, sector, Token(9), &claimed());
        board.block(0, ErrorReport::new(ErrorClass::Crit, ErrorCode::IO_FAILED, "no journal"));
        assert_eq!(serial(), None, "the slot waits, and no order about the sector mends that");
        board.hold(0, sector, Token(9), &blocked);
        assert_eq!(serial(), Some(3), "the order stays carried out");
        board.hold(0, sector, Token(10), &blocked);
        assert_eq!(serial(), Some(0), "another lease, another journal");
    }

    #[test]
    fn a_late_copy_of_an_intent_begins_nothing_and_a_newer_intent_does() {
        let board = Board::new(["a".to_owned(), "b".to_owned()]);
        assert_eq!(board.begin_claim(0, &intent(1, 5)), Verdict::Claim);
        assert_eq!(board.begin_claim(1, &intent(1, 5)), Verdict::Leave, "the other slot is at it");
        assert_eq!(board.begin_claim(1, &intent(2, 5)), Verdict::Claim, "another sector");
        let sector = intent(1, 5).sector;
        board.hold(0, sector, Token(9), &claimed());
        assert_eq!(board.begin_claim(1, &intent(1, 5)), Verdict::Held);
        assert_eq!(board.begin_claim(1, &intent(1, 12)), Verdict::Claim, "the lease has moved beyond our token");
        board.finish(0, sector, Token(9));
        assert!(board.has_finished(sector, Token(9)));
        assert!(board.statuses()[0].holding.is_none());
    }

    #[test]
    fn a_slot_whose_content_cannot_be_told_says_so_until_it_can() {
        let board = Board::new(["a".to_owned()]);
        let why = ErrorReport::new(ErrorClass::Crit, ErrorCode::JOURNAL_UNREADABLE, "rubbish");
        board.unreadable(0, why);
        assert!(board.statuses()[0].unreadable && board.statuses()[0].blocked.is_some());
        board.give_up(0);
        board.released(0, 7);
        let status = &board.statuses()[0];
        assert!(!status.unreadable && status.blocked.is_none() && status.released == 7);
    }

    #[test]
    fn what_blocks_a_slot_says_in_which_phase_its_sector_is() {
        let board = Board::new(["a".to_owned()]);
        board.hold(0, intent(1, 5).sector, Token(9), &claimed());
        board.block(0, ErrorReport::new(ErrorClass::Crit, ErrorCode::IO_FAILED, "no journal"));
        let blocked = board.statuses()[0].blocked.clone().expect("blocked");
        assert_eq!((blocked.phase, blocked.attempt), (Some(Phase::AddPieces), 1));
    }

    #[test]
    fn a_sector_that_was_given_up_is_not_begun_again_under_its_token() {
        let board = Board::new(["a".to_owned()]);
        let sector = intent(1, 5).sector;
        board.hold(0, sector, Token(9), &claimed());
        board.give_up(0);
        assert!(board.has_finished(sector, Token(9)));
        assert!(board.statuses()[0].holding.is_none());
    }
}
