//! `sealbus-sim`: runs simulated worlds, or replays one.

use std::{process::ExitCode, time::Instant};

use clap::Parser;
use sealbus_integration_tests::sim::{
    batches::Counts,
    restore::Restorations,
    run::{Options, Report, many, one},
};
use sealbus_manager::{out, outln};

/// Runs simulated worlds. A world that fails is replayed with a trace, and its seed printed.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Arguments {
    /// How many worlds to run.
    #[arg(long, default_value_t = 10_000, value_name = "COUNT")]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0, value_name = "SEED")]
    from: u64,
    /// Replay one world and print what happens in it.
    #[arg(long, value_name = "SEED", conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// How many worlds run side by side; one a core if not given.
    #[arg(long, value_name = "COUNT")]
    threads: Option<usize>,
}

fn main() -> ExitCode {
    out::finish(simulate())
}

fn simulate() -> ExitCode {
    let arguments = Arguments::parse();
    let options = Options::default();
    if let Some(seed) = arguments.seed {
        return told(&one(seed, Options { trace: true, ..options }));
    }
    let threads = arguments.threads.or_else(|| std::thread::available_parallelism().ok().map(usize::from)).unwrap_or(1);
    let started = Instant::now();
    let summary = many(arguments.from..arguments.from.saturating_add(arguments.seeds), threads, options);
    let seconds = started.elapsed().as_secs_f64();
    outln!(
        "{} worlds in {seconds:.1} s ({:.0}/s), {} events; sectors: {} prove, {} blocked or given up",
        summary.worlds,
        summary.worlds as f64 / seconds,
        summary.events,
        summary.ends.0,
        summary.ends.1
    );
    let Counts { worlds, messages, sectors, failed, withdrawn, forks } = summary.batches;
    outln!(
        "messages of many sectors: {messages} with {sectors} sectors in {worlds} worlds; {failed} seen to fail as a whole, \
         {withdrawn} withdrawn, {forks} reorganisations during their lives"
    );
    let Restorations { times, decisions, sectors, cuts, ends: (under_way, active) } = summary.restorations;
    outln!(
        "databases restored from a backup: {times}; {decisions} decisions and {sectors} sectors found in log and queue; of \
         {under_way} sectors that were under way {active} are active; sites cut off for an hour: {cuts}"
    );
    match summary.failed {
        Some(report) => told(&one(report.seed, Options { trace: true, ..options })),
        None => ExitCode::SUCCESS,
    }
}

fn told(report: &Report) -> ExitCode {
    for line in &report.trace {
        outln!("{line}");
    }
    match &report.broken {
        Some((invariant, what)) => {
            outln!("seed {}: invariant {invariant} does not hold: {what}", report.seed);
            outln!("replay it with: sealbus-sim --seed {}", report.seed);
            ExitCode::FAILURE
        }
        None => {
            outln!("seed {}: everything holds ({} events)", report.seed, report.events);
            ExitCode::SUCCESS
        }
    }
}
