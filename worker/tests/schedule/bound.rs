//! The most that a machine can do, whatever the order of work.
//!
//! With sectors always at hand, so many a tick that some resource is busy all the time: a stage's limit, the time between
//! its starts, or the seats and locks of some stages together. For the last, take any set of stages. Their work must
//! fit into their groups' seats, of which those that share a lock are worth no more than the lock. The set with the least
//! room for its work is the bound; where no group needs two locks it is exact (the least cut of a flow from stages over
//! groups and locks). A group that needs two is counted with either one, which leaves a bound that may be too high.

use sealbus_worker::schedule::{Group, Rules};

use crate::machine::Machine;

/// Sectors a tick.
pub fn bound(machine: &Machine) -> f64 {
    let Rules { concurrent, staggered, locks } = &machine.setup.rules;
    let mut least = f64::INFINITY;
    for (stage, time) in &machine.stages {
        if let Some(limit) = concurrent.get(stage) {
            least = least.min(*limit as f64 / *time as f64);
        }
        if let Some(apart) = staggered.get(stage).filter(|apart| !apart.is_zero()) {
            least = least.min(1.0 / apart.as_millis() as f64);
        }
    }
    let groups = &machine.setup.groups;
    for set in 1_u32..1 << machine.stages.len() {
        let members = machine.stages.iter().enumerate().filter(|(index, _)| set >> index & 1 == 1);
        let members: Vec<_> = members.map(|(_, stage)| *stage).collect();
        let work: u64 = members.iter().map(|(_, time)| time).sum();
        let theirs: Vec<&Group> =
            groups.iter().filter(|group| members.iter().any(|(stage, _)| *stage == group.stage)).collect();
        // Which lock a group that needs two is counted with: all the first, or all the last.
        for last in [false, true] {
            let lock_of = |group: &Group| if last { group.locks.last() } else { group.locks.first() }.cloned();
            let seats = |lock: Option<&String>| -> usize {
                let with_lock = theirs.iter().filter(|group| lock_of(group).as_ref() == lock);
                with_lock.map(|group| group.count * group.concurrent).sum()
            };
            let behind: usize = locks.iter().map(|(lock, units)| seats(Some(lock)).min(*units)).sum();
            least = least.min((seats(None) + behind) as f64 / work as f64);
        }
    }
    least
}
