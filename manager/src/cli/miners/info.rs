//! `miners info`: a miner's addresses as the chain has them, and what is pending.

use clap::Args;
use fvm_shared::address::Address;
use sealbus_schema::MinerId;
use serde_json::{Value, json};

use super::super::{ConfigArg, errand::Site, print_json};
use crate::{
    chain::types::MinerInfo,
    errands::{fil::shown, peer::Multiaddr},
};

/// Which miner.
#[derive(Debug, Args)]
pub struct Info {
    #[command(flatten)]
    config: ConfigArg,
    /// The miner, such as f01000.
    miner: MinerId,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Info {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let site = Site::open(&self.config).await?;
        let info = site.miner(self.miner).await?;
        if self.json {
            return print_json(&describe(self.miner, &info));
        }
        outln!("miner {}, sectors of {} bytes, {} a partition", self.miner, info.sector_bytes, info.partition_sectors);
        let MinerInfo { owner, worker, control_addresses, .. } = &info;
        for (role, address) in [("owner", owner), ("worker", worker)]
            .into_iter()
            .chain(control_addresses.iter().map(|address| ("control", address)))
        {
            outln!("  {role:8} {}", key_of(&site, address).await);
        }
        outln!("  sender   {}", key_of(&site, &site.sender(self.miner, &info).await?).await);
        for line in pending(self.miner, &info, site.head.height) {
            outln!("{line}");
        }
        outln!("  peer id  {}", info.peer_id.as_deref().unwrap_or("none"));
        for address in texts(&info) {
            outln!("  address  {address}");
        }
        Ok(())
    }
}

/// An address with its key, and whether somebody here signs for it.
async fn key_of(site: &Site, address: &Address) -> String {
    match site.node.account_key(address, &site.head.key).await {
        Ok(key) if site.signs_for(&key).await.is_ok() => format!("{address} {key}, which can be signed for here"),
        Ok(key) => format!("{address} {key}"),
        Err(_) => format!("{address} (not an account with a key)"),
    }
}

fn pending(miner: MinerId, info: &MinerInfo, head: i64) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(worker) = info.new_worker {
        let from = info.worker_change_epoch;
        let when = if head < from { format!("from epoch {from}") } else { "now".to_owned() };
        lines.push(format!("  next worker {worker}: `miners worker confirm {miner}` {when}"));
    }
    if let Some(owner) = info.pending_owner_address {
        lines.push(format!("  proposed owner {owner}: it confirms with `miners owner confirm {miner}`"));
    }
    if let Some(beneficiary) = info.beneficiary.filter(|beneficiary| *beneficiary != info.owner) {
        let term = info.beneficiary_term.as_ref().map_or(String::new(), |term| {
            let (used, quota) = (shown(&term.used_quota), shown(&term.quota));
            format!(", {used} of {quota} FIL withdrawn, until epoch {}", term.expiration)
        });
        lines.push(format!("  beneficiary {beneficiary}{term}"));
    }
    if let Some(next) = &info.pending_beneficiary_term {
        let by = |approved, who: &str| {
            if approved { format!("approved by the {who}") } else { format!("not yet approved by the {who}") }
        };
        lines.push(format!(
            "  proposed beneficiary {}, for {} FIL until epoch {}: {}, {}",
            next.new_beneficiary,
            shown(&next.new_quota),
            next.new_expiration,
            by(next.approved_by_nominee, "proposed one"),
            by(next.approved_by_beneficiary, "present one")
        ));
    }
    lines
}

fn texts(info: &MinerInfo) -> Vec<String> {
    let text = |bytes: &Vec<u8>| Multiaddr::text(bytes).unwrap_or_else(|| format!("0x{}", hex::encode(bytes)));
    info.multiaddrs.iter().map(text).collect()
}

fn describe(miner: MinerId, info: &MinerInfo) -> Value {
    let text = |address: &Address| address.to_string();
    let term = info.beneficiary_term.as_ref().map(|term| {
        json!({
            "quota_atto": term.quota.atto().to_string(), "used_atto": term.used_quota.atto().to_string(),
            "until": term.expiration,
        })
    });
    let proposed = info.pending_beneficiary_term.as_ref().map(|next| {
        json!({
            "beneficiary": text(&next.new_beneficiary), "quota_atto": next.new_quota.atto().to_string(),
            "until": next.new_expiration, "approved_by_present": next.approved_by_beneficiary,
            "approved_by_proposed": next.approved_by_nominee,
        })
    });
    json!({
        "miner": miner, "owner": text(&info.owner), "worker": text(&info.worker),
        "control": info.control_addresses.iter().map(text).collect::<Vec<_>>(),
        "next_worker": info.new_worker.as_ref().map(text), "worker_change_epoch": info.worker_change_epoch,
        "proposed_owner": info.pending_owner_address.as_ref().map(text),
        "beneficiary": text(&info.beneficiary.unwrap_or(info.owner)), "term": term, "proposed_beneficiary": proposed,
        "sector_bytes": info.sector_bytes, "partition_sectors": info.partition_sectors,
        "peer_id": info.peer_id, "multiaddrs": texts(info),
    })
}
