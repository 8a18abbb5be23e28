//! `sealbus-worker run`: opens the slots, connects, and serves until a signal or an error that waiting cannot fix.

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
        Context, Pulls,
        board::Board,
        orders::StandingOrders,
        tend::{self, Opening},
        wakeups::Wakeups,
    },
    heartbeat,
    metrics::Watched,
    params_watch::ParamsWatch,
    placement::{self, PlacedError},
    post,
    processor::{GroupConfig, PoolConfig, PoolError, ProcessorPool, orphans, own_environment},
    sandbox::{self, Mode, Refused},
    service,
    slot::space::Ledger,
    stage::huge_pages::Impossible,
    store_watch::StoreWatch,
};

/// The first pause while another process uses a slot.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// The longest such pause.
const MAX_PAUSE: Duration = Duration::from_secs(15);
/// How long the start waits for a slot's disk before the other slots begin without it.
const OPEN_LIMIT: Duration = Duration::from_secs(5);

/// Why the worker stopped, or did not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Processors are placed on cpus or memory that this machine lacks.
    #[error(transparent)]
    Placed(#[from] PlacedError),
    /// A group asks for huge pages that it can never get, whatever the machine's settings are.
    #[error("processor[{index}].huge_pages")]
    HugePages {
        /// The group's index in the configuration.
        index: usize,
        /// The reason, and what to change.
        #[source]
        source: Impossible,
    },
    /// The configuration requires control groups, and there are none.
    #[error("cgroup.required = true, and there are no control groups: fix that, or set it to false")]
    Cgroup(#[source] Box<Unavailable>),
    /// The configuration requires that processors are confined, and the kernel cannot.
    #[error("worker.sandbox = \"required\": fix that, or set it to \"best_effort\"")]
    Sandbox(#[source] Refused),
    /// The processors cannot be set up.
    #[error("cannot set up the processors")]
    Pool(#[from] PoolError),
    /// The connection to NATS could not be set up.
    #[error("cannot connect to NATS")]
    Connect(#[from] ConnectError),
    /// Another process runs under this worker's name.
    #[error("stopped")]
    Heartbeat(#[source] Box<BeatError>),
    /// Signal handlers could not be installed.
    #[error("cannot listen for signals")]
    Signals(#[source] std::io::Error),
    /// A task ended, although all of them run for ever.
    #[error("a task ended")]
    Task(#[source] tokio::task::JoinError),
}

impl RunError {
    /// Whether only a change of this worker's configuration can help. Everything else may pass by itself: cards or
    /// control groups may appear later, for example.
    #[must_use]
    pub fn is_misconfigured(&self) -> bool {
        match self {
            RunError::Connect(error) => error.is_misconfigured(),
            RunError::Pool(error) => matches!(error, PoolError::Setup(_) | PoolError::EmptyGroup(_)),
            // Of two processes with one name the newer goes on. The older one has noticed and must not come back to
            // stop the newer in turn.
            RunError::HugePages { .. } | RunError::Heartbeat(_) => true,
            RunError::Placed(_)
            | RunError::Cgroup(_)
            | RunError::Sandbox(_)
            | RunError::Signals(_)
            | RunError::Task(_) => false,
        }
    }

    /// Whether the machine lacks something that the configuration requires.
    #[must_use]
    pub const fn is_not_there(&self) -> bool {
        matches!(self, RunError::Placed(_) | RunError::Cgroup(_) | RunError::Sandbox(_))
    }
}

/// Runs until SIGTERM or SIGINT. Running phases are killed then, and run again at the next start.
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
    let watched = Watched::default();
    let served = config.clone();
    tokio::select! {
        signal = stopped => {
            tracing::info!(signal, "stopping; what runs is killed and goes on at the next start");
            Ok(())
        }
        outcome = serve(config, &watched) => outcome,
        never = watched.serve(&served) => match never {},
        never = service::keep_watchdog() => match never {},
    }
}

/// Runs until an error that waiting cannot fix. Dropping the future kills everything that runs.
async fn serve(mut config: Config, watched: &Watched) -> Result<(), RunError> {
    for Finding { field, problem, fix, .. } in placement::settle(&mut config)? {
        tracing::warn!(field, problem, fix, "processors are placed badly");
    }
    for (field, reason) in huge_pages_not_to_be_had(&config.processors)? {
        tracing::warn!(field, %reason, "not possible with the machine's present settings");
    }
    let named = config.clone();
    // On a thread, and not awaited: on a disk that hangs even an existence check may never return.
    tokio::task::spawn_blocking(move || {
        for NotThere { field, problem } in named.not_there() {
            tracing::warn!(field, problem, "not there, or not as it must be");
        }
    });
    sandbox(&config)?;
    let opened = open_slots(&config).await;
    let cgroups = control_groups(&config).await?;
    if let Err(error) = orphans::adopt() {
        tracing::warn!(%error, "orphans of processors cannot be found by their ancestry");
    }
    // Third-party executables die with the worker only if they are started through this wrapper, which becomes them by
    // `exec`.
    let wrapper = std::env::current_exe().ok();
    let groups = config.confined(wrapper.as_deref()).map(|group| GroupConfig { wrapper: wrapper.clone(), ..group });
    let processors = PoolConfig { groups: groups.collect(), tmp_roots: config.tmp_dirs() };
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
        pulls: Pulls::default(),
    });
    // Done before the first heartbeat: a heartbeat that omits a sector says that the sector is not here.
    for (index, opening) in opened.iter().enumerate() {
        opening.show(&context, index);
    }
    tracing::info!(worker = %context.config.name, size = %context.config.sector_size, "serving");

    let mut tasks = JoinSet::new();
    for (index, opening) in opened.into_iter().enumerate() {
        let path = context.config.slots[index].clone();
        // If a slot could not be opened, its task tries again and reports the problem.
        tasks.spawn(tend::tend(Arc::clone(&context), index, path, opening));
    }
    let Config { name, heartbeat, .. } = &context.config;
    let listening = context.wakeups.listen(&context.bus, name);
    let looking = context.wakeups.look(&context.bus, name, *heartbeat * 2);
    let following = context.orders.follow(&context.bus, name, *heartbeat, &names);
    tokio::select! {
        error = heartbeat::beat(Arc::clone(&context)) => Err(RunError::Heartbeat(Box::new(error))),
        never = watched.look_on(&context) => match never {},
        () = listening => Ok(()),
        () = looking => Ok(()),
        () = following => Ok(()),
        Some(ended) = tasks.join_next() => ended.map_err(RunError::Task),
        ended = post::serve(Arc::clone(&context)) => ended.map_err(RunError::Task),
    }
}

/// The huge-page settings that the machine cannot satisfy at present, by field. Changing the machine's settings may
/// satisfy them while the worker runs.
///
/// # Errors
/// [`RunError::HugePages`] for a setting that no machine setting can satisfy.
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

/// Tells how far processors are confined.
///
/// # Errors
/// [`RunError::Sandbox`] if they are not, although they have to be.
pub fn sandbox(config: &Config) -> Result<(), RunError> {
    if config.sandbox == Mode::Off {
        tracing::warn!("worker.sandbox = \"off\": processors can read the worker's key and change what it can change");
        return Ok(());
    }
    let kernel = sandbox::kernel();
    config.sandbox.admit(kernel).map_err(RunError::Sandbox)?;
    match kernel.confines() {
        true => tracing::info!(by = %kernel, "processors are confined"),
        false => tracing::warn!(reason = %kernel, "processors are not confined"),
    }
    for problem in config.exposed() {
        tracing::warn!(problem, "a secret is not kept from a processor");
    }
    Ok(())
}

/// Opens the worker's control group and cleans it of what a dead worker of this name left there. Without control groups
/// the worker goes on, unless the configuration requires them.
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
                tracing::warn!(group = name, error, "cannot remove the control group of a dead worker's processor");
            }
        }
    }
    tracing::info!(path = %root.path().display(), controllers = ?root.controllers(), "control groups");
    Ok(Some(root))
}

/// Opens all slots in parallel, each on its own thread, and reads what they hold. A slot that cannot be opened, or
/// whose disk does not answer, does not hold up the others. As long as another process has one of them open, nothing
/// starts: that process may be a worker of this name that is about to end, and two workers under one name would fight.
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
        // Release the opened slots while we wait. Those still being opened are kept, because each occupies a thread.
        silent.extend(opened.into_iter().enumerate().filter(|(_, opening)| matches!(opening, Opening::Silent(_))));
        tokio::time::sleep(patience.failed("waiting for another process to leave a slot", &cause)).await;
    }
}
