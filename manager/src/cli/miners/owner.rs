//! `miners owner` and `miners beneficiary`.

use clap::{Args, Subcommand};
use fvm_shared::econ::TokenAmount;
use sealbus_schema::MinerId;
use serde_json::Value;

use super::super::errand::Asking;
use crate::errands::{
    Role, fil,
    owner::{Term, confirm, confirm_beneficiary, propose, propose_beneficiary},
};

/// What is done with the owner.
#[derive(Debug, Subcommand)]
pub enum Owner {
    /// Propose another owner, or, by naming the present one, take a proposal back.
    Change(ChangeOwner),
    /// Confirm the proposed owner. The proposed owner sends it.
    Confirm(Confirm),
}

/// What is done with the beneficiary.
#[derive(Debug, Subcommand)]
pub enum Beneficiary {
    /// Propose another beneficiary. The owner sends it.
    Change(ChangeBeneficiary),
    /// Approve the proposed beneficiary. The proposed or the present one sends it.
    Confirm(ConfirmBeneficiary),
}

/// The next owner.
#[derive(Debug, Args)]
pub struct ChangeOwner {
    /// The miner, such as f01000.
    miner: MinerId,
    /// The next owner, such as f3….
    owner: String,
    #[command(flatten)]
    asking: Asking,
}

/// Whose owner is confirmed.
#[derive(Debug, Args)]
pub struct Confirm {
    /// The miner, such as f01000.
    miner: MinerId,
    #[command(flatten)]
    asking: Asking,
}

/// The next beneficiary.
#[derive(Debug, Args)]
pub struct ChangeBeneficiary {
    /// The miner, such as f01000.
    miner: MinerId,
    /// The next beneficiary, such as f1…; the owner needs neither --quota nor --until.
    beneficiary: String,
    /// How much it may withdraw in all, in FIL.
    #[arg(long, value_name = "FIL", value_parser = fil::parse, requires = "until")]
    quota: Option<TokenAmount>,
    /// Until which epoch it may.
    #[arg(long, value_name = "EPOCH", requires = "quota")]
    until: Option<i64>,
    #[command(flatten)]
    asking: Asking,
}

/// Whose beneficiary is approved, and by whom.
#[derive(Debug, Args)]
pub struct ConfirmBeneficiary {
    /// The miner, such as f01000.
    miner: MinerId,
    /// The present beneficiary approves it, instead of the proposed one.
    #[arg(long)]
    as_present: bool,
    #[command(flatten)]
    asking: Asking,
}

impl Owner {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Owner::Change(ChangeOwner { miner, owner, asking }) => {
                let site = asking.site().await?;
                let info = site.miner(miner).await?;
                let owner = site.actor("owner", &owner).await?;
                let draft = propose(miner, &info, owner)?;
                asking.carry_out(&site, "miners owner change", vec![draft], Value::Null).await
            }
            Owner::Confirm(Confirm { miner, asking }) => {
                let site = asking.site().await?;
                let info = site.miner(miner).await?;
                let draft = confirm(miner, &info)?;
                asking.carry_out(&site, "miners owner confirm", vec![draft], Value::Null).await
            }
        }
    }
}

impl Beneficiary {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Beneficiary::Change(ChangeBeneficiary { miner, beneficiary, quota, until, asking }) => {
                let site = asking.site().await?;
                let info = site.miner(miner).await?;
                let new = site.actor("beneficiary", &beneficiary).await?;
                let term = quota.zip(until).map(|(quota, until)| Term { quota, until });
                let draft = propose_beneficiary(miner, &info, new, term, site.head.height)?;
                asking.carry_out(&site, "miners beneficiary change", vec![draft], Value::Null).await
            }
            Beneficiary::Confirm(ConfirmBeneficiary { miner, as_present, asking }) => {
                let site = asking.site().await?;
                let info = site.miner(miner).await?;
                let by = if as_present { Role::Beneficiary } else { Role::ProposedBeneficiary };
                let draft = confirm_beneficiary(miner, &info, by)?;
                asking.carry_out(&site, "miners beneficiary confirm", vec![draft], Value::Null).await
            }
        }
    }
}
