//! The methods of a full node, typed.
//!
//! One struct over a [`Transport`], which is HTTP in production and an in-process chain or a script in tests. Each
//! method is one call, without retries. Calls about the chain's state take a tipset; calls that must agree take the
//! same one.

use fvm_shared::address::{Address, Network};
use fvm_shared::econ::TokenAmount;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::error::Error;
use super::json::{self, AddressText};
use super::rpc::{RpcClient, Transport};
use super::types::{Epoch, Index, NetworkParams, TipSet, TipSetKey};

mod care;
mod messages;
pub mod mining;
mod money;
mod randomness;
mod state;

pub use messages::SignError;

/// A full node.
#[derive(Debug)]
pub struct NodeClient<T = RpcClient> {
    transport: T,
    network: OnceCell<Network>,
}

impl<T: Transport> NodeClient<T> {
    /// Creates a node over a transport. Makes no call.
    pub fn new(transport: T) -> Self {
        Self { transport, network: OnceCell::new() }
    }

    /// The transport.
    pub fn transport(&self) -> &T {
        &self.transport
    }

    /// The network whose address prefix the node uses (`f` or `t`), read once from a block of its head.
    pub async fn network(&self) -> Result<Network, Error> {
        let read = || async {
            let head: Value = self.call("ChainHead", json!([])).await?;
            let miner = head.pointer("/Blocks/0/Miner").cloned().unwrap_or_default();
            let text: AddressText = decode("ChainHead", miner)?;
            Ok(text.1)
        };
        self.network.get_or_try_init(read).await.copied()
    }

    /// The heaviest tipset that the node knows.
    pub async fn chain_head(&self) -> Result<TipSet, Error> {
        checked_tipset("ChainHead", self.call("ChainHead", json!([])).await?)
    }

    /// The tipset at `height` on the chain of `from`, or the last one before it if that epoch is empty.
    pub async fn tipset_by_height(&self, height: Epoch, from: &TipSetKey) -> Result<TipSet, Error> {
        const METHOD: &str = "ChainGetTipSetByHeight";
        let tipset = checked_tipset(METHOD, self.call(METHOD, json!([height, from])).await?)?;
        if tipset.height > height {
            return Err(Error::bad_answer(METHOD, format!("height {} for {height}", tipset.height)));
        }
        Ok(tipset)
    }

    /// The tipset `lag` epochs behind `head`: the confident tipset.
    pub async fn lagged_tipset(&self, head: &TipSet, lag: Epoch) -> Result<TipSet, Error> {
        self.tipset_by_height((head.height - lag).max(0), &head.key).await
    }

    /// The name of the network.
    pub async fn network_name(&self) -> Result<String, Error> {
        self.call("StateNetworkName", json!([])).await
    }

    /// The network version at a tipset. Read it whenever a message is built.
    pub async fn network_version(&self, tipset: &TipSetKey) -> Result<u32, Error> {
        self.call("StateNetworkVersion", json!([tipset])).await
    }

    /// The network's constants.
    pub async fn network_params(&self) -> Result<NetworkParams, Error> {
        self.call("StateGetNetworkParams", json!([])).await
    }

    async fn call<R: DeserializeOwned>(&self, method: &'static str, params: Value) -> Result<R, Error> {
        decode(method, self.transport.call(method, params).await?)
    }

    async fn text(&self, address: &Address) -> Result<String, Error> {
        Ok(json::address_text(address, self.network().await?))
    }

    async fn of_address<R: DeserializeOwned>(
        &self,
        method: &'static str,
        address: &Address,
        tipset: &TipSetKey,
    ) -> Result<R, Error> {
        let address = self.text(address).await?;
        self.call(method, json!([address, tipset])).await
    }

    async fn of_sector<R: DeserializeOwned>(
        &self,
        method: &'static str,
        miner: &Address,
        sector: Index,
        tipset: &TipSetKey,
    ) -> Result<R, Error> {
        let miner = self.text(miner).await?;
        self.call(method, json!([miner, sector, tipset])).await
    }

    async fn tokens(&self, method: &'static str, params: Value) -> Result<TokenAmount, Error> {
        let text: String = self.call(method, params).await?;
        json::parse_tokens(&text).map_err(|error| Error::bad_answer(method, error))
    }
}

fn decode<R: DeserializeOwned>(method: &'static str, value: Value) -> Result<R, Error> {
    serde_json::from_value(value).map_err(|error| Error::bad_answer(method, error))
}

fn checked_tipset(method: &'static str, tipset: TipSet) -> Result<TipSet, Error> {
    if tipset.blocks.is_empty() || tipset.key.0.len() != tipset.blocks.len() {
        return Err(Error::bad_answer(method, "Blocks: a tipset without its blocks"));
    }
    Ok(tipset)
}
