//! `miners create`.

use clap::Args;
use sealbus_schema::SectorSize;
use serde_json::Value;

use super::super::errand::Asking;
use crate::errands::{
    create::{NewMiner, create},
    peer::{Multiaddr, PeerId},
};

/// What the new miner is.
#[derive(Debug, Args)]
pub struct Create {
    /// The owner, such as f3…. It sends the message and pays.
    #[arg(long)]
    owner: String,
    /// The worker: an account on chain with a BLS key. By default the owner.
    #[arg(long)]
    worker: Option<String>,
    /// Its sectors' size, such as 32GiB.
    #[arg(long)]
    sector_size: SectorSize,
    /// Its peer id, such as 12D3KooW….
    #[arg(long)]
    peer_id: Option<PeerId>,
    /// Its multiaddresses, such as /ip4/1.2.3.4/tcp/24001.
    #[arg(long = "multiaddr")]
    multiaddrs: Vec<Multiaddr>,
    #[command(flatten)]
    asking: Asking,
}

impl Create {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let site = self.asking.site().await?;
        let owner = site.account("--owner", &self.owner).await?;
        let worker = match &self.worker {
            Some(worker) => site.account("--worker", worker).await?,
            None => owner,
        };
        let deposit = site.node.creation_deposit(&site.head.key).await?;
        let (sector_size, peer, multiaddrs) = (self.sector_size, self.peer_id, self.multiaddrs);
        let draft = create(&NewMiner { owner, worker, sector_size, peer, multiaddrs }, &deposit)?;
        self.asking.carry_out(&site, "miners create", vec![draft], Value::Null).await
    }
}
