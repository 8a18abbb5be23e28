//! Lets the chain go as fast as the machine allows. On a machine that is busy with other work, everything takes longer that
//! Sealbus does, and so do the epochs.

use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::json;

use crate::scripted::{world::World, yields};

/// How often it is measured.
const PERIOD: Duration = Duration::from_millis(500);
/// How much processor time a measurement takes: longer than a thread runs without giving way to others.
const BURST: Duration = Duration::from_millis(15);
/// The share of the last measurement in the mean.
const WEIGHT: f64 = 0.2;
/// The chain's speed is not changed for less.
const DIFFERENCE: f64 = 0.2;
/// How many times longer than usual an epoch may take.
const SLOWEST: f64 = 6.0;

/// The speed of the chain.
pub struct Pace {
    /// The milliseconds of an epoch on an idle machine.
    usual: u64,
    /// How much longer than its processor time work takes, as a mean of the last seconds.
    mean: f64,
    /// What the chain's clock was set to.
    kept: Option<f64>,
    measured: Option<Instant>,
}

impl Pace {
    /// With so many milliseconds for an epoch on an idle machine.
    pub fn new(usual: u64) -> anyhow::Result<Pace> {
        let measured = (0..10).map(|_| slowness()).collect::<anyhow::Result<Vec<f64>>>()?;
        let mean = measured.iter().sum::<f64>() / measured.len() as f64;
        Ok(Pace { usual, mean, kept: None, measured: None })
    }

    /// Measures now and then, and sets the chain's clock if that has changed.
    pub fn keep(&mut self, world: &World) -> anyhow::Result<()> {
        if self.measured.is_some_and(|at| at.elapsed() < PERIOD) {
            return Ok(());
        }
        self.measured = Some(Instant::now());
        self.mean += (slowness()? - self.mean) * WEIGHT;
        if self.kept.is_none_or(|kept| (self.mean / kept - 1.0).abs() > DIFFERENCE) {
            self.kept = Some(self.mean);
            world.call_chain("Devnet.SetEpochMillis", json!([self.epochs(1).as_millis() as u64]))?;
        }
        Ok(())
    }

    /// How long so many epochs take.
    pub fn epochs(&self, epochs: i64) -> Duration {
        Duration::from_millis(self.usual).mul_f64(epochs as f64 * self.kept.unwrap_or(1.0).clamp(1.0, SLOWEST))
    }
}

/// How many times its processor time some work takes.
fn slowness() -> anyhow::Result<f64> {
    let (began, used_before) = (Instant::now(), used()?);
    let mut took = Duration::ZERO;
    while took < BURST {
        std::hint::black_box(yields::file("work", &[]));
        took = used()?.saturating_sub(used_before);
    }
    Ok(began.elapsed().div_duration_f64(took))
}

/// The processor time of this thread: the first number of its scheduling statistics, in nanoseconds.
fn used() -> anyhow::Result<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanos = text.split(' ').next().context("no processor time")?.parse()?;
    Ok(Duration::from_nanos(nanos))
}
