//! The `sealbus-worker` executable.

mod cli;

use clap::Parser;

fn main() -> std::process::ExitCode {
    cli::Arguments::parse().execute()
}
