//! When a deadline may be changed.
//!
//! The rules of `deadline_is_mutable` and `deadline_available_for_compaction` in the miner actor (v18, v19).

use super::INCLUSION_EPOCHS;
use crate::chain::types::{Epoch, Index, ProvingDeadline};

/// For how long after a deadline closed its window PoSts can be disputed, in epochs (`WPOST_DISPUTE_WINDOW`).
const DISPUTE_WINDOW: Epoch = 1800;

/// When the deadline opens that has not closed yet at `head`.
fn next_open(deadline: &ProvingDeadline, index: Index, head: Epoch) -> Epoch {
    let first = deadline.period_start + index as Epoch * deadline.challenge_window;
    let elapsed = head - (first + deadline.challenge_window);
    // As many whole periods as have passed since it closed.
    if elapsed < 0 { first } else { first + (elapsed / deadline.proving_period + 1) * deadline.proving_period }
}

/// The first epoch from `head` on at which a message that changes the deadline can be sent: not while it is open, and
/// not while it is the next one to open.
pub fn mutable_from(deadline: &ProvingDeadline, index: Index, head: Epoch) -> Epoch {
    let open = next_open(deadline, index, head);
    let is_mutable = head + INCLUSION_EPOCHS < open - deadline.challenge_window;
    if is_mutable { head } else { open + deadline.challenge_window }
}

/// The first epoch from `head` on at which a message that compacts the deadline can be sent: when it can be changed, and
/// its last proofs can no longer be disputed.
pub fn compactable_from(deadline: &ProvingDeadline, index: Index, head: Epoch) -> Epoch {
    let mutable = mutable_from(deadline, index, head);
    let last_close = next_open(deadline, index, mutable) + deadline.challenge_window - deadline.proving_period;
    mutable.max(last_close + DISPUTE_WINDOW)
}

#[cfg(test)]
mod tests {
    use fil_actor_miner_state::v19 as actor;
    use fil_actors_shared::v19::runtime::Policy;

    use super::{super::tests::now, *};

    #[test]
    fn an_answer_of_now_is_an_epoch_at_which_the_actor_takes_the_message_until_it_is_included() {
        let policy = Policy::default();
        let now = now();
        let start = now.deadline.period_start;
        for head in (start..start + 3 * 2880).step_by(7) {
            for index in 0..48 {
                let within = |check: &dyn Fn(Epoch) -> bool| (head..=head + INCLUSION_EPOCHS).all(check);
                let mutable = |at| actor::deadline_is_mutable(&policy, start, index, at);
                if mutable_from(&now.deadline, index, head) == head {
                    assert!(within(&mutable), "{index} at {head}");
                }
                let compactable = |at| actor::deadline_available_for_compaction(&policy, start, index, at);
                if compactable_from(&now.deadline, index, head) == head {
                    assert!(within(&compactable), "{index} at {head}");
                }
            }
        }
    }

    #[test]
    fn the_epoch_that_is_told_is_one_at_which_it_can_be_sent() {
        let now = now();
        let start = now.deadline.period_start;
        for head in (start..start + 2 * 2880).step_by(13) {
            for index in [0, 9, 10, 11, 12, 47] {
                let from = mutable_from(&now.deadline, index, head);
                assert!(from >= head && mutable_from(&now.deadline, index, from) == from, "{index} at {head}: {from}");
                let from = compactable_from(&now.deadline, index, head);
                assert!(
                    from >= head && compactable_from(&now.deadline, index, from) == from,
                    "{index} at {head}: {from}"
                );
            }
        }
    }

    #[test]
    fn the_open_deadline_and_the_next_one_cannot_be_changed() {
        let now = now();
        let from = |index| mutable_from(&now.deadline, index, now.head) - now.head;
        assert_eq!((from(9), from(10), from(11), from(13)), (0, 55, 115, 0));
    }
}
