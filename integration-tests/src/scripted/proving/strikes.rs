//! The kills, and how long nobody could work.

use std::{
    fmt, fs,
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rand::{Rng, rngs::StdRng, seq::SliceRandom};
use rustix::process::{Signal, kill_process};

use crate::{cluster::children_of, scripted::world::World};

/// How fine dead time is measured.
const GRAIN: Duration = Duration::from_millis(20);

/// A process that is killed and started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Manager,
    Nats,
    /// By its index.
    Worker(usize),
}

/// The numbers of kills.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub strikes: u64,
    pub managers: u64,
    pub nats: u64,
    pub workers: u64,
    pub readers: u64,
    pub provers: u64,
}

/// A time without a process: from its kill until it works again.
#[derive(Clone, Debug)]
struct Outage {
    role: Role,
    from: Instant,
    to: Option<Instant>,
    /// When it is started.
    starts: Option<Instant>,
    /// Once it was started: how long its log was before.
    started: Option<u64>,
}

/// All kills of a soak.
pub struct Strikes {
    roles: Vec<Role>,
    /// How many workers prove: the first ones.
    provers: usize,
    next: Instant,
    outages: Vec<Outage>,
    pub counts: Counts,
}

impl Strikes {
    /// Of a world whose first so many workers prove.
    pub fn new(world: &World, provers: usize) -> Strikes {
        let workers = (0..world.workers.len()).map(Role::Worker);
        let roles = [Role::Manager, Role::Nats].into_iter().chain(workers).collect();
        Strikes { roles, provers, next: Instant::now(), outages: Vec::new(), counts: Counts::default() }
    }

    /// Starts what is to be started, and kills if it is time: a third of all processes, and a third of those that read and
    /// prove for the workers that are left. They are away for up to a sixth of a window, and for as
    /// long as it takes to start.
    pub fn strike_when_due(&mut self, world: &mut World, window: Duration, random: &mut StdRng) -> anyhow::Result<()> {
        self.note_starts(world)?;
        if Instant::now() < self.next {
            return Ok(());
        }
        self.next = Instant::now() + window.mul_f64(random.gen_range(0.4..0.9));
        self.counts.strikes += 1;
        let down = self.outages.iter().filter(|outage| outage.to.is_none()).count();
        let mut alive: Vec<Role> = self.roles.iter().copied().filter(|role| !self.is_down(*role)).collect();
        alive.shuffle(random);
        for role in alive.into_iter().take((self.roles.len() / 3).saturating_sub(down)) {
            let pause = window.mul_f64(random.gen_range(0.01..0.17));
            self.kill(world, role, pause);
        }
        self.kill_processors(world, random);
        Ok(())
    }

    /// Kills all provers for a while.
    pub fn black_out(&mut self, world: &mut World, pause: Duration) {
        for prover in (0..self.provers).map(Role::Worker) {
            match self.outages.iter_mut().find(|outage| outage.role == prover && outage.to.is_none()) {
                Some(outage) if outage.started.is_none() => outage.starts = Some(Instant::now() + pause),
                _ => self.kill(world, prover, pause),
            }
        }
    }

    /// Starts everything at once.
    pub fn mend(&mut self, world: &mut World) -> anyhow::Result<()> {
        self.outages.iter_mut().for_each(|outage| outage.starts = outage.starts.map(|_| Instant::now()));
        self.note_starts(world)
    }

    /// Starts what is due, and notes what works again.
    pub fn note_starts(&mut self, world: &mut World) -> anyhow::Result<()> {
        world.restart_ended_workers()?;
        for outage in self.outages.iter_mut().filter(|outage| outage.to.is_none()) {
            match outage.started {
                None if outage.starts.is_some_and(|starts| starts <= Instant::now()) => {
                    let length = log(world, outage.role).and_then(|(path, _)| fs::metadata(path).ok());
                    outage.started = Some(length.map_or(0, |meta| meta.len()));
                    match outage.role {
                        Role::Manager => world.start_manager()?,
                        Role::Worker(index) => world.start_worker(index)?,
                        // Returns when it listens.
                        Role::Nats => {
                            world.start_nats(0)?;
                            outage.to = Some(Instant::now());
                        }
                    }
                }
                None => {}
                Some(length) => {
                    let is_ready = log(world, outage.role).is_some_and(|(path, word)| says(&path, length, word));
                    outage.to = is_ready.then(Instant::now);
                }
            }
        }
        Ok(())
    }

    /// How long nobody could prove anything in a span of time: there was no manager, no NATS, no worker, or no prover.
    pub fn dead(&self, from: Instant, to: Instant) -> Duration {
        let steps = to.saturating_duration_since(from).as_millis() / GRAIN.as_millis();
        let dead = (0..steps as u32).map(|step| from + GRAIN * step).filter(|at| self.is_dead_at(*at));
        GRAIN * dead.count() as u32
    }

    fn is_dead_at(&self, at: Instant) -> bool {
        let is_away = |role: Role| {
            let of_role = |outage: &&Outage| outage.role == role && outage.from <= at;
            self.outages.iter().filter(of_role).any(|outage| outage.to.is_none_or(|to| at < to))
        };
        is_away(Role::Manager) || is_away(Role::Nats) || (0..self.provers).map(Role::Worker).all(is_away)
    }

    fn is_down(&self, role: Role) -> bool {
        self.outages.iter().any(|outage| outage.role == role && outage.to.is_none())
    }

    fn kill(&mut self, world: &mut World, role: Role, pause: Duration) {
        match role {
            Role::Manager => {
                world.kill_manager();
                self.counts.managers += 1;
            }
            Role::Nats => {
                world.kill_nats(0);
                self.counts.nats += 1;
            }
            Role::Worker(index) => {
                world.kill_worker(index);
                self.counts.workers += 1;
            }
        }
        // One that had been started but did not work yet is away for longer.
        let now = Instant::now();
        match self.outages.iter_mut().find(|outage| outage.role == role && outage.to.is_none()) {
            Some(outage) => (outage.starts, outage.started) = (Some(now + pause), None),
            None => self.outages.push(Outage { role, from: now, to: None, starts: Some(now + pause), started: None }),
        }
    }

    fn kill_processors(&mut self, world: &World, random: &mut StdRng) {
        let children = world.workers.iter().filter_map(|worker| worker.pid()).flat_map(children_of);
        let mut of_proofs: Vec<_> = children
            .filter_map(|pid| {
                let command = fs::read_to_string(format!("/proc/{}/cmdline", pid.as_raw_pid())).ok()?;
                let is_prover = command.contains("post_prove");
                (is_prover || command.contains("post_read")).then_some((pid, is_prover))
            })
            .collect();
        of_proofs.shuffle(random);
        for (pid, is_prover) in of_proofs.iter().take(of_proofs.len().div_ceil(3)) {
            if kill_process(*pid, Signal::KILL).is_ok() {
                *(if *is_prover { &mut self.counts.provers } else { &mut self.counts.readers }) += 1;
            }
        }
    }
}

/// The log of a process, and what it says when it works.
fn log(world: &World, role: Role) -> Option<(PathBuf, &'static str)> {
    match role {
        Role::Manager => Some((world.root().join("manager.log"), "the manager runs")),
        Role::Worker(index) => {
            Some((world.root().join(format!("logs/{}.log", world.workers[index].name)), ": serving"))
        }
        Role::Nats => None,
    }
}

/// Whether a log says a word after so many bytes.
fn says(path: &Path, after: u64, word: &str) -> bool {
    let read = || -> std::io::Result<Vec<u8>> {
        let (mut file, mut bytes) = (fs::File::open(path)?, Vec::new());
        file.seek(SeekFrom::Start(after))?;
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    read().is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(word))
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { strikes, managers, nats, workers, readers, provers } = self;
        write!(
            f,
            "{strikes} strikes killed the manager {managers} times, NATS {nats}, workers {workers}, processors that read \
             {readers} and that prove {provers}"
        )
    }
}
