//! A person's orders to a machine, as opposed to a sector. They stay in force until they are changed.

use serde::{Deserialize, Serialize};

/// A worker's standing orders. The last published ones count. Following them twice is harmless.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orders {
    /// Incremented with each change.
    pub revision: u64,
    /// Whether to finish the jobs in the slots and take no new ones.
    #[serde(default)]
    pub drain: bool,
    /// The slots to release.
    #[serde(default)]
    pub release: Vec<SlotRelease>,
    /// The worker's known slots. An empty directory in the place of one is a disk that is not mounted.
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

/// An order to release a slot. Its contents are quarantined, never deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotRelease {
    /// Its number, rising per worker. A slot carries out an order only if its number [comes
    /// after](SlotRelease::comes_after) that of the last one.
    pub id: u64,
    /// The slot's directory, as the heartbeat names it.
    pub slot: String,
}

impl SlotRelease {
    /// Whether an order's number comes after another one's. Numbers wrap around, so there is always a later one, even
    /// after the largest, which a forged order may have used.
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
