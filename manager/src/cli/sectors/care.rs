//! What extending, terminating and upgrading sectors have in common: which sectors, the plan, its trial, its messages.

use anyhow::bail;
use clap::Args;
use sealbus_schema::{MinerId, SectorId};
use serde_json::{Value, json};

use super::super::{
    errand::{Asking, Site},
    person::Usage,
    table,
};
use crate::{
    care::{
        LeftOut, Now, OnChain, Plan,
        batch::Verb,
        look::{Look, look},
        order::{Ordered, order},
    },
    chain::expiry::DAY,
    drive::address,
    intents::numbers::Numbers,
};

/// How many sectors that are left out are listed.
const LISTED: usize = 20;

/// The sectors: named, or selected among those of a miner.
#[derive(Debug, Args)]
pub struct Which {
    /// The sectors, such as f01000/42, all of one miner. Without them, those that --miner and its filters select.
    sectors: Vec<SectorId>,
    /// Sectors of this miner: --numbers, --expiring-days or --all says which.
    #[arg(long, conflicts_with = "sectors")]
    miner: Option<MinerId>,
    /// With --miner, those with these numbers, such as 1-100,250.
    #[arg(long, requires = "miner")]
    numbers: Option<Numbers>,
    /// With --miner, those that expire within so many days.
    #[arg(long, requires = "miner", value_name = "DAYS")]
    expiring_days: Option<u32>,
    /// With --miner, all of them.
    #[arg(long, requires = "miner", conflicts_with_all = ["numbers", "expiring_days"])]
    all: bool,
}

impl Which {
    /// The miner that the sectors belong to.
    pub fn miner(&self) -> anyhow::Result<MinerId> {
        let usage = |text: &str| Usage(text.to_owned());
        match (self.miner, self.sectors.first()) {
            (Some(miner), _) if self.numbers.is_some() || self.expiring_days.is_some() || self.all => Ok(miner),
            (Some(_), _) => Err(usage("--miner: say which of its sectors: --numbers, --expiring-days or --all").into()),
            (None, Some(first)) if self.sectors.iter().all(|sector| sector.miner == first.miner) => Ok(first.miner),
            (None, Some(_)) => Err(usage("sectors of several miners: order them for one miner at a time").into()),
            (None, None) => Err(usage("name sectors, such as f01000/42, or select some: --miner --numbers …").into()),
        }
    }

    /// Reads the sectors. Named ones that do not exist are left out with their reason.
    async fn look(&self, site: &Site, miner: MinerId) -> anyhow::Result<(Look, Vec<LeftOut>)> {
        let named: Vec<u64> = self.sectors.iter().map(|sector| sector.number.0).collect();
        let wanted = |number: u64| match (&self.numbers, named.as_slice()) {
            (Some(numbers), _) => numbers.contains(number),
            (None, []) => true,
            (None, named) => named.contains(&number),
        };
        let mut look = look(&site.node, &address(miner), wanted).await?;
        if let Some(days) = self.expiring_days {
            let before = look.now.head + i64::from(days) * DAY;
            look.sectors.retain(|sector| sector.info.expiration < before);
        }
        let missing = look.missing(&named);
        Ok((look, missing))
    }
}

/// Plans, tries and prices messages about sectors, and asks for them.
pub async fn carry_out(
    which: Which,
    asking: Asking,
    verb: (Verb, &str),
    plan: impl Fn(&[OnChain], &Now) -> anyhow::Result<Plan>,
) -> anyhow::Result<()> {
    let (verb, name) = verb;
    let miner = which.miner()?;
    let site = asking.site().await?;
    let info = site.miner(miner).await?;
    let (look, mut left_out) = which.look(&site, miner).await?;
    let plan = plan(&look.sectors, &look.now)?;
    let sender = site.sender(miner, &info).await?;
    let Ordered { drafts, left_out: unfit } = order(&site.node, miner, sender, verb, &look, plan).await?;
    left_out.extend(unfit);
    show(miner, &left_out, asking.json());
    if drafts.is_empty() && !left_out.is_empty() && !asking.json() {
        bail!("no sector of {miner} is left for `{name}`");
    }
    asking.carry_out(&site, name, drafts, notes(miner, &left_out)).await
}

fn notes(miner: MinerId, left_out: &[LeftOut]) -> Value {
    let of = |left: &LeftOut| json!({ "sector": format!("{miner}/{}", left.sector), "why": left.why.to_string() });
    json!({ "left_out": left_out.iter().map(of).collect::<Vec<_>>() })
}

/// Shows which sectors are left out, and why.
fn show(miner: MinerId, left_out: &[LeftOut], as_json: bool) {
    if as_json || left_out.is_empty() {
        return;
    }
    let row = |left: &LeftOut| vec![format!("{miner}/{}", left.sector), left.why.to_string()];
    let rows: Vec<Vec<String>> = left_out.iter().take(LISTED).map(row).collect();
    err!("{}", table::render(&["LEFT OUT", "WHY"], &rows));
    if left_out.len() > LISTED {
        errln!("and {} more (--json has all of them)", left_out.len() - LISTED);
    }
}
