//! `sealbus-scripted-processor <phase> <control directory>`: see `scripted::processor`.

use std::path::PathBuf;

use clap::Parser;
use sealbus_integration_tests::scripted::{control::Control, processor};
use sealbus_schema::Phase;

/// A processor that answers at once, waits where it is told to, and can be killed at any point.
#[derive(Debug, Parser)]
struct Arguments {
    /// The phase that it serves.
    phase: Phase,
    /// The directory through which a test controls it.
    control: PathBuf,
    /// For `c2`: the sector's other phases are the real ones.
    #[arg(long)]
    real_replicas: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    processor::serve(arguments.phase, Control::new(arguments.control), arguments.real_replicas)
}
