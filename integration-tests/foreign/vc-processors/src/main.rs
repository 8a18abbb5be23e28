//! `<executable> processor <stage>`: serves a stage with the published crate `vc-processors`, started as damocles does.

use anyhow::{bail, Result};
use vc_processors::builtin::processors::BuiltinProcessor;
use vc_processors::builtin::tasks::{TreeD, C2, PC1, PC2};
use vc_processors::core::ext::run_consumer;

fn main() -> Result<()> {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter).init();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["processor", "tree_d"] => run_consumer::<TreeD, BuiltinProcessor>(),
        ["processor", "pc1"] => run_consumer::<PC1, BuiltinProcessor>(),
        ["processor", "pc2"] => run_consumer::<PC2, BuiltinProcessor>(),
        ["processor", "c2"] => run_consumer::<C2, BuiltinProcessor>(),
        _ => bail!("started with {arguments:?}, not as damocles starts it"),
    }
}
