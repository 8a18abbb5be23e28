//! Shows progress: bars on a terminal, otherwise plain lines.

use std::collections::HashMap;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use sealbus_manager::errln;
use sealbus_schema::workflows::seal::manager::State;
use serde_json::Value;

/// The progress display.
pub struct Progress {
    bars: Option<MultiProgress>,
    lines: HashMap<String, (Option<ProgressBar>, String)>,
}

impl Progress {
    /// Shows bars if `terminal`, otherwise lines.
    pub fn new(terminal: bool) -> Progress {
        Progress { bars: terminal.then(MultiProgress::new), lines: HashMap::new() }
    }

    /// Shows the state of each sector and the step of its worker.
    pub fn show(&mut self, sectors: &[Value], workers: &Value) {
        let steps = steps(workers);
        for sector in sectors {
            let (Some(id), Some(state)) = (sector["sector"].as_str(), sector["state"].as_str()) else { continue };
            let step = steps.get(id).map_or(String::new(), |step| format!(", worker: {step}"));
            let now = format!("{state}{step}{}", waits_for(state));
            let position = State::NAMES.iter().position(|known| *known == state).unwrap_or_default() as u64;
            let bars = self.bars.as_ref();
            let (bar, before) =
                self.lines.entry(id.to_owned()).or_insert_with(|| (bars.map(|bars| new_bar(bars, id)), String::new()));
            match bar {
                Some(bar) => {
                    bar.set_position(position);
                    bar.set_message(now);
                    bar.tick();
                }
                None if *before != now => {
                    errln!("demo: {id} {now}");
                    *before = now;
                }
                None => {}
            }
        }
    }

    /// Leaves the last display on the terminal.
    pub fn finish(&mut self) {
        for (bar, _) in self.lines.values() {
            if let Some(bar) = bar {
                bar.abandon();
            }
        }
    }
}

/// What a sector in this state waits for, if it is not its worker's work.
fn waits_for(state: &str) -> &'static str {
    match state {
        "queued" => ", waiting for a free slot",
        "drawing_ticket" => ", waiting for the chain's randomness (ticket)",
        "pre_committing" => ", waiting for the PreCommit to land on chain",
        "checking_files" => ", waiting until the manager has checked the stored files",
        "awaiting_seed" => ", waiting for the epoch of the seed",
        "verifying_proof" => ", waiting until the manager has verified the proof",
        "prove_committing" => ", waiting for the ProveCommit to land on chain",
        _ => "",
    }
}

fn new_bar(bars: &MultiProgress, id: &str) -> ProgressBar {
    let bar = bars.add(ProgressBar::new(State::ON_THE_WAY.len() as u64 - 1));
    let style = ProgressStyle::with_template("{prefix:>12} {bar:26} {elapsed:>5} {spinner} {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_prefix(id.to_owned());
    bar
}

/// The step that workers report for each sector that they hold.
fn steps(workers: &Value) -> HashMap<String, &str> {
    let slots = workers.as_array().into_iter().flatten().filter_map(|worker| worker["slots"].as_array()).flatten();
    slots
        .filter_map(|slot| {
            let holding = &slot["holding"];
            let sector = &holding["sector"];
            Some((format!("{}/{}", sector["miner"].as_str()?, sector["number"]), holding["step"].as_str()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_known_states_are_explained() {
        let named = [
            "queued",
            "drawing_ticket",
            "pre_committing",
            "checking_files",
            "awaiting_seed",
            "verifying_proof",
            "prove_committing",
        ];
        assert!(named.iter().all(|state| State::NAMES.contains(state) && !waits_for(state).is_empty()));
        assert_eq!(waits_for("sealing"), "", "the worker is at work");
    }
}
