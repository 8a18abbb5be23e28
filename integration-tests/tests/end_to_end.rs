//! Real sectors in the real programs, while these are being killed. The first sector has a real proof.

use std::{path::Path, time::Duration};

use anyhow::{Context, ensure};
use sealbus_integration_tests::cluster::{Cluster, Settings, wait_within};
use serde_json::{Value, json};

/// A C2 takes a minute on two free cores.
const LIMIT: Duration = Duration::from_secs(900);

/// The events of one kind in a sector's history, as `(time, detail)`.
fn events<'a>(sector: &'a Value, kind: &'a str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    let history = sector["history"].as_array().into_iter().flatten();
    history.filter(move |e| e["kind"] == kind).filter_map(|e| Some((e["at"].as_str()?, &e["detail"])))
}

fn wait_for_event(cluster: &mut Cluster, id: &str, what: &str, matches: impl Fn(&Value) -> bool) -> anyhow::Result<()> {
    wait_within(LIMIT, what, || {
        cluster.check_alive()?;
        let sector = match cluster.sector(id) {
            Ok(sector) => sector,
            // The sector number has not been assigned yet.
            Err(_) => return Ok(None),
        };
        ensure!(sector["blocked"].is_null(), "sector {id} is blocked: {}", sector["blocked"]);
        Ok(matches(&sector).then_some(()))
    })
}

fn wait_until_proving(cluster: &mut Cluster, ids: &[&str]) -> anyhow::Result<()> {
    for id in ids {
        wait_for_event(cluster, id, "an active sector", |sector| sector["state"] == "proving")?;
    }
    Ok(())
}

/// Counts on chain: each sector has one PreCommit and one ProveCommit, and no message failed.
fn assert_once_on_chain(cluster: &Cluster, numbers: &[u64]) -> anyhow::Result<()> {
    let stats = cluster.call_chain("Devnet.Stats", json!([]))?;
    let miner = &stats["miners"][cluster.miner().trim_start_matches("f0")];
    for number in numbers {
        let expected = json!({ "pre_commits": 1, "prove_commits": 1 });
        ensure!(miner["sectors"][number.to_string()] == expected, "sector {number}: {stats}");
    }
    ensure!(miner["sectors"].as_object().map(serde_json::Map::len) == Some(numbers.len()), "others: {stats}");
    ensure!(miner["failed"] == json!([]), "messages failed on chain: {stats}");
    Ok(())
}

/// Every report of a sector's owner was accepted once: the numbers increase by one under one token.
fn assert_reported_once(sector: &Value) -> anyhow::Result<()> {
    let history = sector["history"].as_array().context("a history")?;
    ensure!(history.iter().all(|e| e["verdict"] != "illegal" && e["verdict"] != "fenced"), "{sector:#}");
    for kind in ["claimed", "pc1_done", "pc2_done", "persisted", "c1_done", "c2_done", "finished"] {
        ensure!(events(sector, kind).count() == 1, "{kind} is not there once: {sector:#}");
    }
    Ok(())
}

fn assert_files_in_store(cluster: &Cluster, number: u64) -> anyhow::Result<()> {
    let name = format!("s-t0{}-{number}", cluster.miner().trim_start_matches("f0"));
    let cache = cluster.store().join("cache").join(&name);
    for path in [
        cluster.store().join("sealed").join(&name),
        cache.join("p_aux"),
        cache.join("t_aux"),
        cache.join("sc-02-data-tree-r-last.dat"),
    ] {
        ensure!(path.is_file(), "{} is missing", path.display());
    }
    Ok(())
}

fn is_empty_slot(slot: &Path) -> anyhow::Result<bool> {
    let names = std::fs::read_dir(slot)?.map(|e| Ok(e?.file_name())).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(names.iter().all(|name| name == "sealbus-slot.json" || name == "slot.lock" || name == "static" || name == "tmp"))
}

#[test]
fn a_worker_killed_after_pc1_after_pc2_and_in_c2_still_brings_its_sector_home() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let mut cluster = Cluster::prepare(directory.path(), Settings::from_env()?)?;
    cluster.hold_phase("pc2")?;
    cluster.call_chain("Devnet.Fault", json!([{ "kind": "stall_inclusion", "on": true }]))?;
    cluster.start_manager()?;
    cluster.start_worker()?;
    cluster.pledge(1)?;
    let id = &format!("{}/1", cluster.miner());

    wait_for_event(&mut cluster, id, "the end of PC1", |s| events(s, "pc1_done").count() == 1)?;
    cluster.kill_worker();
    cluster.release_phase("pc2")?;
    cluster.start_worker()?;

    wait_for_event(&mut cluster, id, "the end of PC2", |s| events(s, "pc2_done").count() == 1)?;
    cluster.kill_worker();
    cluster.call_chain("Devnet.Fault", json!([{ "kind": "clear" }]))?;
    cluster.start_worker()?;

    let in_c2 = |s: &Value| events(s, "phase_started").any(|(_, detail)| detail["phase"] == "c2");
    wait_for_event(&mut cluster, id, "the start of C2", in_c2)?;
    cluster.kill_worker();
    cluster.start_worker()?;

    wait_until_proving(&mut cluster, &[id])?;
    let sector = cluster.sector(id)?;
    assert_reported_once(&sector)?;
    let c2_starts = events(&sector, "phase_started").filter(|(_, detail)| detail["phase"] == "c2").count();
    ensure!(c2_starts == 2, "C2 was started {c2_starts} times: {sector:#}");
    assert_once_on_chain(&cluster, &[1])?;
    assert_files_in_store(&cluster, 1)?;
    let slot = cluster.slot(0);
    wait_within(Duration::from_secs(30), "an empty slot", || Ok(is_empty_slot(&slot)?.then_some(())))
}

#[test]
fn a_manager_killed_between_push_and_landing_sends_nothing_twice_while_two_slots_work() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let settings = Settings { slots: 2, ..Settings::with_scripted_proofs()? };
    let mut cluster = Cluster::prepare(directory.path(), settings)?;
    let stall = |cluster: &Cluster, on: bool| {
        cluster.call_chain("Devnet.Fault", json!([{ "kind": "stall_inclusion", "on": on }]))
    };
    stall(&cluster, true)?;
    cluster.start_manager()?;
    cluster.start_worker()?;
    cluster.pledge(2)?;
    let ids = [1, 2].map(|number| format!("{}/{number}", cluster.miner()));
    let ids = ids.each_ref().map(String::as_str);

    let pushed = |count: usize| move |s: &Value| events(s, "message_pushed").count() >= count;
    for id in ids {
        wait_for_event(&mut cluster, id, "a pushed PreCommit", pushed(1))?;
    }
    cluster.kill_manager();
    cluster.start_manager()?;
    stall(&cluster, false)?;
    for id in ids {
        wait_for_event(&mut cluster, id, "a landed PreCommit", |s| events(s, "precommit_landed").count() == 1)?;
    }
    // The node accepts the next message, but its answer is lost.
    stall(&cluster, true)?;
    let lose = json!([{ "kind": "fail_calls", "method": "Filecoin.MpoolPush", "when": "after", "count": 1, "answer": "http503" }]);
    cluster.call_chain("Devnet.Fault", lose)?;
    wait_for_event(&mut cluster, ids[0], "a pushed ProveCommit", pushed(2))?;
    cluster.kill_manager();
    cluster.start_manager()?;
    cluster.call_chain("Devnet.Fault", json!([{ "kind": "clear" }]))?;

    wait_until_proving(&mut cluster, &ids)?;
    assert_once_on_chain(&cluster, &[1, 2])?;
    let sectors = [cluster.sector(ids[0])?, cluster.sector(ids[1])?];
    for (sector, number) in sectors.iter().zip([1, 2]) {
        assert_reported_once(sector)?;
        assert_files_in_store(&cluster, number)?;
    }
    assert_worked_at_the_same_time(&sectors)?;
    assert_processors_are_never_shared_nor_held_while_waiting(&sectors)
}

/// Both sectors were owned at the same time, according to the log.
fn assert_worked_at_the_same_time(sectors: &[Value; 2]) -> anyhow::Result<()> {
    let life = |sector: &Value| {
        let start = events(sector, "claimed").next().map(|(at, _)| at.to_owned());
        let end = events(sector, "finished").next().map(|(at, _)| at.to_owned());
        start.zip(end).context("a life")
    };
    let (first, second) = (life(&sectors[0])?, life(&sectors[1])?);
    ensure!(first.0 < second.1 && second.0 < first.1, "the lives do not overlap: {first:?} {second:?}");
    Ok(())
}

/// According to the log's times: the only C2 processor serves one sector after the other. No processor is held while a
/// sector waits for the chain, because the only PC1 processor serves the other sector meanwhile.
fn assert_processors_are_never_shared_nor_held_while_waiting(sectors: &[Value; 2]) -> anyhow::Result<()> {
    let mut c2 = Vec::new();
    for sector in sectors {
        let mut open: Option<(String, f64)> = None;
        for entry in sector["history"].as_array().into_iter().flatten() {
            let at = seconds(entry["at"].as_str().unwrap_or_default())?;
            match entry["kind"].as_str().unwrap_or_default() {
                "phase_started" => {
                    open = Some((entry["detail"]["processor"].as_str().unwrap_or_default().to_owned(), at));
                }
                "pieces_added" | "tree_d_built" | "pc1_done" | "pc2_done" | "persisted" | "c1_done" | "c2_done" => {
                    let (processor, start) = open.take().context("an end without a start")?;
                    ensure!(processor.ends_with("-0"), "there is one processor a stage, not {processor}");
                    if entry["kind"] == "c2_done" {
                        c2.push((start, at));
                    }
                }
                "precommit_landed" | "seed_drawn" | "ticket_drawn" => {
                    ensure!(open.is_none(), "a processor was held while the sector waited for the chain: {sector:#}");
                }
                _ => {}
            }
        }
    }
    c2.sort_by(|a, b| a.0.total_cmp(&b.0));
    // A processor is given back before its result is published, so the intervals from the log may overlap slightly.
    let shared = (c2[0].1 - c2[1].0).max(0.0) / (c2[0].1 - c2[0].0);
    ensure!(shared < 0.1, "the only C2 processor served two sectors at once: {c2:?}");
    let pc1_end = |sector: &Value| events(sector, "pc1_done").next().map(|(at, _)| at.to_owned());
    let c1_start =
        |sector: &Value| events(sector, "phase_started").find(|(_, d)| d["phase"] == "c1").map(|(at, _)| at.to_owned());
    let (first, second) = (&sectors[0], &sectors[1]);
    ensure!(
        pc1_end(second) < c1_start(first) && pc1_end(first) < c1_start(second),
        "PC1 of one sector did not run while the other one waited"
    );
    Ok(())
}

/// A time in the history as seconds since 1970.
fn seconds(text: &str) -> anyhow::Result<f64> {
    let time = time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339)?;
    Ok(time.unix_timestamp_nanos() as f64 / 1e9)
}
