//! `sealbus-worker calc`: the throughput of given processors, times and slots.

use std::collections::BTreeMap;

use sealbus_planner::{
    calc::{self, Offer, Request, Slots, Waits},
    units::{UnitError, parse_time_ms},
};
use sealbus_schema::Phase;
use sealbus_worker::out;

/// Arguments of `calc`.
#[derive(Debug, clap::Args)]
pub struct CalcArguments {
    /// The number of slots, or a range such as 4-16 for one row each.
    #[arg(long, value_name = "N")]
    slots: Slots,
    #[command(flatten)]
    phases: PhaseOffers,
    /// How many requests may hold the lock that is named after @, such as gpu=1.
    #[arg(long = "lock", value_name = "NAME=N", value_parser = lock)]
    locks: Vec<(String, usize)>,
    /// The shortest time between two starts of a phase, such as pc1=5m.
    #[arg(long, value_name = "STAGE=TIME", value_parser = stage_time)]
    staggered: Vec<(Phase, u64)>,
    /// The time from the end of PC2 until the PreCommit has landed.
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = time)]
    precommit: u64,
    /// The time from then until the seed is available; the transfer takes place meanwhile.
    #[arg(long, value_name = "TIME", default_value = "80m", value_parser = time)]
    seed: u64,
    /// The time from the end of C2 until the ProveCommit has landed.
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = time)]
    prove: u64,
    /// Print comma-separated values, with times in seconds.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The processors of each phase. Repeat an option for processors of another kind. An omitted phase takes no time.
#[derive(Debug, clap::Args)]
struct PhaseOffers {
    /// As for --pc1.
    #[arg(long, value_name = "COUNTxTIME[@LOCK,…]")]
    add_pieces: Vec<Offer>,
    /// As for --pc1.
    #[arg(long, value_name = "COUNTxTIME[@LOCK,…]")]
    tree_d: Vec<Offer>,
    /// How many run at the same time and how long each takes, such as 4x3h. Repeat it for processors of another speed.
    #[arg(long, value_name = "COUNTxTIME[@LOCK,…]")]
    pc1: Vec<Offer>,
    /// As for --pc1; with 1x10m@gpu a request holds the lock gpu while it runs.
    #[arg(long, value_name = "COUNTxTIME[@LOCK,…]")]
    pc2: Vec<Offer>,
    /// As for --pc1.
    #[arg(long, value_name = "COUNTxTIME[@LOCK,…]")]
    transfer: Vec<Offer>,
    /// As for --pc1.
    #[arg(long, value_name = "COUNTxTIME[@LOCK,…]")]
    c1: Vec<Offer>,
    /// As for --pc2.
    #[arg(long, value_name = "COUNTxTIME[@LOCK,…]")]
    c2: Vec<Offer>,
}

impl CalcArguments {
    /// Runs the command.
    pub fn run(self) -> anyhow::Result<()> {
        let request = Request {
            slots: self.slots,
            phases: self.phases.in_order(),
            locks: self.locks.into_iter().collect(),
            staggered_ms: self.staggered.into_iter().collect::<BTreeMap<_, _>>(),
            waits: Waits { precommit_ms: self.precommit, seed_ms: self.seed, prove_ms: self.prove },
        };
        let rows = calc::calculate(&request)?;
        Ok(match (self.json, self.csv) {
            (true, _) => out::json(&serde_json::to_string_pretty(&rows)?),
            (_, true) => out::print(&calc::csv(&rows)),
            _ => out::print(&calc::table(&rows)),
        }?)
    }
}

impl PhaseOffers {
    fn in_order(self) -> Vec<(Phase, Offer)> {
        let each = [
            (Phase::AddPieces, self.add_pieces),
            (Phase::TreeD, self.tree_d),
            (Phase::Pc1, self.pc1),
            (Phase::Pc2, self.pc2),
            (Phase::Transfer, self.transfer),
            (Phase::C1, self.c1),
            (Phase::C2, self.c2),
        ];
        each.into_iter().flat_map(|(phase, offers)| offers.into_iter().map(move |offer| (phase, offer))).collect()
    }
}

fn time(text: &str) -> Result<u64, UnitError> {
    parse_time_ms(text)
}

fn lock(text: &str) -> Result<(String, usize), String> {
    let (name, count) = text.split_once('=').ok_or("write NAME=N, such as gpu=1")?;
    let count = count.parse().map_err(|_| format!("{count:?} is not a number"))?;
    match name.is_empty() || !(1..=calc::SLOTS_MAX).contains(&count) {
        true => Err(format!("a lock needs a name, and 1 to {} holders", calc::SLOTS_MAX)),
        false => Ok((name.to_owned(), count)),
    }
}

fn stage_time(text: &str) -> Result<(Phase, u64), String> {
    let (stage, time) = text.split_once('=').ok_or("write STAGE=TIME, such as pc1=5m")?;
    let stage: Phase = stage.parse().map_err(|error| format!("{error}"))?;
    Ok((stage, parse_time_ms(time).map_err(|error| error.to_string())?))
}
