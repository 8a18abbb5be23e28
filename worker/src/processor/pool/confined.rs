//! A processor's control group: created before each start, measured and removed after each end.
//!
//! Creating and removing a group blocks, so both run on threads made for that. Whoever started the process, or waits
//! for its answer, learns through [`Fate`] when the group is gone and whether memory ran out in it.

use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::{task::spawn_blocking, time::timeout};

use crate::{
    bind::Binding,
    causes::in_words,
    cgroup::{CgroupError, CgroupRoot, Group, Limits, Meter, OutOfMemory},
    processor::{error::ProcessFailure, running::Ended},
};

/// How long to wait for a group to end: longer than its killed processes are waited for.
const END_MAX: Duration = Duration::from_secs(10);

/// Resolves when the group is gone, and tells whether memory ran out in it.
pub(super) type Fate = Shared<BoxFuture<'static, Option<OutOfMemory>>>;

/// The successive groups of one processor.
#[derive(Debug)]
pub(super) struct Confinement {
    place: Arc<Place>,
    limits: Limits,
    /// Whether the limits that are not in force have been logged.
    said: AtomicBool,
}

#[derive(Debug)]
struct Place {
    root: Arc<CgroupRoot>,
    processor: String,
    /// Counts the groups of the processor. The lock is held while one is created or removed, even when nobody awaits
    /// that any more.
    generation: Mutex<u64>,
}

/// The group of one process.
#[derive(Debug)]
pub(super) struct Confined {
    place: Arc<Place>,
    generation: u64,
    group: Group,
    meter: Meter,
}

impl Confinement {
    pub(super) fn new(root: Arc<CgroupRoot>, processor: &str, limits: Limits) -> Self {
        let place = Place { root, processor: processor.to_owned(), generation: Mutex::default() };
        Self { place: Arc::new(place), limits, said: AtomicBool::new(false) }
    }

    /// Creates the group for a process that is about to start. The error says why there is none.
    pub(super) async fn fresh(&self, binding: Option<&Binding>) -> Result<Confined, String> {
        let strict = binding.and_then(|binding| binding.memory.as_ref()).filter(|memory| memory.strict);
        let limits = Limits {
            cpus: binding.map(|binding| binding.cpus.clone()),
            nodes: strict.map(|memory| memory.nodes.clone()),
            ..self.limits.clone()
        };
        let place = Arc::clone(&self.place);
        let made = spawn_blocking(move || place.make(&limits)).await.map_err(|error| error.to_string())?;
        let (generation, group, meter) = made.map_err(|error| in_words(&error))?;
        if !group.unapplied().is_empty() && !self.said.swap(true, Ordering::Relaxed) {
            for limit in group.unapplied() {
                tracing::warn!(processor = %self.place.processor, %limit, "a limit is not in force");
            }
        }
        Ok(Confined { place: Arc::clone(&self.place), generation, group, meter })
    }
}

impl Place {
    fn make(&self, limits: &Limits) -> Result<(u64, Group, Meter), CgroupError> {
        let mut generation = self.generation.lock().unwrap_or_else(PoisonError::into_inner);
        *generation += 1;
        let group = self.root.create(&self.processor, limits)?;
        let meter = group.meter()?;
        Ok((*generation, group, meter))
    }
}

impl Confined {
    pub(super) fn path(&self) -> &Path {
        self.group.path()
    }

    /// Removes the group, with whatever still runs in it, once `ended` resolves.
    pub(super) fn end_after(self, ended: impl Future<Output = ()> + Send + 'static) -> Fate {
        let ending = tokio::spawn(async move {
            ended.await;
            spawn_blocking(move || self.end()).await.ok().flatten()
        });
        ending.map(|ended| ended.ok().flatten()).boxed().shared()
    }

    fn end(self) -> Option<OutOfMemory> {
        let Self { place, generation, group, meter } = self;
        let present = place.generation.lock().unwrap_or_else(PoisonError::into_inner);
        if *present != generation {
            // A group for the next process has already replaced this one.
            return None;
        }
        let processor = &place.processor;
        let out_of_memory = meter.out_of_memory().unwrap_or_else(|error| {
            tracing::warn!(processor, error = in_words(&error), "cannot tell whether memory ran out");
            None
        });
        if let Err(error) = group.kill_and_remove() {
            tracing::warn!(processor, error = in_words(&error), "cannot remove a control group");
        }
        out_of_memory
    }
}

/// Waits until a group is gone, or a few seconds at most.
pub(super) async fn settled(fate: Option<Fate>) -> Option<OutOfMemory> {
    timeout(END_MAX, fate?).await.ok().flatten()
}

/// Replaces the reason of an unexpected end by `OutOfMemory` if that was the cause.
pub(super) async fn explained(ended: Ended, fate: Option<Fate>) -> Ended {
    match ended.failure {
        ProcessFailure::Exited | ProcessFailure::ExitedAtStart => match settled(fate).await {
            Some(out_of_memory) => Ended { failure: ProcessFailure::OutOfMemory(out_of_memory), ..ended },
            None => ended,
        },
        _ => ended,
    }
}
