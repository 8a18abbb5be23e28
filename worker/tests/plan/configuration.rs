//! The configuration file that is written for a plan.

use std::{fs, path::Path};

use sealbus_planner::machine_plan::{
    MachinePlan, Place, Request, check,
    configuration::{Around, configuration},
    plan,
};
use sealbus_schema::{Phase, SectorSize};
use sealbus_worker::{config::Config, placement::placed};

use crate::machines;

fn written(dir: &Path, posts: bool) -> (MachinePlan, String) {
    let (slots, store) = (dir.join("slots"), dir.join("store"));
    fs::create_dir(&slots).and_then(|()| fs::create_dir(&store)).expect("directories");
    let places = vec![Place { path: slots, bytes: Some(1 << 44) }];
    let request = Request { places, posts, ..Request::new(SectorSize::GiB32) };
    let plan = plan(&machines::epyc_of_4(), &request).expect("a plan");
    let around = Around {
        name: "seal-1".parse().expect("a name"),
        miners: vec!["f01000".parse().expect("a miner")],
        nats_url: "nats://127.0.0.1:4222".to_owned(),
        store_name: "main".to_owned(),
        store_path: store,
    };
    let text = configuration(&plan, &around);
    (plan, text)
}

#[test]
fn every_group_and_slot_of_the_plan_stands_in_it() {
    let dir = tempfile::tempdir().expect("directory");
    let (plan, text) = written(dir.path(), false);
    let table: toml::Table = text.parse().expect("TOML");
    let groups = table["processor"].as_array().expect("groups");
    assert_eq!(groups.len(), plan.groups.len());
    for (group, written) in plan.groups.iter().zip(groups) {
        assert_eq!(written["stage"].as_str(), Some(group.stage.name()));
        let cpus = written.get("cpus").and_then(toml::Value::as_str).map(str::to_owned);
        assert_eq!(cpus, group.cpus.as_ref().map(ToString::to_string));
        let locks = written.get("locks").and_then(toml::Value::as_array).map_or(0, Vec::len);
        assert_eq!(locks, group.locks.len());
    }
    assert_eq!(table["slot"].as_array().expect("slots").len(), plan.slots.len());
    assert_eq!(table["limits"]["concurrent"]["pc1"].as_integer(), Some(plan.concurrent[&Phase::Pc1] as i64));
    assert_eq!(table["locks"]["gpu0"].as_integer(), Some(1));
}

#[test]
fn the_worker_accepts_it() {
    for posts in [false, true] {
        let dir = tempfile::tempdir().expect("directory");
        let (plan, text) = written(dir.path(), posts);
        let path = dir.path().join("worker.toml");
        fs::write(&path, text).expect("writes");
        let config = Config::load(&path).expect("valid");
        // Besides what is planned, each machine with a store has readers for both kinds of proofs.
        assert_eq!((config.slots.len(), config.processors.len()), (plan.slots.len(), plan.groups.len() + 2));
        let expected: Vec<_> = plan.groups.iter().enumerate().map(|(index, group)| group.placed(index)).collect();
        assert_eq!(placed(&config)[..expected.len()], expected);
        assert_eq!(check(&machines::epyc_of_4(), &placed(&config)), []);
        assert_eq!(Phase::WINNING.map(|phase| config.serves(phase)), [true, posts]);
    }
}
