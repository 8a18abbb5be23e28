//! One tick: looks at everything that is due and waits for the chain.
//!
//! Sectors and calls are processed concurrently, with a bound, and a failure affects only its own sector. A call waits for
//! no other sectors than those that it carries, and what expires first goes first. Sectors are processed before the calls
//! that carry them, so that a message never ends before its sector knows. Signing comes last, one call after the other for
//! each miner, so that a new nonce comes after those of the calls that are already signed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Mutex,
    time::Duration,
};

use futures::{StreamExt, TryStreamExt, future, stream};
use sealbus_schema::{ErrorClass, ErrorCode, ErrorReport, MinerId, SectorId, workflows::Input};

use super::{DriveError, Driver, Step, View, lock};
use crate::{
    chain::{Transport, randomness::FINALITY},
    intents,
    store::{Due, Look, Message, MessageKind, MessageState, StoreError},
    waits::{self, Subject},
};

/// How much time one tick may lose in calls that time out. After that the tick ends, and the next one continues behind
/// the last item that lost time.
pub(super) const LOST_LIMIT: Duration = Duration::from_secs(60);
/// How many sectors one tick processes. This bounds its memory, and how long a new head waits.
const DUE_MAX: u32 = 10_000;

/// What one tick collects.
#[derive(Debug, Default)]
pub(super) struct Round {
    lost: Mutex<Duration>,
    /// When each processed sector is due next.
    looks: Mutex<Vec<Look>>,
}

/// What is processed in order: sectors, and then the calls that carry them. Nothing else touches these sectors meanwhile.
#[derive(Debug, Default)]
struct Item {
    sectors: BTreeSet<SectorId>,
    due: Vec<Due>,
    /// Calls that have a nonce and are followed, each with what it carries and what has not ended.
    calls: Vec<Vec<Message>>,
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
        let mut items = Vec::new();
        for call in calls(followed) {
            add_call(&mut items, call);
        }
        let with_wants: BTreeSet<SectorId> = wanted.iter().filter_map(|message| message.sector).collect();
        let mut others = Vec::new();
        for due in sectors {
            let id = due.sector.id;
            let own = || Item { sectors: BTreeSet::from([id]), ..Item::default() };
            match items.iter_mut().find(|item: &&mut Item| item.sectors.contains(&id)) {
                Some(item) => item.due.push(due),
                None if with_wants.contains(&id) => items.push(Item { due: vec![due], ..own() }),
                None => others.push(Item { due: vec![due], ..own() }),
            }
        }
        let round = Round::default();
        let messages = async {
            self.step_items(&view, &round, items).await?;
            match self.is_settling(&view, &wanted).await? {
                true => Ok(()),
                false => self.sign_all(&view, &round, wanted).await,
            }
        };
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
            tx.follow_errands_again(view.lagged.height - FINALITY).await?;
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

    /// Processes sectors and follows their calls, concurrently. What expires first begins first.
    async fn step_items(&self, view: &View, round: &Round, mut items: Vec<Item>) -> Result<(), DriveError> {
        let until = |due: &Due| due.sector.last_epoch().unwrap_or(i64::MAX);
        items.sort_by_cached_key(|item| item.due.iter().map(until).min().unwrap_or(i64::MAX));
        self.rotate(&mut items, Item::subject);
        let parallel = self.config.chain.parallel_requests;
        let step = |item: Item| async move {
            let sectors = item.due.into_iter().map(|due| self.step_due(view, round, due));
            stream::iter(sectors).buffer_unordered(parallel).try_collect::<()>().await?;
            for call in item.calls {
                let subjects: Vec<_> = call.iter().map(subject_of).collect();
                let sector = call.first().and_then(|message| message.sector);
                self.step(round, &subjects, sector, self.follow_up(view, call)).await?;
            }
            Ok::<(), DriveError>(())
        };
        stream::iter(items.into_iter().map(step)).buffer_unordered(parallel).try_collect().await
    }

    async fn step_due(&self, view: &View, round: &Round, due: Due) -> Result<(), DriveError> {
        let id = due.sector.id;
        let stepped = self.step(round, &[Subject::Sector(id)], Some(id), self.step_sector(view, &due.sector)).await?;
        if let Some(Step::Later(epoch)) = stepped {
            lock(&round.looks).push(due.later(epoch));
        }
        Ok(())
    }

    /// Signs messages, concurrently for different miners.
    async fn sign_all(&self, view: &View, round: &Round, mut messages: Vec<Message>) -> Result<(), DriveError> {
        self.rotate(&mut messages, |message| Some(subject_of(message)));
        let mut of_miners: BTreeMap<MinerId, Vec<Message>> = BTreeMap::new();
        for message in messages {
            of_miners.entry(message.miner).or_default().push(message);
        }
        let sign = |(miner, messages): (MinerId, Vec<Message>)| async move {
            let mut prepared = Vec::new();
            for message in messages {
                let (subject, sector) = (subject_of(&message), message.sector);
                if message.kind == MessageKind::Errand {
                    let signing = async { self.sign_errand(view, &message).await.map(|()| Step::GoesOn) };
                    self.step(round, &[subject], None, signing).await?;
                    continue;
                }
                let trying = self.prepare(view, message);
                // What is held waits for others, and must be there when they come.
                let due = self.is_held(&subject) || self.waits.is_due(&subject);
                match self.attempt_if(due, round, std::slice::from_ref(&subject), sector, trying).await? {
                    Some(Some(one)) => prepared.push(one),
                    Some(None) => self.waits.goes_on(&subject),
                    None => {}
                }
            }
            self.sign_prepared(view, round, miner, prepared).await
        };
        stream::iter(of_miners.into_iter().map(sign))
            .buffer_unordered(self.config.chain.parallel_requests)
            .try_collect()
            .await
    }

    /// Takes one step, unless its retry is not due yet. Keeps a failure with its subjects. `None` if the step was not taken
    /// or has failed. An error ends the tick, because nothing else could continue either.
    pub(super) async fn step(
        &self,
        round: &Round,
        subjects: &[Subject],
        sector: Option<SectorId>,
        step: impl Future<Output = Result<Step, DriveError>>,
    ) -> Result<Option<Step>, DriveError> {
        let due = subjects.iter().any(|subject| self.waits.is_due(subject));
        self.step_if(due, round, subjects, sector, step).await
    }

    /// Whether something waits for others, and not for a retry.
    pub(super) fn is_held(&self, subject: &Subject) -> bool {
        self.waits.cause(subject).is_some_and(|cause| cause.code == ErrorCode::MESSAGE_HELD)
    }

    /// The same as [`Self::step`], if it is due.
    pub(super) async fn step_if(
        &self,
        due: bool,
        round: &Round,
        subjects: &[Subject],
        sector: Option<SectorId>,
        step: impl Future<Output = Result<Step, DriveError>>,
    ) -> Result<Option<Step>, DriveError> {
        let stepped = self.attempt_if(due, round, subjects, sector, step).await?;
        if stepped.is_some_and(|step| step != Step::Undecided) {
            for subject in subjects {
                self.waits.goes_on(subject);
            }
        }
        Ok(stepped)
    }

    /// Tries something whose retry is due, like [`Self::step`], but leaves the waits as they are if it succeeds.
    pub(super) async fn attempt_if<R>(
        &self,
        due: bool,
        round: &Round,
        subjects: &[Subject],
        sector: Option<SectorId>,
        attempt: impl Future<Output = Result<R, DriveError>>,
    ) -> Result<Option<R>, DriveError> {
        if !due || round.is_over() {
            return Ok(None);
        }
        let error = match attempt.await {
            Ok(done) => return Ok(Some(done)),
            // A commitment that is no field element stays so, so waiting does not help.
            Err(DriveError::Commitment(error)) if sector.is_some() => {
                let report = ErrorReport::from_error(ErrorClass::Perm, ErrorCode::PROTOCOL_VIOLATED, &error);
                if let Some(sector) = sector {
                    self.apply(sector, Input::Refused(report)).await?;
                }
                return Ok(None);
            }
            Err(DriveError::Store(error)) if !error.is_about_a_row() => return Err(error.into()),
            Err(error) => error,
        };
        let (cause, pause) = (waits::of_error(&error), self.config.chain.poll_interval());
        for subject in subjects {
            self.waits.waits(subject, cause.clone(), pause);
        }
        if let Some(chain) = waits::is_node_away(&error) {
            if round.loses(waits::takes_time(chain)) {
                *lock(&self.slow) = subjects.first().cloned();
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
        self.due.first().map(|due| Subject::Sector(due.sector.id))
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

/// Messages by the calls that carry them, in the order of their nonces.
fn calls(followed: Vec<Message>) -> Vec<Vec<Message>> {
    let mut calls: Vec<Vec<Message>> = Vec::new();
    for message in followed {
        match calls.last_mut() {
            Some(call) if call[0].state.call() == message.state.call() => call.push(message),
            _ => calls.push(vec![message]),
        }
    }
    calls
}

/// Adds a call to the item of its sectors. If they are in several items, these become one.
fn add_call(items: &mut Vec<Item>, call: Vec<Message>) {
    let mut item = Item { sectors: call.iter().filter_map(|message| message.sector).collect(), ..Item::default() };
    let mut at = 0;
    while at < items.len() {
        if items[at].sectors.is_disjoint(&item.sectors) {
            at += 1;
            continue;
        }
        let other = items.remove(at);
        item.sectors.extend(other.sectors);
        item.calls.extend(other.calls);
    }
    item.calls.push(call);
    items.push(item);
}
