//! `sealbus-manager`. See the library for its parts.

use std::process::ExitCode;

use clap::Parser;
use sealbus_manager::{
    cli::{self, Cli},
    errln, out,
};
use tracing_subscriber::EnvFilter;

#[tokio::main]
async fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Requested help, or an error in the command line.
        Err(told) => return out::told(&told),
    };
    out::start_log(EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(cli.default_log_filter())));
    let code = match cli::main(cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Every cause on its own line, except those that repeat the one before.
            let mut last = error.to_string();
            errln!("error: {last}");
            for cause in error.chain().skip(1).map(ToString::to_string) {
                if !last.contains(&cause) {
                    errln!("  because: {cause}");
                }
                last = cause;
            }
            ExitCode::from(cli::exit_code(&error))
        }
    };
    out::finish(code)
}
