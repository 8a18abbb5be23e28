//! `miners control` and `miners worker`.

use clap::{Args, Subcommand};
use sealbus_schema::MinerId;
use serde_json::Value;

use super::super::errand::Asking;
use crate::errands::keys::{change_worker, confirm_worker, set_control};

/// What is done with the control addresses.
#[derive(Debug, Subcommand)]
pub enum Control {
    /// Set all control addresses. An address that is not named is one no longer.
    Set(SetControl),
}

/// What is done with the worker.
#[derive(Debug, Subcommand)]
pub enum Worker {
    /// Propose another worker. It is one 900 epochs later, when that is confirmed.
    Change(ChangeWorker),
    /// Confirm the proposed worker.
    Confirm(ConfirmWorker),
}

/// The control addresses.
#[derive(Debug, Args)]
pub struct SetControl {
    /// The miner, such as f01000.
    miner: MinerId,
    /// All its control addresses, such as f3…, at most 10.
    #[arg(required_unless_present = "none")]
    addresses: Vec<String>,
    /// No control addresses.
    #[arg(long, conflicts_with = "addresses")]
    none: bool,
    #[command(flatten)]
    asking: Asking,
}

/// The next worker.
#[derive(Debug, Args)]
pub struct ChangeWorker {
    /// The miner, such as f01000.
    miner: MinerId,
    /// The next worker: an account on chain with a BLS key, such as f3….
    worker: String,
    #[command(flatten)]
    asking: Asking,
}

/// Whose worker is confirmed.
#[derive(Debug, Args)]
pub struct ConfirmWorker {
    /// The miner, such as f01000.
    miner: MinerId,
    #[command(flatten)]
    asking: Asking,
}

impl Control {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let Control::Set(SetControl { miner, addresses, asking, .. }) = self;
        let site = asking.site().await?;
        let info = site.miner(miner).await?;
        let mut control = Vec::with_capacity(addresses.len());
        for address in &addresses {
            control.push(site.account("control address", address).await?);
        }
        let draft = set_control(miner, &info, &control)?;
        asking.carry_out(&site, "miners control set", vec![draft], Value::Null).await
    }
}

impl Worker {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Worker::Change(ChangeWorker { miner, worker, asking }) => {
                let site = asking.site().await?;
                let info = site.miner(miner).await?;
                let worker = site.account("worker", &worker).await?;
                if let Err(missing) = site.signs_for(&worker.key).await {
                    errln!("note: {missing}; the manager cannot send for this worker until that is mended");
                }
                let draft = change_worker(miner, &info, worker)?;
                asking.carry_out(&site, "miners worker change", vec![draft], Value::Null).await
            }
            Worker::Confirm(ConfirmWorker { miner, asking }) => {
                let site = asking.site().await?;
                let info = site.miner(miner).await?;
                let draft = confirm_worker(miner, &info, site.head.height)?;
                asking.carry_out(&site, "miners worker confirm", vec![draft], Value::Null).await
            }
        }
    }
}
