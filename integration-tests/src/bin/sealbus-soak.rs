//! `sealbus-soak`: see `scripted::soak`. `make soak` runs it.

use std::{
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::Parser;
use sealbus_integration_tests::scripted::{soak::Soak, world};
use sealbus_manager::{errln, out, outln};

/// Kills workers, processors, managers and NATS servers until every sector is active.
#[derive(Debug, Parser)]
struct Arguments {
    /// The number of workers.
    #[arg(long, default_value_t = 200)]
    workers: usize,
    /// The number of sectors.
    #[arg(long, default_value_t = 5000)]
    sectors: usize,
    /// The seed of the faults; a random one by default.
    #[arg(long)]
    seed: Option<u64>,
    /// After how many minutes the soak counts as stuck.
    #[arg(long, default_value_t = 60)]
    minutes: u64,
}

fn main() -> ExitCode {
    let code = match soak() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            errln!("Error: {error:?}");
            ExitCode::FAILURE
        }
    };
    out::finish(code)
}

fn soak() -> anyhow::Result<()> {
    let Arguments { workers, sectors, seed, minutes } = Arguments::parse();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    let limit = Duration::from_secs(minutes * 60);
    let soak = Soak { workers, sectors, seed: seed.unwrap_or(now), limit, tell: true };
    let dir = world::directory()?;
    errln!("soak: seed {}, in {}", soak.seed, dir.path().display());
    let report = soak.run(dir.path())?;
    outln!("{report}");
    report.check()
}
