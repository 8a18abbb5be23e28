//! `proving blocks`: the last won epochs, with margins, losses and causes, and the last rehearsals.

use clap::Args;
use sealbus_schema::MinerId;
use serde_json::{Value, json};

use crate::{
    cli::{ConfigArg, known::insist_on_miner, print_json, table},
    mining::block::{Rehearsal, Steps, WonBlock},
};

/// Which ones, and how.
#[derive(Debug, Args)]
pub struct Blocks {
    #[command(flatten)]
    config: ConfigArg,
    /// Only this miner's.
    #[arg(long)]
    miner: Option<MinerId>,
    /// How many, the newest first.
    #[arg(long, default_value_t = 20)]
    last: u32,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Blocks {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let store = self.config.store().await?;
        if let Some(miner) = self.miner {
            insist_on_miner(miner, &self.config.load()?, &store).await?;
        }
        let blocks = store.last_blocks(self.miner, self.last).await?;
        let rehearsals = store.last_rehearsals(self.miner, self.last).await?;
        if self.json {
            let blocks: Vec<Value> = blocks.iter().map(describe).collect();
            let rehearsals: Vec<Value> = rehearsals.iter().map(describe_rehearsal).collect();
            return print_json(&json!({ "blocks": blocks, "rehearsals": rehearsals }));
        }
        let rows: Vec<_> = blocks.iter().map(row).collect();
        table::print(&["MINER", "EPOCH", "STATE", "WINS", "READ", "PROVE", "REST", "LEFT", "CAUSE"], &rows);
        if !rehearsals.is_empty() {
            outln!("");
            let rows: Vec<_> = rehearsals.iter().map(rehearsal_row).collect();
            table::print(&["REHEARSED BY", "EPOCH", "SECTOR", "READ", "PROVE", "OF", "CAUSE"], &rows);
        }
        Ok(())
    }
}

fn describe(block: &WonBlock) -> Value {
    json!({
        "miner": block.id.miner, "epoch": block.id.epoch, "state": block.state, "wins": block.wins,
        "sector": block.sector, "base_epoch": block.base_epoch, "cid": block.cid, "steps": block.steps,
        "budget_ms": block.budget_ms, "margin_ms": block.margin_ms, "problem": block.problem, "won_at": block.won_at,
    })
}

fn describe_rehearsal(rehearsal: &Rehearsal) -> Value {
    json!({
        "miner": rehearsal.miner, "epoch": rehearsal.epoch, "sector": rehearsal.sector, "steps": rehearsal.steps,
        "budget_ms": rehearsal.budget_ms, "problem": rehearsal.problem, "at": rehearsal.at,
    })
}

fn row(block: &WonBlock) -> Vec<String> {
    let Steps { read_ms, prove_ms, .. } = block.steps;
    let rest = block.steps.total_ms() - read_ms.unwrap_or_default() - prove_ms.unwrap_or_default();
    vec![
        block.id.miner.to_string(),
        block.id.epoch.to_string(),
        block.state.name().to_owned(),
        block.wins.to_string(),
        secs(read_ms),
        secs(prove_ms),
        secs(Some(rest)),
        block.margin_ms.map_or_else(|| "-".to_owned(), |ms| format!("{:.1} s", ms as f64 / 1000.0)),
        block.problem.clone().unwrap_or_default(),
    ]
}

fn rehearsal_row(rehearsal: &Rehearsal) -> Vec<String> {
    vec![
        rehearsal.miner.to_string(),
        rehearsal.epoch.to_string(),
        rehearsal.sector.to_string(),
        secs(rehearsal.steps.read_ms),
        secs(rehearsal.steps.prove_ms),
        secs(u64::try_from(rehearsal.budget_ms).ok()),
        rehearsal.problem.clone().unwrap_or_default(),
    ]
}

/// Milliseconds in seconds, with one digit after the point.
fn secs(millis: Option<u64>) -> String {
    millis.map_or_else(|| "-".to_owned(), |ms| format!("{:.1} s", ms as f64 / 1000.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mining::block::{BlockId, BlockState};

    #[test]
    fn a_block_shows_its_times_and_what_was_left() {
        let mut block = WonBlock::won(BlockId { miner: MinerId(1000), epoch: 101 }, 2, 100, None);
        block.steps = Steps { base_info_ms: Some(300), read_ms: Some(1200), prove_ms: Some(2500), ..Steps::default() };
        (block.state, block.margin_ms) = (BlockState::Submitted, Some(-1250));
        let shown = ["f01000", "101", "submitted", "2", "1.2 s", "2.5 s", "0.3 s", "-1.2 s", ""];
        assert_eq!(row(&block), shown);
        assert_eq!(describe(&block)["steps"]["prove_ms"], 2500);
        let lost = WonBlock { problem: Some("no worker".to_owned()), margin_ms: None, ..block };
        assert_eq!(row(&lost)[7..], ["-", "no worker"]);
    }
}
