//! Checks that a directory is the right slot, before a sector is taken into it and before its files are touched.
//!
//! Each slot has a file with a random id. The manager remembers the ids of each worker's slots and sends them with the
//! standing orders, which a worker reads before it takes a sector. So an empty directory in the place of a known slot is
//! a disk that is away, never a free slot. Only an unknown directory becomes a new slot.

use sealbus_schema::{ErrorClass, ErrorReport, WorkerName, identity::SlotIdentity};

use super::{Context, SlotLost, insist_unless_lost};
use crate::{
    identity,
    slot::Slot,
    stage::{StageCode, StageError},
};

/// How a directory without a sector is judged.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Judgement {
    /// It is the right slot.
    Ours(String),
    /// It is unknown: a new slot.
    New,
    /// It is something else, or nothing.
    Refused(StageError),
}

/// Reads a slot's identity file, and fails if the slot belongs to another worker. Files in another worker's slot must not
/// be touched.
///
/// # Errors
/// [`StageCode::SlotOfAnotherWorker`]; [`StageCode::SlotUnusable`] if the file cannot be read.
pub fn require_ours(slot: &Slot, worker: &WorkerName) -> Result<Option<SlotIdentity>, StageError> {
    let found = identity::read_slot(slot.path())?;
    match &found {
        Some(of) if of.worker != *worker => Err(of_another(&slot.name(), &of.worker, worker)),
        _ => Ok(found),
    }
}

/// The error for a slot, or a sector in it, that belongs to another worker.
pub fn of_another(name: &str, owner: &WorkerName, worker: &WorkerName) -> StageError {
    let message = format!(
        "slot {name}: what lies there is worker {owner}'s, and this is worker {worker}; nothing of it is touched. If the \
         worker was renamed, set worker.name back to \"{owner}\"; if the disk was moved, put it back. To give it up: \
         `sealbus-manager sectors resubmit --worker {owner} --elsewhere` for its sectors, then \
         `sealbus-manager slots release {worker} {name}`, which keeps the files in quarantine"
    );
    StageError::new(StageCode::SlotOfAnotherWorker, message)
}

/// Waits until an empty slot's directory is the right one. Makes an unknown directory a new slot.
pub(super) async fn settle(context: &Context, slot: &Slot) -> Result<(), SlotLost> {
    let mut said = None;
    loop {
        let known = match context.board.identity(slot.index()) {
            Some(remembered) => Some(remembered),
            None => context.orders.known_slot(&slot.name()).await,
        };
        let refused = match look(context, slot, known).await {
            Ok(Judgement::Ours(id)) => match context.board.identify(slot.index(), &id) {
                Ok(()) => break,
                Err(other) => copy_of(slot, &other),
            },
            Ok(Judgement::New) => {
                make(context, slot, None).await?;
                continue;
            }
            Ok(Judgement::Refused(error)) | Err(error) => error,
        };
        // After the disk was unmounted and mounted again, the directory must be opened again.
        if slot.operate(|| Ok(())).await.is_err() {
            return Err(SlotLost);
        }
        let report = ErrorReport::from_error(ErrorClass::Crit, refused.code.error_code(), &refused);
        if said.as_ref() != Some(&refused) {
            tracing::error!(slot = slot.name(), code = %report.code, "slot blocked: {}", report.message());
            said = Some(refused);
        }
        context.board.unreadable(slot.index(), context.named(slot, report));
        tokio::time::sleep(context.config.recover_interval).await;
    }
    context.board.empty(slot.index());
    if said.is_some() {
        tracing::info!(slot = slot.name(), "slot usable again");
    }
    Ok(())
}

/// A directory with a sector needs no other evidence. If it has no identity file, because it is older than these files,
/// it gets one.
pub(super) async fn settle_with_sector(context: &Context, slot: &Slot) -> Result<(), SlotLost> {
    let worker = context.config.name.clone();
    let (seen, of) = (slot.clone(), worker);
    let found = insist_unless_lost(context, slot, "read the slot's identity", move || require_ours(&seen, &of)).await?;
    let id = match found {
        Some(found) => found.id,
        None => make(context, slot, None).await?,
    };
    if let Err(other) = context.board.identify(slot.index(), &id) {
        tracing::error!(slot = slot.name(), other, "two slots have one id: one of them is a copy");
    }
    Ok(())
}

/// Makes a directory a slot. `replaces` is the id of the slot that a person gave up in its place.
pub(super) async fn make(context: &Context, slot: &Slot, replaces: Option<String>) -> Result<String, SlotLost> {
    let (path, worker) = (slot.path().to_owned(), context.config.name.clone());
    let made = insist_unless_lost(context, slot, "make the slot's identity", move || {
        identity::make_slot(&path, &worker, replaces.clone())
    })
    .await?;
    tracing::info!(slot = slot.name(), id = made.id, "the directory is a slot of this worker from now on");
    Ok(made.id)
}

async fn look(context: &Context, slot: &Slot, known: Option<String>) -> Result<Judgement, StageError> {
    let (seen, worker) = (slot.clone(), context.config.name.clone());
    slot.operate(move || {
        let found = require_ours(&seen, &worker)?;
        Ok(judge(&seen.name(), found.as_ref(), known.as_deref(), identity::is_unused(seen.path())?))
    })
    .await
}

fn judge(slot: &str, found: Option<&SlotIdentity>, known: Option<&str>, unused: bool) -> Judgement {
    let refused = |what: String| Judgement::Refused(StageError::new(StageCode::SlotUnusable, what));
    match (found, known) {
        (Some(found), Some(known)) if found.id != known && found.replaces.as_deref() != Some(known) => {
            refused(format!(
                "slot {slot}: its id is {}, and the slot that this worker has there is {known}: another disk is mounted here. \
             Mount the right one, or give up what was there with `sealbus-manager slots release`",
                found.id
            ))
        }
        (Some(found), _) => Judgement::Ours(found.id.clone()),
        (None, Some(known)) => {
            let what = if unused { "the directory is empty" } else { "the slot's file is not in it" };
            refused(format!(
                "slot {slot}: {what}, and the slot that this worker has there is {known}: its disk is probably not \
                 mounted. Mount it, or give up what was there with `sealbus-manager slots release`"
            ))
        }
        (None, None) => Judgement::New,
    }
}

fn copy_of(slot: &Slot, other: &str) -> StageError {
    let message = format!(
        "slot {}: it has the id of slot {other}, so one of them is a copy: take the copy out of worker.toml, or remove its \
         files",
        slot.name()
    );
    StageError::new(StageCode::SlotUnusable, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(id: &str, replaces: Option<&str>) -> SlotIdentity {
        SlotIdentity {
            id: id.to_owned(),
            worker: "w1".parse().expect("name"),
            path: "/a".to_owned(),
            replaces: replaces.map(str::to_owned),
            made_at_unix_secs: 0,
        }
    }

    #[test]
    fn an_empty_directory_is_a_new_slot_only_where_nobody_knows_of_one() {
        assert_eq!(judge("/a", None, None, true), Judgement::New);
        let away = |unused| match judge("/a", None, Some("x"), unused) {
            Judgement::Refused(error) => error,
            other => panic!("{other:?}"),
        };
        assert_eq!(away(true).code, StageCode::SlotUnusable);
        assert!(away(true).message.contains("not mounted") && away(false).message.contains("slots release"));
    }

    #[test]
    fn another_disk_in_the_place_of_a_slot_is_refused_unless_that_slot_was_given_up() {
        assert_eq!(judge("/a", Some(&slot("x", None)), None, false), Judgement::Ours("x".to_owned()));
        assert_eq!(judge("/a", Some(&slot("x", None)), Some("x"), false), Judgement::Ours("x".to_owned()));
        assert!(matches!(judge("/a", Some(&slot("y", None)), Some("x"), false), Judgement::Refused(_)));
        assert_eq!(judge("/a", Some(&slot("y", Some("x"))), Some("x"), false), Judgement::Ours("y".to_owned()));
    }
}
