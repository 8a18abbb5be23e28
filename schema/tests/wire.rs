//! Messages of one release are read by the next, and the other way round.
//!
//! `wire/<release>.json` has the bytes of each message as that release wrote them, with everything that it can carry and
//! with the least. The newest file is this tree's. If a message's shape changes, a test fails until the change is
//! recorded: `SEALBUS_RECORD_WIRE=yes cargo test --workspace --test wire`. Other tests then compare it with the release
//! before. docs/adr/0068-one-release-back.md has the rules.

use std::{collections::BTreeMap, fs, path::PathBuf};

use sealbus_schema::{
    IntentKind,
    message::{CommonEvent, CommonFact, Event, EventBody, Fact, Intent, LeaseRecord, WorkflowEvent, WorkflowFact},
    workflows::seal,
};
use serde::{Deserialize, Serialize};

#[path = "wire/samples.rs"]
mod samples;
#[path = "wire/shape.rs"]
mod shape;

use samples::{Message, Sample};
use shape::Shape;

/// The release whose messages this tree writes. After a release it is the next one's, with a file of its own.
const THIS: &str = "0.1";
/// The release before it. There was none, so these are the messages of the commit in the file's name.
const BEFORE: &str = "before-0.1-f4bccf7";

/// Kinds that the release before does not know, each with what it does about them. The release that adds a kind may
/// write it only if that is harmless.
const NEW_KINDS: [(&str, &str); 0] = [];

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Recorded {
    full: String,
    least: String,
}

type Recording = BTreeMap<String, Recorded>;

fn path(release: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/wire").join(format!("{release}.json"))
}

fn recorded(release: &str) -> Recording {
    let text = fs::read_to_string(path(release)).expect("a recording");
    serde_json::from_str(&text).expect("a recording")
}

fn written_now() -> Recording {
    let of = |sample: Sample| {
        let recorded = Recorded { full: hex::encode(sample.full), least: hex::encode(sample.least) };
        (sample.name, recorded)
    };
    samples::all().into_iter().map(of).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    hex::decode(hex).expect("hexadecimal")
}

fn shape(hex: &str) -> Shape {
    Shape::of(&bytes(hex))
}

#[test]
fn each_kind_of_message_has_a_sample() {
    let events = CommonEvent::KINDS.iter().chain(seal::Event::KINDS).map(|kind| format!("event/{kind}"));
    let facts = CommonFact::KINDS.iter().chain(seal::Fact::KINDS).map(|kind| format!("fact/{}", kind.name()));
    let intents = [IntentKind::Seal, IntentKind::Rebuild].map(|kind| format!("intent/{kind}"));
    let samples = written_now();
    for name in events.chain(facts).chain(intents) {
        assert!(samples.contains_key(&name), "add a sample of {name}");
    }
}

#[test]
fn the_shape_of_each_message_is_the_recorded_one() {
    let now = written_now();
    if std::env::var_os("SEALBUS_RECORD_WIRE").is_some() {
        let text = serde_json::to_string_pretty(&now).expect("JSON");
        fs::write(path(THIS), text + "\n").expect("writes the recording");
    }
    let recorded = recorded(THIS);
    let changed = |(name, now): (&String, &Recorded)| match recorded.get(name) {
        Some(recorded) if recorded == now => None,
        Some(Recorded { full, least }) => {
            let [before, after] = [full, &now.full].map(|full| shape(full));
            let mut fields = before.lost_in(&after);
            fields.extend(after.lost_in(&before));
            fields.extend(shape(least).lost_in(&shape(&now.least)));
            Some(format!("{name}: {fields:?}"))
        }
        None => Some(format!("{name} is new")),
    };
    let mut changes: Vec<String> = now.iter().filter_map(changed).collect();
    changes.extend(recorded.keys().filter(|name| !now.contains_key(*name)).map(|name| format!("{name} is gone")));
    assert!(
        changes.is_empty(),
        "messages have changed. If docs/adr/0068-one-release-back.md allows it, record them: \
         SEALBUS_RECORD_WIRE=yes cargo test --workspace --test wire\n{changes:#?}"
    );
}

#[test]
fn this_release_reads_what_the_one_before_wrote_and_loses_nothing() {
    let samples: BTreeMap<String, Sample> = samples::all().into_iter().map(|s| (s.name.clone(), s)).collect();
    for (name, Recorded { full, least }) in recorded(BEFORE) {
        let sample = samples.get(&name).unwrap_or_else(|| panic!("{name} is no longer read"));
        for hex in [full, least] {
            let again = (sample.again)(&bytes(&hex)).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(shape(&hex).lost_in(&Shape::of(&again)), Vec::<String>::new(), "{name}");
        }
    }
}

#[test]
fn the_release_before_reads_what_this_one_writes() {
    let before = recorded(BEFORE);
    for (name, Recorded { full, least }) in written_now() {
        let Some(known) = before.get(&name) else {
            assert!(
                NEW_KINDS.iter().any(|(new, _)| *new == name),
                "{name}: say in NEW_KINDS what {BEFORE} does with it"
            );
            continue;
        };
        // What it always wrote it may also require.
        assert_eq!(shape(&known.least).other_type_in(&shape(&least)), Vec::<String>::new(), "{name}, the least");
        assert_eq!(shape(&known.full).other_type_in(&shape(&full)), Vec::<String>::new(), "{name}, in full");
    }
}

#[test]
fn fields_that_this_release_does_not_know_are_skipped_wherever_they_are() {
    for Sample { name, full, again, .. } in samples::all() {
        let newer = Shape::of(&full).with_unknown_fields().bytes(&full);
        let read = again(&newer).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(Shape::of(&read), Shape::of(&full), "{name}");
    }
}

#[test]
fn a_kind_that_this_release_does_not_know_is_read_as_one_of_a_newer_release() {
    let newer = |sample: &str| {
        let full = bytes(&written_now()[sample].full);
        fn rename(shape: &mut Shape) {
            let Shape::Map(fields) = shape else { return };
            for (name, value) in fields {
                match name.as_str() {
                    "kind" | "plan" => *value = Shape::Text("teleport".into()),
                    _ => rename(value),
                }
            }
        }
        let mut shape = Shape::of(&full);
        rename(&mut shape);
        shape.bytes(&full)
    };
    let event = Event::read(&newer("event/pc2_done")).expect("reads");
    assert!(matches!(&event.body, EventBody::Newer(newer) if newer.kind == "teleport"), "{event:?}");
    assert!(Fact::read(&newer("fact/seed")).expect("reads").kind().is_none());
    assert_eq!(LeaseRecord::read(&newer("lease/release")).expect("reads"), LeaseRecord::Unknown);
    assert_eq!(Intent::read(&newer("intent/seal")).expect("reads").kind, IntentKind::Unknown);
}

#[test]
fn what_the_rules_forbid_is_noticed() {
    let before = Shape::Map([("a".into(), Shape::Number(1)), ("b".into(), Shape::Nil)].into());
    let with = |fields: &[(&str, Shape)]| {
        Shape::Map(fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
    };
    let [one, text] = [Shape::Number(2), Shape::Text("x".into())];
    assert_eq!(before.other_type_in(&with(&[("a", one.clone()), ("b", text.clone()), ("c", one.clone())])), [""; 0]);
    assert_eq!(before.other_type_in(&with(&[("b", one)])), [".a is missing"]);
    assert_eq!(before.other_type_in(&with(&[("a", text), ("b", Shape::Nil)])), [".a was Number(1) and is Text(\"x\")"]);
}
