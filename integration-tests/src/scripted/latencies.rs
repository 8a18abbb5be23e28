//! How long scripted reads for proofs take, as if it were the store's time.

use std::{fs, time::Duration};

use serde::{Deserialize, Serialize};

use super::control::Control;

/// The file in the control directory with the latencies.
const FILE: &str = "latencies.json";

/// How long reads take, by the number of the sector.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Latencies {
    /// Of most sectors, in turn, in milliseconds.
    pub usual_ms: Vec<u64>,
    /// Each sector whose number this divides is slow.
    pub every: u64,
    /// How long those take, in milliseconds.
    pub slow_ms: u64,
    /// The sectors whose files are bad.
    pub bad: Vec<u64>,
}

impl Latencies {
    /// Whether a sector is slow.
    pub const fn is_slow(&self, number: u64) -> bool {
        self.every > 0 && number.is_multiple_of(self.every)
    }

    /// How long the read of a sector takes.
    pub fn of(&self, number: u64) -> Duration {
        let usual = self.usual_ms.get(number as usize % self.usual_ms.len().max(1)).copied().unwrap_or_default();
        Duration::from_millis(if self.is_slow(number) { self.slow_ms } else { usual })
    }

    /// What a test has told the readers of a control directory, if anything.
    pub fn told(control: &Control) -> Option<Latencies> {
        serde_json::from_slice(&fs::read(control.path().join(FILE)).ok()?).ok()
    }

    /// Makes the readers of a control directory take so long. They do not look at any file then.
    pub fn write(&self, control: &Control) -> anyhow::Result<()> {
        Ok(fs::write(control.path().join(FILE), serde_json::to_vec(self)?)?)
    }
}
