//! `check --surroundings`: what the manager would need now, and what of it is missing.

use anyhow::bail;
use serde_json::{Value, json};

use super::print_json;
use crate::{
    chain::{NodeClient, RpcClient},
    config::Config,
    preflight,
    proofs::Library,
    waits::{Cause, Subject, advice},
};

/// Looks once, and ends with an error if something is missing.
pub(super) async fn report(config: &Config, as_json: bool) -> anyhow::Result<()> {
    let node = NodeClient::new(RpcClient::new(config.chain.endpoint())?);
    let missing = preflight::everything(&node, config, &Library).await;
    if missing.is_empty() {
        return Ok(());
    }
    if as_json {
        let of_one = |(subject, cause): &(Subject, Cause)| {
            json!({
                "what": subject.to_string(), "class": cause.class, "code": cause.code, "cause": cause.text,
                "advice": advice(&cause.code),
            })
        };
        print_json(&json!({ "good": false, "missing": missing.iter().map(of_one).collect::<Vec<Value>>() }))?;
    } else {
        for (subject, cause) in &missing {
            println!("{subject}  {} {}", cause.class, cause.code);
            println!("  why      {}", cause.text.lines().collect::<Vec<_>>().join(" "));
            println!("  do       {}", advice(&cause.code));
        }
    }
    bail!("the configuration is well-formed; {} thing(s) that it needs are not as they must be", missing.len())
}
