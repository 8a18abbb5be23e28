//! What the worker shows to Prometheus. Off unless `[metrics]` is configured.
//!
//! Everything comes from what heartbeats show as well, and from the file systems of slots and store. Of these, a disk that
//! hangs occupies one thread and holds nothing up ([`sealbus_nats::metrics::disks`]).

pub mod names;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use sealbus_nats::metrics::{Page, Samples, disks::Disks, process, serve};
use sealbus_schema::{ErrorCode, message::SlotStatus};

use crate::{config::Config, driver::Context, processor::ProcessorStatus};

/// The endpoint of a worker.
pub struct Watched {
    page: Arc<Page>,
    serves: Arc<AtomicBool>,
}

impl Default for Watched {
    fn default() -> Watched {
        let serves = Arc::new(AtomicBool::new(false));
        let shown = Arc::clone(&serves);
        let page = Page::new(move |live, age| {
            process::read(live);
            live.set(&names::BUILD, &[sealbus_schema::VERSION], 1.0);
            live.set(&names::SERVES, &[], f64::from(shown.load(Ordering::Relaxed)));
            if let Some(age) = age {
                live.set(&names::LOOK_AGE, &[], age.as_secs_f64());
            }
        });
        Watched { page: Arc::new(page), serves }
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

    /// Looks at the worker again and again. Runs forever.
    pub async fn look_on(&self, context: &Context) -> Infallible {
        self.serves.store(true, Ordering::Relaxed);
        let Some(settings) = &context.config.metrics else { return std::future::pending().await };
        let slots = context.config.slots.iter().map(|path| (path.display().to_string(), path.clone()));
        let store = (format!("store {}", context.config.store.name), context.config.store.path.clone());
        let disks = Disks::new(slots.chain([store]));
        let mut looks = tokio::time::interval(settings.period());
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            self.page.show(look(context, &disks));
        }
    }
}

fn look(context: &Context, disks: &Disks) -> Samples {
    let mut samples = Samples::default();
    samples.set(&names::NATS, &[], f64::from(context.bus.is_connected()));
    samples.set(&names::NATS_CONNECTIONS, &[], context.bus.connections() as f64);
    samples.set(&names::DRAINING, &[], f64::from(context.orders.shown().0));
    if let Some(stored) = context.board.beaten() {
        samples.set(&names::HEARTBEAT_AGE, &[], stored.elapsed().as_secs_f64());
    }
    show_slots(&context.board.statuses(), &mut samples);
    show_processors(&context.pool.snapshot(), Instant::now(), &mut samples);
    let broken = context.board.broken().iter().map(|broken| broken.times).fold(0, u64::saturating_add);
    samples.set(&names::BROKEN, &[], broken as f64);
    for (name, space) in disks.look() {
        samples.set(&names::DISK_FREE, &[name], space.free as f64);
        samples.set(&names::DISK_SIZE, &[name], space.size as f64);
    }
    samples
}

fn show_slots(slots: &[SlotStatus], samples: &mut Samples) {
    for state in SlotStatus::STATES {
        let count = slots.iter().filter(|slot| slot.state() == state).count();
        samples.set(&names::SLOTS, &[state], count as f64);
    }
    for SlotStatus { path, blocked, .. } in slots {
        if let Some(cause) = blocked {
            samples.set(&names::BLOCKED, &[path, cause.class.name(), ErrorCode::known(cause.code.as_str())], 1.0);
        }
    }
}

fn show_processors(processors: &[ProcessorStatus], now: Instant, samples: &mut Samples) {
    let mut stages: BTreeMap<&str, Vec<&ProcessorStatus>> = BTreeMap::new();
    for processor in processors {
        stages.entry(processor.stage.name()).or_default().push(processor);
    }
    for (stage, processors) in stages {
        let busy = processors.iter().filter(|processor| processor.busy_since.is_some()).count();
        let begun = processors.iter().flat_map(|processor| processor.work.iter().map(|work| work.since)).min();
        samples.set(&names::PROCESSORS, &[stage], processors.len() as f64);
        samples.set(&names::BUSY, &[stage], busy as f64);
        let oldest = begun.map_or(0.0, |begun| now.saturating_duration_since(begun).as_secs_f64());
        samples.set(&names::OLDEST, &[stage], oldest);
    }
}
