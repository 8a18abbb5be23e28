//! Extends sectors before they expire, for miners whose configuration says so.
//!
//! It looks once an hour of the chain's time. It asks for errands and sends nothing itself. A sector in an errand that is
//! still open is not asked for again, nor for a day one in an errand that has failed. So it can be stopped anywhere, and
//! looking twice does no harm.

use std::convert::Infallible;

use super::{
    batch::Verb,
    expiring::{Asked, due},
    extend::{Until, plan},
    look::look,
    order::{self, Ordered, order},
};
use crate::{
    chain::{Error as ChainError, NodeClient, Transport, types::Epoch},
    commands::Person,
    config::{Config, Expiry, Miner},
    drive::{address, chain_of},
    errands::{desk::Desk, sectors::EXTEND},
    preflight::{self, NotASender},
    store::{MessageKind, StoreError},
};

/// How many epochs pass between two looks: an hour.
const PERIOD_EPOCHS: Epoch = 120;
/// After how many of the driver's pauses the head is asked for.
const PAUSES: u32 = 15;
/// Who asks, in the audit.
const BY: &str = "the configuration (miner[].expiry)";

/// Why a miner's sectors are not extended.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("the chain cannot be asked")]
    Node(#[from] ChainError),
    #[error(transparent)]
    Order(#[from] order::Error),
    #[error(transparent)]
    Sender(#[from] NotASender),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Looks after the miners with a policy, forever.
pub async fn watch<T: Transport>(
    node: &NodeClient<T>,
    desk: impl Desk,
    config: &Config,
) -> Result<Infallible, StoreError> {
    let policies: Vec<(&Miner, Expiry)> =
        config.miners.iter().filter_map(|miner| Some((miner, miner.expiry?))).collect();
    if policies.is_empty() {
        return std::future::pending().await;
    }
    let mut next = 0;
    loop {
        tokio::time::sleep(config.chain.poll_interval() * PAUSES).await;
        // Whoever needs the chain reports a node that does not answer.
        let Ok(head) = node.chain_head().await else { continue };
        if head.height < next {
            continue;
        }
        next = head.height + PERIOD_EPOCHS;
        for (miner, policy) in &policies {
            match extend(node, &desk, miner, *policy).await {
                Ok(0) => {}
                Ok(sectors) => tracing::info!(miner = %miner.id, sectors, "sectors are extended before they expire"),
                Err(Error::Store(error)) => return Err(error),
                Err(error) => {
                    let cause = chain_of(&error);
                    tracing::warn!(miner = %miner.id, cause, "sectors expire soon and are not extended; trying again in an hour");
                }
            }
        }
    }
}

/// Asks for the extension of a miner's sectors that are due. Returns how many these are.
async fn extend<T: Transport>(
    node: &NodeClient<T>,
    desk: &impl Desk,
    miner: &Miner,
    policy: Expiry,
) -> Result<usize, Error> {
    let asked = Asked::of(&desk.open(miner.id, EXTEND).await?);
    let mut look = look(node, &address(miner.id), |sector| !asked.contains(sector)).await?;
    look.sectors = due(look.sectors, policy, look.now.head);
    let plan = plan(&look.sectors, Until::Days(policy.extend_to_days), &look.now);
    if plan.declared.is_empty() {
        return Ok(0);
    }
    let senders = preflight::senders(node, Some(miner), MessageKind::Errand, &look.info, &look.head.key).await??;
    let sender = senders.first().copied().unwrap_or(look.info.worker);
    let Ordered { drafts, left_out } = order(node, miner.id, sender, Verb::Extend, &look, plan).await?;
    for left in &left_out {
        tracing::warn!(sector = format!("{}/{}", miner.id, left.sector), why = %left.why, "a sector expires");
    }
    let why = format!("within {} days of their expiration", policy.extend_below_days);
    desk.ask("sectors extend", &Person { name: BY.to_owned(), why }, &drafts).await?;
    Ok(look.sectors.len() - left_out.len())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use fvm_shared::address::Address;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        chain::expiry::DAY,
        errands::{Draft, sectors::ranges},
        store::ErrandId,
    };
    use sealbus_schema::MinerId;

    const CID: &str = "bafy2bzacebbpdegvr3i4cosewthysg5xkxpqfn2wfcz6mv2hmoktwbdxkax4s";
    const HEAD: Epoch = 5_000_000;

    /// A miner with sectors 1 to 4 in one partition: the first three expire in 20 days, and the chain refuses the third.
    struct Chain;

    impl Transport for Chain {
        async fn call(&self, method: &'static str, params: Value) -> Result<Value, ChainError> {
            let sector = |number: u64| {
                json!({
                    "SectorNumber": number, "SealProof": 8, "SealedCID": {"/": CID}, "Activation": HEAD - 600_000,
                    "Expiration": HEAD + if number < 4 { 20 } else { 200 } * DAY, "InitialPledge": "7", "Flags": 3,
                })
            };
            Ok(match method {
                "ChainHead" => json!({
                    "Cids": [{"/": CID}], "Height": HEAD,
                    "Blocks": [{"Miner": "f01000", "Timestamp": 0, "ParentBaseFee": "100"}],
                }),
                "StateMinerInfo" => json!({
                    "Owner": "f0100", "Worker": "f0101", "WindowPoStProofType": 13, "SectorSize": 34359738368_u64,
                    "WindowPoStPartitionSectors": 2349,
                }),
                "StateMinerProvingDeadline" => json!({
                    "CurrentEpoch": HEAD, "PeriodStart": HEAD - 10, "Index": 0, "Open": HEAD - 10, "Close": HEAD + 50,
                    "Challenge": HEAD - 30, "FaultCutoff": HEAD - 80, "WPoStPeriodDeadlines": 48,
                    "WPoStProvingPeriod": 2880, "WPoStChallengeWindow": 60, "WPoStChallengeLookback": 20,
                    "FaultDeclarationCutoff": 70,
                }),
                "StateNetworkVersion" => json!(29),
                "StateMinerPartitions" if params[1] == 7 => json!([{
                    "AllSectors": [1, 4], "FaultySectors": [0], "RecoveringSectors": [0], "LiveSectors": [1, 4],
                    "ActiveSectors": [1, 4],
                }]),
                "StateMinerPartitions" => Value::Null,
                "StateMinerSectors" => (1..5).map(sector).collect(),
                "StateAccountKey" => json!(Address::new_bls(&[3; 48]).expect("an address").to_string()),
                "StateCall" => {
                    let code = if is_about_three(&params[0]["Params"]) { 16 } else { 0 };
                    json!({ "MsgRct": { "ExitCode": code, "Return": null, "GasUsed": 1000 }, "Error": "" })
                }
                other => panic!("{other}"),
            })
        }
    }

    fn is_about_three(params: &Value) -> bool {
        use crate::chain::{json, params::ExtendSectorExpiration2Params};
        let bytes = json::bytes::deserialize(params).expect("base64");
        let params: ExtendSectorExpiration2Params = fvm_ipld_encoding::from_slice(&bytes).expect("parameters");
        params.extensions.iter().any(|extension| extension.sectors.get(3))
    }

    /// A desk that remembers what was asked for.
    #[derive(Default)]
    struct Remembers(Mutex<Vec<Draft>>);

    impl Desk for Remembers {
        async fn open(&self, _: MinerId, kind: &str) -> Result<Vec<Value>, StoreError> {
            let drafts = self.0.lock().expect("no panic before");
            Ok(drafts.iter().filter(|draft| draft.kind == kind).map(|draft| draft.detail.clone()).collect())
        }

        async fn ask(&self, verb: &str, person: &Person, drafts: &[Draft]) -> Result<Vec<ErrandId>, StoreError> {
            assert_eq!((verb, person.name.as_str()), ("sectors extend", BY));
            self.0.lock().expect("no panic before").extend_from_slice(drafts);
            Ok(Vec::new())
        }
    }

    #[tokio::test]
    async fn sectors_that_expire_soon_are_asked_for_once() {
        let node = NodeClient::new(Chain);
        let desk = Remembers::default();
        let miner: Miner = toml::from_str("id = \"f01000\"\nsector_size = \"32GiB\"").expect("reads");
        let policy = Expiry { extend_below_days: 30, extend_to_days: 540 };
        assert_eq!(extend(&node, &desk, &miner, policy).await.expect("asks"), 2);
        let sectors = |drafts: &[Draft]| {
            let declared =
                drafts.iter().flat_map(|draft| draft.detail["declared"].as_array().cloned().unwrap_or_default());
            declared.map(|declared| declared["sectors"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(sectors(&desk.0.lock().expect("no panic before")), [ranges(&[1]), ranges(&[2])]);
        // Only the refused one is tried again.
        assert_eq!(extend(&node, &desk, &miner, policy).await.expect("asks"), 0);
        assert_eq!(desk.0.lock().expect("no panic before").len(), 2);
    }
}
