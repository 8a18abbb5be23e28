//! The waits in memory: which are new, changed, or due. There is no IO; time is an argument.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

use super::{Cause, Subject, Wait};

/// The longest pause between two tries.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// All waits.
#[derive(Debug, Default)]
pub struct Book {
    entries: BTreeMap<Subject, Entry>,
    /// Subjects whose present state is not stored yet.
    changed: BTreeSet<Subject>,
    gone: BTreeSet<Subject>,
}

/// One wait.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The cause.
    pub cause: Cause,
    /// The pause until the next try.
    pub pause: Duration,
    /// The number of tries.
    pub tries: u64,
    due: Option<Instant>,
}

/// A change of a wait that is worth a line in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It has begun.
    Began(Cause),
    /// Its cause has changed.
    Turned(Cause),
    /// It has ended.
    Ended {
        /// The last cause.
        cause: Cause,
        /// The number of tries.
        tries: u64,
    },
}

impl Book {
    /// Starts with stored waits, all of which are due.
    pub fn with(stored: Vec<Wait>) -> Book {
        let entry = |wait: Wait| {
            let Wait { subject, cause, retry, tries, .. } = wait;
            (subject, Entry { cause, pause: retry, tries, due: None })
        };
        Book { entries: stored.into_iter().map(entry).collect(), ..Book::default() }
    }

    /// The subject waits, or still waits. If only the text has changed, that is stored later and not reported.
    pub fn waits(&mut self, subject: &Subject, cause: Cause, first: Duration, now: Instant) -> Option<Change> {
        self.gone.remove(subject);
        let Some(entry) = self.entries.get_mut(subject) else {
            let entry = Entry { cause: cause.clone(), pause: first, tries: 1, due: Some(now + first) };
            self.entries.insert(subject.clone(), entry);
            self.changed.insert(subject.clone());
            return Some(Change::Began(cause));
        };
        entry.pause = (entry.pause * 2).clamp(first, PAUSE_MAX.max(first));
        entry.due = Some(now + entry.pause);
        entry.tries += 1;
        let turned = (entry.cause.code != cause.code || entry.cause.class != cause.class).then(|| cause.clone());
        entry.cause = cause;
        if turned.is_some() {
            self.changed.insert(subject.clone());
        }
        turned.map(Change::Turned)
    }

    /// The subject no longer waits. When a node, a miner or a store recovers, all other waits become due: they may have
    /// waited for it, and their own pauses have grown meanwhile.
    pub fn goes_on(&mut self, subject: &Subject) -> Option<Change> {
        let Entry { cause, tries, .. } = self.entries.remove(subject)?;
        self.changed.remove(subject);
        self.gone.insert(subject.clone());
        if matches!(subject, Subject::Node | Subject::Miner(_) | Subject::Store(_)) {
            self.entries.values_mut().for_each(|entry| entry.due = None);
        }
        Some(Change::Ended { cause, tries })
    }

    /// All waiting subjects.
    pub fn subjects(&self) -> impl Iterator<Item = &Subject> {
        self.entries.keys()
    }

    /// Whether to try now.
    pub fn is_due(&self, subject: &Subject, now: Instant) -> bool {
        self.entries.get(subject).and_then(|entry| entry.due).is_none_or(|due| now >= due)
    }

    /// The pause until the next try, if the subject waits.
    pub fn pause(&self, subject: &Subject) -> Option<Duration> {
        self.entries.get(subject).map(|entry| entry.pause)
    }

    /// The subject's cause, if it waits.
    pub fn cause(&self, subject: &Subject) -> Option<&Cause> {
        self.entries.get(subject).map(|entry| &entry.cause)
    }

    /// The waits to store and the subjects to delete: the changes, or everything if `all`.
    pub fn take_changes(&mut self, all: bool) -> (Vec<(Subject, Entry)>, Vec<Subject>) {
        let changed = std::mem::take(&mut self.changed);
        let kept = self.entries.iter().filter(|(subject, _)| all || changed.contains(subject));
        let kept = kept.map(|(subject, entry)| (subject.clone(), entry.clone())).collect();
        (kept, std::mem::take(&mut self.gone).into_iter().collect())
    }

    /// Puts changes back that could not be stored.
    pub fn put_back(&mut self, kept: impl IntoIterator<Item = Subject>, gone: Vec<Subject>) {
        self.changed.extend(kept.into_iter().filter(|subject| self.entries.contains_key(subject)));
        self.gone.extend(gone.into_iter().filter(|subject| !self.entries.contains_key(subject)));
    }
}

#[cfg(test)]
mod tests {
    use sealbus_schema::ErrorCode;

    use super::*;

    const FIRST: Duration = Duration::from_secs(2);

    fn cause(code: ErrorCode, text: &str) -> Cause {
        Cause::passing(code, text)
    }

    #[test]
    fn a_wait_is_told_when_it_begins_when_its_code_changes_and_when_it_ends_and_never_at_a_try() {
        let (mut book, now) = (Book::default(), Instant::now());
        let mut told = Vec::new();
        for second in 0..100 {
            let (code, text) = match second {
                0..50 => (ErrorCode::FUNDS_MISSING, format!("short of {second}")),
                _ => (ErrorCode::NODE_UNAVAILABLE, "nobody there".to_owned()),
            };
            told.extend(book.waits(&Subject::Node, cause(code, &text), FIRST, now + Duration::from_secs(second)));
        }
        told.extend(book.goes_on(&Subject::Node));
        told.extend(book.goes_on(&Subject::Node));
        assert!(
            matches!(&told[..], [Change::Began(_), Change::Turned(_), Change::Ended { tries: 100, .. }]),
            "{told:?}"
        );
    }

    #[test]
    fn the_pause_between_tries_grows_and_ends_with_the_wait() {
        let (mut book, mut now) = (Book::default(), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..5 {
            book.waits(&Subject::Node, cause(ErrorCode::NODE_UNAVAILABLE, ""), FIRST, now);
            let is_due = |secs: &u64| book.is_due(&Subject::Node, now + Duration::from_secs(*secs));
            let pause = (0..60).find(is_due).expect("due");
            pauses.push(pause);
            now += Duration::from_secs(pause);
        }
        assert_eq!(pauses, [2, 4, 8, 10, 10]);
        book.goes_on(&Subject::Node);
        assert!(book.is_due(&Subject::Node, now));
    }

    #[test]
    fn what_may_have_waited_for_the_node_is_tried_at_once_when_it_is_back() {
        let (mut book, now) = (Book::default(), Instant::now());
        let sector = Subject::Sector("f01000/1".parse().expect("sector"));
        book.waits(&Subject::Node, cause(ErrorCode::NODE_UNAVAILABLE, ""), FIRST, now);
        book.waits(&sector, cause(ErrorCode::NODE_CALL_FAILED, ""), FIRST, now);
        assert!(!book.is_due(&sector, now));
        book.goes_on(&Subject::Node);
        assert!(book.is_due(&sector, now));
        book.waits(&sector, cause(ErrorCode::NODE_CALL_FAILED, ""), FIRST, now);
        book.goes_on(&Subject::Node);
        assert!(!book.is_due(&sector, now), "that it is still there is no news");
    }

    #[test]
    fn what_could_not_be_stored_is_stored_later() {
        let (mut book, now) = (Book::default(), Instant::now());
        let (store, node) = (Subject::Store("main".to_owned()), Subject::Node);
        book.waits(&node, cause(ErrorCode::NODE_UNAVAILABLE, ""), FIRST, now);
        book.take_changes(false);
        book.waits(&store, cause(ErrorCode::STORE_UNAVAILABLE, ""), FIRST, now);
        book.goes_on(&node);
        let (kept, gone) = book.take_changes(false);
        book.put_back(kept.into_iter().map(|(subject, _)| subject), gone);
        let (kept, gone) = book.take_changes(false);
        assert_eq!(kept.iter().map(|(subject, _)| subject).collect::<Vec<_>>(), [&store]);
        assert_eq!(gone, [node]);
        assert!(matches!(book.take_changes(false), (kept, gone) if kept.is_empty() && gone.is_empty()));
    }
}
