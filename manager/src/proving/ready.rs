//! Whether what the next proofs need besides their sectors is there: workers that read, one that proves, a sender that can
//! pay. An alarm tells what is missing before the deadline opens.
//!
//! Whether workers are there is known by the queues: a worker that serves one waits for its next task, or works on one. A
//! heartbeat would say less, because a worker does not take tasks before its trial has passed, or while its store is away.

use std::collections::{BTreeMap, BTreeSet};

use fvm_shared::{address::Address, econ::TokenAmount};
use sealbus_nats::post::{PostQueue, PostTakers};
use sealbus_schema::{ErrorCode, MinerId};

use super::{Error, Memory, Proving, tasks::Tasks};
use crate::{
    chain::{
        NodeClient, Transport,
        types::{Epoch, TipSet},
    },
    config::Config,
    drive::address,
    errands::fil::shown,
    preflight,
    waits::{Cause, Subject},
};

/// The gas of the message with a proof, in units, rounded up: some 120 million if the chain verifies it at once, as it does
/// with recovering sectors, and less otherwise.
const PROOF_GAS: i64 = 200_000_000;

/// What is there for a miner's next proofs.
#[derive(Clone, Debug, Default)]
pub struct Ready {
    /// The workers that read, by store. `None`: there is no queue, so nobody can.
    pub readers: BTreeMap<String, Option<PostTakers>>,
    /// The workers that prove.
    pub provers: Option<PostTakers>,
    /// The senders with their balances, the preferred one first.
    pub senders: Vec<(Address, TokenAmount)>,
    /// What the messages may cost at the present base fee.
    pub fees: TokenAmount,
    /// What the miner owes beyond what it has unlocked. The chain takes no recovery before it is paid.
    pub owes: TokenAmount,
}

/// What was missing at a look.
#[derive(Debug, Default)]
pub struct Lacks {
    at: Epoch,
    what: BTreeMap<Lack, String>,
}

/// Something that is missing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lack {
    /// A worker that reads in this store.
    Reader(String),
    /// A worker that proves.
    Prover,
    /// A sender that can pay.
    Funds,
    /// Funds of the miner, which is in debt.
    Debt,
}

impl Ready {
    /// What is missing, in words.
    pub fn lacks(&self) -> BTreeMap<Lack, String> {
        let is_nobody = |takers: &Option<PostTakers>| !takers.is_some_and(|takers| takers.is_somebody());
        let mut lacks = BTreeMap::new();
        for (store, _) in self.readers.iter().filter(|(_, takers)| is_nobody(takers)) {
            lacks.insert(Lack::Reader(store.clone()), format!("no worker reads in the store `{store}`"));
        }
        if is_nobody(&self.provers) {
            lacks.insert(Lack::Prover, "no worker proves".to_owned());
        }
        if !self.senders.is_empty() && self.senders.iter().all(|(_, balance)| *balance < self.fees) {
            let senders: Vec<String> =
                self.senders.iter().map(|(sender, balance)| format!("{sender} has {} FIL", shown(balance))).collect();
            let (fees, senders) = (shown(&self.fees), senders.join(", "));
            lacks.insert(Lack::Funds, format!("no sender can pay: the messages may cost {fees} FIL, and {senders}"));
        }
        if self.owes.is_positive() {
            let text = format!(
                "the miner owes {} FIL beyond what it has unlocked, and no fault can be recovered: `miners repay-debt`",
                shown(&self.owes)
            );
            lacks.insert(Lack::Debt, text);
        }
        lacks
    }
}

/// What a miner owes beyond what it has unlocked.
pub async fn owes<T: Transport>(node: &NodeClient<T>, miner: MinerId, head: &TipSet) -> Result<TokenAmount, Error> {
    let available = node.available_balance(&address(miner), &head.key).await?;
    Ok((TokenAmount::default() - available).max(TokenAmount::default()))
}

/// Looks at what is there for `proofs` proofs of a miner's sectors in these stores.
pub async fn ready<T: Transport, B: Tasks>(
    (node, tasks, config): (&NodeClient<T>, &B, &Config),
    miner: MinerId,
    stores: &BTreeSet<String>,
    proofs: u64,
    head: &TipSet,
) -> Result<Ready, Error> {
    let mut ready = Ready::default();
    for store in stores {
        let queue = PostQueue::Reads { miner, store: store.clone() };
        ready.readers.insert(store.clone(), tasks.takers(&queue).await?);
    }
    ready.provers = tasks.takers(&PostQueue::Proves { miner }).await?;
    let info = node.miner_info(&address(miner), &head.key).await?;
    let configured = config.miner(miner).map(|miner| miner.post_senders()).unwrap_or_default();
    for sender in preflight::senders_among(node, miner, configured, &info, &head.key).await?? {
        let actor = node.get_actor(&sender, &head.key).await?;
        ready.senders.push((sender, actor.map(|actor| actor.balance).unwrap_or_default()));
    }
    ready.owes = owes(node, miner, head).await?;
    ready.fees = head.base_fee().cloned().unwrap_or_default() * PROOF_GAS * proofs;
    Ok(ready)
}

impl<T: Transport, B: Tasks> Proving<'_, T, B> {
    /// Looks from time to time whether the next deadline with sectors has what it needs. What is missing twice in a row is
    /// told: a worker may be between two tasks.
    pub(super) async fn look_for_lacks(&self, memory: &mut Memory, miner: MinerId, head: &TipSet) -> Result<(), Error> {
        let subject = Subject::NextProofs(miner);
        let coming = || memory.ahead.iter().filter(|(id, _)| id.miner == miner);
        let recovering = memory.recovering.iter().filter(|(id, _)| id.miner == miner);
        let turns =
            coming().map(|(_, ahead)| *ahead.turn()).chain(recovering.map(|(_, recovering)| *recovering.turn()));
        let Some(next) = turns.min_by_key(|turn| turn.open) else {
            memory.lacks.remove(&miner);
            self.waits.goes_on(&subject);
            return Ok(());
        };
        let pause = (next.window() / 12).max(1);
        if memory.lacks.get(&miner).is_some_and(|lacks| head.height < lacks.at + pause) {
            return Ok(());
        }
        let of_next: Vec<_> = coming().filter(|(_, ahead)| ahead.turn().open == next.open).collect();
        let stores: BTreeSet<String> = of_next.iter().flat_map(|(_, ahead)| ahead.stores()).cloned().collect();
        let proofs = of_next.len() as u64;
        // Workers can wait only at queues that exist.
        let reads = stores.iter().map(|store| PostQueue::Reads { miner, store: store.clone() });
        for queue in reads.chain([PostQueue::Proves { miner }]) {
            self.ensure(&mut memory.queues, queue).await?;
        }
        let ready = ready((self.node, self.tasks, self.config), miner, &stores, proofs, head).await?;
        let what = ready.lacks();
        let before = memory.lacks.insert(miner, Lacks { at: head.height, what: what.clone() }).unwrap_or_default();
        let lasting: Vec<&str> =
            what.iter().filter(|(lack, _)| before.what.contains_key(lack)).map(|(_, text)| text.as_str()).collect();
        if lasting.is_empty() {
            self.waits.goes_on(&subject);
            return Ok(());
        }
        let text = format!(
            "{}; deadline {} with {proofs} proof(s) opens at epoch {}, in {} epochs",
            lasting.join("; "),
            next.deadline,
            next.open,
            next.open - head.height
        );
        let cause = Cause::to_mend(ErrorCode::POST_AT_RISK, text);
        self.waits.waits(&subject, cause, self.config.chain.poll_interval());
        Ok(())
    }
}
