//! Which messages are signed together, and which wait for others. Pure.

use std::collections::BTreeMap;

/// A message of one sector that may be signed now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Candidate {
    /// How many epochs are left in which it can land. `None`: any number.
    pub epochs_left: Option<i64>,
    /// The head's epoch since when it may be signed.
    pub ready_epoch: i64,
    /// Whether a person does not want it to wait.
    pub is_hurried: bool,
    /// The most sectors that its call may carry, after a larger one has failed as a whole. `None`: any number.
    pub batch_max: Option<u32>,
}

/// How messages of one kind and miner are grouped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The most sectors in a call, at least 1.
    pub sectors_max: usize,
    /// How many epochs a message waits for others.
    pub wait_epochs: i64,
    /// It waits no longer when it has only so many epochs left.
    pub slack_epochs: i64,
    /// Whether nothing waits now, because the base fee is low.
    pub at_once: bool,
}

/// Candidates by their index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Formed {
    /// What is signed now, a call for each group. Those that expire first come first.
    pub groups: Vec<Vec<usize>>,
    /// What waits for others.
    pub waiting: Vec<usize>,
    /// The epoch at which these are signed in any case.
    pub until: i64,
}

/// Forms groups. Full ones are signed. The rest waits, unless one of them cannot or must not.
pub fn form(candidates: &[Candidate], policy: &Policy, head: i64) -> Formed {
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    order.sort_by_key(|index| candidates[*index].epochs_left.unwrap_or(i64::MAX));
    let mut by_limit: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for index in order {
        let most = candidates[index].batch_max.map_or(policy.sectors_max, |most| most as usize);
        by_limit.entry(most.clamp(1, policy.sectors_max)).or_default().push(index);
    }
    let mut formed = Formed::default();
    for (most, members) in by_limit {
        for group in members.chunks(most) {
            let is_full = group.len() == policy.sectors_max;
            // What was in a larger group that failed has waited already.
            let has_waited = most < policy.sectors_max;
            if is_full || has_waited || policy.at_once {
                formed.groups.push(group.to_vec());
                continue;
            }
            let until = group.iter().map(|index| candidates[*index].signed_at(policy, head)).min().unwrap_or(head);
            if until <= head {
                formed.groups.push(group.to_vec());
            } else {
                (formed.waiting, formed.until) = (group.to_vec(), until);
            }
        }
    }
    let soonest = |group: &[usize]| group.iter().map(|i| candidates[*i].epochs_left.unwrap_or(i64::MAX)).min();
    formed.groups.sort_by_key(|group| soonest(group));
    formed
}

impl Candidate {
    /// The epoch at which it is signed, if nothing else lets its group be signed before.
    fn signed_at(&self, policy: &Policy, head: i64) -> i64 {
        if self.is_hurried {
            return head;
        }
        let waited = self.ready_epoch + policy.wait_epochs;
        self.epochs_left.map_or(waited, |left| waited.min(head + left - policy.slack_epochs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: Policy = Policy { sectors_max: 4, wait_epochs: 100, slack_epochs: 50, at_once: false };

    fn ready(count: usize) -> Vec<Candidate> {
        vec![Candidate { epochs_left: Some(1000), ready_epoch: 10, ..Candidate::default() }; count]
    }

    fn sizes(formed: &Formed) -> (Vec<usize>, usize) {
        (formed.groups.iter().map(Vec::len).collect(), formed.waiting.len())
    }

    #[test]
    fn full_groups_are_signed_and_the_rest_waits() {
        let formed = form(&ready(9), &POLICY, 20);
        assert_eq!((sizes(&formed), formed.until), ((vec![4, 4], 1), 110));
    }

    #[test]
    fn what_waited_long_enough_takes_the_others_of_its_group_along() {
        let mut candidates = ready(3);
        candidates[1].ready_epoch = -80;
        assert_eq!(sizes(&form(&candidates, &POLICY, 19)), (vec![], 3));
        assert_eq!(sizes(&form(&candidates, &POLICY, 20)), (vec![3], 0));
    }

    #[test]
    fn nothing_waits_into_its_slack() {
        let mut candidates = ready(2);
        candidates[1].epochs_left = Some(51);
        let formed = form(&candidates, &POLICY, 20);
        assert_eq!((sizes(&formed), formed.until), ((vec![], 2), 21));
        candidates[1].epochs_left = Some(50);
        assert_eq!(form(&candidates, &POLICY, 20).groups, [[1, 0]]);
    }

    #[test]
    fn a_person_and_a_low_base_fee_end_the_waiting() {
        let mut candidates = ready(3);
        candidates[2].is_hurried = true;
        assert_eq!(sizes(&form(&candidates, &POLICY, 20)), (vec![3], 0));
        assert_eq!(sizes(&form(&ready(3), &Policy { at_once: true, ..POLICY }, 20)), (vec![3], 0));
    }

    #[test]
    fn what_expires_first_goes_first() {
        let mut candidates = ready(8);
        candidates[6].epochs_left = Some(500);
        candidates[3].epochs_left = None;
        let formed = form(&candidates, &POLICY, 20);
        assert_eq!((formed.groups[0][0], formed.groups[1][3]), (6, 3));
    }

    #[test]
    fn what_was_in_a_call_that_failed_is_signed_in_smaller_groups_at_once() {
        let mut candidates = ready(5);
        for candidate in &mut candidates[..3] {
            candidate.batch_max = Some(2);
        }
        assert_eq!(sizes(&form(&candidates, &POLICY, 20)), (vec![2, 1], 2));
        candidates[0].batch_max = Some(0);
        assert_eq!(sizes(&form(&candidates, &POLICY, 20)), (vec![1, 2], 2));
    }

    #[test]
    fn without_batches_everything_is_signed_alone_and_at_once() {
        let policy = Policy { sectors_max: 1, ..POLICY };
        assert_eq!(sizes(&form(&ready(3), &policy, 20)), (vec![1, 1, 1], 0));
        assert_eq!(sizes(&form(&ready(3), &Policy { wait_epochs: 0, ..POLICY }, 20)), (vec![3], 0));
    }
}
