//! `sealbus-demo`: see `make demo`.

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use clap::Parser;
use sealbus_integration_tests::demo::Demo;
use sealbus_manager::{errln, out};

/// Seals real sectors on one machine: NATS, a test chain, the manager and a worker, each in its own process.
#[derive(Debug, Parser)]
struct Arguments {
    /// The number of sectors to seal.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    sectors: u32,
    /// The number of slots of the worker, which is how many sectors it works on at the same time.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=16))]
    slots: u32,
    /// The directory for everything. It is cleared at each start.
    #[arg(long, default_value = ".demo")]
    root: PathBuf,
    /// Leave everything running at the end.
    #[arg(long)]
    keep: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // A second signal ends the process at once, whatever it is doing.
        let armed = stop.clone();
        if let Err(error) = signal_hook::flag::register_conditional_shutdown(signal, 130, armed)
            .and_then(|_| signal_hook::flag::register(signal, stop.clone()))
        {
            errln!("demo: cannot listen for signals: {error}");
            return ExitCode::FAILURE;
        }
    }
    let demo = Demo {
        sectors: arguments.sectors as usize,
        slots: arguments.slots as usize,
        root: arguments.root,
        keep: arguments.keep,
    };
    let code = match demo.run(&stop) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if stop.load(Ordering::Relaxed) => {
            errln!("demo: interrupted; everything that was started has been ended");
            ExitCode::from(130)
        }
        Err(error) => {
            errln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    };
    out::finish(code)
}
