use proptest::prelude::*;
use sealbus_schema::SealProof;

use super::*;

/// How many sectors the shares are measured over, and how far they may be off: 5 %.
const SECTORS: usize = 200;
const OFF: f64 = 10.0;
/// After how many sectors new weights hold.
const FOLLOWED: usize = 20;

const A: Queue = queue(1000, IntentKind::Seal);
const B: Queue = queue(1001, IntentKind::Seal);
const C: Queue = queue(1002, IntentKind::Seal);

const fn queue(miner: u64, kind: IntentKind) -> Queue {
    Queue { miner: MinerId(miner), proof: SealProof::StackedDrg2KiBV1_1, kind }
}

fn weights(of: &[(Queue, u32)]) -> Weights {
    of.iter().map(|(queue, weight)| (queue.miner, *weight)).collect()
}

/// Takes a sector as a worker does: from the first queue that has one, or from the one where it was waited for.
fn take(shares: &mut Shares, queues: &[Queue], weights: &Weights, has_work: impl Fn(&Queue) -> bool) -> Queue {
    let asked = shares.order(queues, weights);
    let at = asked.iter().position(has_work).expect("a queue with work");
    shares.taken(asked[at], |queue| asked[..at].contains(queue), queues, weights);
    asked[at]
}

fn count(taken: &[Queue], of: Queue) -> f64 {
    taken.iter().filter(|queue| **queue == of).count() as f64
}

/// Whether each miner got its share of these sectors, give or take so many.
fn are_shared(taken: &[Queue], queues: &[Queue], weights: &Weights, off: f64) -> Result<(), TestCaseError> {
    for queue in queues {
        let (got, due) = (count(taken, *queue), taken.len() as f64 * share(queue, queues, weights));
        prop_assert!((got - due).abs() <= off, "{}: {got} of {due} due, of {}", queue.miner, taken.len());
    }
    Ok(())
}

fn some_weights(miners: usize) -> impl Strategy<Value = Vec<u32>> {
    prop::collection::vec(prop_oneof![1..=10_u32, 1..=1000_u32], miners)
}

/// Miners that all have work, with two sets of weights.
fn fleets() -> impl Strategy<Value = (Vec<Queue>, Weights, Weights)> {
    (2..=8_usize).prop_flat_map(|miners| {
        let queues: Vec<Queue> = (1000..1000 + miners as u64).map(|miner| queue(miner, IntentKind::Seal)).collect();
        let named = |queues: &[Queue], of: Vec<u32>| {
            queues.iter().zip(of).map(|(queue, weight)| (queue.miner, weight)).collect::<Weights>()
        };
        (some_weights(miners), some_weights(miners))
            .prop_map(move |(before, after)| (queues.clone(), named(&queues, before), named(&queues, after)))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_the_weights_any_200_sectors_are_shared_by_them(
        (queues, weights, _) in fleets(), start in 0.0..1.0, before in 0..500_usize,
    ) {
        let mut shares = Shares::starting_at(start);
        let taken: Vec<Queue> =
            (0..before + SECTORS).map(|_| take(&mut shares, &queues, &weights, |_| true)).collect();
        are_shared(&taken[before..], &queues, &weights, OFF)?;
    }

    #[test]
    fn whenever_the_weights_are_changed_the_next_20_sectors_follow(
        (queues, before, after) in fleets(), start in 0.0..1.0, turns in 0..300_usize,
    ) {
        let mut shares = Shares::starting_at(start);
        for _ in 0..turns {
            take(&mut shares, &queues, &before, |_| true);
        }
        let taken: Vec<Queue> = (0..SECTORS).map(|_| take(&mut shares, &queues, &after, |_| true)).collect();
        are_shared(&taken[..FOLLOWED], &queues, &after, 2.5)?;
        are_shared(&taken[FOLLOWED..], &queues, &after, OFF)?;
    }

    /// Two miners always have work; others come and go, and do not disturb the shares of those two.
    #[test]
    fn miners_whose_work_comes_and_goes_leave_the_others_shares_as_they_are(
        (queues, weights, _) in fleets(), start in 0.0..1.0, seed in any::<u64>(),
    ) {
        let mut shares = Shares::starting_at(start);
        let mut random = seed;
        let mut there = vec![true; queues.len()];
        let mut taken = Vec::new();
        while taken.iter().filter(|queue| queues[..2].contains(queue)).count() < SECTORS {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = 2 + (random >> 33) as usize % queues.len();
            if at < queues.len() {
                there[at] = !there[at];
            }
            let has_work = |queue: &Queue| there[queues.iter().position(|other| other == queue).expect("known")];
            taken.push(take(&mut shares, &queues, &weights, has_work));
            if taken.len() > 100_000 {
                // Their weights are so small that the others take nearly everything.
                return Ok(());
            }
        }
        taken.retain(|queue| queues[..2].contains(queue));
        are_shared(&taken, &queues[..2], &weights, OFF)?;
    }

    #[test]
    fn who_had_no_work_for_long_gets_its_share_from_then_on_and_not_what_it_missed(
        (queues, weights, _) in fleets(), start in 0.0..1.0, idle in 1..500_usize,
    ) {
        let mut shares = Shares::starting_at(start);
        let late = queues[0];
        for _ in 0..idle {
            take(&mut shares, &queues, &weights, |queue| *queue != late);
        }
        let taken: Vec<Queue> = (0..SECTORS).map(|_| take(&mut shares, &queues, &weights, |_| true)).collect();
        are_shared(&taken[..FOLLOWED], &queues, &weights, 2.5)?;
        are_shared(&taken, &queues, &weights, OFF)?;
    }
}

#[test]
fn weights_of_3_and_1_take_turns_instead_of_blocks() {
    let weights = weights(&[(A, 3), (B, 1)]);
    let mut shares = Shares::starting_at(0.0);
    let taken: Vec<Queue> = (0..8).map(|_| take(&mut shares, &[A, B], &weights, |_| true)).collect();
    assert_eq!(taken, [A, A, B, A, A, A, B, A]);
}

#[test]
fn a_miner_of_weight_0_gets_what_the_others_leave_and_costs_them_nothing_later() {
    let weights = weights(&[(A, 2), (C, 0)]);
    let queues = [A, B, C];
    let mut shares = Shares::starting_at(0.3);
    let taken: Vec<Queue> = (0..30).map(|_| take(&mut shares, &queues, &weights, |_| true)).collect();
    assert_eq!((count(&taken, A), count(&taken, B), count(&taken, C)), (20.0, 10.0, 0.0));
    let left: Vec<Queue> = (0..50).map(|_| take(&mut shares, &queues, &weights, |queue| *queue == C)).collect();
    assert_eq!(count(&left, C), 50.0);
    let taken: Vec<Queue> = (0..30).map(|_| take(&mut shares, &queues, &weights, |_| true)).collect();
    assert_eq!((count(&taken, A), count(&taken, B), count(&taken, C)), (20.0, 10.0, 0.0));

    let taken: Vec<Queue> = (0..30).map(|_| take(&mut shares, &queues, &Weights::default(), |_| true)).collect();
    for queue in queues {
        assert!((9.0..=11.0).contains(&count(&taken, queue)), "with a weight again: {taken:?}");
    }
    let nobody = [A, B, C].map(|queue| (queue.miner, 0)).into_iter().collect();
    let taken: Vec<Queue> = (0..30).map(|_| take(&mut shares, &queues, &nobody, |_| true)).collect();
    for queue in queues {
        assert!((9.0..=11.0).contains(&count(&taken, queue)), "if all have 0: {taken:?}");
    }
}

#[test]
fn more_urgent_work_comes_first_whoever_it_belongs_to_and_costs_no_new_sector() {
    let rebuild = |of: Queue| Queue { kind: IntentKind::Rebuild, ..of };
    let queues = [rebuild(A), rebuild(B), A, B];
    let weights = weights(&[(A, 3), (B, 0)]);
    let mut shares = Shares::starting_at(0.0);
    let order = shares.order(&queues, &weights);
    assert_eq!(order, [rebuild(A), rebuild(B), A, B]);
    for _ in 0..50 {
        assert_eq!(take(&mut shares, &queues, &weights, |queue| *queue != rebuild(A)), rebuild(B));
    }
    let weights = Weights::default();
    let taken: Vec<Queue> =
        (0..20).map(|_| take(&mut shares, &queues, &weights, |queue| queue.kind == IntentKind::Seal)).collect();
    assert_eq!((count(&taken, A), count(&taken, B)), (10.0, 10.0), "the rebuilds are not made up for");
}

#[test]
fn a_fleet_that_starts_at_once_shares_its_first_sectors_too() {
    let weights = weights(&[(A, 3), (B, 1)]);
    let mut fleet: Vec<Shares> = (0..1000).map(|at| Shares::starting_at(f64::from(at) / 1000.0)).collect();
    for sector in 0..3 {
        let taken: Vec<Queue> = fleet.iter_mut().map(|of| take(of, &[A, B], &weights, |_| true)).collect();
        assert!((740.0..=760.0).contains(&count(&taken, A)), "sector {sector} of each: {} of A", count(&taken, A));
    }
}
