//! The `sealbus-worker` executable.

mod cli;

use clap::Parser;

fn main() -> std::process::ExitCode {
    match cli::Arguments::try_parse() {
        Ok(arguments) => arguments.execute(),
        // Either the requested help, or an error in the command line.
        Err(told) => cli::told(&told),
    }
}
