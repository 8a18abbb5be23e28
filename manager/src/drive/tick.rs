//! One tick: looks at everything that is due and waits for the chain.
//!
//! Sectors and messages are processed concurrently, with a bound, and a failure affects only its own sector. Messages do
//! not wait for other sectors, and what expires first goes first. A sector with open messages is processed before its
//! messages, so that a message never ends before its sector knows. Signing comes last, one message after the other for
//! each miner, so that a new nonce comes after those of the messages that are already signed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
    time::Duration,
};

use futures::{StreamExt, TryStreamExt, future, stream};
use sealbus_schema::{ErrorClass, ErrorCode, ErrorReport, MinerId, SectorId, workflows::Input};

use super::{DriveError, Driver, Step, View, lock};
use crate::{
    chain::Transport,
    intents,
    store::{Due, Look, Message, MessageState, StoreError},
    waits::{self, Subject},
};

/// How much time one tick may lose in calls that time out. After that the tick ends, and the next one continues behind
/// the last item that lost time.
pub(super) const LOST_LIMIT: Duration = Duration::from_secs(60);
/// How many sectors one tick processes. This bounds its memory, and how long a new head waits.
const DUE_MAX: u32 = 10_000;

/// What one tick collects.
#[derive(Debug, Default)]
struct Round {
    lost: Mutex<Duration>,
    /// When each processed sector is due next.
    looks: Mutex<Vec<Look>>,
}

/// What is due of one sector: the sector itself, its messages, or both.
#[derive(Debug, Default)]
struct Item {
    due: Option<Due>,
    /// Messages that have a nonce and are followed.
    followed: Vec<Message>,
}

impl<T: Transport + 'static> Driver<T> {
    /// Processes everything that is due. A failure affects only its own sector. The tick ends early only if the node does
    /// not answer at all, or if calls took too long.
    pub async fn tick(&self) -> Result<(), DriveError> {
        let head = self.present_head().await?;
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
        // A sector that waits stays due. So if all due sectors were read, a wait without one of them is over.
        self.waits.keep_only(if all_are_read { &["sector", "message"] } else { &["message"] }, &there);
        Ok(())
    }

    /// Makes every sector due if the confident tipset of the last tick is no longer part of the chain. Does so at the
    /// first tick as well, because it is unknown what happened before.
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
            // The head went back a little. Keep the higher tipset that was confident.
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

    /// Stores when each sector is due next.
    async fn store_looks(&self, looks: Vec<Look>) -> Result<(), StoreError> {
        if looks.is_empty() {
            return Ok(());
        }
        let mut tx = self.store.begin_as(self.epoch).await?;
        tx.look_later(&looks).await?;
        tx.commit().await
    }

    /// Gives numbers to the sectors that should exist.
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

    /// Processes sectors and follows their messages, concurrently. What expires first begins first.
    async fn step_items(&self, view: &View, round: &Round, mut items: Vec<Item>) -> Result<(), DriveError> {
        items.sort_by_cached_key(|item| item.due.as_ref().and_then(|due| due.sector.last_epoch()).unwrap_or(i64::MAX));
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

    /// Signs messages, concurrently for different miners.
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

    /// Takes one step, unless its retry is not due yet. Keeps a failure with its sector. `None` if the step was not taken
    /// or has failed. An error ends the tick, because no other sector could continue either.
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
            // A commitment that is no field element stays so, so waiting does not help.
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
            // Check whether the node answers at all. If not, the tick ends.
            self.node.chain_head().await?;
        }
        Ok(None)
    }

    /// Starts behind the item that took too long the last time, so that nothing behind it starves.
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

    /// Adds lost time, and returns whether the tick is over.
    fn loses(&self, time: Duration) -> bool {
        *lock(&self.lost) += time;
        self.is_over()
    }
}

/// A message as the subject of a wait.
pub(super) fn subject_of(message: &Message) -> Subject {
    Subject::Message { key: message.key.clone(), sector: message.sector }
}
