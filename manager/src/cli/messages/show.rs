//! `messages show`: one message in full.

use anyhow::bail;
use clap::Args;
use fvm_shared::econ::TokenAmount;
use serde_json::json;

use super::{
    super::{ConfigArg, fleet::counted, print_json, table},
    describe, fil,
};
use crate::{
    chain::{
        cost::{Batch, Cost},
        message::SignedMessage,
        params::ProveCommitSectors3Params,
    },
    store::{CallId, CallRow, MessageKind},
};

/// Which message to show.
#[derive(Debug, Args)]
pub struct Show {
    #[command(flatten)]
    config: ConfigArg,
    /// The message's number, as `messages list` shows it, or the CID of one of its envelopes.
    message: String,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What a message of many sectors costs, and what as many messages of one sector would have cost, by the model of
/// [`crate::chain::cost`].
struct Saved {
    sectors: usize,
    is_aggregate: bool,
    together: Cost,
    singly: Cost,
}

impl Show {
    pub(in crate::cli) async fn run(self) -> anyhow::Result<()> {
        let store = self.config.store().await?;
        let found = match self.message.parse() {
            Ok(id) => store.call(CallId(id)).await?,
            Err(_) => store.call_of_cid(&self.message).await?,
        };
        let Some(call) = found else {
            bail!("there is no message {}; `messages list --all` shows all", self.message);
        };
        let signed = call.envelope.as_ref().map(|(_, bytes)| SignedMessage::from_bytes(bytes)).transpose()?;
        let saved = signed.as_ref().and_then(|signed| Saved::of(&call, signed));
        if self.json {
            let mut value = describe(&call)?;
            value["saved"] = json!(saved.as_ref().map(|saved| json!({
                "sectors": saved.sectors, "aggregate": saved.is_aggregate,
                "bytes": saved.together.bytes, "gas": saved.together.gas,
                "bytes_singly": saved.singly.bytes, "gas_singly": saved.singly.gas,
            })));
            return print_json(&value);
        }
        outln!("message {}, {} of {}: {}", call.id.0, call.kind.name(), call.miner, call.state);
        let (fixed, sent) = match (&call.nonce, &call.uid) {
            (_, Some(uid)) => {
                let nonce = signed.as_ref().map(|signed| format!(", with nonce {}", signed.message().sequence));
                outln!("  the messager sends it from {}{}", call.sender, nonce.unwrap_or_default());
                outln!("  its id there: {uid}");
                ("stored", "handed over")
            }
            (nonce, None) => {
                outln!("  nonce {} of {}", nonce.unwrap_or_default(), call.sender);
                ("signed", "pushed")
            }
        };
        for (what, epoch) in [(fixed, call.signed_epoch), (sent, call.pushed_epoch), ("landed", call.landed_epoch)] {
            if let Some(epoch) = epoch {
                outln!("  {what} at epoch {epoch}");
            }
        }
        if let (Some((cid, bytes)), Some(signed)) = (&call.envelope, &signed) {
            let sent = signed.message();
            outln!("  {cid}, {} bytes, envelope {} of {}", bytes.len(), call.envelopes, call.envelopes);
            outln!("  method {} of {}, carries {} FIL", sent.method_num, sent.to, sent.value);
            let most = sent.gas_fee_cap.clone() * sent.gas_limit;
            outln!(
                "  at most {most} FIL for gas: {} units, {} attoFIL each, of which {} for the block's miner",
                sent.gas_limit,
                sent.gas_fee_cap.atto(),
                sent.gas_premium.atto()
            );
            if let Some(saved) = &saved {
                saved.print(&sent.gas_premium, &(sent.gas_fee_cap.clone() - &sent.gas_premium));
            }
        }
        if let Some(error) = &call.error {
            outln!("  {error}");
        }
        if !call.sectors.is_empty() {
            let row = |sector: &crate::store::CarriedSector| {
                vec![sector.id.to_string(), sector.state.clone(), sector.error.clone().unwrap_or_default()]
            };
            table::print(&["SECTOR", "STATE", "WHY"], &call.sectors.iter().map(row).collect::<Vec<_>>());
        }
        Ok(())
    }
}

impl Saved {
    /// `None` if it carries one sector or none.
    fn of(call: &CallRow, signed: &SignedMessage) -> Option<Saved> {
        let sectors = call.sectors.len();
        let proof = call.sectors.first().filter(|_| sectors > 1)?.proof;
        let (batch, single) = match call.kind {
            MessageKind::PreCommit => (Batch::PreCommits, Batch::PreCommits),
            MessageKind::ProveCommit => {
                let params: ProveCommitSectors3Params = signed.message().params.deserialize().ok()?;
                let is_aggregate = params.aggregate_proof_type.is_some();
                (if is_aggregate { Batch::Aggregate } else { Batch::Singles }, Batch::Singles)
            }
            MessageKind::Filler | MessageKind::Errand => return None,
        };
        let one = single.message(1, proof);
        Some(Saved {
            sectors,
            is_aggregate: batch == Batch::Aggregate,
            together: batch.message(sectors, proof),
            singly: Cost { messages: sectors, bytes: one.bytes * sectors, gas: one.gas * sectors as u64 },
        })
    }

    fn print(&self, premium: &TokenAmount, base_fee: &TokenAmount) {
        let of = |cost: &Cost| {
            let each = (cost.fee(base_fee, premium)).div_floor(self.sectors as u64);
            let (bytes, gas) = (cost.bytes / self.sectors, cost.gas / self.sectors as u64);
            format!("{bytes} bytes, {gas} gas, {} FIL", fil(&each.atto().to_string()))
        };
        let how = if self.is_aggregate { "with one aggregate" } else { "in one message" };
        outln!("  {} {how}, a sector by the model: {}", counted(self.sectors as u64, "sector"), of(&self.together));
        outln!("  each in its own message it would be: {}", of(&self.singly));
    }
}
