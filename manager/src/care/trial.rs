//! Executes batches on trial before anybody pays for them.
//!
//! A batch that the chain refuses is halved, and each half tried, until the sectors that it refuses are alone and named.
//! So one bad sector costs only itself. A batch that needs more gas than a block has is halved too.

use fvm_shared::{address::Address, econ::TokenAmount};

use super::{
    Declared, LeftOut, Reason,
    batch::{Batch, Verb},
};
use crate::chain::{
    Error as ChainError, NodeClient, Transport,
    exit::ExitClass,
    message,
    types::{TipSetKey, Trial},
};

/// The most trials for one order. Each refused sector among many takes some fifteen.
const TRIALS_MAX: u32 = 400;

/// Who would send what to whom.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// The sender's key.
    pub from: Address,
    /// The miner.
    pub miner: Address,
    /// What is done.
    pub verb: Verb,
}

/// What the trials showed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// The messages that the chain would take.
    pub batches: Vec<Batch>,
    /// The sectors that it refuses.
    pub left_out: Vec<LeftOut>,
}

/// Why the trials could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The node failed.
    #[error("the node cannot try the message")]
    Node(#[from] ChainError),
    /// The parameters cannot be encoded.
    #[error("the message cannot be built")]
    Params(#[from] super::batch::Error),
    /// The money does not suffice.
    #[error("{from} or the miner {miner} cannot pay {value} FIL for {sectors} sectors: {said}")]
    Funds {
        /// The sender.
        from: Address,
        /// The miner.
        miner: Address,
        /// What the message would carry.
        value: TokenAmount,
        /// How many sectors it is about.
        sectors: usize,
        /// In the node's words.
        said: String,
    },
    /// The chain refuses so many sectors that finding each takes too long.
    #[error("after {TRIALS_MAX} trials the chain still refuses parts, last with: {said}; name fewer sectors")]
    TooMany {
        /// In the node's words.
        said: String,
    },
}

/// Tries each batch at a tipset. `value` is what a message must carry.
pub async fn settle<T: Transport>(
    node: &NodeClient<T>,
    tipset: &TipSetKey,
    call: Call,
    batches: Vec<Batch>,
    value: impl Fn(&[Declared]) -> TokenAmount,
) -> Result<Settled, Error> {
    let mut settled = Settled::default();
    // The next one is the last.
    let mut open: Vec<Batch> = batches.into_iter().rev().collect();
    let mut trials = 0;
    while let Some(mut batch) = open.pop() {
        trials += 1;
        let value = value(&batch.declared);
        let params = call.verb.params(&batch.declared)?;
        let unsigned = message::unsigned(call.from, call.miner, call.verb.method(), params, value.clone());
        let trial = node.try_message(&unsigned, tipset).await?;
        batch.gas_used = u64::try_from(trial.receipt.gas_used).unwrap_or_default();
        match trial.receipt.exit_code.class() {
            ExitClass::Success if batch.fits_a_block() => {
                settled.batches.push(batch);
                continue;
            }
            ExitClass::Funds => {
                let (from, miner, sectors, said) = (call.from, call.miner, batch.count(), said(&trial));
                return Err(Error::Funds { from, miner, value, sectors, said });
            }
            _ => {}
        }
        if trials >= TRIALS_MAX {
            return Err(Error::TooMany { said: said(&trial) });
        }
        let sectors: Vec<u64> = batch.declared.iter().flat_map(|declared| declared.sectors.clone()).collect();
        match batch.halves() {
            Some((first, second)) => open.extend([second, first]),
            None => {
                let why = Reason::Refused { said: said(&trial) };
                settled.left_out.extend(sectors.into_iter().map(|sector| LeftOut { sector, why: why.clone() }));
            }
        }
    }
    Ok(settled)
}

/// An outcome in words.
pub fn said(trial: &Trial) -> String {
    let exit = trial.receipt.exit_code;
    match trial.said.trim() {
        "" => format!("exit code {exit}"),
        said => format!("exit code {exit}: {said}"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use fvm_ipld_encoding::from_slice;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        care::batch::batches,
        chain::{json as wire, params::UpgradeSectorQualityParams, types::SectorLocation},
    };

    /// A chain that refuses some sectors, and knows what each costs in gas.
    struct Chain {
        refuses: Vec<u64>,
        gas: u64,
        asked: Mutex<u32>,
    }

    impl Transport for Chain {
        async fn call(&self, method: &'static str, params: Value) -> Result<Value, ChainError> {
            if method == "ChainHead" {
                return Ok(json!({ "Blocks": [{ "Miner": "t01000" }] }));
            }
            *self.asked.lock().expect("no panic before") += 1;
            let bytes = wire::bytes::deserialize(&params[0]["Params"]).expect("base64");
            let upgrades = from_slice::<UpgradeSectorQualityParams>(&bytes).expect("parameters").upgrades;
            let sectors: Vec<u64> =
                upgrades.iter().flat_map(|upgrade| upgrade.sectors.iter().collect::<Vec<_>>()).collect();
            assert_eq!(params[0]["Value"], json!((10 * sectors.len()).to_string()));
            let code = if sectors.iter().any(|sector| self.refuses.contains(sector)) { 16 } else { 0 };
            let gas = self.gas * sectors.len() as u64;
            Ok(json!({ "MsgRct": { "ExitCode": code, "Return": null, "GasUsed": gas }, "Error": "a reason" }))
        }
    }

    async fn settle_with(chain: Chain, count: u64) -> (Result<Settled, Error>, u32) {
        let node = NodeClient::new(chain);
        let declared = (0..count / 10).map(|partition| Declared {
            at: SectorLocation { deadline: 0, partition },
            expiration: None,
            sectors: (partition * 10..partition * 10 + 10).collect(),
        });
        let all = batches(Verb::Upgrade, declared.collect()).expect("encodes");
        let call = Call { from: Address::new_id(1), miner: Address::new_id(1000), verb: Verb::Upgrade };
        let value = |declared: &[Declared]| super::super::batch::value(declared, |_| TokenAmount::from_atto(10));
        let settled = settle(&node, &TipSetKey::head(), call, all, value).await;
        let asked = *node.transport().asked.lock().expect("no panic before");
        (settled, asked)
    }

    #[tokio::test]
    async fn each_culprit_costs_only_itself() {
        let chain = Chain { refuses: vec![7, 120, 121], gas: 1000, asked: Mutex::default() };
        let (settled, asked) = settle_with(chain, 200).await;
        let settled = settled.expect("settles");
        assert_eq!(settled.left_out.iter().map(|left| left.sector).collect::<Vec<_>>(), [7, 120, 121]);
        assert!(settled.left_out[0].why.to_string().contains("16 (wrong parameters): a reason"), "{settled:?}");
        assert_eq!(settled.batches.iter().map(Batch::count).sum::<usize>(), 197);
        assert!(asked < 50, "{asked}");
    }

    #[tokio::test]
    async fn what_nobody_refuses_is_tried_once_and_what_no_block_holds_is_halved() {
        let (settled, asked) = settle_with(Chain { refuses: vec![], gas: 1000, asked: Mutex::default() }, 100).await;
        assert_eq!((settled.expect("settles").batches.len(), asked), (1, 1));
        let chain = Chain { refuses: vec![], gas: 100_000_000, asked: Mutex::default() };
        let (settled, _) = settle_with(chain, 100).await;
        let sizes: Vec<usize> = settled.expect("settles").batches.iter().map(Batch::count).collect();
        assert_eq!(sizes, [50, 50]);
    }

    #[tokio::test]
    async fn a_chain_that_refuses_everything_is_not_asked_for_ever() {
        let chain = Chain { refuses: (0..1000).collect(), gas: 1, asked: Mutex::default() };
        let (settled, asked) = settle_with(chain, 1000).await;
        assert!(matches!(settled, Err(Error::TooMany { .. })) && asked == TRIALS_MAX, "{settled:?}");
    }
}
