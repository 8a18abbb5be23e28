//! The calculator.

use std::collections::BTreeMap;

use sealbus_planner::{
    calc::{self, Offer, Request, Slots, Waits},
    units,
};
use sealbus_schema::Phase;

fn request(slots: &str, offers: &[(Phase, &str)]) -> Request {
    Request {
        slots: slots.parse().expect("slots"),
        phases: offers.iter().map(|(phase, text)| (*phase, text.parse().expect("an offer"))).collect(),
        locks: BTreeMap::from([("gpu".into(), 1)]),
        staggered_ms: BTreeMap::new(),
        waits: Waits { precommit_ms: 900_000, seed_ms: 4_800_000, prove_ms: 900_000 },
    }
}

#[test]
fn an_offer_is_a_count_a_time_and_locks() {
    let offer: Offer = "4x3h".parse().expect("an offer");
    assert_eq!((offer.count, offer.time_ms, offer.locks.len()), (4, 3 * 3_600_000, 0));
    let offer: Offer = "1x10m30s@gpu,cpu".parse().expect("an offer");
    assert_eq!((offer.count, offer.time_ms, offer.locks), (1, 630_000, vec!["gpu".to_owned(), "cpu".to_owned()]));
    for (text, problem) in [
        ("3h", "there is no x"),
        ("ax3h", "\"a\" is not a number"),
        ("0x3h", "the count must be 1 to"),
        ("1x3", ""),
        ("1x3q", "is not a time"),
        ("1x", "is not a time"),
        ("1x3h@", "a lock has no name"),
    ] {
        match text.parse::<Offer>() {
            Ok(offer) => assert_eq!((text, offer.time_ms), ("1x3", 3_000)),
            Err(error) => assert!(error.to_string().contains(problem), "{error}"),
        }
    }
}

#[test]
fn slots_are_a_number_or_a_range() {
    assert_eq!("8".parse(), Ok(Slots { least: 8, most: 8 }));
    assert_eq!("4-16".parse(), Ok(Slots { least: 4, most: 16 }));
    for text in ["0", "5-4", "a", "1-", "1-5000", "99999"] {
        let error = text.parse::<Slots>().expect_err(text).to_string();
        assert!(error.contains(&format!("{text:?}")), "{error}");
    }
}

#[test]
fn times_and_sizes_are_read_as_people_write_them() {
    for (text, ms) in
        [("3h", 10_800_000), ("1h30m", 5_400_000), ("1.5h", 5_400_000), ("45", 45_000), ("7ms", 7), ("2d", 172_800_000)]
    {
        assert_eq!(units::parse_time_ms(text), Ok(ms), "{text}");
    }
    for text in ["", "h", "3x", "3m2h", "3h5", "-1h", "99999999d"] {
        units::parse_time_ms(text).expect_err(text);
    }
    for (text, bytes) in [("32GiB", 32_u64 << 30), ("1.5 TiB", 3 << 39), ("2TB", 2_000_000_000_000), ("512", 512)] {
        assert_eq!(units::parse_bytes(text), Ok(bytes), "{text}");
    }
    for text in ["", "GiB", "3 apples", "-1", "99999999TiB"] {
        units::parse_bytes(text).expect_err(text);
    }
    assert_eq!(
        (units::time(5_400_000), units::time(7), units::time(630_000)),
        ("1 h 30 min".into(), "7 ms".into(), "10 min 30 s".into())
    );
    assert_eq!((units::bytes(64 << 30), units::bytes(3_840_755_982_336)), ("64 GiB".into(), "3.5 TiB".into()));
}

#[test]
fn the_table_shows_where_more_slots_bring_nothing() {
    let offers = [(Phase::Pc1, "4x3h"), (Phase::Pc2, "1x10m@gpu"), (Phase::C2, "1x10m@gpu")];
    let rows = calc::calculate(&request("4-10", &offers)).expect("calculates");
    let short_of: Vec<String> = rows.iter().map(|row| row.steady.bottleneck.to_string()).collect();
    assert_eq!(short_of[0], "slots");
    assert_eq!(short_of[6], "pc1 processors");
    assert!(rows.windows(2).all(|pair| pair[0].steady.sectors_per_day <= pair[1].steady.sectors_per_day + 0.01));
    let table = calc::table(&rows);
    assert_eq!(table.lines().count(), 8, "{table}");
    let csv = calc::csv(&rows);
    let width = csv.lines().next().expect("a head").split(',').count();
    assert!(csv.lines().all(|line| line.split(',').count() == width), "{csv}");
    let one = calc::table(&rows[..1]);
    assert!(one.contains("lock gpu") && one.contains("pc2"), "{one}");
}

#[test]
fn nothing_to_calculate_is_said() {
    let error = calc::calculate(&request("4", &[])).expect_err("nothing").to_string();
    assert!(error.contains("--pc1 4x3h"), "{error}");
    let mut unlocked = request("4", &[(Phase::Pc2, "1x10m@gpu")]);
    unlocked.locks.clear();
    let error = calc::calculate(&unlocked).expect_err("no lock").to_string();
    assert!(error.contains("pc2 needs the lock gpu"), "{error}");
}
