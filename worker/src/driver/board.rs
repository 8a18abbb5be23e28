//! What each slot holds: for people, and so that no two slots take one sector.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use sealbus_schema::{
    ErrorReport, Phase, SectorId, Token,
    message::{Holding, Intent, SlotStatus},
    seal::worker::{State, Step},
};

/// How many finished sectors are remembered, so that a late copy of an intent does not begin one again.
const REMEMBERED: usize = 1000;

/// The slots' states.
#[derive(Debug)]
pub struct Board {
    inner: Mutex<Inner>,
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
    /// Why nobody can tell whether the sector still is ours.
    doubt: Option<ErrorReport>,
    released: u64,
}

#[derive(Debug)]
enum Content {
    Nothing,
    /// Something may be there, and nobody can say what.
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
    },
}

/// What is to be done with an intent that a slot was given.
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
        let free = |path| Entry { path, content: Content::Nothing, blocked: None, doubt: None, released: 0 };
        let slots = paths.into_iter().map(free).collect();
        Board { inner: Mutex::new(Inner { slots, finished: VecDeque::new() }) }
    }

    /// A slot was given an intent.
    pub fn begin_claim(&self, slot: usize, intent: &Intent) -> Verdict {
        let mut inner = self.lock();
        for entry in &inner.slots {
            match entry.content {
                // A token beyond the intent's lease record: this intent, or an older one, is what the slot works on.
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
        inner.set(slot, Content::Claiming { sector: intent.sector, lease_sequence: intent.lease_sequence });
        Verdict::Claim
    }

    /// The claim came to nothing.
    pub fn end_claim(&self, slot: usize) {
        self.lock().set(slot, Content::Nothing);
    }

    /// Whether this process has brought this lease of the sector to its end.
    pub fn has_finished(&self, sector: SectorId, token: Token) -> bool {
        self.lock().finished.contains(&(sector, token))
    }

    /// A slot holds a sector in a state.
    pub fn hold(&self, slot: usize, sector: SectorId, token: Token, state: &State) {
        let mut inner = self.lock();
        let step = state.step().map_or("over", |step| step.name());
        let (phase, attempt) = (state.step().and_then(Step::phase), state.attempt());
        inner.set(slot, Content::Holding { sector, token, step, phase, attempt });
        let blocked = if let State::Blocked { error, .. } = state { Some(error.clone()) } else { None };
        inner.set_blocked(slot, blocked);
    }

    /// A slot's sector is done with, one way or another.
    pub fn finish(&self, slot: usize, sector: SectorId, token: Token) {
        let mut inner = self.lock();
        inner.set(slot, Content::Nothing);
        inner.set_blocked(slot, None);
        inner.finished.push_back((sector, token));
        if inner.finished.len() > REMEMBERED {
            inner.finished.pop_front();
        }
    }

    /// A slot holds nothing.
    pub fn empty(&self, slot: usize) {
        let mut inner = self.lock();
        inner.set(slot, Content::Nothing);
        inner.set_blocked(slot, None);
    }

    /// What a slot holds cannot be told.
    pub fn unreadable(&self, slot: usize, why: ErrorReport) {
        let mut inner = self.lock();
        inner.set(slot, Content::Unreadable);
        inner.set_blocked(slot, Some(why));
    }

    /// The last order to free a slot that was carried out.
    pub fn released(&self, slot: usize, id: u64) {
        if let Some(entry) = self.lock().slots.get_mut(slot) {
            entry.released = id;
        }
    }

    /// What a slot holds was given up; it is not begun again.
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

    /// A slot cannot go on. The report says in which phase that is, if its sector is in one.
    pub fn block(&self, slot: usize, why: ErrorReport) {
        let mut inner = self.lock();
        let why = match inner.slots.get(slot).map(|entry| &entry.content) {
            Some(Content::Holding { phase, attempt, .. }) if why.phase.is_none() => {
                ErrorReport { phase: *phase, attempt: *attempt, ..why }
            }
            _ => why,
        };
        inner.set_blocked(slot, Some(why));
    }

    /// Whether the log says whose a slot's sector is, and if not, why. Says whether that is news.
    pub fn doubt(&self, slot: usize, why: Option<ErrorReport>) -> bool {
        let mut inner = self.lock();
        let Some(entry) = inner.slots.get_mut(slot) else { return false };
        let why = why.map(ErrorReport::bounded);
        let code = |report: &Option<ErrorReport>| report.as_ref().map(|report| report.code.clone());
        let is_news = code(&entry.doubt) != code(&why);
        entry.doubt = why;
        is_news
    }

    /// A slot goes on.
    pub fn unblock(&self, slot: usize) {
        self.lock().set_blocked(slot, None);
    }

    /// All slots, as a heartbeat shows them.
    pub fn statuses(&self) -> Vec<SlotStatus> {
        self.lock().slots.iter().map(Entry::status).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn set(&mut self, slot: usize, content: Content) {
        if let Some(entry) = self.slots.get_mut(slot) {
            if matches!(content, Content::Nothing | Content::Unreadable) {
                entry.doubt = None;
            }
            entry.content = content;
        }
    }

    fn set_blocked(&mut self, slot: usize, blocked: Option<ErrorReport>) {
        if let Some(entry) = self.slots.get_mut(slot) {
            entry.blocked = blocked.map(ErrorReport::bounded);
        }
    }
}

impl Entry {
    fn status(&self) -> SlotStatus {
        let holding = match &self.content {
            Content::Holding { sector, token, step, .. } => {
                Some(Holding { sector: *sector, token: *token, step: (*step).to_owned() })
            }
            Content::Nothing | Content::Unreadable | Content::Claiming { .. } => None,
        };
        SlotStatus {
            path: self.path.clone(),
            holding,
            blocked: self.blocked.as_ref().or(self.doubt.as_ref()).map(ErrorReport::brief),
            unreadable: matches!(self.content, Content::Unreadable),
            released: self.released,
        }
    }
}

#[cfg(test)]
mod tests {
    use sealbus_schema::{ErrorClass, ErrorCode, Plan, SealProof};

    use super::*;

    fn intent(number: u64, lease_sequence: u64) -> Intent {
        let sector = format!("f01000/{number}").parse().expect("sector");
        Intent { sector, plan: Plan::Seal, proof: SealProof::StackedDrg2KiBV1_1, lease_sequence, attempt: 1 }
    }

    #[test]
    fn a_late_copy_of_an_intent_begins_nothing_and_a_newer_intent_does() {
        let board = Board::new(["a".to_owned(), "b".to_owned()]);
        assert_eq!(board.begin_claim(0, &intent(1, 5)), Verdict::Claim);
        assert_eq!(board.begin_claim(1, &intent(1, 5)), Verdict::Leave, "the other slot is at it");
        assert_eq!(board.begin_claim(1, &intent(2, 5)), Verdict::Claim, "another sector");
        let sector = intent(1, 5).sector;
        board.hold(0, sector, Token(9), &State::claimed());
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
        board.hold(0, intent(1, 5).sector, Token(9), &State::claimed());
        board.block(0, ErrorReport::new(ErrorClass::Crit, ErrorCode::IO_FAILED, "no journal"));
        let blocked = board.statuses()[0].blocked.clone().expect("blocked");
        assert_eq!((blocked.phase, blocked.attempt), (Some(Phase::AddPieces), 1));
    }

    #[test]
    fn a_sector_that_was_given_up_is_not_begun_again_under_its_token() {
        let board = Board::new(["a".to_owned()]);
        let sector = intent(1, 5).sector;
        board.hold(0, sector, Token(9), &State::claimed());
        board.give_up(0);
        assert!(board.has_finished(sector, Token(9)));
        assert!(board.statuses()[0].holding.is_none());
    }
}
