//! The addresses of a miner, and what they have.

use fvm_shared::{address::Address, econ::TokenAmount};

use crate::chain::{
    Error, NodeClient, Transport,
    types::{MinerInfo, TipSetKey},
};

/// An address of a miner with its balance.
pub struct Purse {
    /// What it is for the miner: `owner`, `worker`, `control`, `beneficiary`, `sender`.
    pub roles: Vec<&'static str>,
    /// Its ID address.
    pub id: Address,
    /// Its key. `None` if it is no account, such as a multisig.
    pub key: Option<Address>,
    /// What it has.
    pub balance: TokenAmount,
}

/// Each address once, with all its roles.
pub async fn purses<T: Transport>(
    node: &NodeClient<T>,
    tipset: &TipSetKey,
    info: &MinerInfo,
    senders: &[Address],
) -> Result<Vec<Purse>, Error> {
    let mut named = vec![("owner", info.owner), ("worker", info.worker)];
    named.extend(info.control_addresses.iter().map(|address| ("control", *address)));
    named.extend(info.beneficiary.filter(|other| *other != info.owner).map(|address| ("beneficiary", address)));
    named.extend(senders.iter().map(|address| ("sender", *address)));
    let mut purses: Vec<Purse> = Vec::new();
    for (role, address) in named {
        let id = node.lookup_id(&address, tipset).await?;
        if let Some(purse) = purses.iter_mut().find(|purse| purse.id == id) {
            if !purse.roles.contains(&role) {
                purse.roles.push(role);
            }
            continue;
        }
        let key = node.account_key(&id, tipset).await.ok();
        let actor = node.get_actor(&id, tipset).await?;
        let balance = actor.map(|actor| actor.balance).unwrap_or_default();
        purses.push(Purse { roles: vec![role], id, key, balance });
    }
    Ok(purses)
}
