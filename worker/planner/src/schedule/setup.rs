//! The processors, limits and locks of a machine, checked before anything is scheduled.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sealbus_schema::Phase as Stage;

/// How close an expiry must be to count more than age: twice the time for labelling 32 GiB.
pub const URGENT_WITHIN: Duration = Duration::from_secs(6 * 3600);

/// Everything that the order of work depends on.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The groups of processors. Several may serve one stage.
    pub groups: Vec<Group>,
    /// The limits for the whole machine.
    pub rules: Rules,
    /// How close an expiry must be to count more than age.
    pub urgent_within: Duration,
}

/// Processors of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The stage that they serve.
    pub stage: Stage,
    /// The number of processes.
    pub count: usize,
    /// How many requests each process works on at the same time.
    pub concurrent: usize,
    /// The locks of which each request holds one unit while it runs.
    pub locks: Vec<String>,
}

/// Limits and locks of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// How many requests of a stage may run at the same time on all its processors.
    pub concurrent: BTreeMap<Stage, usize>,
    /// The shortest time between two starts of a stage.
    pub staggered: BTreeMap<Stage, Duration>,
    /// The number of units of each lock.
    pub locks: BTreeMap<String, usize>,
}

/// Why a setup is refused: something in it could never work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// A group has no processes.
    #[error("a group for {0} has count 0: raise it or remove the group")]
    NoProcess(Stage),
    /// A group's processes have no seats.
    #[error("a group for {0} has concurrent 0: a process works on at least one request")]
    NoSeat(Stage),
    /// A limit lets nothing run.
    #[error("limits.concurrent.{0} = 0 lets nothing run: raise it, or remove the stage's processors")]
    NothingAllowed(Stage),
    /// A limit is set for a stage without processors.
    #[error("limits.{limit}.{stage} is set, and no processor serves {stage}: remove the limit")]
    LimitWithoutProcessor {
        /// The name of the limit.
        limit: &'static str,
        /// The stage.
        stage: Stage,
    },
    /// A lock has no units.
    #[error("locks.{0} = 0 can never be taken: raise it, or remove the lock from all groups")]
    EmptyLock(String),
    /// A lock is not declared.
    #[error("a group for {stage} needs the lock {lock:?}, which is not declared: add `{lock} = 1` under [locks]")]
    UnknownLock {
        /// The group's stage.
        stage: Stage,
        /// The lock.
        lock: String,
    },
    /// A group names a lock twice. A request would then need two units of it, or could never be served.
    #[error("a group for {stage} names the lock {lock:?} twice: name it once")]
    LockTwice {
        /// The group's stage.
        stage: Stage,
        /// The lock.
        lock: String,
    },
    /// A process could never use all its seats.
    #[error(
        "a group for {stage} works on {concurrent} requests a process, and the lock {lock:?} that each of them needs has \
         {units}: lower concurrent or raise the lock"
    )]
    LockTooSmall {
        /// The group's stage.
        stage: Stage,
        /// The lock.
        lock: String,
        /// Requests per process.
        concurrent: usize,
        /// The units of the lock.
        units: usize,
    },
}

impl Setup {
    /// A setup with the default for [`Self::urgent_within`].
    #[must_use]
    pub fn new(groups: Vec<Group>, rules: Rules) -> Self {
        Self { groups, rules, urgent_within: URGENT_WITHIN }
    }

    /// Refuses a setup in which something could never work.
    ///
    /// # Errors
    /// [`SetupError`] for the first problem found.
    pub fn check(&self) -> Result<(), SetupError> {
        let served: BTreeSet<Stage> = self.groups.iter().map(|group| group.stage).collect();
        let Rules { concurrent, staggered, locks } = &self.rules;
        let unserved = |limit, mut stages: Vec<Stage>| {
            stages.retain(|stage| !served.contains(stage));
            stages.first().map_or(Ok(()), |&stage| Err(SetupError::LimitWithoutProcessor { limit, stage }))
        };
        unserved("concurrent", concurrent.keys().copied().collect())?;
        unserved("staggered_secs", staggered.keys().copied().collect())?;
        if let Some((stage, _)) = concurrent.iter().find(|(_, limit)| **limit == 0) {
            return Err(SetupError::NothingAllowed(*stage));
        }
        if let Some((lock, _)) = locks.iter().find(|(_, units)| **units == 0) {
            return Err(SetupError::EmptyLock(lock.clone()));
        }
        self.groups.iter().try_for_each(|group| group.check(locks))
    }
}

impl Group {
    fn check(&self, locks: &BTreeMap<String, usize>) -> Result<(), SetupError> {
        let Self { stage, count, concurrent, .. } = *self;
        if count == 0 {
            return Err(SetupError::NoProcess(stage));
        }
        if concurrent == 0 {
            return Err(SetupError::NoSeat(stage));
        }
        for (index, lock) in self.locks.iter().enumerate() {
            let lock = lock.clone();
            if self.locks[..index].contains(&lock) {
                return Err(SetupError::LockTwice { stage, lock });
            }
            match locks.get(&lock) {
                None => return Err(SetupError::UnknownLock { stage, lock }),
                Some(&units) if units < concurrent => {
                    return Err(SetupError::LockTooSmall { stage, lock, concurrent, units });
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}
