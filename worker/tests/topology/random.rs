//! Any description gives either a valid machine or an error.

use proptest::prelude::*;
use sealbus_planner::{
    machine::draw,
    machine_plan::{Gpus, Request, plan},
};
use sealbus_schema::SectorSize;
use sealbus_worker::topology::{Source, load};

use super::{assert_whole, synthetic};

/// A plausible machine: the levels are in order, and some may be missing.
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

/// Words from descriptions in random order.
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

/// An object of an XML file with random attributes and random children.
fn strange() -> impl Strategy<Value = String> {
    let number = prop::sample::select(vec![
        "0",
        "1",
        "2",
        "7",
        "-1",
        "+1",
        "",
        "x",
        "0x1",
        "65535",
        "65536",
        "4294967295",
        "4294967296",
        "1e9",
        "1125899906842625",
        "9300000000000000000",
        "18446744073709551615",
        "99999999999999999999999",
    ]);
    let set = prop::sample::select(vec![
        "0x1",
        "0x3",
        "0x0",
        "",
        "0xf...f",
        "0x1,,0x1",
        "-0x1",
        "zz",
        "0xffffffff,0xffffffff",
    ]);
    let kind = prop::sample::select(vec![
        "Machine", "Package", "NUMANode", "L3Cache", "L2Cache", "Core", "PU", "Group", "Die", "Misc", "Bridge",
        "PCIDev", "",
    ]);
    let leaf = (kind, number.clone(), number, set.clone(), set).prop_map(|(kind, index, bytes, units, nodes)| {
        format!(
            "<object type=\"{kind}\" os_index=\"{index}\" cpuset=\"{units}\" complete_cpuset=\"{units}\" nodeset=\"{nodes}\" \
             complete_nodeset=\"{nodes}\" allowed_cpuset=\"{units}\" allowed_nodeset=\"{nodes}\" local_memory=\"{bytes}\">"
        )
    });
    prop::collection::vec((leaf, any::<bool>()), 1..12).prop_map(|objects| {
        let mut text = String::from("<topology version=\"2.0\">");
        let mut open = 0;
        for (object, stays_open) in objects {
            text.push_str(&object);
            if stays_open { open += 1 } else { text.push_str("</object>") }
        }
        text + &"</object>".repeat(open) + "</topology>"
    })
}

/// A valid file with some of its values replaced.
fn mutated() -> impl Strategy<Value = String> {
    let whole = std::fs::read_to_string(super::file("uneven.xml")).expect("file");
    let number = prop::sample::select(vec![
        "-1",
        "0",
        "3",
        "65535",
        "4294967295",
        "9300000000000000000",
        "18446744073709551615",
        "",
    ]);
    prop::collection::vec((any::<prop::sample::Index>(), number), 1..4).prop_map(move |changes| {
        let mut parts: Vec<String> = whole.split('"').map(str::to_owned).collect();
        for (at, number) in changes {
            // Every second part is a value.
            let at = at.index(parts.len() / 2) * 2 + 1;
            parts[at] = number.to_owned();
        }
        parts.join("\"")
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_sensible_machine_is_whole((text, units) in sensible()) {
        let machine = synthetic(&text);
        assert_whole(&machine);
        prop_assert_eq!(machine.units().len(), units);
        prop_assert_eq!(&machine.units(), &machine.present);
        // A group lies within one package and one node, so all its cores are equally near.
        let cores: usize = (0..machine.caches.len()).map(|at| machine.cores_of_cache(at).len()).sum();
        prop_assert_eq!(cores, machine.cores.len());
        prop_assert!(draw(&machine).lines().count() > 2);
    }

    #[test]
    fn every_text_is_a_whole_machine_or_an_error(text in prop_oneof![soup(), "[ -~]{0,40}"]) {
        if let Ok(machine) = load(Source::Synthetic(text)) {
            assert_whole(&machine);
            prop_assert!(!draw(&machine).is_empty());
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

    #[test]
    fn every_file_is_a_whole_machine_that_can_be_planned_or_an_error(text in prop_oneof![strange(), mutated()]) {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("machine.xml");
        std::fs::write(&path, text).expect("file");
        if let Ok(machine) = load(Source::Xml(path)) {
            assert_whole(&machine);
            prop_assert!(!draw(&machine).is_empty());
            for size in [SectorSize::KiB2, SectorSize::GiB32] {
                let gpus = Gpus::Count(1);
                if let Err(error) = plan(&machine, &Request { gpus, memory_bytes: Some(1 << 40), ..Request::new(size) }) {
                    prop_assert!(!error.to_string().is_empty());
                }
                let _ = plan(&machine, &Request::new(size));
            }
        }
    }
}
