//! Checks before hours of sealing: whether a miner's messages can be signed and sent, whether its proofs can be
//! verified, and whether it can pay. `run` repeats the checks, `check` runs them once.

use fvm_shared::{
    address::{Address, Network},
    econ::TokenAmount,
};
use sealbus_schema::{ErrorCode, MinerId};

use crate::{
    chain::{
        Error as ChainError, Messager, NodeClient, Transport,
        commitment::sealed_cid,
        expiry::Rules,
        json,
        local_keys::LocalKeys,
        params::SectorPreCommitInfo,
        types::{MinerInfo, TipSet, TipSetKey},
    },
    config::{Chain, Config, Miner},
    drive::{address, wanted_expiration},
    proofs::Verifier,
    store::MessageKind,
    store_access,
    waits::{self, Cause, Subject},
};

/// A lower bound of a PreCommit's gas, in units (some 16 million on mainnet).
const LEAST_GAS: i64 = 10_000_000;
/// The network's lowest base fee (`MinimumBaseFee` of Lotus), in attoFIL.
const LEAST_BASE_FEE_ATTO: i64 = 100;

/// Who signs a miner's messages.
#[derive(Clone, Copy, Debug)]
pub enum Signing<'a> {
    /// The manager with these keys, and the node's wallet for all other senders.
    Here(&'a LocalKeys),
    /// The messager.
    ByMessager(&'a Messager),
}

/// A failed check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The problem.
    pub cause: Cause,
    /// Whether no sector should be started until it is fixed.
    pub holds: bool,
}

impl Finding {
    const fn holds(cause: Cause) -> Finding {
        Finding { cause, holds: true }
    }
}

/// An address that may not send for a miner.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("sender {sender} of miner {miner} is neither its owner nor its worker nor one of its control addresses")]
pub struct NotASender {
    /// The miner.
    pub miner: MinerId,
    /// The configured sender.
    pub sender: String,
}

/// All checks, for `check`.
pub async fn everything<T: Transport>(
    node: &NodeClient<T>,
    config: &Config,
    verifier: &dyn Verifier,
) -> Vec<(Subject, Cause)> {
    let mut found = Vec::new();
    for store in &config.stores {
        found.extend(store_access::trouble(store).await.map(|cause| (Subject::Store(store.name.clone()), cause)));
    }
    for miner in &config.miners {
        let wants_aggregates = config.batches(miner.id).aggregate == Some(true);
        let findings = keys(miner, verifier)
            .into_iter()
            .chain(fee_limit(&config.chain))
            .chain(wants_aggregates.then(|| aggregates(verifier)).flatten());
        found.extend(findings.map(|finding| (Subject::Miner(miner.id), finding.cause)));
    }
    let looked = async {
        let head = node.chain_head().await?;
        let mut found = Vec::new();
        let (keys, messager) = (config.chain.local_keys(), config.chain.messager_client()?);
        let signing = messager.as_ref().map_or(Signing::Here(&keys), Signing::ByMessager);
        for configured in &config.miners {
            let findings = miner(node, configured, signing, &head).await?;
            found.extend(findings.into_iter().map(|finding| (Subject::Miner(configured.id), finding.cause)));
        }
        Ok::<_, ChainError>(found)
    };
    match looked.await {
        Ok(of_miners) => found.extend(of_miners),
        Err(error) => found.push((Subject::Node, waits::of_error(&error.into()))),
    }
    found
}

/// Checks that the fee limit allows a PreCommit at all.
pub fn fee_limit(chain: &Chain) -> Option<Finding> {
    let limit = json::parse_tokens(&chain.max_fee_atto).ok()?;
    let least = TokenAmount::from_atto(LEAST_GAS) * LEAST_BASE_FEE_ATTO;
    (limit < least).then(|| {
        let text = format!(
            "chain.max_fee_atto = {}: a PreCommit uses at least {LEAST_GAS} units of gas, and the network never takes less than \
             {LEAST_BASE_FEE_ATTO} attoFIL for each",
            chain.max_fee_atto
        );
        Finding { cause: Cause::to_mend(ErrorCode::FEE_LIMIT_TOO_LOW, text), holds: false }
    })
}

/// Checks that proofs of a miner's sectors can be verified.
pub fn keys(miner: &Miner, verifier: &dyn Verifier) -> Option<Finding> {
    let report = verifier.ready(miner.sector_size.seal_proof()).err()?;
    Some(Finding::holds(Cause::to_mend(report.code.clone(), report.message())))
}

/// Checks that proofs can be aggregated, for a configuration that wants aggregates. Sectors can still be proven singly.
pub fn aggregates(verifier: &dyn Verifier) -> Option<Finding> {
    let report = verifier.aggregates_ready().err()?;
    Some(Finding { cause: Cause::to_mend(report.code.clone(), report.message()), holds: false })
}

/// Checks a miner on the chain of a head. The most important finding comes first.
pub async fn miner<T: Transport>(
    node: &NodeClient<T>,
    miner: &Miner,
    signing: Signing<'_>,
    head: &TipSet,
) -> Result<Vec<Finding>, ChainError> {
    let mut found = Vec::new();
    let permissions = node.transport().permissions().await?;
    let lacks = |needed: &str| {
        let permissions = permissions.as_ref().filter(|all| !all.iter().any(|permission| permission == needed))?;
        let text = format!("the node's token permits {}, but not `{needed}`", permissions.join(", "));
        Some(Finding::holds(Cause::to_mend(ErrorCode::NODE_ACCESS_DENIED, text)))
    };
    found.extend(lacks(match signing {
        // Pushing what was signed here needs less than asking the node's wallet.
        Signing::Here(keys) if keys.is_empty() => "sign",
        Signing::Here(_) => "write",
        Signing::ByMessager(_) => "read",
    }));
    let info = node.miner_info(&address(miner.id), &head.key).await?;
    // Usually found at the start, unless the node did not know the miner then.
    if info.sector_bytes != miner.sector_size.bytes() {
        let text = format!(
            "miner[].sector_size = \"{}\" for {}: on chain its sectors have {} bytes",
            miner.sector_size, miner.id, info.sector_bytes
        );
        found.push(Finding::holds(Cause::to_mend(ErrorCode::CONFIGURATION_WRONG, text)));
    }
    let mut senders = Vec::new();
    for text in miner.all_senders() {
        let Ok((sender, _)) = json::parse_address(text) else { continue };
        if !is_sender(node, &info, &sender, &head.key).await? {
            let text = not_a_sender(miner.id, text).to_string();
            found.push(Finding::holds(Cause::to_mend(ErrorCode::SENDER_NOT_ALLOWED, text)));
        }
        senders.push(sender);
    }
    if [MessageKind::PreCommit, MessageKind::ProveCommit].iter().any(|kind| miner.senders(*kind).is_empty()) {
        senders.push(info.worker);
    }
    let rules = Rules::new(node.network_params().await?.pre_commit_challenge_delay);
    let mut poor = Vec::new();
    for sender in &senders {
        let key = match node.account_key(sender, &head.key).await {
            Ok(key) => key,
            // The sender is not an account, or the token does not even permit asking. The earlier findings say more.
            Err(_) if !found.is_empty() => return Ok(found),
            Err(error) => return Err(error),
        };
        match signing {
            Signing::ByMessager(messager) => {
                let what = format!("send the messages of miner {}", miner.id);
                let missing = lacks_sender(messager, &key, node.network().await?, &what).await;
                found.extend(missing.map(Finding::holds));
            }
            Signing::Here(keys) if keys.has(&key).await => {}
            Signing::Here(keys) => {
                let may_sign = keys.is_empty() || lacks("sign").is_none();
                found.extend(wallet(node, miner, keys, &key, may_sign, !found.is_empty()).await?);
            }
        }
        if let Ok(rules) = rules {
            poor.extend(funds(node, miner, rules, &key, head).await?);
        }
    }
    // One that can pay is enough to go on, but every other one is told.
    found.extend(poor);
    Ok(found)
}

/// Why the messager does not sign for a key, if so; `what` says what for.
pub async fn lacks_sender(messager: &Messager, key: &Address, network: Network, what: &str) -> Option<Cause> {
    match messager.wallet_has(key, network).await {
        Ok(true) => None,
        Ok(false) => {
            let text = format!(
                "the messager may not use {key} to {what}: no wallet that it reaches has the key, or it is not bound to the \
                 user of chain.messager.token_file. Import it, and bind it with `sophon-auth user signer register`"
            );
            Some(Cause::to_mend(ErrorCode::MESSAGER_REFUSES, text))
        }
        Err(error) => Some(waits::of_messager_error(&error)),
    }
}

/// Checks that the node's wallet signs for a sender whose key no file has. `may_sign`: the token permits it, as far as this was
/// not told before. `is_told`: a finding says already that the token permits too little.
async fn wallet<T: Transport>(
    node: &NodeClient<T>,
    miner: &Miner,
    keys: &LocalKeys,
    key: &Address,
    may_sign: bool,
    is_told: bool,
) -> Result<Option<Finding>, ChainError> {
    let wallet = match node.wallet_has(key).await {
        Ok(true) if may_sign => return Ok(None),
        Ok(true) => "the node's token does not permit `sign`",
        Ok(false) => "the node's wallet lacks it",
        Err(ChainError::Unauthorized { .. }) if is_told => return Ok(None),
        Err(error) => return Err(error),
    };
    let miner = miner.id;
    let mut text = format!(
        "no file of chain.key_files has the key of {key}, which sends the messages of miner {miner}, and {wallet}"
    );
    for trouble in keys.addresses().await.into_iter().filter_map(Result::err) {
        text += &format!("; {trouble}");
    }
    Ok(Some(Finding::holds(Cause::to_mend(ErrorCode::WALLET_KEY_MISSING, text))))
}

/// Whether a miner accepts messages from an address.
pub async fn is_sender<T: Transport>(
    node: &NodeClient<T>,
    info: &MinerInfo,
    sender: &Address,
    tipset: &TipSetKey,
) -> Result<bool, ChainError> {
    let named = [&info.owner, &info.worker].into_iter().chain(&info.control_addresses);
    let named: Vec<&Address> = named.collect();
    if named.contains(&sender) {
        return Ok(true);
    }
    match node.lookup_id(sender, tipset).await {
        Ok(id) => Ok(named.contains(&&id)),
        Err(error) if error.is_actor_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

/// The senders of a kind of a miner's messages, if the miner accepts them: they may have been removed on chain since the start.
/// The preferred one comes first.
pub async fn senders<T: Transport>(
    node: &NodeClient<T>,
    configured: Option<&Miner>,
    kind: MessageKind,
    info: &MinerInfo,
    tipset: &TipSetKey,
) -> Result<Result<Vec<Address>, NotASender>, ChainError> {
    match configured {
        Some(miner) => senders_among(node, miner.id, miner.senders(kind), info, tipset).await,
        None => Ok(Ok(vec![info.worker])),
    }
}

/// The same of these configured addresses; the worker if there are none.
pub async fn senders_among<T: Transport>(
    node: &NodeClient<T>,
    miner: MinerId,
    configured: &[String],
    info: &MinerInfo,
    tipset: &TipSetKey,
) -> Result<Result<Vec<Address>, NotASender>, ChainError> {
    let mut senders = Vec::new();
    for text in configured {
        // The text was checked when the configuration was loaded.
        let Ok((sender, _)) = json::parse_address(text) else { continue };
        if !is_sender(node, info, &sender, tipset).await? {
            return Ok(Err(not_a_sender(miner, text)));
        }
        senders.push(sender);
    }
    if senders.is_empty() {
        senders.push(info.worker);
    }
    Ok(Ok(senders))
}

/// The error for a configured sender that is not an address of the miner.
pub fn not_a_sender(miner: MinerId, sender: &str) -> NotASender {
    NotASender { miner, sender: sender.to_owned() }
}

/// Checks that the sender can pay one deposit. Only a warning, because funds may arrive while a sector is sealed.
async fn funds<T: Transport>(
    node: &NodeClient<T>,
    miner: &Miner,
    rules: Rules,
    key: &Address,
    head: &TipSet,
) -> Result<Option<Finding>, ChainError> {
    let expiration =
        rules.choose_expiration(head.height, head.height, wanted_expiration(miner.lifetime_days, head.height));
    // The deposit does not depend on the commitment.
    let (Ok(expiration), Ok(sealed_cid)) = (expiration, sealed_cid(&[0; 32])) else { return Ok(None) };
    let sector = SectorPreCommitInfo {
        seal_proof: miner.sector_size.seal_proof().number().into(),
        sector_number: 0,
        sealed_cid,
        seal_rand_epoch: head.height,
        deal_ids: Vec::new(),
        expiration,
        unsealed_cid: None,
    };
    let deposit = node.pre_commit_deposit_for_power(&address(miner.id), &sector, &head.key).await?;
    let balance = node.get_actor(key, &head.key).await?.map_or_else(TokenAmount::default, |actor| actor.balance);
    Ok((balance < deposit).then(|| {
        let text = format!(
            "{key}, which sends the messages of miner {}, has {} attoFIL; the deposit of one PreCommit is {} attoFIL",
            miner.id,
            balance.atto(),
            deposit.atto()
        );
        Finding { cause: Cause::to_mend(ErrorCode::FUNDS_MISSING, text), holds: false }
    }))
}
