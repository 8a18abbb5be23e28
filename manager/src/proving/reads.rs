//! Who has read which sectors, and what is asked for again. Pure.
//!
//! A reading task has a number that says what it asks for, so a manager that restarts understands the reports on tasks
//! that it offered before. The first round asks for all sectors, by store. Each later round asks for single sectors that
//! were not read.

use std::collections::BTreeMap;

use sealbus_schema::{
    Commitment, ErrorClass, ErrorReport, SectorNumber, WorkerName,
    post::{PostReport, READ_SECTORS_MAX, SectorRead},
};

/// The numbers of a round's tasks: more than a partition has sectors.
const ROUND: u32 = 4096;
/// After how many failures that will not pass a sector is left alone. Another machine may have better luck once.
const PERMANENT_FAILURES_MAX: usize = 2;
/// After how many epochs a failed sector is asked for again.
const AGAIN_AFTER: i64 = 1;

/// A sector that is to be proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provable {
    /// Its number.
    pub number: SectorNumber,
    /// Its CommR on chain.
    pub comm_r: Commitment,
    /// The store that has its files; `None` if the manager does not know.
    pub store: Option<String>,
}

/// A reading task: its number, the store, and the indices of the sectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Its number.
    pub number: u32,
    /// The store.
    pub store: String,
    /// Which of the sectors.
    pub sectors: Vec<usize>,
}

/// What is known of the sectors of one proof.
#[derive(Clone, Debug, Default)]
pub struct Reads {
    sectors: Vec<Provable>,
    /// The index of each number in `sectors`.
    places: BTreeMap<SectorNumber, usize>,
    tried: Vec<Tried>,
}

/// What is known of one sector.
#[derive(Clone, Debug, Default)]
struct Tried {
    read_by: Option<WorkerName>,
    ms: u64,
    /// The failures, by task.
    failures: BTreeMap<u32, Failure>,
}

#[derive(Clone, Debug)]
struct Failure {
    by: WorkerName,
    error: ErrorReport,
    /// The head when it was heard of.
    epoch: i64,
}

impl Reads {
    /// For these sectors, by rising number.
    pub fn new(sectors: Vec<Provable>) -> Reads {
        let places = sectors.iter().enumerate().map(|(place, sector)| (sector.number, place)).collect();
        let tried = vec![Tried::default(); sectors.len()];
        Reads { sectors, places, tried }
    }

    /// The sectors.
    pub fn sectors(&self) -> &[Provable] {
        &self.sectors
    }

    /// The tasks of the first round: the sectors of each store in portions.
    pub fn first_round(&self) -> Vec<Piece> {
        let mut by_store: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (place, sector) in self.sectors.iter().enumerate() {
            if let Some(store) = &sector.store {
                by_store.entry(store).or_default().push(place);
            }
        }
        let portions = by_store.into_iter().flat_map(|(store, places)| {
            let portions: Vec<_> = places.chunks(READ_SECTORS_MAX).map(<[usize]>::to_vec).collect();
            portions.into_iter().map(move |sectors| (store.to_owned(), sectors))
        });
        portions.zip(0..).map(|((store, sectors), number)| Piece { number, store, sectors }).collect()
    }

    /// The tasks of the first round with sectors of which nothing was heard.
    pub fn unheard(&self) -> Vec<Piece> {
        let mut pieces = self.first_round();
        pieces.retain(|piece| piece.sectors.iter().any(|place| self.tried[*place].is_unheard()));
        pieces
    }

    /// The tasks that are asked for now: those of the first round with sectors of which nothing was heard, and single
    /// sectors that have failed and may succeed.
    pub fn pieces(&self, head: i64) -> Vec<Piece> {
        let mut pieces = self.unheard();
        for (place, (sector, tried)) in self.sectors.iter().zip(&self.tried).enumerate() {
            if let (Some(store), Some(round)) = (&sector.store, tried.next_round(head, self.is_hopeless())) {
                let number = round * ROUND + place as u32;
                pieces.push(Piece { number, store: store.clone(), sectors: vec![place] });
            }
        }
        pieces
    }

    /// Takes a worker's report at an epoch. What is heard twice counts once.
    pub fn hear(&mut self, worker: &WorkerName, report: &PostReport, epoch: i64) {
        let PostReport::Read { piece, sectors } = report else { return };
        for SectorRead { number, ms, error } in sectors {
            let Some(tried) = self.places.get(number).and_then(|place| self.tried.get_mut(*place)) else { continue };
            match error {
                None if tried.read_by.is_none() && !tried.failures.contains_key(piece) => {
                    tried.read_by = Some(worker.clone());
                    tried.ms = *ms;
                }
                None => {}
                Some(error) => {
                    let (by, error) = (worker.clone(), error.clone());
                    tried.failures.entry(*piece).or_insert(Failure { by, error, epoch });
                }
            }
        }
    }

    /// A prover could not use these sectors' vanilla proofs: they must be read again.
    pub fn refuse(&mut self, numbers: &[SectorNumber], error: &ErrorReport, epoch: i64) {
        for number in numbers {
            let Some(tried) = self.places.get(number).and_then(|place| self.tried.get_mut(*place)) else { continue };
            let Some(by) = tried.read_by.take() else { continue };
            // The task that yielded the proof is not known any more. All its number is for is to tell tasks apart.
            let task = (tried.failures.len() as u32 + 1) * ROUND - 1;
            tried.failures.insert(task, Failure { by, error: error.clone(), epoch });
        }
    }

    /// Whether nothing more comes of waiting: each sector was read, or will not be.
    pub fn is_settled(&self) -> bool {
        self.sectors.iter().zip(&self.tried).all(|(sector, tried)| {
            tried.read_by.is_some() || sector.store.is_none() || (tried.is_lost() && !self.is_hopeless())
        })
    }

    /// The sectors that were read, each with its reader.
    pub fn read(&self) -> impl Iterator<Item = (&Provable, &WorkerName)> {
        self.sectors.iter().zip(&self.tried).filter_map(|(sector, tried)| Some((sector, tried.read_by.as_ref()?)))
    }

    /// The sectors that were not read, each with the reason.
    pub fn unread(&self) -> Vec<(SectorNumber, String)> {
        let unread = self.sectors.iter().zip(&self.tried).filter(|(_, tried)| tried.read_by.is_none());
        unread.map(|(sector, tried)| (sector.number, tried.why(sector))).collect()
    }

    /// The slowest sector that was read, and how many milliseconds it took.
    pub fn slowest(&self) -> Option<(SectorNumber, u64)> {
        self.times().max_by_key(|(_, ms)| *ms)
    }

    /// The sectors that were read, each with its milliseconds.
    pub fn times(&self) -> impl Iterator<Item = (SectorNumber, u64)> {
        let read = self.sectors.iter().zip(&self.tried).filter(|(_, tried)| tried.read_by.is_some());
        read.map(|(sector, tried)| (sector.number, tried.ms))
    }

    /// The sectors that could not be read, each with the reason, and whether that will not pass by itself. A sector of which
    /// nothing was heard is not among them, unless nobody can be asked.
    pub fn failed(&self) -> impl Iterator<Item = (&Provable, String, bool)> {
        self.sectors.iter().zip(&self.tried).filter_map(|(sector, tried)| {
            let is_lasting = match tried.failures.last_key_value() {
                _ if tried.read_by.is_some() => return None,
                Some((_, failure)) => failure.error.class != ErrorClass::Temp,
                None if sector.store.is_none() => true,
                None => return None,
            };
            Some((sector, tried.why(sector), is_lasting))
        })
    }

    /// Whether no sector was read although all were tried: a store may be away as a whole, so nothing is given up.
    fn is_hopeless(&self) -> bool {
        self.tried.iter().all(|tried| tried.read_by.is_none())
    }
}

impl Tried {
    fn is_unheard(&self) -> bool {
        self.read_by.is_none() && self.failures.is_empty()
    }

    /// Whether it failed for good.
    fn is_lost(&self) -> bool {
        let lasting = self.failures.values().filter(|failure| failure.error.class != ErrorClass::Temp);
        self.read_by.is_none() && lasting.count() >= PERMANENT_FAILURES_MAX
    }

    /// The round in which it is asked for again.
    fn next_round(&self, head: i64, is_hopeless: bool) -> Option<u32> {
        let last = self.failures.values().map(|failure| failure.epoch).max()?;
        let waits = self.read_by.is_some() || (self.is_lost() && !is_hopeless) || head < last + AGAIN_AFTER;
        (!waits).then_some(self.failures.len() as u32)
    }

    fn why(&self, sector: &Provable) -> String {
        let last = self.failures.values().max_by_key(|failure| failure.epoch);
        match (last, &sector.store) {
            (Some(failure), _) => format!("{} (worker {})", failure.error.message(), failure.by),
            (None, Some(store)) => format!("no worker with the store `{store}` has answered"),
            (None, None) => "the manager does not know where its files are".to_owned(),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeSet;

    use sealbus_schema::ErrorCode;

    use super::*;

    pub(in crate::proving) fn provable(number: u64, store: &str) -> Provable {
        Provable { number: SectorNumber(number), comm_r: Commitment([number as u8; 32]), store: Some(store.to_owned()) }
    }

    pub(in crate::proving) fn worker(name: &str) -> WorkerName {
        name.parse().expect("a name")
    }

    pub(in crate::proving) fn read(piece: u32, sectors: &[(u64, Option<ErrorClass>)]) -> PostReport {
        let said = |(number, class): &(u64, Option<ErrorClass>)| SectorRead {
            number: SectorNumber(*number),
            ms: *number,
            error: class.map(|class| ErrorReport::new(class, ErrorCode::FILES_UNPROVABLE, "bad")),
        };
        PostReport::Read { piece, sectors: sectors.iter().map(said).collect() }
    }

    fn numbers(reads: &Reads, head: i64) -> Vec<u32> {
        reads.pieces(head).iter().map(|piece| piece.number).collect()
    }

    #[test]
    fn the_first_round_is_in_portions_of_one_store() {
        let mut sectors: Vec<_> = (0..40).map(|n| provable(n, "b")).collect();
        sectors.push(provable(40, "a"));
        sectors.push(Provable { store: None, ..provable(41, "") });
        let reads = Reads::new(sectors);
        let shape: Vec<_> =
            reads.pieces(0).iter().map(|piece| (piece.number, piece.store.clone(), piece.sectors.len())).collect();
        assert_eq!(shape, [(0, "a".to_owned(), 1), (1, "b".to_owned(), 32), (2, "b".to_owned(), 8)]);
        assert!(!reads.is_settled());
    }

    #[test]
    fn one_bad_sector_is_asked_for_alone_and_given_up_after_the_second_failure() {
        let mut reads = Reads::new((0..3).map(|n| provable(n, "a")).collect());
        reads.hear(&worker("w1"), &read(0, &[(0, None), (1, Some(ErrorClass::Perm)), (2, None)]), 10);
        assert!(numbers(&reads, 10).is_empty(), "not at once");
        assert_eq!(numbers(&reads, 11), [ROUND + 1]);
        assert!(!reads.is_settled());
        reads.hear(&worker("w2"), &read(ROUND + 1, &[(1, Some(ErrorClass::Crit))]), 12);
        assert!(reads.is_settled());
        assert!(numbers(&reads, 99).is_empty());
        assert_eq!(
            reads.read().map(|(sector, by)| (sector.number.0, by.as_str())).collect::<Vec<_>>(),
            [(0, "w1"), (2, "w1")]
        );
        assert_eq!(reads.unread(), [(SectorNumber(1), "bad (worker w2)".to_owned())]);
        assert_eq!(reads.slowest(), Some((SectorNumber(2), 2)));
    }

    #[test]
    fn what_may_pass_is_asked_for_again_and_again() {
        let mut reads = Reads::new(vec![provable(0, "a"), provable(1, "a")]);
        reads.hear(&worker("w1"), &read(0, &[(0, None), (1, Some(ErrorClass::Temp))]), 1);
        for round in 1..10 {
            let number = round * ROUND + 1;
            assert_eq!(numbers(&reads, i64::from(round) + 1), [number]);
            reads.hear(&worker("w1"), &read(number, &[(1, Some(ErrorClass::Temp))]), i64::from(round) + 1);
        }
        assert!(!reads.is_settled());
        reads.hear(&worker("w1"), &read(10 * ROUND + 1, &[(1, None)]), 20);
        assert!(reads.is_settled() && reads.unread().is_empty());
    }

    #[test]
    fn a_report_that_is_heard_again_after_a_restart_counts_once() {
        let mut reads = Reads::new(vec![provable(0, "a"), provable(1, "a")]);
        for _ in 0..3 {
            reads.hear(&worker("w1"), &read(0, &[(0, None), (1, Some(ErrorClass::Perm))]), 1);
        }
        assert!(!reads.is_settled(), "it has failed once");
        // Not of this proof.
        reads.hear(&worker("w1"), &read(0, &[(9, None)]), 1);
    }

    #[test]
    fn while_no_sector_was_read_none_is_given_up() {
        let mut reads = Reads::new(vec![provable(0, "a")]);
        for round in 0..5 {
            reads.hear(&worker("w1"), &read(round * ROUND, &[(0, Some(ErrorClass::Perm))]), i64::from(round));
        }
        assert!(!reads.is_settled());
        assert_eq!(numbers(&reads, 100), [5 * ROUND]);
    }

    #[test]
    fn what_a_prover_cannot_use_is_read_again() {
        let mut reads = Reads::new(vec![provable(0, "a"), provable(1, "a")]);
        reads.hear(&worker("w1"), &read(0, &[(0, None), (1, None)]), 1);
        let unfit = ErrorReport::new(ErrorClass::Temp, ErrorCode::FILES_UNPROVABLE, "no vanilla proof");
        reads.refuse(&[SectorNumber(1)], &unfit, 2);
        assert!(!reads.is_settled());
        assert_eq!(numbers(&reads, 3), [ROUND + 1]);
        reads.hear(&worker("w2"), &read(ROUND + 1, &[(1, None)]), 3);
        assert!(reads.is_settled());
        assert_eq!(reads.read().map(|(_, by)| by).collect::<BTreeSet<_>>().len(), 2);
    }
}
