//! What a slot must remember across a kill or a power loss: one small file, replaced as a whole.
//!
//! ```text
//! bytes 0..8    SEALJRNL
//! bytes 8..12   format version, little-endian
//! bytes 12..16  length of the body, little-endian
//! bytes 16..48  BLAKE2b-256 of bytes 0..16 and the body
//! bytes 48..    the body: MessagePack with field names
//! ```
//!
//! A file of any other form is never overwritten. It blocks the slot until a person has looked at it, because it may be
//! the only link between the slot's files and hours of work, with a deposit at stake.

use std::{
    io,
    path::{Path, PathBuf},
};

use sealbus_nats::publish::Secret;
use sealbus_schema::{
    ErrorClass, ErrorCode, ErrorReport, Token,
    identity::KnownStore,
    machine::worker::State,
    message::{Event, EventBody, Intent},
};
use serde::{Deserialize, Serialize};

use crate::{
    driver::core::Reinstated,
    stage::{StageCode, StageError, files},
};

const MAGIC: &[u8; 8] = b"SEALJRNL";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 48;

/// The body of a slot's journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// The id of the stream in which the token is a sequence number, if it was known.
    #[serde(default)]
    pub stream: Option<String>,
    /// The intent that is being worked on.
    pub intent: Intent,
    /// The worker's lease of the sector.
    pub token: Token,
    /// The number that the next event gets.
    pub next_event: u64,
    /// The state of the worker's machine.
    pub state: State,
    /// Events that may not be in the log yet, oldest first.
    #[serde(default)]
    pub pending: Vec<Event>,
    /// The permanent stores known to the manager, as told in the fact of the PreCommit's landing.
    #[serde(default)]
    pub stores: Vec<KnownStore>,
    /// The serial of the last resubmit order that was carried out; 0 if there was none.
    #[serde(default)]
    pub resubmitted: u32,
    /// The stream in which the sector continues if the token's own stream was lost. It is set when the manager has said
    /// so; the manager then knows what this journal had reported.
    #[serde(default)]
    pub goes_on_in: Option<String>,
    /// The log sequence of the last acknowledged event; 0 before the first.
    #[serde(default)]
    pub stored_at: u64,
    /// A random secret from which the ids of this journal's events are derived, so that nobody can guess them. All zeros
    /// in an old journal.
    #[serde(default)]
    pub secret: Secret,
}

/// Why a journal cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system returned an error.
    #[error("cannot read {path}", path = path.display())]
    Read {
        /// The journal's path.
        path: PathBuf,
        /// The file system's error.
        #[source]
        source: io::Error,
    },
    /// The file is not a journal of the version that this worker writes.
    #[error(
        "{path} is unreadable: {problem}. A worker of the version that wrote it may read it; to give the sector up, \
         run `sealbus-manager slots release`, which keeps all of it in quarantine",
        path = path.display()
    )]
    Damaged {
        /// The journal's path.
        path: PathBuf,
        /// What is wrong with the content.
        problem: Damage,
    },
}

/// What is wrong with a journal's content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// Too short for a header, or without the magic bytes.
    #[error("it is not a journal of Sealbus, or cut off")]
    Foreign,
    /// Written in another format version.
    #[error("it has format version {0}, this worker reads {VERSION}")]
    Version(u32),
    /// Shorter or longer than its header says.
    #[error("it has {actual} bytes, and its header says {expected}")]
    Length {
        /// As given in the header, in bytes.
        expected: usize,
        /// As the file system says, in bytes.
        actual: usize,
    },
    /// The checksum does not match: bytes have changed.
    #[error("its checksum does not match")]
    Checksum,
    /// The checksum matches, but the body cannot be decoded.
    #[error("its body cannot be unpacked: {0}")]
    Body(String),
}

impl JournalError {
    /// The report for the manager, of class `crit`.
    pub fn report(&self) -> ErrorReport {
        ErrorReport::from_error(ErrorClass::Crit, ErrorCode::JOURNAL_UNREADABLE, self)
    }
}

impl Journal {
    /// The journal of a sector whose lease was just won.
    pub fn new(stream: Option<String>, intent: Intent, token: Token, state: State) -> Journal {
        Journal {
            stream,
            intent,
            token,
            next_event: 1,
            state,
            pending: Vec::new(),
            stores: Vec::new(),
            resubmitted: 0,
            goes_on_in: None,
            stored_at: 0,
            secret: Secret::default(),
        }
    }

    /// Continues in a new stream. Reports that the manager does not know and that the journal no longer has are made
    /// again.
    pub fn go_on_in(&mut self, reinstated: Reinstated) {
        if self.must_tell_again(&reinstated) {
            let (state, events) = self.state.told_again();
            self.advance(state, events);
        }
        self.goes_on_in = Some(reinstated.stream);
    }

    /// Whether the manager waits for an event that this journal no longer has. The manager knows the events up to a
    /// number, and will read those in the present log.
    pub fn must_tell_again(&self, reinstated: &Reinstated) -> bool {
        let is_lost = self.stored_at < reinstated.first_sequence && reinstated.known + 1 < self.next_event;
        let (state, events) = self.state.told_again();
        is_lost && self.pending.is_empty() && (state != self.state || !events.is_empty())
    }

    /// Moves to a new state and queues the events that report it.
    pub fn advance(&mut self, next: State, events: Vec<EventBody>) {
        self.state = next;
        for body in events {
            self.pending.push(Event { token: self.token, number: self.next_event, body });
            self.next_event += 1;
        }
    }

    /// Forgets the events up to this number, because the log has them. `sequence` is the log sequence of the last one.
    pub fn acknowledge(&mut self, number: u64, sequence: u64) {
        self.stored_at = sequence;
        self.pending.retain(|event| event.number > number);
    }

    /// Reads a slot's journal; `None` if there is no such file.
    pub fn load(path: &Path) -> Result<Option<Journal>, JournalError> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(JournalError::Read { path: path.to_owned(), source }),
        };
        match decode(&bytes) {
            Ok(journal) => Ok(Some(journal)),
            Err(problem) => Err(JournalError::Damaged { path: path.to_owned(), problem }),
        }
    }

    /// Replaces a slot's journal. When this returns, the new one is durable on disk.
    pub fn store(&self, path: &Path) -> Result<(), StageError> {
        let bytes = encode(self)
            .map_err(|error| StageError::new(StageCode::IoFailed, format!("pack {}: {error}", path.display())))?;
        files::write_atomic(path, &bytes)
    }

    /// Removes a slot's journal, which frees the slot.
    pub fn clear(path: &Path) -> Result<(), StageError> {
        files::remove_tree(path)?;
        files::sync_parent(path)
    }
}

fn encode(journal: &Journal) -> Result<Vec<u8>, rmp_serde::encode::Error> {
    let body = rmp_serde::to_vec_named(journal)?;
    let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
    let checksum = checksum(&bytes, &body);
    bytes.extend_from_slice(checksum.as_bytes());
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Result<Journal, Damage> {
    let Some((header, body)) = bytes.split_at_checked(HEADER_BYTES) else { return Err(Damage::Foreign) };
    let number = |at: usize| header[at..at + 4].iter().rev().fold(0u32, |sum, byte| sum << 8 | u32::from(*byte));
    if header[..8] != *MAGIC {
        return Err(Damage::Foreign);
    }
    if number(8) != VERSION {
        return Err(Damage::Version(number(8)));
    }
    let expected = number(12) as usize;
    if body.len() != expected {
        return Err(Damage::Length { expected, actual: body.len() });
    }
    if header[16..] != *checksum(&header[..16], body).as_bytes() {
        return Err(Damage::Checksum);
    }
    rmp_serde::from_slice(body).map_err(|error| Damage::Body(error.to_string()))
}

fn checksum(header: &[u8], body: &[u8]) -> blake2b_simd::Hash {
    blake2b_simd::Params::new().hash_length(32).to_state().update(header).update(body).finalize()
}

#[cfg(test)]
mod tests {
    use sealbus_schema::{IntentKind, Phase, SealProof, error::ErrorCode, message::CommonEvent};

    use super::*;

    fn journal() -> Journal {
        let intent = Intent {
            sector: "f01000/7".parse().expect("sector"),
            kind: IntentKind::Seal,
            proof: SealProof::StackedDrg2KiBV1_1,
            lease_sequence: 3,
            attempt: 1,
        };
        let state = State::claimed(IntentKind::Seal).expect("a known kind");
        let mut journal = Journal::new(Some("SEAL_SECTORS@1".into()), intent, Token(4), state);
        let state = journal.state.clone();
        let started = CommonEvent::PhaseStarted { phase: Phase::AddPieces, attempt: 1, processor: "p-0".repeat(60) };
        let error = ErrorReport::new(ErrorClass::Temp, ErrorCode::PROCESSOR_DIED, "killed");
        journal.advance(state, vec![started.into(), CommonEvent::Failed { error }.into()]);
        journal
    }

    #[test]
    fn a_journal_reads_as_it_was_written_and_replaces_the_one_before() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("journal");
        assert_eq!(Journal::load(&path).expect("none"), None);
        let mut journal = journal();
        journal.store(&path).expect("writes");
        assert_eq!(Journal::load(&path).expect("reads"), Some(journal.clone()));
        journal.acknowledge(1, 9);
        assert_eq!(journal.pending.len(), 1);
        journal.store(&path).expect("writes");
        assert_eq!(Journal::load(&path).expect("reads"), Some(journal));
        assert_eq!(std::fs::read_dir(dir.path()).expect("list").count(), 1, "no temporary file stays");
        Journal::clear(&path).expect("clears");
        assert_eq!(Journal::load(&path).expect("none"), None);
    }

    #[test]
    fn events_are_numbered_without_gaps() {
        let journal = journal();
        assert_eq!(journal.pending.iter().map(|event| event.number).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(journal.next_event, 3);
    }

    #[test]
    fn a_journal_that_is_cut_off_anywhere_is_noticed() {
        let whole = encode(&journal()).expect("packs");
        for length in 0..whole.len() {
            decode(&whole[..length]).expect_err("cut off");
        }
        let mut longer = whole.clone();
        longer.push(0);
        assert!(matches!(decode(&longer), Err(Damage::Length { .. })));
        decode(&whole).expect("whole");
    }

    #[test]
    fn a_journal_with_any_bit_changed_is_noticed() {
        let whole = encode(&journal()).expect("packs");
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut flipped = whole.clone();
                flipped[at] ^= 1 << bit;
                decode(&flipped).expect_err("changed");
            }
        }
    }

    #[test]
    fn an_unreadable_journal_is_told_with_what_to_do() {
        let dir = tempfile::tempdir().expect("directory");
        let path = dir.path().join("journal");
        std::fs::write(&path, b"#!/bin/sh\necho not a journal, but longer than a header is\n").expect("writes");
        let report = Journal::load(&path).expect_err("foreign").report();
        assert_eq!((report.class, report.code.clone()), (ErrorClass::Crit, ErrorCode::JOURNAL_UNREADABLE));
        assert!(report.message().contains("slots release"), "{}", report.message());
        std::fs::remove_file(&path).expect("removes");
        std::fs::create_dir(&path).expect("a directory in its place");
        assert!(matches!(Journal::load(&path), Err(JournalError::Read { .. })));
    }
}
