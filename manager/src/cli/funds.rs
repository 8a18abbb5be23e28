//! `funds`: what each miner and its addresses have, what is locked, what vests when, and what the next seven days need.

use anyhow::Context;
use clap::Args;
use fvm_shared::econ::TokenAmount;
use sealbus_schema::MinerId;
use serde_json::{Value, json};

use super::{ConfigArg, errand::Site, known::insist_on_configured, print_json, table};
use crate::{
    care::look,
    chain::{expiry::LIFETIME_MIN, network::pledge_verified_bytes, types::MinerFunds},
    config::Miner,
    drive::address,
    errands::{
        fil::shown,
        forecast::{Needs, OnTheirWay, Price, Proven, WEEK, needs, of_proven, on_their_way, weeks, within_a_week},
        purse::{Purse, purses},
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

/// What there is of a miner.
struct Found {
    miner: MinerId,
    purses: Vec<Purse>,
    funds: MinerFunds,
    available: TokenAmount,
    /// What is unlocked, by week and later.
    vesting: (Vec<TokenAmount>, TokenAmount),
    on_their_way: OnTheirWay,
    /// Those whose messages land in the next seven days.
    in_a_week: OnTheirWay,
    /// How many PreCommits have landed in the last seven days.
    pace: u64,
    /// What those need whose messages land in the next seven days.
    needs: Needs,
    proven: Proven,
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
    let purses = purses(node, tipset, &info, &[sender]).await?;
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
    let states = site.store.states_of(miner.id).await?;
    let pace = site.store.precommitted_since(miner.id, site.head.height - WEEK).await?;
    let in_a_week = within_a_week(&states, pace);
    let proven = look::look(node, &actor, |_| true).await?;
    Ok(Found {
        miner: miner.id,
        purses,
        funds,
        available: node.available_balance(&actor, tipset).await?,
        vesting: weeks(&vesting, site.head.height),
        on_their_way: on_their_way(&states),
        in_a_week,
        pace,
        needs: needs(in_a_week, proof, &price),
        proven: of_proven(proven.sectors.iter().map(|sector| &sector.info), proven.head.height),
        sender_has: sender_has.unwrap_or_default(),
    })
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
    let all = found.on_their_way;
    rows.push(vec![
        "sectors on their way".to_owned(),
        (all.before_pre_commit + all.before_prove_commit).to_string(),
        format!("{} of them before their PreCommit has landed", all.before_pre_commit),
    ]);
    table::print(&["FUNDS", "FIL", "REMARK"], &rows);
    outln!();
    show_week(found);
}

fn show_week(found: &Found) {
    let OnTheirWay { before_pre_commit, before_prove_commit } = found.in_a_week;
    let pace = match found.pace {
        0 => "all on their way: none has landed in the last 7 days to go by".to_owned(),
        pace => format!("at the pace of the last 7 days: {pace}"),
    };
    let row = |what: &str, amount: String, remark: &str| vec![what.to_owned(), amount, remark.to_owned()];
    let sector = if found.proven.expiring == 1 {
        "1 sector expires".to_owned()
    } else {
        format!("{} sectors expire", found.proven.expiring)
    };
    let rows = [
        row("PreCommits", before_pre_commit.to_string(), &pace),
        row("ProveCommits", (before_pre_commit + before_prove_commit).to_string(), "of these, and of those before"),
        row("  will lock", shown(&found.needs.locks), "from the sender, at today's pledge"),
        row("  gas", shown(&found.needs.gas), "from the sender, at the present base fee, each sent alone"),
        row("  the sender lacks", shown(&lacks(found)), "send it so much"),
        row(
            "daily fees",
            shown(&found.proven.fees),
            "from the miner's balance, for sectors that are proven now; at most",
        ),
        row("  unlocked", shown(&found.proven.unlocked), &format!("{sector}, and the pledge becomes available")),
        row("  vests", shown(found.vesting.0.first().unwrap_or(&TokenAmount::default())), "as week 1 above"),
    ];
    table::print(&["NEXT 7 DAYS", "", "REMARK"], &rows);
    outln!();
}

/// What the sender does not have of what the next seven days need.
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
    let sectors = |of: OnTheirWay| json!({ "before_precommit": of.before_pre_commit, "before_prove_commit": of.before_prove_commit });
    let vesting = json!({ "weeks_atto": weeks.iter().map(atto).collect::<Vec<_>>(), "later_atto": atto(later) });
    json!({
        "miner": found.miner, "addresses": found.purses.iter().map(purse).collect::<Vec<_>>(),
        "balance_atto": atto(balance), "available_atto": atto(&found.available), "pledge_atto": atto(initial_pledge),
        "deposits_atto": atto(pre_commit_deposits), "vesting_atto": atto(locked_funds), "debt_atto": atto(fee_debt),
        "unlocked": vesting,
        "on_their_way": sectors(found.on_their_way),
        "next_7_days": {
            "sectors": sectors(found.in_a_week), "pace": found.pace,
            "locks_atto": atto(&found.needs.locks), "gas_atto": atto(&found.needs.gas),
            "sender_lacks_atto": atto(&lacks(found)),
            "daily_fees_atto": atto(&found.proven.fees), "expiring": found.proven.expiring,
            "unlocked_atto": atto(&found.proven.unlocked),
        },
    })
}
