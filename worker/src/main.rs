//! The `sealbus-worker` executable.

mod cli;

use clap::Parser;

fn main() -> std::process::ExitCode {
    match cli::Arguments::try_parse() {
        Ok(arguments) => arguments.execute(),
        // The help that was asked for, or what is wrong with the command line.
        Err(told) => cli::told(&told),
    }
}
