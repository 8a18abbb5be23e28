//! When each epoch was, by this host's clock.

use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::json;

use crate::scripted::world::World;

/// How often the head is asked for.
const PERIOD: Duration = Duration::from_millis(250);

/// The heads that were seen.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    seen: Vec<(Instant, i64)>,
}

impl Clock {
    /// The head's epoch. The chain is asked a few times a second.
    pub fn look(&mut self, world: &World) -> anyhow::Result<i64> {
        if let Some((at, epoch)) = self.seen.last()
            && at.elapsed() < PERIOD
        {
            return Ok(*epoch);
        }
        let head = world.call_chain("Filecoin.ChainHead", json!([]))?;
        let epoch = head["Height"].as_i64().context("no height")?;
        self.seen.push((Instant::now(), epoch));
        Ok(epoch)
    }

    /// From the first look to the last one.
    pub fn span(&self) -> Duration {
        match (self.seen.first(), self.seen.last()) {
            (Some((first, _)), Some((last, _))) => *last - *first,
            _ => Duration::ZERO,
        }
    }

    /// When an epoch was the head's for the first time, as far as it was seen.
    pub fn when(&self, epoch: i64) -> Option<Instant> {
        self.seen.iter().find(|(_, seen)| *seen >= epoch).map(|(at, _)| *at)
    }
}
