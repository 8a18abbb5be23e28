//! Recoveries: faulty sectors of the next deadlines are read as for a proof, and those that can be read are declared as
//! recovered, before the epoch at which that is too late. The next proof of their partition then covers them.
//!
//! Nothing of this is stored but the errand. A manager that restarts reads again.

use fvm_ipld_bitfield::BitField;
use fvm_ipld_encoding::RawBytes;
use fvm_shared::{address::Address, econ::TokenAmount};
use sealbus_nats::post::PostSaid;
use sealbus_schema::{
    MinerId,
    post::{PostJob, PostKind, PostSubject},
};
use serde_json::json;
use time::OffsetDateTime;

use super::{
    Error, Memory, Proving,
    ahead::made_up,
    proof::ProofId,
    reads::Reads,
    ready::owes,
    tasks::Tasks,
    turn::{Turn, turns_ahead},
};
use crate::{
    chain::{
        Transport,
        params::{DeclareFaultsRecoveredParams, METHOD_DECLARE_FAULTS_RECOVERED, RecoveryDeclaration},
        types::{Epoch, Partition, ProvingDeadline, TipSet},
    },
    drive::address,
    errands::{Draft, Role, sectors::ranges},
    preflight,
};

/// The kind of the errand.
pub const RECOVER: &str = "recover";
/// Who asks for it, in the audit.
const BY: &str = "proving";
/// For how many deadlines ahead faulty sectors are read. The first of them is the last whose recoveries can be declared.
const TURNS: usize = 4;

/// The faulty sectors of a partition that are being read.
pub struct Recovering {
    of: PostSubject,
    turn: Turn,
    reads: Reads,
    /// When tasks were offered last.
    offered: Option<Epoch>,
    heard: Vec<PostSaid>,
    /// Whether the recovery is asked for, or nothing could be read.
    done: bool,
}

impl Recovering {
    /// Whether a job is this one's.
    pub fn is_of(&self, miner: MinerId, job: &PostJob) -> bool {
        self.of.miner == miner && self.of.job == *job
    }

    /// Its deadline's turn.
    pub const fn turn(&self) -> &Turn {
        &self.turn
    }

    /// Remembers what a worker says until the next look.
    pub fn hear(&mut self, said: &PostSaid) {
        self.heard.push(said.clone());
    }
}

impl<T: Transport, B: Tasks> Proving<'_, T, B> {
    /// Looks for faulty sectors once a deadline, and goes on with those that are being read.
    pub(super) async fn recover(
        &self,
        memory: &mut Memory,
        miner: MinerId,
        told: &ProvingDeadline,
        head: &TipSet,
    ) -> Result<(), Error> {
        let open = (told.period_start, told.index);
        if memory.looked_for_faults.get(&miner) != Some(&open) {
            for turn in turns_ahead(told, head.height, TURNS) {
                self.read_faulty(memory, miner, &turn, head).await?;
            }
            memory.looked_for_faults.insert(miner, open);
        }
        let Memory { recovering, queues, .. } = memory;
        recovering.retain(|id, recovering| id.miner != miner || head.height < recovering.turn.fault_cutoff);
        for (id, recovering) in recovering.iter_mut().filter(|(id, recovering)| id.miner == miner && !recovering.done) {
            for said in std::mem::take(&mut recovering.heard) {
                recovering.reads.hear(&said.worker, &said.report, head.height);
            }
            let is_last = head.height >= recovering.turn.last_read_of_faulty();
            if recovering.reads.is_settled() || is_last {
                // The chain would refuse it. That is told with what the next proofs lack.
                if owes(self.node, miner, head).await?.is_positive() {
                    continue;
                }
                self.declare(*id, recovering, head).await?;
                recovering.done = true;
            } else if recovering.offered.is_none_or(|last| last < head.height) {
                recovering.offered = Some(head.height);
                let pieces = recovering.reads.pieces(head.height);
                let limit = self.millis_to(recovering.turn.last_read_of_faulty(), head);
                self.offer_pieces(queues, &recovering.of, recovering.reads.sectors(), pieces, (limit, true)).await?;
            }
        }
        Ok(())
    }

    /// Begins to read the faulty sectors of a deadline.
    async fn read_faulty(&self, memory: &mut Memory, miner: MinerId, turn: &Turn, head: &TipSet) -> Result<(), Error> {
        let partitions = self.node.miner_partitions(&address(miner), turn.deadline, &head.key).await?;
        for (partition, index) in partitions.iter().zip(0..) {
            let id = ProofId { miner, period: turn.period, deadline: turn.deadline, partition: index };
            let faulty = to_recover(partition);
            if faulty.is_empty() || memory.recovering.contains_key(&id) || self.is_asked_for(id).await? {
                continue;
            }
            let name = format!("r-{}-{}-{}", id.period, id.deadline, id.partition);
            let job = name.parse().map_err(|_| Error::Odd(format!("{name} is no name for tasks")))?;
            // Any challenge serves: what is wanted is a read of some leaves.
            let randomness = made_up(&format!("{miner} {name} {}", head.height));
            let proof = self.seal_proof(miner)?;
            let of = PostSubject { miner, job, post: PostKind::Window, proof, randomness };
            let reads = Reads::new(self.provables(miner, &faulty, head).await?);
            let (heard, turn) = (Vec::new(), *turn);
            memory.recovering.insert(id, Recovering { of, turn, reads, offered: None, heard, done: false });
        }
        Ok(())
    }

    async fn is_asked_for(&self, id: ProofId) -> Result<bool, Error> {
        let now = OffsetDateTime::now_utc();
        let open = self.store.errands_in_the_way(id.miner, RECOVER, now).await?;
        Ok(open.iter().any(|errand| errand.asked.detail["proof"] == json!(id.path())))
    }

    /// Asks for the recovery of what was read.
    async fn declare(&self, id: ProofId, recovering: &Recovering, head: &TipSet) -> Result<(), Error> {
        for (number, why) in recovering.reads.unread() {
            tracing::error!(sector = format!("{}/{number}", id.miner), why, "stays faulty: it cannot be read");
        }
        let read: Vec<u64> = recovering.reads.read().map(|(sector, _)| sector.number.0).collect();
        if read.is_empty() {
            return Ok(());
        }
        let info = self.node.miner_info(&address(id.miner), &head.key).await?;
        let configured = self.config.miner(id.miner).map(|miner| miner.post_senders()).unwrap_or_default();
        let senders = preflight::senders_among(self.node, id.miner, configured, &info, &head.key).await??;
        let sender = senders.first().copied().unwrap_or(info.worker);
        let draft = recovery(id, &read, sender, recovering.turn.fault_cutoff)?;
        let errand = draft.asked_by(BY);
        let mut tx = self.store.begin_as(self.epoch).await?;
        tx.ask_errand(&errand).await?;
        tx.commit().await?;
        self.changed.ring();
        tracing::info!(proof = %id, sectors = ranges(&read), "faulty sectors can be read again; their recovery is asked for");
        Ok(())
    }
}

/// The faulty sectors of a partition that are not declared as recovered.
fn to_recover(partition: &Partition) -> Vec<u64> {
    let live =
        |number: &u64| partition.live_sectors.contains(*number) && !partition.recovering_sectors.contains(*number);
    partition.faulty_sectors.iter().filter(live).collect()
}

/// The message that declares sectors of a partition as recovered, until an epoch.
pub fn recovery(id: ProofId, numbers: &[u64], sender: Address, until: Epoch) -> Result<Draft, Error> {
    let bad = |error: &dyn std::fmt::Display| Error::Odd(format!("the recovery of {id}: {error}"));
    let sectors = BitField::try_from_bits(numbers.iter().copied()).map_err(|error| bad(&error))?;
    let recovery = RecoveryDeclaration { deadline: id.deadline, partition: id.partition, sectors };
    let params = RawBytes::serialize(DeclareFaultsRecoveredParams { recoveries: vec![recovery] });
    Ok(Draft {
        miner: Some(id.miner),
        kind: RECOVER,
        role: Role::Sender,
        sender,
        receiver: address(id.miner),
        method: METHOD_DECLARE_FAULTS_RECOVERED,
        params: params.map_err(|error| bad(&error))?,
        value: TokenAmount::default(),
        what: format!("declare {} sector(s) of {id} as recovered", numbers.len()),
        follows: "their next proof ends the fault".to_owned(),
        detail: json!({ "sectors": ranges(numbers), "proof": id.path(), "until_epoch": until }),
    })
}
