//! `miners weight`: how the miners share the workers, until it is changed again.

use clap::Args;
use sealbus_schema::{
    MinerId,
    message::{MAX_WEIGHT, Weights},
};
use serde_json::{Value, json};

use super::{
    super::{ConfigArg, known::insist_on_configured, person::By, print_json, table},
    percent,
};
use crate::{
    config::{Config, Miner},
    store::AuditEntry,
    weights,
};

/// The miner and its weight.
#[derive(Debug, Args)]
pub struct Weight {
    #[command(flatten)]
    config: ConfigArg,
    /// The miner, such as f01000.
    miner: MinerId,
    /// The weight, 0 to 1000. With 0 the miner gets new sectors only while no other miner has any.
    #[arg(required_unless_present = "configured", allow_negative_numbers = true, value_parser = weight)]
    weight: Option<u32>,
    /// Go back to the weight in the configuration.
    #[arg(long, conflicts_with = "weight")]
    configured: bool,
    /// Only show what would change.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    by: By,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Weight {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let config = self.config.load()?;
        insist_on_configured(self.miner, &config)?;
        let store = self.config.store().await?;
        let ordered = store.ordered_weights().await?;
        let before = weights::in_force(&config.miners, &ordered);
        let mut then = ordered.clone();
        match self.weight {
            Some(weight) => then.insert(self.miner, weight),
            None => then.remove(&self.miner),
        };
        let after = weights::in_force(&config.miners, &then);
        if !self.dry_run && then != ordered {
            let person = self.by.person();
            let mut tx = store.begin_order().await?;
            tx.order_weight(self.miner, self.weight, &person.name).await?;
            let (weight, was) = (after.of(self.miner), before.of(self.miner));
            let detail = json!({ "weight": weight, "was": was, "configured": self.configured });
            let target = self.miner.to_string();
            tx.add_audit(&AuditEntry::new(&person.name, "miners weight", target, &person.why, detail)).await?;
            tx.commit().await?;
        }
        warn(self.miner, &config, &after);
        if self.json {
            let values = config.miners.iter().map(|miner| describe(miner, &config, &before, &after));
            return print_json(&values.collect::<Vec<_>>());
        }
        let rows: Vec<Vec<String>> = config.miners.iter().map(|miner| row(miner, &config, &before, &after)).collect();
        table::print(&["MINER", "WEIGHT", "SHARE"], &rows);
        if self.dry_run {
            outln!("nothing was changed");
        } else {
            outln!("  workers follow as soon as a running manager has told them; what they have in work goes on");
        }
        Ok(())
    }
}

/// Says what a weight does that may not be meant.
fn warn(miner: MinerId, config: &Config, after: &Weights) {
    if config.miners.len() == 1 {
        errln!("note: {miner} is the only configured miner, so its weight has no effect");
    } else if config.miners.iter().all(|miner| after.of(miner.id) == 0) {
        errln!("note: every miner has weight 0, so they share equally");
    } else if after.of(miner) == 0 {
        errln!(
            "note: {miner} gets new sectors only while no other miner has any. To give it none at all, cancel its pledges \
             (`pledges cancel`) and set its keep_queued to 0"
        );
    }
}

fn row(miner: &Miner, config: &Config, before: &Weights, after: &Weights) -> Vec<String> {
    let change = |before: String, after: String| if before == after { after } else { format!("{before} -> {after}") };
    let part = |weights: &Weights| percent(weights::parts(&config.miners, weights)[&miner.id]);
    let weight = |weights: &Weights| weights.of(miner.id).to_string();
    vec![miner.id.to_string(), change(weight(before), weight(after)), change(part(before), part(after))]
}

fn describe(miner: &Miner, config: &Config, before: &Weights, after: &Weights) -> Value {
    let part = |weights: &Weights| weights::parts(&config.miners, weights)[&miner.id];
    json!({
        "miner": miner.id,
        "weight": after.of(miner.id), "share": part(after),
        "weight_before": before.of(miner.id), "share_before": part(before),
    })
}

fn weight(text: &str) -> Result<u32, String> {
    let weight = text.parse().ok().filter(|weight| *weight <= MAX_WEIGHT);
    weight.ok_or_else(|| format!("a weight is a whole number from 0 to {MAX_WEIGHT}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_is_a_whole_number_up_to_the_largest() {
        assert_eq!(["0", "3", "1000"].map(weight), [Ok(0), Ok(3), Ok(1000)]);
        for bad in ["-1", "1001", "1.5", "three", "", "4294967296", "99999999999999999999"] {
            assert!(weight(bad).is_err_and(|error| error.contains("0 to 1000")), "{bad}");
        }
    }
}
