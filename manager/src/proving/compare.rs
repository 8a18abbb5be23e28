//! What the chain has against what is in the stores. Nothing is ever deleted: it is only shown.
//!
//! [`compare`] is pure. [`look`] collects what it compares; [`watch`] does that once an hour.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    convert::Infallible,
    path::Path,
    time::Duration,
};

use sealbus_schema::{MinerId, SectorId, SectorNumber};
use serde::Serialize;

use super::Error;
use crate::{
    chain::{NodeClient, Transport},
    config::{self, Config},
    drive::{address, chain_of},
    store::{Store, StoreError},
};

/// How often the manager compares.
const PERIOD: Duration = Duration::from_secs(3600);
/// How long listing a store may take before it counts as away.
const LIST_LIMIT: Duration = Duration::from_secs(300);
/// How many findings of a kind are logged.
const LOGGED: usize = 5;
/// Where a store has a sector's files, and what their names are: a file, and a directory.
const PLACES: [&str; 2] = ["sealed", "cache"];

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// How many sectors the chain has that have not ended.
    pub live: usize,
    /// Those of which nobody knows the files, or whose files are not where they should be, each with the reason.
    pub unreadable: Vec<(u64, String)>,
    /// What is in a store and belongs to no sector that lives or is being sealed, by store.
    pub unneeded: BTreeMap<String, Vec<String>>,
    /// The stores that could not be listed, each with the reason.
    pub not_listed: BTreeMap<String, String>,
}

/// What is compared.
#[derive(Debug, Default)]
pub struct Known {
    /// The sectors that have not ended on chain.
    pub live: BTreeSet<u64>,
    /// The store of each sector whose files the manager knows.
    pub stored: HashMap<u64, String>,
    /// The sectors that are being worked on.
    pub working: BTreeSet<u64>,
    /// What is in each store that could be listed: numbers of the miner's sectors, by place.
    pub listed: BTreeMap<String, BTreeMap<&'static str, BTreeSet<u64>>>,
    /// The stores that could not be listed.
    pub not_listed: BTreeMap<String, String>,
}

/// Compares.
pub fn compare(miner: MinerId, known: Known) -> Comparison {
    let name = |number: u64| SectorId { miner, number: SectorNumber(number) }.file_name();
    let mut unreadable = Vec::new();
    for number in &known.live {
        let Some(store) = known.stored.get(number) else {
            unreadable.push((*number, "the manager does not know where its files are".to_owned()));
            continue;
        };
        let Some(listed) = known.listed.get(store) else { continue };
        let missing = PLACES.iter().find(|place| !listed.get(*place).is_some_and(|there| there.contains(number)));
        if let Some(place) = missing {
            unreadable.push((*number, format!("{place}/{} is not in the store `{store}`", name(*number))));
        }
    }
    let is_needed = |number: &u64| known.live.contains(number) || known.working.contains(number);
    let mut unneeded: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (store, places) in &known.listed {
        for (place, numbers) in places {
            for number in numbers.iter().filter(|number| !is_needed(number)) {
                unneeded.entry(store.clone()).or_default().push(format!("{place}/{}", name(*number)));
            }
        }
    }
    Comparison { live: known.live.len(), unreadable, unneeded, not_listed: known.not_listed }
}

/// Compares a miner's sectors.
pub async fn look<T: Transport>(
    node: &NodeClient<T>,
    store: &Store,
    config: &Config,
    miner: MinerId,
) -> Result<Comparison, Error> {
    let head = node.chain_head().await?;
    let deadlines = node.miner_proving_deadline(&address(miner), &head.key).await?.period_deadlines;
    let mut known = Known::default();
    for deadline in 0..deadlines {
        for partition in node.miner_partitions(&address(miner), deadline, &head.key).await? {
            known.live.extend(partition.live_sectors.iter());
        }
    }
    // Read after the chain: a sector that becomes active meanwhile is being worked on.
    known.stored = store.all_stored(miner).await?;
    known.working = store.numbers_at_work(miner).await?;
    for place in &config.stores {
        match list(place, miner).await {
            Ok(listed) => drop(known.listed.insert(place.name.clone(), listed)),
            Err(why) => drop(known.not_listed.insert(place.name.clone(), why)),
        }
    }
    Ok(compare(miner, known))
}

/// Compares once an hour, forever, and logs what is wrong.
pub async fn watch<T: Transport>(
    node: &NodeClient<T>,
    store: &Store,
    config: &Config,
) -> Result<Infallible, StoreError> {
    loop {
        tokio::time::sleep(PERIOD).await;
        for miner in config.miners.iter().filter(|miner| miner.prove) {
            match look(node, store, config, miner.id).await {
                Ok(found) => tell(miner.id, &found),
                Err(Error::Store(error)) => return Err(error),
                Err(error) => {
                    tracing::warn!(miner = %miner.id, cause = chain_of(&error), "chain and stores are not compared this hour");
                }
            }
        }
    }
}

fn tell(miner: MinerId, found: &Comparison) {
    if !found.unreadable.is_empty() {
        let first: Vec<String> =
            found.unreadable.iter().take(LOGGED).map(|(number, why)| format!("{number}: {why}")).collect();
        let (sectors, first) = (found.unreadable.len(), first.join("; "));
        tracing::error!(%miner, sectors, first, "the chain has sectors that nobody can read; see `proving check`");
    }
    for (store, names) in &found.unneeded {
        let first = names.iter().take(LOGGED).cloned().collect::<Vec<_>>().join(", ");
        tracing::warn!(%miner, store, files = names.len(), first, "a store has files that no sector needs; see `proving check`");
    }
    for (store, why) in &found.not_listed {
        tracing::warn!(store, why, "a store cannot be listed");
    }
}

/// The numbers of a miner's sectors with something in a store, by place. On a thread that is left alone if it hangs: a
/// network file system may never answer.
async fn list(store: &config::Store, miner: MinerId) -> Result<BTreeMap<&'static str, BTreeSet<u64>>, String> {
    let path = store.path.clone();
    let listing = tokio::task::spawn_blocking(move || {
        PLACES.iter().map(|place| Ok((*place, numbers(&path.join(place), miner)?))).collect()
    });
    match tokio::time::timeout(LIST_LIMIT, listing).await {
        Ok(Ok(listed)) => listed,
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", LIST_LIMIT.as_secs())),
    }
}

fn numbers(directory: &Path, miner: MinerId) -> Result<BTreeSet<u64>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", directory.display());
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        // Before the first sector is stored.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && directory.parent().is_some_and(Path::is_dir) => {
            return Ok(BTreeSet::new());
        }
        Err(error) => return Err(failed(error)),
    };
    let mut numbers = BTreeSet::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        numbers.extend(name.to_str().and_then(|name| number_of(name, miner)));
    }
    Ok(numbers)
}

/// The number in `s-t01000-42`, if that is this miner's. Temporary names and others' files have none.
fn number_of(name: &str, miner: MinerId) -> Option<u64> {
    let number: u64 = name.strip_prefix(&format!("s-t0{}-", miner.0))?.parse().ok()?;
    (name == SectorId { miner, number: SectorNumber(number) }.file_name()).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINER: MinerId = MinerId(1000);

    #[test]
    fn what_is_missing_and_what_is_too_much_is_named() {
        let set = |numbers: &[u64]| numbers.iter().copied().collect::<BTreeSet<_>>();
        let known = Known {
            live: set(&[1, 2, 3, 4]),
            stored: HashMap::from([(1, "a".to_owned()), (2, "a".to_owned()), (3, "b".to_owned())]),
            working: set(&[8]),
            listed: BTreeMap::from([(
                "a".to_owned(),
                BTreeMap::from([("sealed", set(&[1, 2, 8, 9])), ("cache", set(&[1, 8, 9]))]),
            )]),
            not_listed: BTreeMap::from([("b".to_owned(), "away".to_owned())]),
        };
        let found = compare(MINER, known);
        let numbers: Vec<u64> = found.unreadable.iter().map(|(number, _)| *number).collect();
        assert_eq!((found.live, numbers), (4, vec![2, 4]), "of the store that is away nothing is said");
        assert!(found.unreadable[0].1.contains("cache/s-t01000-2"), "{found:?}");
        assert_eq!(found.unneeded["a"], ["cache/s-t01000-9", "sealed/s-t01000-9"]);
    }

    #[test]
    fn only_a_sectors_own_name_counts() {
        assert_eq!(number_of("s-t01000-42", MINER), Some(42));
        for name in ["s-t01000-042", "s-t01001-42", "s-t01000-42.tmp", "s-t01000-", "s-t01000--1", "x"] {
            assert_eq!(number_of(name, MINER), None, "{name}");
        }
    }

    #[test]
    fn a_store_without_a_sector_is_empty_and_one_that_is_not_there_is_an_error() {
        let root = tempfile::tempdir().expect("a directory");
        assert_eq!(numbers(&root.path().join("sealed"), MINER), Ok(BTreeSet::new()));
        assert!(numbers(&root.path().join("gone/sealed"), MINER).is_err());
        std::fs::create_dir(root.path().join("sealed")).expect("makes");
        std::fs::write(root.path().join("sealed/s-t01000-7"), "").expect("writes");
        std::fs::write(root.path().join("sealed/.s-t01000-8.w1.tmp"), "").expect("writes");
        assert_eq!(numbers(&root.path().join("sealed"), MINER), Ok(BTreeSet::from([7])));
    }
}
