use super::*;
use crate::money::Holdings;

const MINER: MinerId = MinerId(1000);
const SENDER: ActorId = 101;
const OWNER: ActorId = 100;

fn atto(amount: i64) -> TokenAmount {
    TokenAmount::from_atto(amount)
}

fn all(sender: i64, owner: i64, [balance, deposits, pledge, vesting]: [i64; 4]) -> AllHoldings {
    let account = |balance| Holdings { balance: atto(balance), ..Holdings::default() };
    let miner =
        Holdings { balance: atto(balance), deposits: atto(deposits), pledge: atto(pledge), vesting: atto(vesting) };
    AllHoldings::from([(SENDER, account(sender)), (OWNER, account(owner)), (MINER.0, miner)])
}

fn message(method: u64, gas: i64, transfers: &[(ActorId, ActorId, i64)], sectors: &[(u64, i64, i64)]) -> Message {
    let transfer = |(from, to, amount): &(ActorId, ActorId, i64)| Transfer {
        from: Some(*from),
        to: Some(*to),
        amount: atto(*amount),
    };
    let change = |(number, deposit, pledge): &(u64, i64, i64)| SectorChange {
        number: SectorNumber(*number),
        deposit: atto(*deposit),
        pledge: atto(*pledge),
    };
    Message {
        message: MessageRef { cid: format!("m{method}"), method },
        sender: SENDER,
        miner: Some(MINER),
        gas: atto(gas),
        transfers: transfers.iter().map(transfer).collect(),
        sectors: sectors.iter().map(change).collect(),
    }
}

/// Books, and checks that the book closes.
fn booked(before: &AllHoldings, after: &AllHoldings, messages: &[Message], around: &Circumstances) -> Vec<Entry> {
    let miners = BTreeSet::from([MINER]);
    let mut page = Page::new(before, after, &miners);
    messages.iter().for_each(|message| page.book(message));
    let entries = page.close(around);
    let mut then = before.clone();
    add(&mut then, &entries);
    assert_eq!(then, *after, "{entries:#?}");
    entries
}

/// The entries in short: actor, quantity, purpose, amount, sector.
fn short(entries: &[Entry]) -> Vec<(ActorId, &'static str, &'static str, i64, Option<u64>)> {
    let line = |entry: &Entry| {
        let amount = i64::try_from(entry.amount.atto().clone()).expect("small");
        (entry.actor, entry.quantity.name(), entry.purpose.name(), amount, entry.sector.map(|number| number.0))
    };
    entries.iter().map(line).collect()
}

#[test]
fn a_precommit_of_three_costs_each_its_share_of_the_gas_and_its_deposit() {
    let sent = message(28, 10, &[(SENDER, MINER.0, 33)], &[(1, 10, 0), (2, 10, 0), (3, 10, 0)]);
    let (before, after) = (all(100, 5, [0, 0, 0, 0]), all(57, 5, [33, 30, 0, 0]));
    let entries = booked(&before, &after, &[sent], &Circumstances::default());
    assert_eq!(
        short(&entries),
        [
            (SENDER, "balance", "gas", -4, Some(1)),
            (SENDER, "balance", "gas", -3, Some(2)),
            (SENDER, "balance", "gas", -3, Some(3)),
            (SENDER, "balance", "moved", -33, None),
            (1000, "balance", "moved", 33, None),
            (1000, "deposits", "deposit", 10, Some(1)),
            (1000, "deposits", "deposit", 10, Some(2)),
            (1000, "deposits", "deposit", 10, Some(3)),
        ]
    );
    assert!(entries.iter().all(|entry| entry.miner == Some(MINER) && entry.message.is_some()));
}

#[test]
fn a_prove_commit_returns_the_deposit_locks_the_pledge_and_burns_the_debt() {
    let sent = message(34, 7, &[(SENDER, MINER.0, 20), (MINER.0, BURNT_FUNDS, 2)], &[(1, -10, 25), (2, 0, 0)]);
    let (before, after) = (all(100, 5, [33, 20, 0, 0]), all(73, 5, [51, 10, 25, 0]));
    let entries = booked(&before, &after, &[sent], &Circumstances::default());
    assert_eq!(
        short(&entries)[2..],
        [
            (SENDER, "balance", "moved", -20, None),
            (1000, "balance", "moved", 20, None),
            (1000, "balance", "burnt", -2, None),
            (1000, "deposits", "deposit", -10, Some(1)),
            (1000, "pledge", "pledge", 25, Some(1)),
        ]
    );
}

#[test]
fn of_two_messages_about_a_sector_in_one_tipset_the_first_has_changed_it() {
    let sent = |gas| message(34, gas, &[], &[(1, -10, 25)]);
    let (before, after) = (all(100, 5, [51, 20, 0, 0]), all(90, 5, [51, 10, 25, 0]));
    let entries = booked(&before, &after, &[sent(7), sent(3)], &Circumstances::default());
    assert_eq!(
        short(&entries),
        [
            (SENDER, "balance", "gas", -7, Some(1)),
            (1000, "deposits", "deposit", -10, Some(1)),
            (1000, "pledge", "pledge", 25, Some(1)),
            (SENDER, "balance", "gas", -3, Some(1)),
        ]
    );
}

#[test]
fn a_message_that_failed_costs_its_gas_only() {
    let entries = booked(
        &all(100, 5, [0; 4]),
        &all(89, 5, [0; 4]),
        &[message(34, 11, &[], &[(7, 0, 0)])],
        &Circumstances::default(),
    );
    assert_eq!(short(&entries), [(SENDER, "balance", "gas", -11, Some(7))]);
}

#[test]
fn money_from_and_to_strangers_is_a_transfer_and_their_gas_is_theirs() {
    let mut given = message(0, 3, &[(55, OWNER, 9)], &[]);
    (given.sender, given.miner) = (55, None);
    let paid = Message { miner: None, ..message(0, 2, &[(SENDER, 56, 4)], &[]) };
    let entries = booked(&all(100, 5, [0; 4]), &all(94, 14, [0; 4]), &[given, paid], &Circumstances::default());
    assert_eq!(
        short(&entries),
        [
            (OWNER, "balance", "transfer", 9, None),
            (SENDER, "balance", "gas", -2, None),
            (SENDER, "balance", "transfer", -4, None),
        ]
    );
    assert_eq!(entries[0].miner, None);
}

#[test]
fn what_is_burnt_at_the_end_of_a_deadline_is_its_fee_and_beyond_that_a_penalty() {
    let around = Circumstances { daily_fees: BTreeMap::from([(MINER, atto(4))]), ..Circumstances::default() };
    let (before, after) = (all(1, 1, [100, 0, 50, 20]), all(1, 1, [90, 0, 50, 15]));
    let expected = [
        (1000, "vesting", "vesting", -5, None),
        (1000, "balance", "fee", -4, None),
        (1000, "balance", "penalty", -6, None),
    ];
    assert_eq!(short(&booked(&before, &after, &[], &around)), expected);

    // Half of the expected reward caps the fee.
    let capped = all(1, 1, [97, 0, 50, 20]);
    assert_eq!(short(&booked(&before, &capped, &[], &around)), [(1000, "balance", "fee", -3, None)]);

    // No deadline has ended.
    let unknown = booked(&before, &capped, &[], &Circumstances::default());
    assert_eq!(short(&unknown), [(1000, "balance", "other", -3, None)]);
}

#[test]
fn a_reward_is_one_only_for_the_maker_of_a_block() {
    let (before, after) = (all(1, 1, [0; 4]), all(1, 1, [100, 0, 0, 75]));
    let around = Circumstances { blocks_of: BTreeSet::from([MINER]), ..Circumstances::default() };
    let vesting = (1000, "vesting", "vesting", 75, None);
    let entries = booked(&before, &after, &[], &around);
    assert_eq!(short(&entries), [vesting, (1000, "balance", "reward", 100, None)]);
    let entries = booked(&before, &after, &[], &Circumstances::default());
    assert_eq!(short(&entries), [vesting, (1000, "balance", "other", 100, None)]);
}

#[test]
fn the_deposit_of_an_expired_precommit_is_burnt_as_far_as_there_is_money() {
    let sector = SectorId { miner: MINER, number: SectorNumber(7) };
    let around = Circumstances { expired: vec![(sector, atto(10))], ..Circumstances::default() };
    for (left, burnt) in [(0, 10), (4, 6)] {
        let (before, after) = (all(1, 1, [10, 10, 0, 0]), all(1, 1, [left, 0, 0, 0]));
        assert_eq!(
            short(&booked(&before, &after, &[], &around)),
            [(1000, "deposits", "deposit", -10, Some(7)), (1000, "balance", "deposit_burnt", -burnt, Some(7))]
        );
    }
}

#[test]
fn what_cannot_be_read_is_booked_with_its_reason() {
    let around = Circumstances {
        unread: Some("the node no longer has the state".to_owned()),
        daily_fees: BTreeMap::from([(MINER, atto(4))]),
        blocks_of: BTreeSet::from([MINER]),
        ..Circumstances::default()
    };
    let entries = booked(&all(100, 5, [9, 1, 1, 1]), &all(90, 6, [8, 2, 3, 0]), &[], &around);
    assert!(entries.iter().all(|entry| entry.note == around.unread), "{entries:?}");
    let of_balance: Vec<_> = entries.iter().filter(|entry| entry.quantity == Quantity::Balance).collect();
    assert!(of_balance.iter().all(|entry| entry.purpose == Purpose::Other) && of_balance.len() == 3, "{entries:?}");
}

#[test]
fn the_book_closes_whatever_was_told_of_a_tipset() {
    // A simple generator of reproducible numbers.
    let mut seed = 1_u64;
    let mut next = |below: i64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((seed >> 33) % below as u64) as i64
    };
    for _ in 0..2000 {
        let actors = [SENDER, OWNER, MINER.0, BURNT_FUNDS, 77];
        let mut messages = Vec::new();
        for _ in 0..next(4) {
            let mut actor = || actors[next(5) as usize];
            let transfers = [(actor(), actor(), next(50)), (MINER.0, BURNT_FUNDS, next(9))];
            let sectors: Vec<_> = (0..next(5)).map(|n| (n as u64, next(30) - 15, next(30))).collect();
            messages.push(message(28, next(100), &transfers, &sectors));
        }
        let around = Circumstances {
            blocks_of: (0..next(2)).map(|_| MINER).collect(),
            expired: (0..next(3))
                .map(|n| (SectorId { miner: MINER, number: SectorNumber(n as u64) }, atto(9)))
                .collect(),
            daily_fees: (0..next(2)).map(|_| (MINER, atto(next(20)))).collect(),
            unread: (next(5) == 0).then(|| "a test".to_owned()),
        };
        let mut some = || all(next(99), next(99), [next(99), next(99), next(99), next(99)]);
        booked(&some(), &some(), &messages, &around);
    }
}
