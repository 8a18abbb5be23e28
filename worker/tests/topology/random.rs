//! Whatever a description says: a whole machine or an error.

use proptest::prelude::*;
use sealbus_worker::topology::{Source, draw, load};

use super::{assert_whole, synthetic};

/// A machine that could be: levels in their order, some of them missing.
fn sensible() -> impl Strategy<Value = (String, usize)> {
    let level = |name: &'static str, most: usize| prop::option::weighted(0.7, (Just(name), 1..=most));
    (level("package", 4), level("numa", 4), level("l3", 4), level("core", 8), 1_usize..=2).prop_map(
        |(package, numa, l3, core, threads)| {
            let levels: Vec<_> = [package, numa, l3, core, Some(("pu", threads))].into_iter().flatten().collect();
            let text: Vec<String> = levels.iter().map(|(name, count)| format!("{name}:{count}")).collect();
            (text.join(" "), levels.iter().map(|(_, count)| count).product())
        },
    )
}

/// Words of descriptions, in any order.
fn soup() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "package:2",
        "numa:2",
        "[numa]",
        "[numa(memory=1GiB)]",
        "l3:2",
        "l3:3(size=8MiB)",
        "l2:1",
        "core:2",
        "core:3",
        "pu:2",
        "pu",
        "2",
        "group:2",
        "die:2",
        "misc:1",
        "(",
        ")",
        "[",
        "]",
        ":",
        "numa:2(indexes=1,0)",
        "machine:1",
        "pu:2(indexes=core:pu)",
        "core:0",
        "attached:1",
    ]);
    prop::collection::vec(word, 0..7).prop_map(|words| words.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_sensible_machine_is_whole((text, units) in sensible()) {
        let machine = synthetic(&text);
        assert_whole(&machine);
        prop_assert_eq!(machine.units().len(), units);
        prop_assert_eq!(&machine.units(), &machine.present);
        // A group is within one package and one node, so that all of its cores are equally near.
        let cores: usize = (0..machine.caches.len()).map(|at| machine.cores_of_cache(at).len()).sum();
        prop_assert_eq!(cores, machine.cores.len());
        prop_assert!(draw::draw(&machine).lines().count() > 2);
    }

    #[test]
    fn every_text_is_a_whole_machine_or_an_error(text in prop_oneof![soup(), "[ -~]{0,40}"]) {
        if let Ok(machine) = load(Source::Synthetic(text)) {
            assert_whole(&machine);
            prop_assert!(!draw::draw(&machine).is_empty());
        }
    }

    #[test]
    fn every_part_of_a_machine_is_whole((text, units) in sensible(), kept in prop::collection::vec(any::<bool>(), 512)) {
        let machine = synthetic(&text);
        let kept = machine.units().iter().zip(&kept).filter(|(_, kept)| **kept).map(|(unit, _)| unit).collect();
        if let Ok(less) = machine.restricted_to(&kept) {
            assert_whole(&less);
            prop_assert_eq!(less.units(), kept);
        } else {
            prop_assert!(kept.is_empty(), "{} units", units);
        }
    }
}
