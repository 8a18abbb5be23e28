//! A world: its parts, its clock, and its event queue.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap, HashMap},
};

use sealbus_manager::life;
use sealbus_nats::{lease::Lease, log::Entry};
use sealbus_schema::{
    IntentKind, Invariant, MinerId, SectorId, SectorNumber, WorkerName, Workflow,
    machine::manager::AttemptPolicy,
    message::{Event as SectorEvent, Fact, FactKind, Intent},
    workflows::State,
};
use sealbus_worker::driver::{core::Happened, resume::Present};

use super::{
    batches::{Batches, Counts},
    bug::Bug,
    bus::{Answer, Bus, Publish},
    chain::{Chain, Trouble},
    checks::{Checks, Right},
    db::Db,
    faults::{Faults, Incident, MINUTE},
    manager::{self, Manager},
    restore::{Backup, Restorations},
    rng::Rng,
    worker::Worker,
};

/// How long after the last fault a sector may take to end.
const PATIENCE: u64 = 24 * 60 * MINUTE;
/// A world with more events than this does not come to rest, which is a fault of the simulation.
const MAX_EVENTS: u64 = 3_000_000;

/// Mixed into the seed for the random streams of forged claims, strangers, the losses of the queue and of the manager, and
/// cut sites.
const FORGERIES: u64 = 0xf0_46ed;
const STRANGERS: u64 = 0x57_4a46;
const LOSSES: u64 = 0x10_55e5;
const RESTORATIONS: u64 = 0x4e_5704e;
const SITES: u64 = 0x51_7e;

/// The options of a world.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// A bug to plant.
    pub bug: Option<Bug>,
    /// Whether to leave out the stranger, the losses of the queue and of the manager, and messages of many sectors. This gives the seed's world as
    /// it was before these were added.
    pub plain: bool,
    /// Whether to leave out messages of many sectors, the loss of the manager, and cut sites.
    pub single: bool,
    /// Whether to record a trace.
    pub trace: bool,
    /// The workflow that is applied to the sectors; `None` for sealing.
    pub workflow: Option<Workflow>,
}

impl Options {
    /// The workflow that is applied to the sectors.
    pub fn workflow(&self) -> Workflow {
        self.workflow.unwrap_or(Workflow::Seal)
    }

    /// The kind of intent with which a job is first offered.
    pub fn intent(&self) -> IntentKind {
        State::start(self.workflow()).traits().offered.unwrap_or(IntentKind::Unknown)
    }
}

/// How a world ended.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// The broken invariant, and what was seen.
    pub broken: Option<(Invariant, String)>,
    /// The number of its events.
    pub events: u64,
    /// The trace, if one was requested.
    pub trace: Vec<String>,
    /// How many sectors ended proving, and how many ended blocked or given up.
    pub ends: (usize, usize),
    /// What happened to messages of many sectors.
    pub batches: Counts,
    /// What happened after the manager's host was lost.
    pub restorations: Restorations,
}

/// The sender of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// A slot of a worker.
    Slot(usize, usize),
    /// The fold of a manager.
    Fold(usize),
    /// The outbox of a manager.
    Outbox(usize),
}

/// A request to the bus.
#[derive(Clone, Debug)]
pub enum Request {
    Publish(Box<Publish>),
    /// An intent. The stream of its lease is only for the checks.
    Offer {
        intent: Intent,
        stream: u64,
    },
    Accept(u64),
    /// The stream's identity.
    Stream,
    /// A sector's lease, together with the stream's identity if that was asked for.
    Lease {
        sector: SectorId,
        worker: WorkerName,
        stream: Option<Present>,
    },
    Read {
        sector: SectorId,
        worker: WorkerName,
        kinds: &'static [FactKind],
        facts: Option<Vec<Fact>>,
    },
    Log {
        after: u64,
    },
    Purge(SectorId),
}

/// An answer of the bus.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "it travels in a box")]
pub enum Reply {
    Published(Answer),
    Done,
    Stream(u64),
    Lease {
        stream: Option<Present>,
        lease: Option<Lease>,
        word: Option<Lease>,
        event: Option<SectorEvent>,
    },
    Read {
        facts: Vec<Fact>,
        lease: Option<Lease>,
        word: Option<Lease>,
    },
    Log {
        stream: u64,
        entries: Vec<Entry>,
    },
    /// No answer came in time.
    Timeout,
}

/// An event of the world.
#[derive(Debug)]
pub enum Event {
    ToServer {
        client: Client,
        tag: u64,
        request: Request,
    },
    ToClient {
        client: Client,
        tag: u64,
        reply: Box<Reply>,
    },
    Deliver,
    Offered {
        worker: usize,
        slot: usize,
        generation: u64,
        queued: u64,
        intent: Intent,
    },
    Step {
        worker: usize,
        slot: usize,
        generation: u64,
    },
    Poll {
        worker: usize,
        slot: usize,
        generation: u64,
        watch: u64,
    },
    Bell {
        worker: usize,
        sector: SectorId,
    },
    Work {
        worker: usize,
        slot: usize,
        generation: u64,
        work: u64,
        happened: Box<Option<Happened>>,
    },
    StartWorker(usize),
    StartManager(usize),
    Manager {
        manager: usize,
        incarnation: u64,
        task: manager::Task,
    },
    Incident(Incident),
    Recover,
    /// A number is given out.
    Pledge(SectorId),
    Person,
    Heal,
}

struct Scheduled {
    at: u64,
    order: u64,
    event: Event,
}

/// A world.
pub struct World {
    pub options: Options,
    pub now: u64,
    pub rng: Rng,
    pub faults: Faults,
    pub bus: Bus,
    pub chain: Chain,
    pub db: Db,
    pub workers: Vec<Worker>,
    pub managers: Vec<Manager>,
    pub sectors: Vec<SectorId>,
    pub checks: Checks,
    pub policy: AttemptPolicy,
    pub batches: Batches,
    pub counts: Counts,
    /// Whether a person resolves what is blocked.
    pub has_person: bool,
    pub outage_until: u64,
    pub delivery_due: u64,
    /// Whether the queue will be lost when the next claim is sent.
    pub loses_queue_under_claim: bool,
    /// Since when an owner does not hold the sector of its token, and whether it was away when this was last seen.
    pub missing: HashMap<Right, (u64, bool)>,
    /// How often a person has dealt with a blocked sector.
    pub turns: HashMap<SectorId, u32>,
    queue: BinaryHeap<Reverse<Scheduled>>,
    order: u64,
    pub tags: u64,
    /// The stranger's own random stream.
    pub stranger: Rng,
    /// The last backup of the database.
    pub backup: Option<Box<Backup>>,
    pub restorations: Restorations,
    /// Until when the line to a site with the first workers is cut, and how many these are.
    pub site_cut: (u64, usize),
    /// The sectors that were under way when the manager's host was lost.
    pub under_way: BTreeSet<SectorId>,
    /// What managers had sent up to this tag does not arrive, because their host is lost.
    pub dead_tags: u64,
    trace: Vec<String>,
}

impl World {
    /// The world of a seed.
    pub fn new(seed: u64, options: Options) -> World {
        let mut rng = Rng::new(seed);
        // A world that loses its queue stays as it was.
        let mut loss = Faults::default();
        loss.lose_queue(&mut Rng::new(seed ^ LOSSES));
        let is_single = options.plain || options.single || !loss.incidents.is_empty();
        let batches = if is_single { Batches::none() } else { Batches::draw(seed) };
        let (workers, sectors) = (rng.range(1, 3) as usize, rng.range(1, 3) as usize);
        let sectors = sectors.max(batches.crowd.0);
        let epoch_millis = if rng.chance(150_000) { 1_000 } else { 30_000 };
        let mut faults = Faults::draw(&mut rng, workers, sectors);
        // These have random streams of their own, so that a seed's world stays the same without them.
        faults.forge(&mut Rng::new(seed ^ FORGERIES), sectors);
        let mut stranger = Rng::new(seed ^ STRANGERS);
        if batches.sectors_max > 1 {
            // Messages that wait for others live longer.
            faults.end += 30 * MINUTE;
        }
        if !options.plain {
            faults.add_stranger(&mut stranger, sectors);
            faults.lose_queue(&mut Rng::new(seed ^ LOSSES));
        }
        let mut restorations = Rng::new(seed ^ RESTORATIONS);
        if !is_single {
            faults.cut_site(&mut Rng::new(seed ^ SITES), workers);
            faults.lose_manager(&mut restorations);
        }
        let miner = MinerId(1000);
        let id = |number| SectorId { miner, number: SectorNumber(number as u64) };
        let mut world = World {
            options,
            now: 0,
            bus: Bus::new(rng.chance(300_000)),
            chain: Chain::new(epoch_millis, Trouble::draw(seed), batches.spoiler()),
            db: Db::default(),
            workers: Vec::new(),
            managers: vec![Manager::default(), Manager::default()],
            sectors: (1..=sectors).map(id).collect(),
            checks: Checks::default(),
            policy: AttemptPolicy { max_attempts: rng.range(1, 4) as u32, max_issues: rng.range(3, 8) as u32 },
            counts: Counts { worlds: u64::from(batches.sectors_max > 1), ..Counts::default() },
            batches,
            has_person: rng.chance(850_000),
            faults,
            rng,
            outage_until: 0,
            delivery_due: u64::MAX,
            loses_queue_under_claim: false,
            missing: HashMap::new(),
            turns: HashMap::new(),
            queue: BinaryHeap::new(),
            order: 0,
            tags: 0,
            stranger,
            backup: None,
            restorations: Restorations::default(),
            site_cut: (0, 0),
            under_way: BTreeSet::new(),
            dead_tags: 0,
            trace: Vec::new(),
        };
        let compares = world.has_stranger() || world.loses_queue() || world.loses_manager();
        world.bus.compares = compares && options.bug != Some(Bug::TakeAnyCopy);
        world.db.bug = options.bug;
        world.populate(workers, &mut restorations);
        world
    }

    fn populate(&mut self, workers: usize, restorations: &mut Rng) {
        for number in 0..workers {
            let slots = (self.rng.range(1, 2) as usize).max(self.batches.crowd.1);
            self.workers.push(Worker::new(number, slots));
            let at = self.rng.range(0, 2 * MINUTE);
            self.schedule_at(at, Event::StartWorker(number));
        }
        let (loses_manager, latest) = (self.loses_manager(), self.faults.end / 2);
        for id in self.sectors.clone() {
            if loses_manager && restorations.chance(500_000) {
                let at = restorations.range(0, latest);
                self.schedule_at(at, Event::Pledge(id));
                continue;
            }
            let sector = self.db.insert_sector(id, self.options.workflow());
            let wanted = sealbus_manager::store::Happening::of_manager("wanted", serde_json::Value::Null);
            self.db.store(life::offer(sector, wanted));
        }
        self.schedule_at(0, Event::StartManager(0));
        for (at, incident) in self.faults.incidents.clone() {
            self.schedule_at(at, Event::Incident(incident));
        }
        self.schedule_at(self.faults.end, Event::Heal);
        self.schedule_at(3 * MINUTE, Event::Person);
    }

    /// Runs the world to its end.
    pub fn run(mut self, seed: u64) -> Report {
        let mut events = 0;
        let limit = self.faults.end + PATIENCE;
        while let Some(Reverse(Scheduled { at, event, .. })) = self.queue.pop() {
            self.now = self.now.max(at);
            events += 1;
            if self.now > limit || events > MAX_EVENTS {
                let left = self.unfinished();
                self.break_invariant(Invariant::NothingLost, || left);
            }
            if self.checks.broken.is_some() {
                break;
            }
            self.dispatch(event);
            if self.now > self.faults.end && self.is_over() {
                break;
            }
        }
        let proving = self.proving();
        self.final_checks();
        let ends = (proving, self.sectors.len() - proving);
        let is_active = |id: &&SectorId| self.chain.active(**id, self.chain.head()).is_some();
        let ended = self.under_way.iter().filter(is_active).count() as u64;
        self.restorations.ends = (self.under_way.len() as u64, ended);
        let (batches, restorations) = (self.counts, self.restorations);
        Report { seed, broken: self.checks.broken, events, trace: self.trace, ends, batches, restorations }
    }

    fn dispatch(&mut self, event: Event) {
        // A stopped process does nothing until it is resumed, and then handles everything that it missed.
        if let Some(until) = self.stopped_until(&event).filter(|until| *until > self.now) {
            return self.schedule_at(until, event);
        }
        match event {
            Event::ToServer { client, tag, request } => self.serve(client, tag, request),
            Event::ToClient { client: Client::Slot(worker, slot), tag, reply } => {
                self.slot_reply(worker, slot, tag, *reply)
            }
            Event::ToClient { client: Client::Fold(manager), tag, reply } => self.fold_reply(manager, tag, *reply),
            Event::ToClient { client: Client::Outbox(manager), tag, reply } => self.outbox_reply(manager, tag, *reply),
            Event::Deliver => self.deliver_intents(),
            Event::Offered { worker, slot, generation, queued, intent } => {
                self.slot_offered(worker, slot, generation, queued, intent);
            }
            Event::Step { worker, slot, generation } => self.slot_step(worker, slot, generation),
            Event::Poll { worker, slot, generation, watch } => self.slot_poll(worker, slot, generation, Some(watch)),
            Event::Bell { worker, sector } => self.ring(worker, sector),
            Event::Work { worker, slot, generation, work, happened } => {
                self.slot_worked(worker, slot, generation, work, *happened);
            }
            Event::StartWorker(worker) => self.start_worker(worker),
            Event::StartManager(manager) => self.start_manager(manager),
            Event::Manager { manager, incarnation, task } => self.manager_task(manager, incarnation, task),
            Event::Incident(incident) => self.incident(incident),
            Event::Recover => self.recover(),
            Event::Pledge(sector) => self.pledge(sector),
            Event::Person => self.person(),
            Event::Heal => self.heal(),
        }
    }

    fn stopped_until(&self, event: &Event) -> Option<u64> {
        Some(match event {
            Event::ToClient { client: Client::Slot(worker, _), .. }
            | Event::Offered { worker, .. }
            | Event::Step { worker, .. }
            | Event::Poll { worker, .. }
            | Event::Bell { worker, .. }
            | Event::Work { worker, .. } => self.workers[*worker].stopped_until,
            Event::ToClient { client: Client::Fold(manager) | Client::Outbox(manager), .. }
            | Event::Manager { manager, .. } => self.managers[*manager].stopped_until,
            _ => return None,
        })
    }

    /// Draws how long a message takes.
    pub fn latency(&mut self) -> u64 {
        if self.faulty(self.faults.slow) { self.rng.range(500, 8_000) } else { self.rng.range(1, 40) }
    }

    /// Draws whether a fault happens now, with a probability in millionths.
    pub fn faulty(&mut self, millionths: u64) -> bool {
        self.now < self.faults.end && self.rng.chance(millionths)
    }

    /// Schedules an event after a delay.
    pub fn schedule(&mut self, delay: u64, event: Event) {
        self.schedule_at(self.now + delay, event);
    }

    /// Schedules an event at a time.
    pub fn schedule_at(&mut self, at: u64, event: Event) {
        self.order += 1;
        self.queue.push(Reverse(Scheduled { at, order: self.order, event }));
    }

    /// Adds a line to the trace, if one was requested.
    pub fn trace(&mut self, line: impl FnOnce() -> String) {
        if self.options.trace {
            let (seconds, millis) = (self.now / 1000, self.now % 1000);
            self.trace.push(format!("{:>3}:{:02}.{millis:03}  {}", seconds / 60, seconds % 60, line()));
        }
    }
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.order) == (other.at, other.order)
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}
