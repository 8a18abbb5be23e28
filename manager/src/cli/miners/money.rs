//! `miners withdraw` and `miners repay-debt`.

use clap::Args;
use fvm_shared::econ::TokenAmount;
use sealbus_schema::MinerId;
use serde_json::Value;

use super::super::errand::Asking;
use crate::{
    drive::address,
    errands::{
        Role, fil,
        money::{Amount, repay_debt, withdraw},
    },
};

/// How much is withdrawn.
#[derive(Debug, Args)]
pub struct Withdraw {
    /// The miner, such as f01000.
    miner: MinerId,
    /// How much, in FIL, such as 12.5.
    #[arg(long, value_name = "FIL", value_parser = fil::parse, required_unless_present = "all")]
    amount: Option<TokenAmount>,
    /// All that is available now.
    #[arg(long, conflicts_with = "amount")]
    all: bool,
    /// The beneficiary sends it, instead of the owner.
    #[arg(long)]
    as_beneficiary: bool,
    #[command(flatten)]
    asking: Asking,
}

/// Whose debt is repaid.
#[derive(Debug, Args)]
pub struct RepayDebt {
    /// The miner, such as f01000.
    miner: MinerId,
    #[command(flatten)]
    asking: Asking,
}

impl Withdraw {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let site = self.asking.site().await?;
        let info = site.miner(self.miner).await?;
        let tipset = &site.head.key;
        let funds = site.node.miner_funds(&address(self.miner), tipset).await?;
        let available = site.node.available_balance(&address(self.miner), tipset).await?;
        let amount = self.amount.map_or(Amount::All, Amount::Some);
        let by = if self.as_beneficiary { Role::Beneficiary } else { Role::Owner };
        let draft = withdraw(self.miner, &info, &funds, &available, &amount, by, site.head.height)?;
        self.asking.carry_out(&site, "miners withdraw", vec![draft], Value::Null).await
    }
}

impl RepayDebt {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let site = self.asking.site().await?;
        let info = site.miner(self.miner).await?;
        let tipset = &site.head.key;
        let funds = site.node.miner_funds(&address(self.miner), tipset).await?;
        let available = site.node.available_balance(&address(self.miner), tipset).await?;
        let sender = site.sender(self.miner, &info).await?;
        let draft = repay_debt(self.miner, sender, &funds, &available)?;
        self.asking.carry_out(&site, "miners repay-debt", vec![draft], Value::Null).await
    }
}
