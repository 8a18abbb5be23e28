//! `funds`: what each miner and its addresses have, what is locked, what vests when, and what the sectors on their way
//! need.

use std::collections::BTreeMap;

use anyhow::Context;
use clap::Args;
use fvm_shared::{address::Address, econ::TokenAmount};
use sealbus_schema::MinerId;
use serde_json::{Value, json};

use super::{ConfigArg, errand::Site, known::insist_on_configured, print_json, table};
use crate::{
    chain::{
        expiry::LIFETIME_MIN,
        network::pledge_verified_bytes,
        types::{MinerFunds, MinerInfo},
    },
    config::Miner,
    drive::address,
    errands::{
        fil::shown,
        forecast::{Needs, Price, needs, weeks},
    },
};

/// Whose funds.
#[derive(Debug, Args)]
pub struct Funds {
    #[command(flatten)]
    config: ConfigArg,
    /// Only this miner.
    #[arg(long)]
    miner: Option<MinerId>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// An address of a miner with its balance.
struct Purse {
    roles: Vec<&'static str>,
    id: Address,
    key: Option<Address>,
    balance: TokenAmount,
}

/// What there is of a miner.
struct Found {
    miner: MinerId,
    purses: Vec<Purse>,
    funds: MinerFunds,
    available: TokenAmount,
    /// What is unlocked, by week and later.
    vesting: (Vec<TokenAmount>, TokenAmount),
    needs: Needs,
    /// What the sender has for it.
    sender_has: TokenAmount,
}

impl Funds {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let site = Site::open(&self.config).await?;
        if let Some(miner) = self.miner {
            insist_on_configured(miner, &site.config)?;
        }
        let wanted = |miner: &&Miner| self.miner.is_none_or(|id| miner.id == id);
        let mut all = Vec::new();
        for miner in site.config.miners.iter().filter(wanted) {
            all.push(look(&site, miner).await.with_context(|| format!("cannot look at the funds of {}", miner.id))?);
        }
        if self.json {
            return print_json(&all.iter().map(describe).collect::<Vec<_>>());
        }
        if all.is_empty() {
            outln!("no miner is configured");
        }
        all.iter().for_each(show);
        Ok(())
    }
}

async fn look(site: &Site, miner: &Miner) -> anyhow::Result<Found> {
    let info = site.miner(miner.id).await?;
    let (node, tipset, actor) = (&site.node, &site.head.key, address(miner.id));
    let sender = site.sender(miner.id, &info).await?;
    let purses = purses(site, &info, &sender).await?;
    let sender_id = node.lookup_id(&sender, tipset).await?;
    let sender_has = purses.iter().find(|purse| purse.id == sender_id).map(|purse| purse.balance.clone());
    let funds = node.miner_funds(&actor, tipset).await?;
    let vesting = node.vesting(&funds).await?;
    let proof = miner.sector_size.seal_proof();
    let bytes = info.sector_bytes;
    let version = node.network_version(tipset).await?;
    let pledge_for = pledge_verified_bytes(version, bytes, 0);
    let price = Price {
        deposit: node.deposit_of(&actor, proof.number(), &site.head).await?,
        pledge: node.initial_pledge_for_sector(LIFETIME_MIN, bytes, pledge_for, tipset).await?,
        base_fee: site.head.base_fee().cloned().unwrap_or_default(),
    };
    let states: BTreeMap<String, u64> = site.store.states_of(miner.id).await?;
    Ok(Found {
        miner: miner.id,
        purses,
        funds,
        available: node.available_balance(&actor, tipset).await?,
        vesting: weeks(&vesting, site.head.height),
        needs: needs(&states, proof, &price),
        sender_has: sender_has.unwrap_or_default(),
    })
}

/// Each address once, with all its roles.
async fn purses(site: &Site, info: &MinerInfo, sender: &Address) -> anyhow::Result<Vec<Purse>> {
    let mut named = vec![("owner", info.owner), ("worker", info.worker)];
    named.extend(info.control_addresses.iter().map(|address| ("control", *address)));
    named.extend(info.beneficiary.filter(|other| *other != info.owner).map(|address| ("beneficiary", address)));
    named.push(("sender", *sender));
    let mut purses: Vec<Purse> = Vec::new();
    for (role, address) in named {
        let id = site.node.lookup_id(&address, &site.head.key).await?;
        if let Some(purse) = purses.iter_mut().find(|purse| purse.id == id) {
            purse.roles.push(role);
            continue;
        }
        let key = site.node.account_key(&id, &site.head.key).await.ok();
        let actor = site.node.get_actor(&id, &site.head.key).await?;
        let balance = actor.map(|actor| actor.balance).unwrap_or_default();
        purses.push(Purse { roles: vec![role], id, key, balance });
    }
    Ok(purses)
}

fn show(found: &Found) {
    outln!("miner {}", found.miner);
    let row = |purse: &Purse| {
        let key = purse.key.map_or("-".to_owned(), |key| key.to_string());
        vec![purse.roles.join(", "), purse.id.to_string(), shown(&purse.balance), key]
    };
    let rows: Vec<Vec<String>> = found.purses.iter().map(row).collect();
    table::print(&["ROLE", "ADDRESS", "BALANCE (FIL)", "KEY"], &rows);
    let MinerFunds { balance, pre_commit_deposits, initial_pledge, locked_funds, fee_debt, .. } = &found.funds;
    let mut rows = [
        ["balance of the miner", &shown(balance), ""],
        ["  available", &shown(&found.available), "what can be withdrawn"],
        ["  pledge", &shown(initial_pledge), "until its sectors end"],
        ["  deposits", &shown(pre_commit_deposits), "until its sectors are proven"],
        ["  vesting", &shown(locked_funds), "rewards and the deposit of its creation"],
        ["owes", &shown(fee_debt), if fee_debt.is_positive() { "`miners repay-debt`" } else { "" }],
    ]
    .map(|row| row.map(str::to_owned).to_vec())
    .to_vec();
    let (weeks, later) = &found.vesting;
    for (week, amount) in weeks.iter().enumerate().filter(|(_, amount)| amount.is_positive()) {
        rows.push(vec![format!("  unlocked in week {}", week + 1), shown(amount), String::new()]);
    }
    if later.is_positive() {
        rows.push(vec!["  unlocked later".to_owned(), shown(later), String::new()]);
    }
    let needs = &found.needs;
    let sectors = needs.before_pre_commit + needs.before_prove_commit;
    rows.push(vec![
        "sectors on their way".to_owned(),
        sectors.to_string(),
        format!("{} of them before their PreCommit has landed", needs.before_pre_commit),
    ]);
    rows.push(vec![
        "  will lock".to_owned(),
        shown(&needs.locks),
        "if all become active, at today's pledge".to_owned(),
    ]);
    rows.push(vec!["  gas".to_owned(), shown(&needs.gas), "at the present base fee, each sent alone".to_owned()]);
    rows.push(vec!["  the sender lacks".to_owned(), shown(&lacks(found)), "send it so much".to_owned()]);
    table::print(&["FUNDS", "FIL", "REMARK"], &rows);
    outln!();
}

/// What the sender does not have of what the sectors on their way need.
fn lacks(found: &Found) -> TokenAmount {
    (found.needs.sum() - &found.sender_has).max(TokenAmount::default())
}

fn describe(found: &Found) -> Value {
    let atto = |amount: &TokenAmount| amount.atto().to_string();
    let purse = |purse: &Purse| {
        json!({
            "roles": purse.roles, "address": purse.id.to_string(), "key": purse.key.map(|key| key.to_string()),
            "balance_atto": atto(&purse.balance),
        })
    };
    let MinerFunds { balance, pre_commit_deposits, initial_pledge, locked_funds, fee_debt, .. } = &found.funds;
    let (weeks, later) = &found.vesting;
    let vesting = json!({ "weeks_atto": weeks.iter().map(atto).collect::<Vec<_>>(), "later_atto": atto(later) });
    json!({
        "miner": found.miner, "addresses": found.purses.iter().map(purse).collect::<Vec<_>>(),
        "balance_atto": atto(balance), "available_atto": atto(&found.available), "pledge_atto": atto(initial_pledge),
        "deposits_atto": atto(pre_commit_deposits), "vesting_atto": atto(locked_funds), "debt_atto": atto(fee_debt),
        "unlocked": vesting,
        "needs": {
            "before_precommit": found.needs.before_pre_commit, "before_prove_commit": found.needs.before_prove_commit,
            "locks_atto": atto(&found.needs.locks), "gas_atto": atto(&found.needs.gas),
            "sender_lacks_atto": atto(&lacks(found)),
        },
    })
}
