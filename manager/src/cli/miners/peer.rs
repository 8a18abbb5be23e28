//! `miners peer-id` and `miners multiaddrs`.

use clap::Args;
use sealbus_schema::MinerId;
use serde_json::Value;

use super::super::errand::Asking;
use crate::errands::peer::{Multiaddr, PeerId, set_multiaddrs, set_peer_id};

/// The peer id.
#[derive(Debug, Args)]
pub struct SetPeerId {
    /// The miner, such as f01000.
    miner: MinerId,
    /// The peer id, such as 12D3KooW….
    peer_id: PeerId,
    #[command(flatten)]
    asking: Asking,
}

/// The multiaddresses.
#[derive(Debug, Args)]
pub struct SetMultiaddrs {
    /// The miner, such as f01000.
    miner: MinerId,
    /// All multiaddresses, such as /ip4/1.2.3.4/tcp/24001.
    #[arg(required_unless_present = "none", value_parser = named)]
    addresses: Vec<(String, Multiaddr)>,
    /// No multiaddresses.
    #[arg(long, conflicts_with = "addresses")]
    none: bool,
    #[command(flatten)]
    asking: Asking,
}

impl SetPeerId {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let site = self.asking.site().await?;
        let info = site.miner(self.miner).await?;
        let sender = site.sender(self.miner, &info).await?;
        let draft = set_peer_id(self.miner, sender, &info, &self.peer_id)?;
        self.asking.carry_out(&site, "miners peer-id", vec![draft], Value::Null).await
    }
}

impl SetMultiaddrs {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let site = self.asking.site().await?;
        let info = site.miner(self.miner).await?;
        let sender = site.sender(self.miner, &info).await?;
        let draft = set_multiaddrs(self.miner, sender, &info, &self.addresses)?;
        self.asking.carry_out(&site, "miners multiaddrs", vec![draft], Value::Null).await
    }
}

fn named(text: &str) -> Result<(String, Multiaddr), String> {
    Ok((text.to_owned(), text.parse()?))
}
