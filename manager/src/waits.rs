//! Waits: what is being retried and why, whether it recovers by itself or needs a person.
//!
//! Everything that is retried at each tick is reported here. A [`Wait`] begins, changes its cause, and ends. The log
//! has one line for each of these, never one for each try. SQL has a row for as long as the wait lasts, so that the
//! command line can show what is stuck and why. [`book`] keeps the waits without IO; [`Waits`] logs and stores its
//! changes.

mod advice;
mod book;
mod cause;

use std::{
    collections::BTreeSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sealbus_schema::{ErrorClass, ErrorCode, ErrorReport, MinerId, SectorId};
use tokio::time::Instant;

use crate::{
    proving::proof::ProofId,
    store::{Store, StoreError},
};

pub use advice::{advice, is_mended_by_a_person};
pub use book::{Book, Change};
pub use cause::{is_node_away, of_error, of_messager_error, of_node_error, of_standing, takes_time};

/// How often tries and the manager's sign of life are stored while nothing changes.
const REFRESH: Duration = Duration::from_secs(10);
/// The most bytes of a cause's text that are kept.
const CAUSE_BYTES_MAX: usize = 4096;

/// The subject of a wait.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A sector.
    Sector(SectorId),
    /// A message to the chain.
    Message {
        /// The message's key.
        key: String,
        /// The sector that it is about, if it is about one.
        sector: Option<SectorId>,
    },
    /// Everything that concerns a miner.
    Miner(MinerId),
    /// A permanent store, by its name.
    Store(String),
    /// Everything that needs the chain.
    Node,
    /// One of several chain nodes, by its name. The others do its work.
    OneNode(String),
    /// Everything that needs this part of the bus: `outbox`, `orders`, `heartbeats`, `log` or `streams`.
    Bus(String),
    /// The proof of a partition.
    Proof(ProofId),
    /// The sectors of a partition that are read ahead of its deadline.
    Ahead(ProofId),
    /// What a miner's next proofs need besides its sectors: workers, funds.
    NextProofs(MinerId),
    /// The blocks of a miner.
    Blocks(MinerId),
    /// A row of the outbox that cannot be published.
    Outbox {
        /// The row's number.
        row: i64,
        /// The sector.
        sector: SectorId,
    },
}

/// The cause of a wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// `temp`: it recovers by itself. `crit`: a person must fix something; then it continues by itself.
    pub class: ErrorClass,
    /// The kind of cause, with a page in `docs/errors/`.
    pub code: ErrorCode,
    /// The whole text, truncated to a limit.
    pub text: String,
}

/// A stored wait. Times are from the database's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The subject.
    pub subject: Subject,
    /// The cause.
    pub cause: Cause,
    /// When the wait began.
    pub since: String,
    /// When it was last tried.
    pub tried_at: String,
    /// The pause until the next try.
    pub retry: Duration,
    /// The number of tries.
    pub tries: u64,
}

/// The waits of a manager that holds the fold.
pub struct Waits {
    store: Store,
    epoch: i64,
    book: Mutex<Book>,
    flushed: Mutex<Option<Instant>>,
}

impl Subject {
    /// Whether it may hold up more than one sector.
    pub const fn holds_up_many(&self) -> bool {
        matches!(self, Subject::Miner(_) | Subject::Store(_) | Subject::Node)
    }

    /// The kind, as stored and shown.
    pub const fn kind(&self) -> &'static str {
        match self {
            Subject::Sector(_) => "sector",
            Subject::Message { .. } => "message",
            Subject::Miner(_) => "miner",
            Subject::Store(_) => "store",
            Subject::Node | Subject::OneNode(_) => "node",
            Subject::Bus(_) => "bus",
            Subject::Proof(_) => "proof",
            Subject::Ahead(_) => "ahead",
            Subject::NextProofs(_) => "proofs",
            Subject::Blocks(_) => "blocks",
            Subject::Outbox { .. } => "outbox",
        }
    }

    /// The name within its kind; empty for the chain, whichever node is read.
    pub fn name(&self) -> String {
        match self {
            Subject::Sector(sector) => sector.to_string(),
            Subject::Message { key, .. } => key.clone(),
            Subject::Miner(miner) | Subject::Blocks(miner) | Subject::NextProofs(miner) => miner.to_string(),
            Subject::Store(name) | Subject::Bus(name) | Subject::OneNode(name) => name.clone(),
            Subject::Proof(id) | Subject::Ahead(id) => id.path(),
            Subject::Outbox { row, .. } => row.to_string(),
            Subject::Node => String::new(),
        }
    }

    /// The waiting sector, if the wait is about a single one.
    pub const fn sector(&self) -> Option<SectorId> {
        match self {
            Subject::Sector(sector) | Subject::Outbox { sector, .. } => Some(*sector),
            Subject::Message { sector, .. } => *sector,
            _ => None,
        }
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Subject::Node => f.write_str("the chain node"),
            Subject::OneNode(name) => write!(f, "the chain node {name}"),
            Subject::Proof(id) => write!(f, "the proof of {id}"),
            Subject::Ahead(id) => write!(f, "the next proof of {id}"),
            Subject::NextProofs(miner) => write!(f, "the next proofs of {miner}"),
            Subject::Blocks(miner) => write!(f, "the blocks of {miner}"),
            Subject::Bus(part) => write!(f, "the bus ({part})"),
            Subject::Outbox { row, sector } => write!(f, "row {row} of the outbox, about {sector}"),
            _ => write!(f, "{} {}", self.kind(), self.name()),
        }
    }
}

impl Cause {
    /// A cause that recovers by itself (`temp`).
    pub fn passing(code: ErrorCode, text: impl Into<String>) -> Cause {
        Cause { class: ErrorClass::Temp, code, text: text.into() }.bounded()
    }

    /// A cause that a person must fix (`crit`).
    pub fn to_mend(code: ErrorCode, text: impl Into<String>) -> Cause {
        Cause { class: ErrorClass::Crit, code, text: text.into() }.bounded()
    }

    /// The cause as an error report, for code that shows both.
    pub fn report(&self) -> ErrorReport {
        ErrorReport::new(self.class, self.code.clone(), self.text.clone())
    }

    fn bounded(mut self) -> Cause {
        if self.text.len() > CAUSE_BYTES_MAX {
            self.text.truncate(self.text.floor_char_boundary(CAUSE_BYTES_MAX));
        }
        self
    }
}

impl From<&ErrorReport> for Cause {
    fn from(report: &ErrorReport) -> Cause {
        match report.class {
            ErrorClass::Temp => Cause::passing(report.code.clone(), report.message()),
            _ => Cause::to_mend(report.code.clone(), report.message()),
        }
    }
}

impl Waits {
    /// Continues with the waits of an earlier manager, so that they are not reported as new.
    pub async fn load(store: &Store, epoch: i64) -> Result<Waits, StoreError> {
        let book = Book::with(store.waits().await?);
        Ok(Waits { store: store.clone(), epoch, book: Mutex::new(book), flushed: Mutex::new(None) })
    }

    /// The subject waits, or still waits, with this cause. Returns the pause until the next try, which grows from
    /// `first` on.
    pub fn waits(&self, subject: &Subject, cause: Cause, first: Duration) -> Duration {
        let (change, pause) = {
            let mut book = self.book();
            (book.waits(subject, cause, first, Instant::now()), book.pause(subject).unwrap_or(first))
        };
        log(subject, change.as_ref());
        pause
    }

    /// The subject no longer waits.
    pub fn goes_on(&self, subject: &Subject) {
        let change = self.book().goes_on(subject);
        log(subject, change.as_ref());
    }

    /// Ends the waits of these kinds whose subjects no longer exist.
    pub fn keep_only(&self, kinds: &[&str], there: &BTreeSet<Subject>) {
        let gone: Vec<Subject> = self.book().subjects().filter(|s| kinds.contains(&s.kind())).cloned().collect();
        for subject in gone.iter().filter(|subject| !there.contains(subject)) {
            self.goes_on(subject);
        }
    }

    /// Whether to try now: there is no wait, or its pause is over.
    pub fn is_due(&self, subject: &Subject) -> bool {
        self.book().is_due(subject, Instant::now())
    }

    /// The subject's cause, if it waits.
    pub fn cause(&self, subject: &Subject) -> Option<Cause> {
        self.book().cause(subject).cloned()
    }

    /// Stores changes. Mere retries are stored every [`REFRESH`], together with the manager's sign of life.
    pub async fn flush(&self) -> Result<(), StoreError> {
        let now = Instant::now();
        let refresh = {
            let flushed = self.flushed.lock().unwrap_or_else(PoisonError::into_inner);
            flushed.is_none_or(|last| now.duration_since(last) >= REFRESH)
        };
        let (kept, gone) = self.book().take_changes(refresh);
        if kept.is_empty() && gone.is_empty() && !refresh {
            return Ok(());
        }
        let stored = async {
            let mut tx = self.store.begin_as(self.epoch).await?;
            for subject in &gone {
                tx.end_wait(subject).await?;
            }
            for (subject, entry) in &kept {
                tx.save_wait(subject, &entry.cause, entry.pause, entry.tries).await?;
            }
            tx.note_seen(&host()).await?;
            tx.commit().await
        };
        let outcome = stored.await;
        match &outcome {
            Ok(()) => *self.flushed.lock().unwrap_or_else(PoisonError::into_inner) = Some(now),
            Err(_) => self.book().put_back(kept.into_iter().map(|(subject, _)| subject), gone),
        }
        outcome
    }

    /// Stores changes forever. Only the loss of the database or of the fold ends it.
    pub async fn keep(&self) -> Result<std::convert::Infallible, StoreError> {
        loop {
            self.flush().await?;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned()).unwrap_or_default()
}

/// Logs one line when a wait begins, changes its cause, or ends.
fn log(subject: &Subject, change: Option<&Change>) {
    let Some(change) = change else { return };
    match change {
        Change::Began(cause) | Change::Turned(cause) => {
            let (code, cause_text) = (cause.code.as_str(), cause.text.as_str());
            if cause.code == ErrorCode::MESSAGE_HELD {
                tracing::info!(waits = %subject, cause = cause_text, "is held");
            } else if is_mended_by_a_person(cause) {
                tracing::error!(waits = %subject, code, cause = cause_text, do_this = advice(&cause.code), "waits for a person");
            } else {
                tracing::warn!(waits = %subject, code, cause = cause_text, "waits; tried again by itself");
            }
        }
        Change::Ended { cause, tries } => {
            tracing::info!(waits = %subject, code = cause.code.as_str(), tries, "goes on");
        }
    }
}
