//! The calculator: the throughput of given processors, times and slots.

use std::{collections::BTreeMap, fmt::Write, str::FromStr};

use sealbus_schema::Phase;
use serde::Serialize;

use crate::{
    pipeline::{PipelineSpec, Servers, SpecError, Step, Wait, Work},
    pipeline::{Steady, simulate},
    units::{self, UnitError, parse_time_ms},
};

/// The highest number of slots or processors that is accepted.
pub const SLOTS_MAX: usize = 10_000;
/// The highest number of rows in a table.
const ROWS_MAX: usize = 1_000;

/// The input of a calculation.
#[derive(Clone, Debug)]
pub struct Request {
    /// The numbers of slots, with one row for each.
    pub slots: Slots,
    /// The processors of each phase. A phase without processors takes no time.
    pub phases: Vec<(Phase, Offer)>,
    /// The named locks, with their units.
    pub locks: BTreeMap<String, usize>,
    /// The shortest time between two starts of a phase.
    pub staggered_ms: BTreeMap<Phase, u64>,
    /// The waits for the chain.
    pub waits: Waits,
}

/// How long the chain takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waits {
    /// The time from the end of PC2 until the PreCommit has landed.
    pub precommit_ms: u64,
    /// The time from then until the seed is available.
    pub seed_ms: u64,
    /// The time from the end of C2 until the ProveCommit has landed.
    pub prove_ms: u64,
}

/// A range of slot numbers: `8`, or `4-16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    /// The lowest number.
    pub least: usize,
    /// The highest number.
    pub most: usize,
}

/// Processors of one kind, written `4x3h` or `1x10m@gpu`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The number of processors.
    pub count: usize,
    /// How long a request takes.
    pub time_ms: u64,
    /// The locks that each request holds.
    pub locks: Vec<String>,
}

/// A row of the result.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The number of slots.
    pub slots: usize,
    /// The result for that number.
    #[serde(flatten)]
    pub steady: Steady,
}

/// Why a calculation is impossible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CalcError {
    /// A description of processors cannot be parsed.
    #[error("{text:?} is not COUNTxTIME[@LOCK], such as 4x3h or 1x10m@gpu: {problem}")]
    Offer {
        /// The given text.
        text: String,
        /// The problem.
        problem: String,
    },
    /// A range of slot numbers cannot be parsed.
    #[error("{text:?} is not a number of slots, such as 8 or 4-16: {problem}")]
    Slots {
        /// The given text.
        text: String,
        /// The problem.
        problem: String,
    },
    /// No phase has a processor.
    #[error("no phase is given: give at least one, such as --pc1 4x3h")]
    NoPhase,
    /// The pipeline is not valid.
    #[error(transparent)]
    Spec(#[from] SpecError),
}

impl Request {
    /// The pipeline with this many slots.
    #[must_use]
    pub fn spec(&self, slots: usize) -> PipelineSpec {
        let works: Vec<Work> = Phase::SEALING.into_iter().filter_map(|stage| self.work(stage)).collect();
        PipelineSpec { slots, steps: steps(works, self.waits), locks: self.locks.clone() }
    }

    fn work(&self, stage: Phase) -> Option<Work> {
        let offers = self.phases.iter().filter(|(phase, _)| *phase == stage);
        let servers: Vec<Servers> = offers.map(|(_, offer)| offer.servers()).collect();
        let staggered_ms = self.staggered_ms.get(&stage).copied().unwrap_or(0);
        (!servers.is_empty()).then_some(Work { stage, servers, concurrent: None, staggered_ms })
    }
}

impl Offer {
    fn servers(&self) -> Servers {
        Servers { count: self.count, time_ms: self.time_ms, locks: self.locks.iter().cloned().collect() }
    }
}

impl FromStr for Offer {
    type Err = CalcError;

    fn from_str(text: &str) -> Result<Self, CalcError> {
        let failed = |problem: String| CalcError::Offer { text: text.to_owned(), problem };
        let (offer, locks) = text.split_once('@').map_or((text, None), |(offer, locks)| (offer, Some(locks)));
        let (count, time) = offer.split_once('x').ok_or_else(|| failed("there is no x".to_owned()))?;
        let count = count.trim().parse().map_err(|_| failed(format!("{count:?} is not a number")))?;
        if count == 0 || count > SLOTS_MAX {
            return Err(failed(format!("the count must be 1 to {SLOTS_MAX}")));
        }
        let time_ms = parse_time_ms(time).map_err(|error: UnitError| failed(error.to_string()))?;
        let locks = locks.into_iter().flat_map(|locks| locks.split(',')).map(|lock| lock.trim().to_owned());
        let locks: Vec<String> = locks.collect();
        if locks.iter().any(String::is_empty) {
            return Err(failed("a lock has no name".to_owned()));
        }
        Ok(Self { count, time_ms, locks })
    }
}

impl FromStr for Slots {
    type Err = CalcError;

    fn from_str(text: &str) -> Result<Self, CalcError> {
        let failed = |problem: String| CalcError::Slots { text: text.to_owned(), problem };
        let number = |part: &str| part.trim().parse::<usize>().map_err(|_| failed(format!("{part:?} is not a number")));
        let (least, most) = match text.split_once('-') {
            Some((least, most)) => (number(least)?, number(most)?),
            None => (number(text)?, number(text)?),
        };
        match () {
            () if least == 0 || most > SLOTS_MAX => Err(failed(format!("must be 1 to {SLOTS_MAX}"))),
            () if least > most => Err(failed(format!("{least} is more than {most}"))),
            () if most - least >= ROWS_MAX => Err(failed(format!("more than {ROWS_MAX} rows"))),
            () => Ok(Self { least, most }),
        }
    }
}

/// The steps of a sector: its phases, with the waits between them. The wait for the seed counts from the PreCommit's
/// landing, so the transfer takes place meanwhile.
#[must_use]
pub fn steps(works: Vec<Work>, waits: Waits) -> Vec<Step> {
    let mut steps = Vec::new();
    let wait = |name: &str, time_ms, since| Step::Wait(Wait { name: name.to_owned(), time_ms, since });
    let (before, after): (Vec<Work>, Vec<Work>) = works.into_iter().partition(|work| work.stage <= Phase::Pc2);
    let (transfer, commit): (Vec<Work>, Vec<Work>) = after.into_iter().partition(|work| work.stage <= Phase::Transfer);
    steps.extend(before.into_iter().map(Step::Work));
    steps.push(wait("precommit", waits.precommit_ms, None));
    let landed = steps.len() - 1;
    steps.extend(transfer.into_iter().map(Step::Work));
    steps.push(wait("seed", waits.seed_ms, Some(landed)));
    steps.extend(commit.into_iter().map(Step::Work));
    steps.push(wait("prove", waits.prove_ms, None));
    steps
}

/// Calculates a row for each number of slots.
pub fn calculate(request: &Request) -> Result<Vec<Row>, CalcError> {
    if request.phases.is_empty() {
        return Err(CalcError::NoPhase);
    }
    let row = |slots| Ok(Row { slots, steady: simulate(&request.spec(slots))? });
    (request.slots.least..=request.slots.most).map(row).collect()
}

/// The rows as a table for people.
#[must_use]
pub fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:>6}  {:>12}  {:>10}  {:>14}  {:>14}  {}\n",
        "slots", "sectors/day", "bound/day", "time in slot", "least in slot", "short of"
    );
    for Row { slots, steady } in rows {
        let _ = writeln!(
            text,
            "{slots:>6}  {:>12}  {:>10}  {:>14}  {:>14}  {}",
            units::rate(steady.sectors_per_day),
            units::rate(steady.bound_per_day),
            units::time(steady.slot_ms),
            units::time(steady.slot_least_ms),
            steady.bottleneck
        );
    }
    if let [Row { steady, .. }] = rows {
        text.push('\n');
        text.push_str(&phases(steady));
    }
    text
}

/// How busy each phase and lock is, and how long a sector queues before it.
#[must_use]
pub fn phases(steady: &Steady) -> String {
    let mut text = format!("{:<16}  {:>6}  {:>14}\n", "phase", "busy", "queue before");
    for ((stage, busy), (_, queued)) in steady.busy.iter().zip(&steady.queued_ms) {
        let _ =
            writeln!(text, "{stage:<16}  {:>5.0}%  {:>14}", busy * 100.0, units::time(*queued), stage = stage.name());
    }
    for (lock, held) in &steady.locked {
        let _ = writeln!(text, "{:<16}  {:>5.0}%", format!("lock {lock}"), held * 100.0);
    }
    text
}

/// The rows as comma-separated values, with times in seconds.
#[must_use]
pub fn csv(rows: &[Row]) -> String {
    let mut text = String::from("slots,sectors_per_day,bound_per_day,slot_secs,slot_least_secs,bottleneck");
    let names = rows.first().map(|row| row.steady.busy.as_slice()).unwrap_or_default();
    for (stage, _) in names {
        let _ = write!(text, ",{stage}_busy,{stage}_queue_secs");
    }
    text.push('\n');
    for Row { slots, steady } in rows {
        let _ = write!(
            text,
            "{slots},{:.3},{:.3},{},{},{}",
            steady.sectors_per_day,
            steady.bound_per_day,
            steady.slot_ms / 1000,
            steady.slot_least_ms / 1000,
            steady.bottleneck
        );
        for ((_, busy), (_, queued)) in steady.busy.iter().zip(&steady.queued_ms) {
            let _ = write!(text, ",{busy:.3},{}", queued / 1000);
        }
        text.push('\n');
    }
    text
}
