//! The estimate matches the order of work: [`pipeline::simulate`] predicts the same rate as driving the scheduler
//! directly.
//!
//! The two event loops were written separately and share only the scheduler. There are few slots, so the order of work
//! decides who waits. With another order the rates would differ.

use sealbus_planner::pipeline::{self, DAY_MS, bound};

use crate::machine::{Locks, Machine};
use crate::simulation::{Conduct, simulate};

/// The rates from the estimate and from the scheduler, as fractions of the bound.
fn shares(seed: u64) -> (f64, f64) {
    let machine = Machine::of(seed, Locks::Mixed);
    let held = bound(&machine.pipeline(usize::MAX)) / DAY_MS as f64 * machine.alone() as f64;
    let slots = (1.1 * held).ceil() as usize;
    let spec = machine.pipeline(slots);
    let estimate = pipeline::simulate(&spec).expect("simulates").sectors_per_day;
    let conduct = Conduct {
        slots,
        warm_up: 20 * slots,
        counted: 100 * slots + 1000,
        gives_up: 0,
        fails: 0,
        urgent: 0,
        spread: 0,
        begins_together: true,
        asks_for_room: false,
        strict: false,
    };
    let rate = simulate(&machine, conduct, seed).rate * DAY_MS as f64;
    (estimate / bound(&spec), rate / bound(&spec))
}

fn apart(seed: u64) -> f64 {
    let (estimate, rate) = shares(seed);
    (estimate - rate).abs()
}

#[test]
fn where_the_order_of_work_matters_most_the_estimate_is_what_the_scheduler_does() {
    // When the oldest sector always went first, the estimate was off by 61, 41 and 27 % of the bound.
    for seed in [30_137, 30_264, 30_156] {
        assert!(apart(seed) <= 0.02, "seed {seed}: {:?}", shares(seed));
    }
}

#[test]
fn on_nearly_all_machines_the_estimate_is_what_the_scheduler_does() {
    // A few machines repeat one of several patterns for ever. Which one depends on what starts first at a single
    // moment.
    let far: Vec<u64> = (30_000..30_300).filter(|seed| apart(*seed) > 0.03).collect();
    assert!(far.len() <= 6, "{far:?}");
}
