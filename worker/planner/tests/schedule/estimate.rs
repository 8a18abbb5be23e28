//! The estimate follows the order of work: what [`pipeline::simulate`] says of a machine is what comes of driving the
//! scheduler itself.
//!
//! The two event loops are written apart and have nothing in common but the scheduler. Slots are few, so that the order of work
//! decides who waits. An order of its own would come to other rates.

use sealbus_planner::pipeline::{self, DAY_MS, bound};

use crate::machine::{Locks, Machine};
use crate::simulation::{Conduct, simulate};

/// What the estimate and the scheduler come to, as parts of the bound.
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
    // Serving the oldest sector first, the estimate was 61, 41 and 27 % of the bound away.
    for seed in [30_137, 30_264, 30_156] {
        assert!(apart(seed) <= 0.02, "seed {seed}: {:?}", shares(seed));
    }
}

#[test]
fn on_nearly_all_machines_the_estimate_is_what_the_scheduler_does() {
    // A few machines repeat one of several patterns for ever, and which one depends on what starts first at one moment.
    let far: Vec<u64> = (30_000..30_300).filter(|seed| apart(*seed) > 0.03).collect();
    assert!(far.len() <= 6, "{far:?}");
}
