//! Which partitions are packed anew without their dead sectors, so that fewer partitions need a window PoSt.

use super::{Now, Reason, deadlines::compactable_from};
use crate::chain::{
    params::{ADDRESSED_PARTITIONS_MAX, ADDRESSED_SECTORS_MAX},
    types::{Index, Partition},
};

/// The compaction of a deadline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compaction {
    /// The deadline.
    pub deadline: Index,
    /// The partitions that are packed anew, in ascending order.
    pub partitions: Vec<Index>,
    /// How many sectors of them have ended, and are removed.
    pub dead: u64,
    /// How many partitions the deadline has less afterwards.
    pub saves: u64,
}

/// A deadline that is not compacted although it has dead sectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotNow {
    /// The deadline.
    pub deadline: Index,
    /// Why.
    pub why: Reason,
}

/// Compacts the deadlines in which that removes dead sectors: `deadlines` are pairs of a deadline and its partitions, and
/// a full partition has `partition_sectors`. Partitions with sectors that are faulty or not yet proven stay as they are.
pub fn plan<'p>(
    deadlines: impl IntoIterator<Item = (Index, &'p [Partition])>,
    partition_sectors: u64,
    now: &Now,
) -> (Vec<Compaction>, Vec<NotNow>) {
    // The most partitions of one message (`load_partitions_sectors_max`).
    let most = (ADDRESSED_SECTORS_MAX / partition_sectors.max(1)).min(ADDRESSED_PARTITIONS_MAX) as usize;
    let (mut compactions, mut not_now) = (Vec::new(), Vec::new());
    for (deadline, partitions) in deadlines {
        let dead = |partition: &Partition| partition.all_sectors.len() - partition.live_sectors.len();
        let is_packable = |partition: &Partition| {
            // Live sectors are active, faulty, or not yet proven.
            partition.live_sectors.len() == partition.active_sectors.len()
        };
        let numbered = partitions.iter().enumerate().map(|(at, partition)| (at as Index, partition));
        let chosen: Vec<(Index, &Partition)> =
            numbered.filter(|(_, partition)| dead(partition) > 0 && is_packable(partition)).take(most).collect();
        if chosen.is_empty() {
            continue;
        }
        let from = compactable_from(&now.deadline, deadline, now.head);
        if from > now.head {
            not_now.push(NotNow { deadline, why: Reason::Immutable { deadline, from } });
            continue;
        }
        let live: u64 = chosen.iter().map(|(_, partition)| partition.live_sectors.len()).sum();
        compactions.push(Compaction {
            deadline,
            partitions: chosen.iter().map(|(at, _)| *at).collect(),
            dead: chosen.iter().map(|(_, partition)| dead(partition)).sum(),
            saves: (chosen.len() as u64).saturating_sub(live.div_ceil(partition_sectors.max(1))),
        });
    }
    (compactions, not_now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{care::tests::now, chain::sector_set::SectorSet};

    fn partition(all: u64, dead: u64, faulty: u64) -> Partition {
        Partition {
            all_sectors: SectorSet::from_numbers(0..all),
            faulty_sectors: SectorSet::from_numbers(dead..dead + faulty),
            recovering_sectors: SectorSet::default(),
            live_sectors: SectorSet::from_numbers(dead..all),
            active_sectors: SectorSet::from_numbers(dead + faulty..all),
        }
    }

    #[test]
    fn partitions_with_dead_sectors_are_packed_unless_one_is_faulty() {
        let partitions =
            [partition(4, 0, 0), partition(4, 3, 0), partition(4, 2, 1), partition(4, 4, 0), partition(4, 1, 0)];
        let (compactions, not_now) = plan([(20, &partitions[..]), (21, &partitions[..1])], 4, &now());
        // 4 live sectors of partitions 1, 3 and 4 fill one.
        assert_eq!(compactions, [Compaction { deadline: 20, partitions: vec![1, 3, 4], dead: 8, saves: 2 }]);
        assert_eq!(not_now, []);
    }

    #[test]
    fn a_deadline_whose_proofs_can_be_disputed_waits_and_names_its_epoch() {
        let partitions = [partition(4, 3, 0)];
        let (compactions, not_now) = plan([(10, &partitions[..]), (9, &partitions[..])], 4, &now());
        assert_eq!(compactions, []);
        let close = now().deadline.close;
        let expected = [(10, close + 1800), (9, close - 60 + 1800)];
        let expected = expected.map(|(deadline, from)| NotNow { deadline, why: Reason::Immutable { deadline, from } });
        assert_eq!(not_now, expected);
    }

    #[test]
    fn a_message_has_no_more_partitions_than_the_actor_takes() {
        let partitions = vec![partition(2349, 1, 0); 30];
        let (compactions, _) = plan([(20, &partitions[..])], 2349, &now());
        assert_eq!(compactions[0].partitions.len(), 10);
    }
}
