//! Turns of deadlines: a deadline has one in each proving period. Pure.

use serde::{Deserialize, Serialize};

use crate::chain::types::{Epoch, Index, ProvingDeadline};

/// One turn of a deadline. All epochs come from the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Turn {
    /// The first epoch of the proving period.
    pub period: Epoch,
    /// The deadline.
    pub deadline: Index,
    /// The epoch of the challenge's randomness. Proving may begin at the next one.
    pub challenge: Epoch,
    /// The first epoch at which a proof can be included.
    pub open: Epoch,
    /// The first epoch at which a proof can no longer be included.
    pub close: Epoch,
    /// The first epoch at which recoveries for this turn can no longer be declared.
    pub fault_cutoff: Epoch,
}

impl Turn {
    /// The turn that the node tells of: the open one, or the first one of a miner whose first period is ahead.
    pub const fn of(told: &ProvingDeadline) -> Turn {
        Turn {
            period: told.period_start,
            deadline: told.index,
            challenge: told.challenge,
            open: told.open,
            close: told.close,
            fault_cutoff: told.fault_cutoff,
        }
    }

    /// The turn of the next deadline.
    pub const fn next(&self, told: &ProvingDeadline) -> Turn {
        let deadline = (self.deadline + 1) % told.period_deadlines;
        let period = if deadline == 0 { self.period + told.proving_period } else { self.period };
        let window = told.challenge_window;
        Turn {
            period,
            deadline,
            challenge: self.challenge + window,
            open: self.open + window,
            close: self.close + window,
            fault_cutoff: self.fault_cutoff + window,
        }
    }

    /// How many epochs it is open.
    pub const fn window(&self) -> Epoch {
        self.close - self.open
    }

    /// From this epoch on, proving goes on with the sectors that were read. Five sixths of the window are left then: 25
    /// minutes on the main network.
    pub const fn cut(&self) -> Epoch {
        self.close - self.window() * 5 / 6
    }

    /// At this epoch recoveries are declared with the faulty sectors that were read until then: a sixth of a window before it
    /// is too late, 10 epochs on the main network.
    pub const fn last_read_of_faulty(&self) -> Epoch {
        self.fault_cutoff - self.window() / 6
    }

    /// From this epoch on, two provers race. Half of the window is left then: 15 minutes.
    pub const fn race(&self) -> Epoch {
        self.close - self.window() / 2
    }
}

/// The turns whose proofs can be worked on: their challenge is known, and they are not closed. One is open, and the next
/// one's challenge comes before that closes.
pub fn turns_at(told: &ProvingDeadline, head: Epoch) -> Vec<Turn> {
    let mut turns = Vec::new();
    let mut turn = Turn::of(told);
    while turn.challenge < head {
        if head < turn.close {
            turns.push(turn);
        }
        turn = turn.next(told);
    }
    turns
}

/// The next turn whose challenge is not known yet.
pub fn turn_after(told: &ProvingDeadline, head: Epoch) -> Turn {
    let mut turn = Turn::of(told);
    while turn.challenge < head {
        turn = turn.next(told);
    }
    turn
}

/// The turns ahead whose recoveries can be declared now, the next one first: at most `count`. The chain takes a declaration
/// for the next turn of a deadline only, so the one before must be closed.
pub fn turns_ahead(told: &ProvingDeadline, head: Epoch, count: usize) -> Vec<Turn> {
    let turns = std::iter::successors(Some(Turn::of(told)), |turn| Some(turn.next(told)));
    let is_next = |turn: &Turn| turn.close - told.proving_period <= head;
    turns.skip_while(|turn| turn.fault_cutoff <= head).take_while(is_next).take(count).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The main network's constants, in the period from 28800, at a deadline.
    pub(in crate::proving) fn told(index: Index) -> ProvingDeadline {
        let open = 28_800 + index as Epoch * 60;
        serde_json::from_value(serde_json::json!({
            "CurrentEpoch": open, "PeriodStart": 28_800, "Index": index, "Open": open, "Close": open + 60,
            "Challenge": open - 20, "FaultCutoff": open - 70, "WPoStPeriodDeadlines": 48, "WPoStProvingPeriod": 2880,
            "WPoStChallengeWindow": 60, "WPoStChallengeLookback": 20, "FaultDeclarationCutoff": 70,
        }))
        .expect("reads")
    }

    fn indices(turns: &[Turn]) -> Vec<Index> {
        turns.iter().map(|turn| turn.deadline).collect()
    }

    #[test]
    fn work_begins_one_epoch_after_the_challenge_and_ends_at_the_close() {
        let told = told(3);
        let turn = Turn::of(&told);
        assert_eq!(indices(&turns_at(&told, turn.open)), [3]);
        assert_eq!(indices(&turns_at(&told, turn.close - 20)), [3], "the next challenge is this epoch's");
        assert_eq!(indices(&turns_at(&told, turn.close - 19)), [3, 4]);
        assert_eq!(indices(&turns_at(&told, turn.close - 1)), [3, 4]);
        // The node's answer may be some epochs old.
        assert_eq!(indices(&turns_at(&told, turn.close)), [4]);
        assert_eq!(turns_at(&told, turn.challenge), []);
    }

    #[test]
    fn after_the_last_deadline_comes_the_first_of_the_next_period() {
        let told = told(47);
        let last = Turn::of(&told);
        let turns = turns_at(&told, last.close - 1);
        assert_eq!(indices(&turns), [47, 0]);
        assert_eq!((turns[1].period, turns[1].open), (28_800 + 2880, last.close));
    }

    #[test]
    fn a_miner_whose_first_period_is_ahead_has_nothing_to_prove_yet() {
        assert_eq!(turns_at(&told(0), 28_800 - 21), []);
        assert_eq!(indices(&turns_at(&told(0), 28_800 - 19)), [0]);
    }

    #[test]
    fn recoveries_are_declared_for_turns_whose_cutoff_is_ahead() {
        let told = told(3);
        let turn = Turn::of(&told);
        assert_eq!(indices(&turns_ahead(&told, turn.open, 3)), [5, 6, 7], "that of 4 was 10 epochs ago");
        assert_eq!(indices(&turns_ahead(&told, turn.open - 10, 1)), [5]);
        assert_eq!(indices(&turns_ahead(&told, turn.open - 11, 1)), [4]);
        // The next turn of deadline 3, which is open, cannot be declared for yet; nor that of 4, which opens next.
        assert_eq!(turns_ahead(&told, turn.open, 100).len(), 46);
    }

    #[test]
    fn proving_goes_on_25_minutes_before_the_close_and_a_race_begins_10_minutes_later() {
        let turn = Turn::of(&told(0));
        assert_eq!((turn.close - turn.cut(), turn.close - turn.race()), (50, 30));
    }
}
