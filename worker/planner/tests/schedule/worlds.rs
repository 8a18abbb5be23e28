//! Random schedules on random machines.
//!
//! Throughput is compared with the predicted bound ([`bound`]). That assumes that some resource is never idle, and that
//! each stage takes exactly its time. So in these runs each stage takes exactly its time too. There are enough sectors
//! (slots) that something always waits for the scarce resource: one of the numbers in [`SLOTS`]. The time until queues
//! have formed is not counted. What is then missing to the bound is due to the scheduler. Every machine on which all
//! processors of a stage need the same lock, or none, reaches 0.97 of its bound.
//!
//! If they need different locks, about one machine in a thousand cannot reach that in any order of work, because the
//! bound only adds times up, and does not notice if they do not fit together. The same happens if requests need two
//! locks, one of which must sometimes idle, or if times vary by a tenth. In these cases a stage whose starts are kept
//! apart can fall behind, if it needs all its seats or is as scarce as a lock. It then loses a start whenever a seat
//! becomes free too late, and cannot catch up. For a stage alone, serving whenever possible is optimal. So its
//! throughput alone, with such times, is a bound too, and many of these machines come near to it. All fractions are
//! printed.

use std::sync::atomic::{AtomicUsize, Ordering};

use rand::{Rng, SeedableRng, rngs::StdRng};
use sealbus_planner::pipeline::{DAY_MS, bound};

use crate::cases::cases;
use crate::machine::{Locks, Machine};
use crate::simulation::{Conduct, simulate};

/// The fraction of the bound that must be reached.
const SHARE: f64 = 0.97;
/// Numbers of slots as (factor, addend): the amount of work in progress at the bound times the factor, plus the addend.
/// The first is enough for nearly all machines. Some with many small stages need more, for the queues before these. The
/// first number with which a machine reaches its fraction counts.
const SLOTS: [(f64, usize); 3] = [(3.0, 8), (3.0, 60), (3.0, 300)];

/// The fraction of the bound that a machine reaches.
fn share_of(machine: &Machine, seed: u64, (times, more): (f64, usize), spread: u64) -> f64 {
    let per_tick = |slots| bound(&machine.pipeline(slots)) / DAY_MS as f64;
    let slots = (times * per_tick(usize::MAX) * machine.alone() as f64).ceil() as usize + more;
    let conduct = Conduct {
        slots,
        warm_up: 4 * slots,
        counted: 400 + 2 * slots + 4 * more,
        gives_up: 0,
        fails: 0,
        urgent: 5,
        spread,
        begins_together: false,
        asks_for_room: false,
        strict: false,
    };
    let outcome = simulate(machine, conduct, seed);
    assert!(outcome.by_slot.iter().all(|finished| *finished > 0), "seed {seed}: a slot starves");
    outcome.rate / per_tick(slots)
}

/// Runs all seeds on all cores, and returns the result of each.
fn all_of(seeds: std::ops::Range<u64>, run: impl Fn(u64) -> f64 + Sync) -> Vec<(f64, u64)> {
    use rayon::prelude::*;
    let mut shares: Vec<(f64, u64)> = seeds.into_par_iter().map(|seed| (run(seed), seed)).collect();
    shares.sort_by(|one, other| one.0.total_cmp(&other.0));
    shares
}

fn show(kind: Locks, shares: &[(f64, u64)]) {
    let at = |part: f64| shares[((shares.len() - 1) as f64 * part) as usize].0;
    let mean = shares.iter().map(|(share, _)| share).sum::<f64>() / shares.len() as f64;
    println!(
        "{kind:?}: {} machines; of the bound they reach at least {:.4} (seed {}), 1 % of them at most {:.4}, mean {mean:.4}, at most {:.4}",
        shares.len(),
        shares[0].0,
        shares[0].1,
        at(0.01),
        at(1.0)
    );
}

/// The fractions that machines reach, each with the first sufficient number of slots.
fn shares_of(kind: Locks, seeds: std::ops::Range<u64>) -> Vec<(f64, u64)> {
    let enough = SLOTS.map(|_| AtomicUsize::new(0));
    let shares = all_of(seeds, |seed| {
        let machine = Machine::of(seed, kind);
        let mut most = 0.0;
        for (slots, enough) in SLOTS.iter().zip(&enough) {
            most = share_of(&machine, seed, *slots, 0).max(most);
            if most >= SHARE {
                enough.fetch_add(1, Ordering::Relaxed);
                break;
            }
        }
        most
    });
    println!("{kind:?}: reached with the numbers of slots {SLOTS:?}: {enough:?}");
    show(kind, &shares);
    for (share, seed) in &shares {
        // A larger excess would mean that the bound is wrong. A small one comes from work that overlaps the ends of the
        // counted time.
        assert!(*share <= 1.01, "{kind:?}: seed {seed} reaches {share:.4} of its bound");
    }
    shares
}

/// Checks that at least `of_1000` in 1000 reach [`SHARE`], and that each reaches `least`.
fn nearly_all_reach(kind: Locks, shares: &[(f64, u64)], of_1000: usize, least: f64) {
    let reached = shares.iter().filter(|(share, _)| *share >= SHARE).count();
    println!("{kind:?}: {reached} of {} machines reach {SHARE}", shares.len());
    assert!(reached * 1000 >= shares.len() * of_1000, "{kind:?}: only {reached} machines reach {SHARE}");
    let (share, seed) = shares[0];
    assert!(share >= least, "{kind:?}: seed {seed} reaches only {share:.4} of its bound");
}

#[test]
fn machines_keep_their_limits_starve_nobody_and_reach_what_the_plan_predicts() {
    for (share, seed) in shares_of(Locks::Alike, 0..cases(10_000)) {
        assert!(share >= SHARE, "seed {seed} reaches only {share:.4} of its bound");
    }
}

#[test]
fn machines_whose_processors_need_different_locks_nearly_all_reach_it() {
    nearly_all_reach(Locks::Mixed, &shares_of(Locks::Mixed, 0..cases(10_000)), 998, 0.9);
}

#[test]
fn with_times_a_tenth_more_or_less_nearly_all_reach_it() {
    for (kind, seeds) in [(Locks::Alike, 0..cases(6_000)), (Locks::Mixed, 6_000..6_000 + cases(4_000))] {
        let shares = all_of(seeds, |seed| share_of(&Machine::of(seed, kind), seed, SLOTS[0], 10));
        show(kind, &shares);
        nearly_all_reach(kind, &shares, 980, 0.9);
    }
}

#[test]
fn machines_whose_requests_need_two_locks_come_near_it() {
    let shares =
        all_of(10_000..10_000 + cases(1_000), |seed| share_of(&Machine::of(seed, Locks::Coupled), seed, SLOTS[0], 10));
    show(Locks::Coupled, &shares);
    assert!(shares[0].0 >= 0.85, "seed {} reaches {:.4} of its bound", shares[0].1, shares[0].0);
}

#[test]
fn whatever_fails_or_is_given_up_the_books_balance_and_nothing_idles_that_somebody_could_use() {
    let run = |seed| {
        let mut rng = StdRng::seed_from_u64(seed);
        let kind = [Locks::Alike, Locks::Mixed, Locks::Coupled][rng.gen_range(0..3)];
        let machine = Machine::of(seed, kind);
        let conduct = Conduct {
            slots: rng.gen_range(1..40),
            warm_up: 0,
            counted: 100,
            gives_up: rng.gen_range(0..30),
            fails: rng.gen_range(0..20),
            urgent: rng.gen_range(0..100),
            spread: 10,
            begins_together: false,
            asks_for_room: rng.gen_bool(0.5),
            strict: true,
        };
        f64::from(simulate(&machine, conduct, seed).most_overtaken)
    };
    let overtaken = all_of(20_000..20_000 + cases(3_000), run);
    println!("the most that one request was overtaken: {}", overtaken[overtaken.len() - 1].0);
}
