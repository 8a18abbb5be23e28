//! The soak of proving: two miners' sectors are proven for some proving periods, while again and again a third of all
//! processes is killed, files of sectors go away and come back, and once all provers are away for longer than a deadline
//! allows.
//!
//! What is wrong with a sector on chain must have a cause among these. A turn of a deadline, from its challenge to its close,
//! allows that a third of it nobody works ([`strikes`] keeps count); the rest must do. Where more was dead, or where the
//! sector's own file was away, the fault is explained; any other is a failure. At the end no sector is faulty, and the
//! money book equals the chain ([`book`](super::book)).
//!
//! Everything is real but the processors, which answer as scripted: a SNARK of 2 KiB sectors takes two cores for seconds, and
//! a prover that is killed loads its parameters again.

mod clock;
mod pace;
mod report;
mod strikes;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::SliceRandom};
use sealbus_manager::{chain::sector_set::SectorSet, errln};
use sealbus_schema::{MinerId, SectorId, SectorNumber};
use serde_json::{Value, json};

use super::{
    book,
    world::{Options, Proves, World, wait},
};
use clock::Clock;
use pace::Pace;
pub use report::Report;
use strikes::Strikes;

/// A period has as few deadlines as the devnet allows, so that it is short.
const DEADLINES: u64 = 4;
/// The challenge is known a third of a window before the opening, as on real networks.
const LOOKBACK: i64 = 3;
/// How often it is looked at what is due.
const STEP: Duration = Duration::from_millis(50);
/// How long sealing may take.
const SEAL_LIMIT: Duration = Duration::from_secs(300);
/// For how many periods recoveries are waited for at the end, when nothing is killed any more.
const PERIODS_TO_RECOVER: i64 = 3;
/// The base fee and premium, so that messages cost something.
const FEES: [(&str, u64); 2] = [("base_fee", 250), ("premium", 1234)];

/// A soak of proving.
#[derive(Clone, Debug)]
pub struct ProvingSoak {
    /// The number of miners.
    pub miners: u64,
    /// The number of sectors of each.
    pub sectors: u64,
    /// The number of workers. All seal and read.
    pub workers: usize,
    /// How many of them prove.
    pub provers: usize,
    /// How many proving periods things are killed.
    pub periods: i64,
    /// The epochs of a deadline.
    pub window_epochs: i64,
    /// The real milliseconds of an epoch. More while the machine is busy with other work.
    pub epoch_millis: u64,
    /// How many sectors lose their file for a period in each proving period but the last one.
    pub files_away: usize,
    /// Whether all provers are once away for longer than a deadline allows.
    pub blackout: bool,
    /// The seed.
    pub seed: u64,
    /// Whether to print progress on stderr.
    pub tell: bool,
}

/// Something that is done to the world at an epoch, counted from the first one of the soak.
#[derive(Clone, Copy, Debug)]
enum Damage {
    TakeAway(SectorId),
    BringBack(SectorId),
    Blackout,
}

/// A sector's file that is away, or was.
#[derive(Clone, Copy, Debug)]
struct Away {
    sector: SectorId,
    from: Instant,
    to: Option<Instant>,
}

/// What is known of a soak that runs.
struct Run {
    world: World,
    clock: Clock,
    pace: Pace,
    strikes: Strikes,
    aways: Vec<Away>,
    /// The epochs of the first and the last look at which things were killed.
    first: i64,
    last: i64,
}

impl ProvingSoak {
    /// Runs the soak in an empty directory. Fails if it does not come to its end; [`Report::check`] judges what happened.
    pub fn run(&self, root: &Path) -> anyhow::Result<Report> {
        let (mut world, mut pace) = (self.world(root)?, Pace::new(self.epoch_millis)?);
        pace.keep(&world)?;
        let begin = book::of_strangers(&world, &Value::Null)?;
        self.seal(&mut world)?;
        let mut random = StdRng::seed_from_u64(self.seed);
        let mut clock = Clock::default();
        let first = clock.look(&world)?;
        let strikes = Strikes::new(&world, self.provers);
        let mut run = Run { world, clock, pace, strikes, aways: Vec::new(), first, last: first };
        self.trouble(&mut run, &mut random)?;
        run.strikes.mend(&mut run.world)?;
        let recovered = self.wait_for_recoveries(&mut run)?;
        book::settle(&mut run.world)?;
        Report::read(self, run, recovered, &begin)
    }

    /// Starts everything but the workers, and waits for the book, which begins with what there is.
    fn world(&self, root: &Path) -> anyhow::Result<World> {
        let proves =
            Proves { deadlines: DEADLINES, window_epochs: self.window_epochs, provers: self.provers, silence_secs: 2 };
        let options = Options {
            workers: self.workers,
            slots: (self.miners * self.sectors).div_ceil(self.workers as u64) as usize,
            miners: self.miners,
            epoch_millis: self.epoch_millis,
            proves: Some(proves),
            ..Options::default()
        };
        let mut world = World::prepare(root, options)?;
        for (kind, atto) in FEES {
            world.call_chain("Devnet.Fault", json!([{ "kind": kind, "atto": atto }]))?;
        }
        world.start_manager()?;
        wait("the database", || Ok(world.root().join("manager.db").exists().then_some(())))?;
        wait("the book", || Ok(book::end(&mut world)?.map(drop)))?;
        Ok(world)
    }

    fn seal(&self, world: &mut World) -> anyhow::Result<()> {
        let sectors = self.sectors as usize;
        for miner in world.miners.clone() {
            world.pledge_of(miner, sectors)?;
        }
        world.start_workers()?;
        world.wait_until_proving(world.miners.len() * sectors, SEAL_LIMIT)
    }

    /// Kills and damages for the stated periods.
    fn trouble(&self, run: &mut Run, random: &mut StdRng) -> anyhow::Result<()> {
        let period = self.period();
        let mut plan = self.plan(&run.world.miners, random);
        let mut told = -1;
        while run.last < run.first + self.periods * period {
            let now = run.last - run.first;
            while let Some((_, damage)) = plan.pop_if(|(at, _)| *at <= now) {
                self.damage(run, damage)?;
            }
            run.pace.keep(&run.world)?;
            let window = run.pace.epochs(self.window_epochs);
            run.strikes.strike_when_due(&mut run.world, window, random)?;
            run.last = run.clock.look(&run.world)?;
            std::thread::sleep(STEP);
            if self.tell && told < now / self.window_epochs {
                told = now / self.window_epochs;
                errln!("proving soak: deadline {told} of {}; {}", self.periods * DEADLINES as i64, run.strikes.counts);
            }
        }
        for (_, damage) in plan.into_iter().rev() {
            self.damage(run, damage)?;
        }
        Ok(())
    }

    /// What is done when, the last first.
    fn plan(&self, miners: &[MinerId], random: &mut StdRng) -> Vec<(i64, Damage)> {
        let period = self.period();
        let all: Vec<SectorId> = miners
            .iter()
            .flat_map(|&miner| (1..=self.sectors).map(move |n| SectorId { miner, number: SectorNumber(n) }))
            .collect();
        let mut plan = Vec::new();
        for turn in 0..(self.periods - 1).max(1) {
            for &sector in all.choose_multiple(random, self.files_away) {
                // A period long, so that each file is missed once.
                let at = turn * period + random.gen_range(0..self.window_epochs);
                plan.push((at, Damage::TakeAway(sector)));
                plan.push((at + period - 1, Damage::BringBack(sector)));
            }
        }
        if self.blackout {
            plan.push((self.periods / 2 * period, Damage::Blackout));
        }
        plan.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        plan
    }

    fn damage(&self, run: &mut Run, damage: Damage) -> anyhow::Result<()> {
        let place = |sector: SectorId| run.world.store_dir().join("sealed").join(sector.file_name());
        match damage {
            Damage::TakeAway(sector) => {
                // One that is away already comes back at its own time.
                if !run.aways.iter().any(|away| away.sector == sector && away.to.is_none()) {
                    fs::rename(place(sector), aside(place(sector)))?;
                    run.aways.push(Away { sector, from: Instant::now(), to: None });
                }
            }
            Damage::BringBack(sector) => {
                let is_it = |away: &&mut Away| away.sector == sector && away.to.is_none();
                if let Some(away) = run.aways.iter_mut().find(is_it) {
                    fs::rename(aside(place(sector)), place(sector))?;
                    away.to = Some(Instant::now());
                }
            }
            // A window and the challenge's lead, so that at least one turn is all dark.
            Damage::Blackout => {
                let pause = run.pace.epochs(self.window_epochs * 2);
                run.strikes.black_out(&mut run.world, pause);
            }
        }
        Ok(())
    }

    /// Waits until no sector is faulty. Returns how many epochs that took.
    fn wait_for_recoveries(&self, run: &mut Run) -> anyhow::Result<i64> {
        let end = run.last + PERIODS_TO_RECOVER * self.period();
        loop {
            run.strikes.note_starts(&mut run.world)?;
            run.pace.keep(&run.world)?;
            let now = run.clock.look(&run.world)?;
            let faulty = faulty(&run.world)?;
            if faulty.is_empty() {
                return Ok(now - run.last);
            }
            if now > end {
                bail!("seed {}: still faulty {} epochs after the last kill: {faulty:?}", self.seed, now - run.last);
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    const fn period(&self) -> i64 {
        DEADLINES as i64 * self.window_epochs
    }
}

/// The sectors of all miners that are faulty on chain.
fn faulty(world: &World) -> anyhow::Result<BTreeSet<SectorId>> {
    let mut all = BTreeSet::new();
    for &miner in &world.miners {
        let told = world.call_chain("Filecoin.StateMinerFaults", json!([format!("t0{}", miner.0), null]))?;
        let faulty: SectorSet = serde_json::from_value(told).context("StateMinerFaults")?;
        all.extend(faulty.iter().map(|number| SectorId { miner, number: SectorNumber(number) }));
    }
    Ok(all)
}

/// Where a file is while it is away.
fn aside(path: PathBuf) -> PathBuf {
    path.with_extension("away")
}
