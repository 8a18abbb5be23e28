//! One look at everything that waits for the chain.
//!
//! Sectors and messages are looked at side by side, with a bound; each has its own trouble. Messages do not wait for the
//! other sectors, and what expires first goes first. A sector with open messages is looked at before them, so that a message
//! never learns of its end before its sector does. Signing comes last and is one after the other for each miner: a nonce is
//! taken behind those that are followed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
    time::Duration,
};

use futures::{StreamExt, TryStreamExt, future, stream};
use sealbus_schema::{
    ErrorClass, ErrorCode, ErrorReport, MinerId, SectorId, machine::manager::AtStake, workflows::Input,
};

use super::{DriveError, Driver, Step, View, lock};
use crate::{
    chain::Transport,
    intents,
    store::{Due, Job, Look, Message, MessageState, StoreError},
    waits::{self, Subject},
};

/// How long calls of one tick may be waited for in vain, before the next tick goes on behind them.
pub(super) const LOST_LIMIT: Duration = Duration::from_secs(60);
/// How many sectors one tick looks at: a bound of its memory, and of how long a new head may wait.
const DUE_MAX: u32 = 10_000;

/// What becomes of one tick.
#[derive(Debug, Default)]
struct Round {
    lost: Mutex<Duration>,
    /// When the sectors that were looked at are looked at next.
    looks: Mutex<Vec<Look>>,
}

/// What belongs to one sector. There is a sector, or a message, or both.
#[derive(Debug, Default)]
struct Item {
    due: Option<Due>,
    /// Those with a nonce, which are followed.
    followed: Vec<Message>,
}

impl<T: Transport + 'static> Driver<T> {
    /// One round over everything. What fails stays with its sector; only when the node does not answer at all, or calls
    /// took too long, the round ends.
    pub async fn tick(&self) -> Result<(), DriveError> {
        let head = self.node.chain_head().await?;
        let lagged = self.node.lagged_tipset(&head, self.config.chain.confidence_epochs).await?;
        self.judge_head(&head);
        let view = View { head, lagged };
        self.compare_chains(&view).await?;
        self.give_out().await?;
        let sectors = self.store.due(view.head.height, DUE_MAX).await?;
        let all_are_read = sectors.len() < DUE_MAX as usize;
        let messages = self.store.open_messages().await?;
        let mut there: BTreeSet<Subject> = sectors.iter().map(|due| Subject::Sector(due.sector.id)).collect();
        there.extend(messages.iter().map(subject_of));
        self.forget_pushed(&messages);

        let (wanted, followed): (Vec<_>, Vec<_>) =
            messages.into_iter().partition(|message| matches!(message.state, MessageState::Wanted));
        let mut items: BTreeMap<SectorId, Item> = BTreeMap::new();
        for message in followed {
            items.entry(message.sector).or_default().followed.push(message);
        }
        for message in &wanted {
            items.entry(message.sector).or_default();
        }
        let (with_messages, others): (Vec<_>, Vec<_>) =
            sectors.into_iter().partition(|due| items.contains_key(&due.sector.id));
        for due in with_messages {
            let item = items.entry(due.sector.id).or_default();
            item.due = Some(due);
        }
        let round = Round::default();
        let messages = async {
            self.step_items(&view, &round, items.into_values().collect()).await?;
            self.sign_all(&view, &round, wanted).await
        };
        let others = others.into_iter().map(|due| Item { due: Some(due), followed: Vec::new() }).collect();
        future::try_join(messages, self.step_items(&view, &round, others)).await?;
        self.store_looks(round.looks.into_inner().unwrap_or_default()).await?;
        // What waits stays due.
        self.waits.keep_only(if all_are_read { &["sector", "message"] } else { &["message"] }, &there);
        Ok(())
    }

    /// Makes every sector due if what was confident at the last tick is not part of the chain any more, and at the first
    /// tick, because nobody knows what happened before it.
    async fn compare_chains(&self, view: &View) -> Result<(), DriveError> {
        let known = lock(&self.confident).clone();
        let stands = match &known {
            Some(known) if known.key == view.lagged.key => return Ok(()),
            Some(known) if known.height <= view.head.height => {
                self.node.tipset_by_height(known.height, &view.head.key).await?.key == known.key
            }
            _ => false,
        };
        if stands && known.as_ref().is_some_and(|known| known.height > view.lagged.height) {
            // The head went back a little: more than this is known.
            return Ok(());
        }
        if !stands {
            if let Some(known) = known {
                let (was, is) = (known.height, view.lagged.height);
                tracing::warn!(
                    was,
                    is,
                    "a reorganisation went deeper than chain.confidence_epochs; looking at everything"
                );
            }
            let mut tx = self.store.begin_as(self.epoch).await?;
            tx.look_at_all().await?;
            tx.commit().await?;
        }
        *lock(&self.confident) = Some(view.lagged.clone());
        Ok(())
    }

    /// Stores when each sector is looked at next.
    async fn store_looks(&self, looks: Vec<Look>) -> Result<(), StoreError> {
        if looks.is_empty() {
            return Ok(());
        }
        let mut tx = self.store.begin_as(self.epoch).await?;
        tx.look_later(&looks).await?;
        tx.commit().await
    }

    /// Numbers the sectors that should exist.
    async fn give_out(&self) -> Result<(), StoreError> {
        let is_held = |miner| self.surroundings.is_held(miner);
        let as_holder = (self.epoch, &self.numbering);
        let reconciled = intents::reconcile(&self.store, &self.node, &self.config, as_holder, is_held).await?;
        if reconciled.changed {
            self.changed.ring();
        }
        self.tell_miners(&reconciled.short);
        Ok(())
    }

    /// Looks at sectors, and follows their messages, side by side; what expires first begins first.
    async fn step_items(&self, view: &View, round: &Round, mut items: Vec<Item>) -> Result<(), DriveError> {
        items.sort_by_cached_key(|item| item.due.as_ref().map_or(i64::MAX, |due| expires(&due.sector)));
        self.rotate(&mut items, Item::subject);
        let step = |item: Item| async move {
            if let Some(due) = &item.due {
                let sector = &due.sector;
                let stepped = self.step_sector(view, sector);
                if let Some(Step::Later(epoch)) =
                    self.step(round, Subject::Sector(sector.id), sector.id, stepped).await?
                {
                    lock(&round.looks).push(due.later(epoch));
                }
            }
            for message in item.followed {
                let (subject, sector) = (subject_of(&message), message.sector);
                self.step(round, subject, sector, self.follow_up(view, message)).await?;
            }
            Ok::<(), DriveError>(())
        };
        stream::iter(items.into_iter().map(step))
            .buffer_unordered(self.config.chain.parallel_requests)
            .try_collect()
            .await
    }

    /// Signs messages: side by side for different miners.
    async fn sign_all(&self, view: &View, round: &Round, mut messages: Vec<Message>) -> Result<(), DriveError> {
        self.rotate(&mut messages, |message| Some(subject_of(message)));
        let mut of_miners: BTreeMap<MinerId, Vec<Message>> = BTreeMap::new();
        for message in messages {
            of_miners.entry(message.sector.miner).or_default().push(message);
        }
        let sign = |messages: Vec<Message>| async move {
            for message in messages {
                let (subject, sector) = (subject_of(&message), message.sector);
                self.step(round, subject, sector, self.follow_up(view, message)).await?;
            }
            Ok::<(), DriveError>(())
        };
        stream::iter(of_miners.into_values().map(sign))
            .buffer_unordered(self.config.chain.parallel_requests)
            .try_collect()
            .await
    }

    /// Takes one step, if it is time to try, and lets one sector's trouble be that sector's. `None` if it was not taken or
    /// failed. An error ends the round: nobody else could go on either.
    async fn step(
        &self,
        round: &Round,
        subject: Subject,
        sector: SectorId,
        step: impl Future<Output = Result<Step, DriveError>>,
    ) -> Result<Option<Step>, DriveError> {
        if !self.waits.is_due(&subject) || round.is_over() {
            return Ok(None);
        }
        let error = match step.await {
            Ok(step) => {
                if step != Step::Undecided {
                    self.waits.goes_on(&subject);
                }
                return Ok(Some(step));
            }
            // No waiting turns it into another one.
            Err(DriveError::Commitment(error)) => {
                let report = ErrorReport::from_error(ErrorClass::Perm, ErrorCode::PROTOCOL_VIOLATED, &error);
                self.apply(sector, Input::Refused(report)).await?;
                return Ok(None);
            }
            Err(DriveError::Store(error)) if !error.is_about_a_row() => return Err(error.into()),
            Err(error) => error,
        };
        self.waits.waits(&subject, waits::of_error(&error), self.config.chain.poll_interval());
        if let Some(chain) = waits::is_node_away(&error) {
            if round.loses(waits::takes_time(chain)) {
                *lock(&self.slow) = Some(subject);
            }
            // Does it answer at all?
            self.node.chain_head().await?;
        }
        Ok(None)
    }

    /// Goes on behind what took too long the last time, so that nothing behind it starves.
    fn rotate<I>(&self, items: &mut [I], subject: impl Fn(&I) -> Option<Subject>) {
        let slow = lock(&self.slow).clone();
        if let Some(at) = slow.and_then(|slow| items.iter().position(|item| subject(item).as_ref() == Some(&slow))) {
            items.rotate_left(at + 1);
        }
    }
}

impl Item {
    fn subject(&self) -> Option<Subject> {
        self.due.as_ref().map(|due| Subject::Sector(due.sector.id))
    }
}

impl Round {
    fn is_over(&self) -> bool {
        *lock(&self.lost) >= LOST_LIMIT
    }

    /// Counts what was lost, and says whether the round is over.
    fn loses(&self, time: Duration) -> bool {
        *lock(&self.lost) += time;
        self.is_over()
    }
}

/// Until which epoch a job can reach what it waits for on chain.
fn expires(job: &Job) -> i64 {
    match job.state.at_stake() {
        AtStake::Deposit(precommit) => precommit.prove_by_epoch,
        AtStake::Ticket(ticket) => ticket.expires_epoch,
        AtStake::Slot | AtStake::Nothing => i64::MAX,
    }
}

/// A message as something that waits.
pub(super) fn subject_of(message: &Message) -> Subject {
    Subject::Message { key: message.key.clone(), sector: message.sector }
}
