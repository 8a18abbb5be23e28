//! The summary at the end of the demo.

use anyhow::{Context, bail};
use serde_json::{Value, json};

use sealbus_manager::outln;

use crate::cluster::{Cluster, Identity, own_binary};

/// A sector as it is on chain.
pub struct OnChain {
    /// Its name.
    pub id: String,
    activation: i64,
    expiration: i64,
    /// The deadline in which it is proven.
    pub deadline: i64,
    partition: i64,
}

impl OnChain {
    /// Reads a sector from the chain. Fails if it is not active there.
    pub fn read(cluster: &Cluster, sector: &Value) -> anyhow::Result<OnChain> {
        let id = sector["sector"].as_str().context("a sector without a name")?.to_owned();
        let (miner, number) = id.split_once('/').context("a sector's name without a number")?;
        let number: u64 = number.parse()?;
        let head = cluster.call_chain("Filecoin.ChainHead", json!([]))?["Cids"].clone();
        let info = cluster.call_chain("Filecoin.StateSectorGetInfo", json!([miner, number, head]))?;
        if info.is_null() {
            bail!("the chain does not have sector {id}");
        }
        let place = cluster.call_chain("Filecoin.StateSectorPartition", json!([miner, number, head]))?;
        let field = |value: &Value, name: &str| value[name].as_i64().with_context(|| format!("{id}: no {name}"));
        Ok(OnChain {
            activation: field(&info, "Activation")?,
            expiration: field(&info, "Expiration")?,
            deadline: field(&place, "Deadline")?,
            partition: field(&place, "Partition")?,
            id,
        })
    }

    /// Whether a proof is one of its partition, and of a time when that had this sector.
    pub fn is_in(&self, proof: &Value) -> bool {
        let miner = self.id.split_once('/').map(|(miner, _)| miner);
        let is_later = proof["challenge"].as_i64().is_some_and(|challenge| challenge >= self.activation);
        let place = (proof["miner"].as_str(), proof["deadline"].as_i64(), proof["partition"].as_i64());
        is_later && place == (miner, Some(self.deadline), Some(self.partition))
    }
}

/// Prints the result on stdout. `proofs` are the first window PoSts of the sectors' partitions.
pub fn print(cluster: &Cluster, active: &[OnChain], proofs: &[Value]) -> anyhow::Result<()> {
    for (on_chain, proof) in active.iter().zip(proofs) {
        let sector = cluster.sector(&on_chain.id)?;
        outln!();
        outln!("Sector {} is ACTIVE on chain, and proven by window PoSt", on_chain.id);
        outln!(
            "  on chain   since epoch {}, until epoch {}, deadline {}, partition {}",
            on_chain.activation,
            on_chain.expiration,
            on_chain.deadline,
            on_chain.partition
        );
        for file in sector["stored"]["files"].as_array().into_iter().flatten() {
            let path = cluster.store().join(file["path"].as_str().unwrap_or_default());
            outln!("  file       {} ({} bytes)", path.display(), file["bytes"]);
        }
        for (phase, processor, seconds) in phases(&sector) {
            outln!("  phase      {phase:<11} {seconds:>8.3} s  on {processor}");
        }
        let told = &proof["told"];
        let seconds = |ms: &Value| ms.as_f64().unwrap_or_default() / 1000.0;
        outln!(
            "  window PoSt  read in {:.3} s, SNARK {:.3} s on {}",
            seconds(&told["slowest"][1]),
            seconds(&told["prove_ms"]),
            told["prover"].as_str().unwrap_or("-")
        );
        outln!(
            "               deadline open from epoch {} to {}; on chain at epoch {}",
            proof["opens"],
            proof["closes"],
            proof["landed_epoch"]
        );
    }
    let nats = format!(
        "nats --js-api-prefix SEALBUS.API --server {} --nkey {}",
        cluster.nats_url(),
        cluster.nkey_file(Identity::Operator).display()
    );
    let manager = own_binary("sealbus-manager")?.display().to_string();
    outln!();
    outln!(
        "To look at the queues (`make nats-cli` installs `nats` into .tools/bin; run the demo with KEEP=1 so that they stay):"
    );
    outln!("  {nats} stream subjects SEAL_SECTORS");
    outln!("  {nats} consumer report SEAL_INTENTS");
    outln!("  {nats} stream get SEAL_SECTORS 1 --translate '{manager} decode'");
    outln!("To look at the records:");
    let config = cluster.manager_config();
    outln!("  {manager} sectors list --config {}", config.display());
    outln!("  {manager} sectors show {} --config {}", active[0].id, config.display());
    outln!("  {manager} proving history --config {}", config.display());
    Ok(())
}

/// The phases, with the time from their start to the report of their end, both by the NATS server's clock.
fn phases(sector: &Value) -> Vec<(String, String, f64)> {
    let mut open: Option<(String, String, f64)> = None;
    let mut done = Vec::new();
    for entry in sector["history"].as_array().into_iter().flatten() {
        let at = entry["at"].as_str().and_then(seconds);
        match (entry["kind"].as_str(), at) {
            (Some("phase_started"), Some(at)) => {
                let text = |name: &str| entry["detail"][name].as_str().unwrap_or_default().to_owned();
                open = Some((text("phase"), text("processor"), at));
            }
            (
                Some("pieces_added" | "tree_d_built" | "pc1_done" | "pc2_done" | "persisted" | "c1_done" | "c2_done"),
                Some(at),
            ) => {
                if let Some((phase, processor, start)) = open.take() {
                    done.push((phase, processor, at - start));
                }
            }
            _ => {}
        }
    }
    done
}

/// An RFC 3339 time in UTC as seconds since 1970.
fn seconds(text: &str) -> Option<f64> {
    let time = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()?;
    Some(time.unix_timestamp_nanos() as f64 / 1e9)
}
