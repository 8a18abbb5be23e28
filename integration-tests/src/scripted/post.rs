//! The stages of proofs in scripted processors. A read takes as long as the test says, as if it were the store's time.

use std::{fs, time::Duration};

use sealbus_schema::{ErrorClass, Phase, ProofBytes};
use sealbus_worker::{
    processor::protocol::Failure,
    stage::{post_prove, post_read},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{control::Control, yields};

/// The size of a 32 GiB sector's vanilla proof, roughly.
const VANILLA_BYTES: usize = 24_000;
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

    /// Makes the readers of a control directory take so long.
    pub fn write(&self, control: &Control) -> anyhow::Result<()> {
        Ok(fs::write(control.path().join(FILE), serde_json::to_vec(self)?)?)
    }
}

/// The answer to a request of one of these stages; `None` for another stage.
pub fn answer(stage: Phase, task: &Value, control: &Control) -> Option<Result<Value, Failure>> {
    let bad = |error: &dyn std::fmt::Display| Failure::new(ErrorClass::Perm, "REQUEST_INVALID", error.to_string());
    if stage == Phase::POST[0] {
        let task = serde_json::from_value(task.clone()).map_err(|error| bad(&error));
        return Some(task.and_then(|task| read(&task, control)));
    }
    if stage == Phase::POST[1] {
        return Some(serde_json::from_value(task.clone()).map_err(|error| bad(&error)).and_then(|task| prove(&task)));
    }
    None
}

fn read(task: &post_read::Request, control: &Control) -> Result<Value, Failure> {
    let latencies = fs::read(control.path().join(FILE)).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let (latencies, number): (Latencies, u64) = (latencies.unwrap_or_default(), task.sector.number.0);
    std::thread::sleep(latencies.of(number));
    if latencies.bad.contains(&number) {
        let problem = format!("sealed/{} is damaged", task.sector.file_name());
        return Err(Failure::new(ErrorClass::Perm, "FILES_UNPROVABLE", &problem));
    }
    Ok(json!(post_read::Response { vanilla: ProofBytes(vec![7; VANILLA_BYTES]) }))
}

fn prove(task: &post_prove::Request) -> Result<Value, Failure> {
    let there = fs::metadata(&task.vanillas).map_or(0, |file| file.len());
    let wanted: usize = task.sectors.iter().map(|sector| sector.bytes).sum();
    if there != wanted as u64 || wanted != task.sectors.len() * VANILLA_BYTES {
        let problem = format!("the vanilla proofs have {there} bytes, and {wanted} are told");
        return Err(Failure::new(ErrorClass::Perm, "INPUT_MISMATCH", &problem));
    }
    let sectors: Vec<_> = task.sectors.iter().map(|sector| (sector.number, sector.comm_r)).collect();
    let proof = ProofBytes(yields::post("window", task.miner, &task.randomness, &sectors));
    Ok(json!(post_prove::Response::Proved { proof }))
}
