//! A JSON-RPC call to the devnet.

use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};

/// Calls a method at `host:port` and returns its result.
pub fn call(address: &str, token: &str, method: &str, params: Value) -> anyhow::Result<Value> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer: Value = runtime
        .block_on(async {
            let client = reqwest::Client::builder().timeout(Duration::from_secs(30)).build()?;
            let request = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
            let answer =
                client.post(format!("http://{address}/rpc/v1")).bearer_auth(token).json(&request).send().await?;
            answer.json().await
        })
        .with_context(|| format!("cannot call {method} at {address}"))?;
    if let Some(error) = answer.get("error").filter(|error| !error.is_null()) {
        bail!("{method} at {address}: {error}");
    }
    Ok(answer["result"].clone())
}
