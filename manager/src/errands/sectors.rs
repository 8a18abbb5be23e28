//! What [`crate::care`] has planned, as messages.

use fvm_shared::{address::Address, econ::TokenAmount};
use sealbus_schema::MinerId;
use serde_json::{Value, json};

use super::{Draft, Refusal, Role, encoded, fil::shown};
use crate::{
    care::{
        Declared,
        batch::{Batch, Verb},
        compact::Compaction,
    },
    chain::params::{CompactPartitionsParams, METHOD_COMPACT_PARTITIONS},
    drive::address,
};

/// A message about proven sectors. `value` is what it carries; `costs` is what the chain takes from the miner for it, if
/// that is known.
pub fn of_batch(
    miner: MinerId,
    sender: Address,
    verb: Verb,
    batch: &Batch,
    value: TokenAmount,
    costs: Option<TokenAmount>,
) -> Result<Draft, Refusal> {
    let count = match batch.count() {
        1 => "1 sector".to_owned(),
        count => format!("{count} sectors"),
    };
    let (kind, what, follows) = match verb {
        Verb::Extend => (
            EXTEND,
            format!("extend {count} of {miner} to {}", expirations(&batch.declared)),
            "their pledge stays locked until then".to_owned(),
        ),
        Verb::Terminate => (
            "terminate",
            format!("end {count} of {miner}"),
            format!(
                "this cannot be taken back. About {} FIL are taken from the miner's balance; their pledges become available",
                shown(&costs.clone().unwrap_or_default())
            ),
        ),
        Verb::Upgrade => (
            "upgrade_quality",
            format!("raise {count} of {miner} to tenfold quality"),
            "their pledge and their daily fee rise; what the message carries and the pledge does not need becomes available \
             in the miner's balance"
                .to_owned(),
        ),
    };
    Ok(Draft {
        miner: Some(miner),
        kind,
        role: Role::Sender,
        sender,
        receiver: address(miner),
        method: verb.method(),
        params: verb.params(&batch.declared).map_err(|error| Refusal::Encode(error.to_string()))?,
        value,
        what,
        follows,
        detail: json!({
            "sectors": batch.count(), "declared": batch.declared.iter().map(described).collect::<Vec<_>>(),
            "costs_atto": costs.map(|costs| costs.atto().to_string()),
        }),
    })
}

/// The kind of an extension.
pub const EXTEND: &str = "extend";

/// A message that compacts a deadline.
pub fn of_compaction(miner: MinerId, sender: Address, compaction: &Compaction) -> Result<Draft, Refusal> {
    let Compaction { deadline, partitions, dead, saves } = compaction;
    let bits = fvm_ipld_bitfield::BitField::try_from_bits(partitions.iter().copied());
    let bits = bits.map_err(|error| Refusal::Encode(error.to_string()))?;
    Ok(Draft {
        miner: Some(miner),
        kind: "compact",
        role: Role::Sender,
        sender,
        receiver: address(miner),
        method: METHOD_COMPACT_PARTITIONS,
        params: encoded(&CompactPartitionsParams { deadline: *deadline, partitions: bits })?,
        value: TokenAmount::default(),
        what: format!(
            "pack {} of deadline {deadline} of {miner} anew, without {dead} dead sector{}",
            if partitions.len() == 1 { "1 partition".to_owned() } else { format!("{} partitions", partitions.len()) },
            if *dead == 1 { "" } else { "s" }
        ),
        follows: match saves {
            0 => "as many partitions stay; later compactions find fewer dead sectors".to_owned(),
            1 => "there is one window PoSt less a day".to_owned(),
            saves => format!("there are {saves} window PoSts less a day"),
        },
        detail: json!({ "deadline": deadline, "partitions": partitions, "dead": dead, "saves": saves }),
    })
}

/// What is declared of a partition, with the sectors as ranges.
fn described(declared: &Declared) -> Value {
    json!({
        "deadline": declared.at.deadline, "partition": declared.at.partition, "expiration": declared.expiration,
        "sectors": ranges(&declared.sectors),
    })
}

/// Ascending numbers as text: `1-5,9`. The form of `intents::numbers::Numbers`.
pub fn ranges(numbers: &[u64]) -> String {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *number => *last = *number,
            _ => runs.push((*number, *number)),
        }
    }
    let text = |(first, last): &(u64, u64)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    runs.iter().map(text).collect::<Vec<_>>().join(",")
}

/// The new expirations in words.
fn expirations(declared: &[Declared]) -> String {
    let mut all: Vec<_> = declared.iter().filter_map(|declared| declared.expiration).collect();
    all.sort_unstable();
    match (all.first(), all.last()) {
        (Some(first), Some(last)) if first == last => format!("epoch {first}"),
        (Some(first), Some(last)) => format!("epochs {first} to {last}"),
        _ => "the same epoch".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{MINER, id},
        *,
    };
    use crate::{chain::types::SectorLocation, intents::numbers::Numbers};

    fn batch(expirations: [i64; 2]) -> Batch {
        let declared = expirations.into_iter().enumerate().map(|(partition, expiration)| Declared {
            at: SectorLocation { deadline: 3, partition: partition as u64 },
            expiration: Some(expiration),
            sectors: vec![1, 2, 3, 9],
        });
        Batch { declared: declared.collect(), gas_used: 0 }
    }

    #[test]
    fn what_a_message_does_is_said_in_numbers() {
        let draft =
            |verb, batch: &Batch| of_batch(MINER, id(101), verb, batch, TokenAmount::default(), None).expect("one");
        assert_eq!(draft(Verb::Extend, &batch([7, 7])).what, "extend 8 sectors of f01000 to epoch 7");
        assert_eq!(draft(Verb::Extend, &batch([9, 7])).what, "extend 8 sectors of f01000 to epochs 7 to 9");
        let ended = draft(Verb::Terminate, &batch([7, 7]));
        assert_eq!((ended.method, ended.detail["declared"][1]["sectors"].as_str()), (9, Some("1-3,9")));
        let compaction = Compaction { deadline: 4, partitions: vec![0, 2], dead: 3, saves: 1 };
        let compact = of_compaction(MINER, id(101), &compaction).expect("one");
        assert_eq!(compact.what, "pack 2 partitions of deadline 4 of f01000 anew, without 3 dead sectors");
    }

    #[test]
    fn ranges_are_read_back() {
        for numbers in [vec![5], vec![1, 2, 3, 9, 11, 12]] {
            let read: Numbers = ranges(&numbers).parse().expect("ranges");
            let members: Vec<u64> = (0..20).filter(|number| read.contains(*number)).collect();
            assert_eq!(members, numbers);
        }
        assert_eq!(ranges(&[]), "");
    }
}
