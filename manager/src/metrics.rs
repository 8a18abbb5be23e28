//! What the manager shows to Prometheus. Off unless `[metrics]` is configured.
//!
//! The manager that holds the fold looks every few seconds at what it knows already: sums of the database, heartbeats,
//! streams, the chain's head. A scrape gets what the last look has found ([`sealbus_nats::metrics`]). A part that fails or
//! takes too long is left out, and that is shown.
//!
//! - [`names`]: all metrics.
//! - `jobs`, `chain`, `fleet`, `bus`: the parts of a look.

mod bus;
mod chain;
pub mod fleet;
pub mod jobs;
pub mod names;

use std::{
    convert::Infallible,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use sealbus_nats::{
    Bus,
    metrics::{Page, Samples, disks::Disks, process, serve},
};

use crate::{
    chain::{NodeClient, Transport},
    config::Config,
    drive::chain_of,
    store::Store,
};

/// Why a part of a look failed.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How long a part of a look may take.
const PART_LIMIT: Duration = Duration::from_secs(10);

/// The endpoint of a manager, whether it works or not.
#[derive(Clone)]
pub struct Watched {
    page: Arc<Page>,
    works: Arc<AtomicBool>,
}

/// What a manager that works looks at.
pub struct Sights<'a, T> {
    /// The database.
    pub store: &'a Store,
    /// The bus.
    pub bus: &'a Bus,
    /// The chain.
    pub node: &'a NodeClient<T>,
    /// The configuration.
    pub config: &'a Config,
    /// The network's epoch length in milliseconds.
    pub epoch_millis: u64,
}

/// Shows that the manager works, until it is dropped.
struct Working<'a>(&'a Watched);

/// What is remembered between two looks.
struct Memory {
    head: chain::Head,
    purses: chain::Purses,
    fleet: fleet::Memory,
    disks: Disks,
}

impl Default for Watched {
    fn default() -> Watched {
        let works = Arc::new(AtomicBool::new(false));
        let shown = Arc::clone(&works);
        let page = Page::new(move |live, age| {
            process::read(live);
            live.set(&names::BUILD, &[sealbus_schema::VERSION], 1.0);
            live.set(&names::WORKS, &[], f64::from(shown.load(Ordering::Relaxed)));
            if let Some(age) = age {
                live.set(&names::LOOK_AGE, &[], age.as_secs_f64());
            }
        });
        Watched { page: Arc::new(page), works }
    }
}

impl Watched {
    /// Serves the page, if that is configured. Runs forever.
    pub async fn serve(&self, config: &Config) -> Infallible {
        match config.metrics.as_ref().map(|settings| settings.check()) {
            Some(Ok(address)) => serve(address, Arc::clone(&self.page)).await,
            // The configuration was checked when it was loaded.
            _ => std::future::pending().await,
        }
    }

    /// Looks at everything again and again, as the manager that holds the fold. Runs forever.
    pub async fn look_on<T: Transport>(&self, sights: &Sights<'_, T>) -> Infallible {
        let _working = self.working();
        let Some(settings) = &sights.config.metrics else { return std::future::pending().await };
        let mut memory = Memory::new(sights.config);
        let mut looks = tokio::time::interval(settings.period());
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            self.page.show(look(sights, &mut memory).await);
        }
    }

    fn working(&self) -> Working<'_> {
        self.works.store(true, Ordering::Relaxed);
        Working(self)
    }
}

impl Drop for Working<'_> {
    fn drop(&mut self) {
        self.0.works.store(false, Ordering::Relaxed);
        self.0.page.clear();
    }
}

impl Memory {
    fn new(config: &Config) -> Memory {
        let stores = config.stores.iter().map(|store| (store.name.clone(), store.path.clone()));
        // No store has this name, because a name has no spaces.
        let database = config.database.directory().map(|path| ("manager database".to_owned(), path));
        Memory {
            head: chain::Head::default(),
            purses: chain::Purses::default(),
            fleet: fleet::Memory::default(),
            disks: Disks::new(stores.chain(database)),
        }
    }
}

/// Looks once at everything. The parts are looked at concurrently.
async fn look<T: Transport>(sights: &Sights<'_, T>, memory: &mut Memory) -> Samples {
    let begun = Instant::now();
    let Memory { head, purses, fleet, disks } = memory;
    let seen = OnceLock::new();
    let (jobs, bus, fleet, chain, balances) = tokio::join!(
        part("jobs", jobs::look(sights.store, head.height())),
        part("bus", bus::look(sights.bus, sights.store)),
        part("fleet", fleet::look(sights.bus, sights.store, fleet)),
        part("chain", chain::look(sights.node, &seen)),
        part("balances", purses.look(sights.node, sights.config)),
    );
    let mut samples = Samples::default();
    // These are shown in any case: their alarms must not end because what they are about does not answer.
    head.see(seen.into_inner(), Instant::now());
    head.show(&mut samples);
    samples.set(&names::EPOCH, &[], sights.epoch_millis as f64 / 1000.0);
    samples.set(&names::NATS, &[], f64::from(sights.bus.is_connected()));
    samples.set(&names::NATS_CONNECTIONS, &[], sights.bus.connections() as f64);
    for part in [jobs, bus, fleet, chain, balances] {
        samples.extend(part);
    }
    for (name, space) in disks.look() {
        samples.set(&names::DISK_FREE, &[name], space.free as f64);
        samples.set(&names::DISK_SIZE, &[name], space.size as f64);
    }
    samples.set(&names::LEFT_OUT, &[], samples.left_out() as f64);
    samples.set(&names::LOOK_TOOK, &[], begun.elapsed().as_secs_f64());
    samples
}

/// A part of a look. Its failure is shown, and concerns no other part.
async fn part(name: &str, look: impl Future<Output = Result<Samples, Failure>>) -> Samples {
    let found = match tokio::time::timeout(PART_LIMIT, look).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => Err(chain_of(&*error)),
        Err(_) => Err(format!("it took more than {} s", PART_LIMIT.as_secs())),
    };
    let complete = f64::from(found.is_ok());
    let mut samples = found.unwrap_or_else(|cause| {
        // Whoever needs this part reports why it cannot be had.
        tracing::debug!(part = name, cause, "not all metrics could be read");
        Samples::default()
    });
    samples.set(&names::PART, &[name], complete);
    samples
}
