//! `sealbus-worker run`: opens the slots, connects, serves until a signal or a failure that waiting cannot mend.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use futures::future;
use sealbus_nats::{ConnectError, NotThere, Patience, heartbeats::BeatError};
use sealbus_planner::machine_plan::Finding;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};

use crate::{
    causes::in_words,
    cgroup::{CgroupRoot, Leftover, Unavailable},
    config::{Cgroup, Config},
    driver::{
        Context,
        board::Board,
        orders::StandingOrders,
        tend::{self, Opening},
        wakeups::Wakeups,
    },
    heartbeat,
    params_watch::ParamsWatch,
    placement::{self, PlacedError},
    processor::{GroupConfig, PoolConfig, PoolError, ProcessorPool, orphans, own_environment},
    slot::space::Ledger,
    stage::huge_pages::Impossible,
    store_watch::StoreWatch,
};

/// The first and the longest pause while a slot is used by another process.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(15);
/// How long the start waits for a slot's disk before the other slots begin without it.
const OPEN_LIMIT: Duration = Duration::from_secs(5);

/// Why the worker stopped, or did not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Processors are placed where this machine has nothing, or not enough.
    #[error(transparent)]
    Placed(#[from] PlacedError),
    /// Huge pages that no setting of the machine would bring.
    #[error("processor[{index}].huge_pages")]
    HugePages {
        /// The group's position.
        index: usize,
        /// Why, and what to change.
        #[source]
        source: Impossible,
    },
    /// There are no control groups, and the configuration demands them.
    #[error("cgroup.required = true, and there are no control groups: mend that, or set it to false")]
    Cgroup(#[source] Box<Unavailable>),
    /// The processors cannot be set up.
    #[error("cannot set up the processors")]
    Pool(#[from] PoolError),
    /// NATS does not let us in.
    #[error("cannot connect to NATS")]
    Connect(#[from] ConnectError),
    /// Another process runs under our name.
    #[error("stopped")]
    Heartbeat(#[source] Box<BeatError>),
    /// Signals cannot be received.
    #[error("cannot listen to signals")]
    Signals(#[source] std::io::Error),
    /// A task of ours ended, which none does.
    #[error("a task ended")]
    Task(#[source] tokio::task::JoinError),
}

impl RunError {
    /// Whether nothing but another configuration of this worker helps. All else may pass: processors whose cards or control
    /// groups are not there yet, for example.
    #[must_use]
    pub fn is_misconfigured(&self) -> bool {
        match self {
            RunError::Connect(error) => error.is_misconfigured(),
            RunError::Pool(error) => matches!(error, PoolError::Setup(_) | PoolError::EmptyGroup(_)),
            // The newer process of a name goes on; the older one, which notices, must not come back to stop it in turn.
            RunError::HugePages { .. } | RunError::Heartbeat(_) => true,
            RunError::Placed(_) | RunError::Cgroup(_) | RunError::Signals(_) | RunError::Task(_) => false,
        }
    }

    /// Whether something of the machine is missing that the configuration demands.
    #[must_use]
    pub const fn is_not_there(&self) -> bool {
        matches!(self, RunError::Placed(_) | RunError::Cgroup(_))
    }
}

/// Runs until SIGTERM or SIGINT. What is being worked on is killed then, and goes on at the next start.
pub async fn run(config: Config) -> Result<(), RunError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(RunError::Signals)?;
    let mut first = signal(SignalKind::user_defined1()).map_err(RunError::Signals)?;
    let mut second = signal(SignalKind::user_defined2()).map_err(RunError::Signals)?;
    let stopped = async move {
        loop {
            let name = tokio::select! {
                _ = terminate.recv() => break "SIGTERM",
                _ = interrupt.recv() => break "SIGINT",
                _ = hang_up.recv() => "SIGHUP",
                _ = first.recv() => "SIGUSR1",
                _ = second.recv() => "SIGUSR2",
            };
            tracing::info!(
                "{name}: nothing to reload; identities are read at each connection, the configuration at the start"
            );
        }
    };
    tokio::select! {
        signal = stopped => {
            tracing::info!(signal, "stopping; what runs is killed and goes on at the next start");
            Ok(())
        }
        outcome = serve(config) => outcome,
    }
}

/// Runs until something fails that waiting cannot mend. Dropping the future kills whatever runs.
async fn serve(mut config: Config) -> Result<(), RunError> {
    for Finding { field, problem, fix, .. } in placement::settle(&mut config)? {
        tracing::warn!(field, problem, fix, "processors are placed badly");
    }
    for (field, reason) in huge_pages_not_to_be_had(&config.processors)? {
        tracing::warn!(field, %reason, "not possible as it is now");
    }
    let named = config.clone();
    // On a thread, and not waited for: a disk that hangs does not even say whether it is there.
    tokio::task::spawn_blocking(move || {
        for NotThere { field, problem } in named.not_there() {
            tracing::warn!(field, problem, "not there, or not as it must be");
        }
    });
    let opened = open_slots(&config).await;
    let cgroups = control_groups(&config).await?;
    if let Err(error) = orphans::adopt() {
        tracing::warn!(%error, "what processors leave behind cannot be found by its descent");
    }
    // Executables of other people die with this process only if it becomes them.
    let wrapper = std::env::current_exe().ok();
    let groups = config.processors.iter().cloned().map(|group| GroupConfig { wrapper: wrapper.clone(), ..group });
    let processors =
        PoolConfig { groups: groups.collect(), tmp_roots: config.slots.iter().map(|slot| slot.join("tmp")).collect() };
    let pool = ProcessorPool::with_groups(processors, config.rules.clone(), cgroups)?;
    tracing::info!(worker = %config.name, host = config.host, url = config.nats.url, slots = opened.len(), "connecting");
    let bus = config.nats.connect_patiently(config.name.as_str()).await?;
    let names: Vec<String> = config.slots.iter().map(|slot| slot.display().to_string()).collect();
    let context = Arc::new(Context {
        params: ParamsWatch::new(&config),
        store: StoreWatch::new(&config),
        board: Board::new(names.iter().cloned()),
        config,
        bus,
        pool,
        ledger: Ledger::default(),
        wakeups: Wakeups::default(),
        orders: StandingOrders::default(),
    });
    // Before the first heartbeat: one that says nothing of a sector would say that it is not here.
    for (index, opening) in opened.iter().enumerate() {
        opening.show(&context, index);
    }
    tracing::info!(worker = %context.config.name, size = %context.config.sector_size, "serving");

    let mut tasks = JoinSet::new();
    for (index, opening) in opened.into_iter().enumerate() {
        let path = context.config.slots[index].clone();
        // A slot that could not be opened is opened again by its task, which says what is wrong.
        tasks.spawn(tend::tend(Arc::clone(&context), index, path, opening));
    }
    let Config { name, heartbeat, .. } = &context.config;
    let listening = context.wakeups.listen(&context.bus, name);
    let looking = context.wakeups.look(&context.bus, name, *heartbeat * 2);
    let following = context.orders.follow(&context.bus, name, *heartbeat, &names);
    tokio::select! {
        error = heartbeat::beat(Arc::clone(&context)) => Err(RunError::Heartbeat(Box::new(error))),
        () = listening => Ok(()),
        () = looking => Ok(()),
        () = following => Ok(()),
        Some(ended) = tasks.join_next() => ended.map_err(RunError::Task),
    }
}

/// The wishes for huge pages that cannot be met as the machine is, by field: a setting of it may mend them while we run.
///
/// # Errors
/// A wish that no setting would bring true.
pub fn huge_pages_not_to_be_had(groups: &[GroupConfig]) -> Result<Vec<(String, Impossible)>, RunError> {
    let mut unmet = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        match group.huge_page_variables(Path::new("/sys"), &group.environment(own_environment())) {
            Ok(_) => {}
            Err(source @ Impossible::MapsItself) => return Err(RunError::HugePages { index, source }),
            Err(reason) => unmet.push((format!("processor[{index}].huge_pages"), reason)),
        }
    }
    Ok(unmet)
}

/// The worker's part of the hierarchy of control groups, without what a dead worker of our name has left in it. Without
/// one the worker goes on, unless it is told not to.
async fn control_groups(config: &Config) -> Result<Option<CgroupRoot>, RunError> {
    let Some(Cgroup { parent, required }) = config.cgroup.clone() else { return Ok(None) };
    let name = config.name.to_string();
    let taking = tokio::task::spawn_blocking(move || {
        let root = CgroupRoot::discover(Path::new("/proc"), parent.as_deref(), &name)?;
        let leftovers = root.remove_leftovers()?;
        Ok::<_, Unavailable>((root, leftovers))
    });
    let (root, leftovers) = match taking.await.map_err(RunError::Task)? {
        Ok(taken) => taken,
        Err(reason) if required => return Err(RunError::Cgroup(Box::new(reason))),
        Err(reason) => {
            let reason = in_words(&reason);
            tracing::warn!(reason, "no control groups: processors run without limits");
            return Ok(None);
        }
    };
    for Leftover { name, killed } in leftovers {
        match killed {
            Ok(killed) => {
                tracing::warn!(group = name, killed, "removed the control group of a dead worker's processor")
            }
            Err(error) => {
                let error = in_words(&error);
                tracing::warn!(group = name, error, "the control group of a dead worker's processor stays");
            }
        }
    }
    tracing::info!(path = %root.path().display(), controllers = ?root.controllers(), "control groups");
    Ok(Some(root))
}

/// Takes every slot, each on a thread of its own, and reads what it holds. One that cannot be opened may be mended while the
/// others work, and one whose disk does not answer is waited for beside them. While another process has one, nothing is
/// begun: it may be one of ours that is about to end, and two under one name would fight.
async fn open_slots(config: &Config) -> Vec<Opening> {
    let mut patience = Patience::new(FIRST_PAUSE, MAX_PAUSE);
    let mut silent: BTreeMap<usize, Opening> = BTreeMap::new();
    loop {
        let opening = config.slots.iter().enumerate().map(|(index, path)| {
            let begun = silent.remove(&index).unwrap_or_else(|| Opening::begin(index, path, config));
            begun.within(OPEN_LIMIT)
        });
        let opened = future::join_all(opening).await;
        let Some(cause) = opened.iter().find_map(Opening::in_use) else {
            patience.mended("the slots are ours");
            return opened;
        };
        // The others are let go meanwhile, but for those that are still being opened: each takes a thread.
        silent.extend(opened.into_iter().enumerate().filter(|(_, opening)| matches!(opening, Opening::Silent(_))));
        tokio::time::sleep(patience.failed("waiting for another process to leave a slot", &cause)).await;
    }
}
