//! What a person wants of a machine, as against a sector: it holds until it is changed.

use serde::{Deserialize, Serialize};

/// A worker's standing orders. The last ones published are the ones that count; following them twice is harmless.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orders {
    /// Rises with each change.
    pub revision: u64,
    /// Finish what is local and take nothing new.
    #[serde(default)]
    pub drain: bool,
    /// Slots to give up what they hold.
    #[serde(default)]
    pub release: Vec<SlotRelease>,
    /// The slots that the worker is known to have: an empty directory in the place of one is a disk that is away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slots: Vec<KnownSlot>,
}

/// A slot as the manager remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownSlot {
    /// The slot's directory, as the heartbeat names it.
    pub path: String,
    /// Its id.
    pub id: String,
}

/// An order to free a slot: what it holds is quarantined, never deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotRelease {
    /// Its number, rising a worker. A slot carries out one whose number [comes after](SlotRelease::comes_after) its last.
    pub id: u64,
    /// The slot's directory, as the heartbeat names it.
    pub slot: String,
}

impl SlotRelease {
    /// Whether an order's number comes after another one's. Numbers go round, so that there is always a later one: also after
    /// the largest, which a forged order may have had.
    pub const fn comes_after(id: u64, last: u64) -> bool {
        id != last && id.wrapping_sub(last) <= u64::MAX / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_later_number_after_each() {
        for last in [0, 1, 7, i64::MAX as u64, u64::MAX - 1, u64::MAX] {
            assert!(SlotRelease::comes_after(last.wrapping_add(1), last), "{last}");
            assert!(!SlotRelease::comes_after(last, last) && !SlotRelease::comes_after(last, last.wrapping_add(1)));
        }
        assert!(SlotRelease::comes_after(7, u64::MAX));
    }
}
