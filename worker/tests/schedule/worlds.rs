//! Random schedules on random machines.
//!
//! How throughput is compared: the bound that the plan predicts ([`bound`]) assumes that some resource
//! is never idle and that each stage takes exactly its time, so a run must come to that. There are enough sectors at
//! hand (slots) that the scarce resource has somebody waiting: some more than the usual number, if that is not enough.
//! The time until the queues have formed is not counted. Then what is missing to the bound is the scheduler's doing.
//!
//! Every machine but the two of [`BELOW`] reaches 0.97 of it.
//!
//! With times a tenth more or less most machines do so as well, but some cannot, whatever the order. A stage with starts
//! kept apart that needs all its seats, or is as scarce as a lock, loses a start each time that a seat is free too late,
//! and has no room to make up for it. For a stage alone, serving whenever it can is the best there is, so what it does
//! alone with such times is a bound as well, and the one that many of those come near to. Where a request needs two
//! locks one of them must idle now and then, and the bound knows nothing of that. All shares are printed.

use rand::{Rng, SeedableRng, rngs::StdRng};
use sealbus_worker::plan::pipeline::{DAY_MS, bound};

use crate::machine::{Locks, Machine};
use crate::simulation::{Conduct, simulate};

/// What is to be reached of the bound.
const SHARE: f64 = 0.97;
/// The machines that the 10,000 are.
const MACHINES: [(Locks, std::ops::Range<u64>); 2] = [(Locks::Alike, 0..6_000), (Locks::Mixed, 6_000..10_000)];
/// Slots beyond three times as many as are in work at the bound, for the queues before many small stages: the first number that
/// is enough.
const SLOTS_MORE: [usize; 3] = [8, 60, 300];
/// Machines that stay below it, and what they reach at least: the bound adds up times, and these lose some to starts that are
/// kept apart.
///
/// 6073 has a lock of one unit. A stage holds it for 22 ticks, and starts 33 apart. Another one takes 270 on two seats without
/// the lock and one with it, so has the lock `y = x - 2 / 270` times a tick. Between two starts of the first stage the
/// other one has it, or it idles for 11: `22 x + 270 y + 11 (x - y) <= 1`. So no order reaches more than 0.973 of the
/// bound, which is `22 x + 270 y <= 1`.
///
/// 6544 has a stage of 1695 ticks with starts 1376 apart, which is the bound: two of its requests overlap for 319 ticks each
/// time. Another stage takes 4942, on two seats without a lock and up to two of the three units of the lock that the
/// first one needs, so has units `y = x - 2 / 4942` times a tick. While it has two of them one is left, and the first
/// stage's starts are 1695 apart. Let `o` be for how long it has a unit together with the one before: `4942 y <= 1 + o y`.
/// An overlap has room between two that the first stage needs if it is 1376 - 319 = 1057 long; each 1695 more make one
/// start come 319 later. So `1376 x + 319 y (o - 1057) / 1695 <= 1`, and no order reaches more than 0.969 of the bound.
const BELOW: [(u64, f64); 2] = [(6_073, 0.965), (6_544, 0.92)];

/// The part of the bound that a machine reaches.
fn share_of(machine: &Machine, seed: u64, more: usize, spread: u64) -> f64 {
    let per_tick = |slots| bound(&machine.pipeline(slots)) / DAY_MS as f64;
    let slots = (3.0 * per_tick(usize::MAX) * machine.alone() as f64).ceil() as usize + more;
    let conduct = Conduct {
        slots,
        warm_up: 4 * slots,
        counted: 400 + 2 * slots + 4 * more,
        gives_up: 0,
        fails: 0,
        urgent: 5,
        spread,
        asks_for_room: false,
        strict: false,
    };
    let outcome = simulate(machine, conduct, seed);
    assert!(outcome.by_slot.iter().all(|finished| *finished > 0), "seed {seed}: a slot starves");
    outcome.rate / per_tick(slots)
}

/// Runs seeds on all cores, and gives what came of each.
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

#[test]
fn ten_thousand_machines_keep_their_limits_starve_nobody_and_reach_what_the_plan_predicts() {
    for (kind, seeds) in MACHINES {
        let shares = all_of(seeds, |seed| {
            let machine = Machine::of(seed, kind);
            let mut shares = SLOTS_MORE.iter().map(|more| share_of(&machine, seed, *more, 0));
            let (Ok(share) | Err(share)) =
                shares.try_fold(0.0, |most: f64, share| if share >= SHARE { Err(share) } else { Ok(most.max(share)) });
            share
        });
        show(kind, &shares);
        for (share, seed) in &shares {
            let least = BELOW.iter().find(|(below, _)| below == seed).map_or(SHARE, |(_, least)| *least);
            assert!(*share >= least, "{kind:?}: seed {seed} reaches only {share:.4} of its bound");
            // More would be a wrong bound; a little is what starts at the ends of the time that is counted.
            assert!(*share <= 1.01, "{kind:?}: seed {seed} reaches {share:.4} of its bound");
        }
    }
}

#[test]
fn with_times_a_tenth_more_or_less_nearly_all_reach_it() {
    for (kind, seeds) in MACHINES {
        let shares = all_of(seeds, |seed| share_of(&Machine::of(seed, kind), seed, SLOTS_MORE[0], 10));
        show(kind, &shares);
        let reached = shares.iter().filter(|(share, _)| *share >= SHARE).count();
        println!("{kind:?}: {reached} of {} machines reach {SHARE}", shares.len());
        assert!(reached * 100 >= shares.len() * 98, "{kind:?}: only {reached} machines reach {SHARE}");
        let (least, seed) = shares[0];
        assert!(least >= 0.9, "{kind:?}: seed {seed} reaches only {least:.4} of its bound");
    }
}

#[test]
fn machines_whose_requests_need_two_locks_come_near_it() {
    let shares = all_of(10_000..11_000, |seed| share_of(&Machine::of(seed, Locks::Coupled), seed, SLOTS_MORE[0], 10));
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
            asks_for_room: rng.gen_bool(0.5),
            strict: true,
        };
        f64::from(simulate(&machine, conduct, seed).most_overtaken)
    };
    let overtaken = all_of(20_000..23_000, run);
    println!("the most that one request was overtaken: {}", overtaken[overtaken.len() - 1].0);
}
