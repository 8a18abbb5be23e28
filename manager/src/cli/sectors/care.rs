//! What extending, terminating and upgrading sectors have in common: which sectors, the plan, its trial, its messages.

use std::collections::BTreeMap;

use anyhow::bail;
use clap::Args;
use fvm_shared::{address::Address, econ::TokenAmount};
use sealbus_schema::{MinerId, SectorId};
use serde_json::{Value, json};

use super::super::{
    errand::{Asking, Site},
    person::Usage,
    table,
};
use crate::{
    care::{
        Declared, LeftOut, Now, OnChain, Plan,
        batch::{self, Verb},
        look::{Look, look},
        terminate,
        trial::{Call, settle},
        upgrade,
    },
    chain::{
        commitment::sealed_cid,
        expiry::{DAY, LIFETIME_MIN},
        params::SectorPreCommitInfo,
    },
    drive::address,
    errands::{Draft, sectors::of_batch},
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
    let Plan { declared, left_out: unfit } = plan(&look.sectors, &look.now)?;
    left_out.extend(unfit);
    let sender = site.sender(miner, &info).await?;
    let prices = Prices::of(&site, miner, verb, &look).await?;
    let call = Call { from: site.node.account_key(&sender, &look.head.key).await?, miner: address(miner), verb };
    let value = |declared: &[Declared]| prices.debt.clone() + batch::value(declared, |sector| prices.carried(sector));
    let batches = batch::batches(verb, declared)?;
    let settled = settle(&site.node, &look.head.key, call, batches, value).await?;
    left_out.extend(settled.left_out);
    let drafts = prices.drafts(miner, sender, verb, &settled.batches)?;
    show(miner, &left_out, asking.json());
    if drafts.is_empty() && !left_out.is_empty() && !asking.json() {
        bail!("no sector of {miner} is left for `{name}`");
    }
    asking.carry_out(&site, name, drafts, notes(miner, &left_out)).await
}

/// What each sector adds to a message's value, and what the chain takes for it.
struct Prices {
    carried: BTreeMap<u64, TokenAmount>,
    costs: Option<BTreeMap<u64, TokenAmount>>,
    /// What the miner owes, which must be paid before its sectors are upgraded.
    debt: TokenAmount,
}

impl Prices {
    async fn of(site: &Site, miner: MinerId, verb: Verb, look: &Look) -> anyhow::Result<Prices> {
        let mut prices = Prices { carried: BTreeMap::new(), costs: None, debt: TokenAmount::default() };
        let (node, tipset) = (&site.node, &look.head.key);
        match verb {
            Verb::Extend => {}
            Verb::Upgrade => {
                let bytes = look.info.sector_bytes;
                // The pledge at tenfold quality does not depend on the duration.
                let full = node.initial_pledge_for_sector(LIFETIME_MIN, bytes, bytes, tipset).await?;
                let carried = |sector: &OnChain| (sector.info.sector_number, upgrade::top_up(&sector.info, &full));
                prices.carried = look.sectors.iter().map(carried).collect();
                let available = node.available_balance(&address(miner), tipset).await?;
                prices.debt = (TokenAmount::default() - available).max(TokenAmount::default());
            }
            Verb::Terminate => {
                let deposit = deposit(site, miner, look).await?;
                let fee = |sector: &OnChain| (sector.info.sector_number, terminate::fee(sector, &look.now, &deposit));
                prices.costs = Some(look.sectors.iter().map(fee).collect());
            }
        }
        Ok(prices)
    }

    fn carried(&self, sector: u64) -> TokenAmount {
        self.carried.get(&sector).cloned().unwrap_or_default()
    }

    fn drafts(
        &self,
        miner: MinerId,
        sender: Address,
        verb: Verb,
        batches: &[batch::Batch],
    ) -> anyhow::Result<Vec<Draft>> {
        let mut drafts = Vec::with_capacity(batches.len());
        for batch in batches {
            let mut value = batch::value(&batch.declared, |sector| self.carried(sector));
            if drafts.is_empty() {
                value += &self.debt;
            }
            let of = |costs: &BTreeMap<u64, TokenAmount>| {
                batch::value(&batch.declared, |sector| costs.get(&sector).cloned().unwrap_or_default())
            };
            drafts.push(of_batch(miner, sender, verb, batch, value, self.costs.as_ref().map(of))?);
        }
        Ok(drafts)
    }
}

/// The deposit of a PreCommit, from which the expected reward follows.
async fn deposit(site: &Site, miner: MinerId, look: &Look) -> anyhow::Result<TokenAmount> {
    let Some(sector) = look.sectors.first() else { return Ok(TokenAmount::default()) };
    let info = SectorPreCommitInfo {
        seal_proof: sector.info.seal_proof.into(),
        sector_number: 0,
        sealed_cid: sealed_cid(&[0; 32])?,
        seal_rand_epoch: look.now.head,
        deal_ids: Vec::new(),
        expiration: look.now.head + 2 * LIFETIME_MIN,
        unsealed_cid: None,
    };
    Ok(site.node.pre_commit_deposit_for_power(&address(miner), &info, &look.head.key).await?)
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
