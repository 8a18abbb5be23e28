//! `sealbus-manager`: see the library for what it is made of.

use std::io::IsTerminal;

use clap::Parser;
use sealbus_manager::cli::{self, Cli};
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(cli.default_log_filter()));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    match cli::main(cli).await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            // Every cause on a line of its own, without those that repeat the one before.
            let mut last = error.to_string();
            eprintln!("error: {last}");
            for cause in error.chain().skip(1).map(ToString::to_string) {
                if !last.contains(&cause) {
                    eprintln!("  because: {cause}");
                }
                last = cause;
            }
            match error.downcast_ref::<cli::Usage>() {
                Some(_) => std::process::ExitCode::from(2),
                None => std::process::ExitCode::FAILURE,
            }
        }
    }
}
