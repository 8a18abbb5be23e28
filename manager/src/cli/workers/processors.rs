//! The processors of one machine, from its last heartbeat.

use sealbus_schema::message::{Heartbeat, ProcessorStatus, WorkStatus};

use super::super::fleet::lasting;

/// The columns.
pub(super) const HEADINGS: [&str; 10] =
    ["PROCESSOR", "STAGE", "CORES", "NODE", "GPU", "SECTOR", "SLOT", "PROGRESS", "SINCE", "EXPECTED END"];

/// One row for each running request and each idle processor. The heartbeat came `age_secs` ago.
pub(super) fn rows(beat: &Heartbeat, age_secs: i64) -> Vec<Vec<String>> {
    let of_processor = |processor: &ProcessorStatus| -> Vec<Vec<String>> {
        let place = place(processor);
        let row = |work: [String; 5]| place.iter().cloned().chain(work).collect();
        match (&processor.work[..], processor.busy) {
            ([], busy) => {
                let sector = if busy { "working".to_owned() } else { "-".to_owned() };
                vec![row([sector, dash(), dash(), dash(), dash()])]
            }
            (all, _) => all.iter().map(|work| row(work_cells(work, beat, age_secs))).collect(),
        }
    };
    beat.processors.iter().flat_map(of_processor).collect()
}

fn place(processor: &ProcessorStatus) -> [String; 5] {
    let ProcessorStatus { id, stage, cpus, node, gpus, bound, .. } = processor;
    let cores: &str = match bound {
        // Show the actual binding rather than the configured one.
        Some(bound) => bound,
        None if cpus.is_empty() => "any",
        None => cpus,
    };
    let or_dash = |text: &str| if text.is_empty() { dash() } else { text.to_owned() };
    [id.clone(), or_dash(stage), cores.to_owned(), node.map_or_else(dash, |node| node.to_string()), or_dash(gpus)]
}

fn work_cells(work: &WorkStatus, beat: &Heartbeat, age_secs: i64) -> [String; 5] {
    let later = |secs: u64| i64::try_from(secs).unwrap_or(i64::MAX);
    let slot = beat.slots.get(work.slot).map_or_else(dash, |slot| slot.path.clone());
    let progress = match (work.percent, work.note.as_str()) {
        (None, "") => dash(),
        (None, note) => note.to_owned(),
        (Some(percent), "") => format!("{percent} %"),
        (Some(percent), note) => format!("{percent} % {note}"),
    };
    let end = match work.left_secs.map(|left| later(left).saturating_sub(age_secs)) {
        None => dash(),
        Some(left) if left <= 0 => "any time".to_owned(),
        Some(left) => format!("in {}", lasting(left)),
    };
    let since = format!("{} ago", lasting(later(work.age_secs).saturating_add(age_secs)));
    [work.sector.to_string(), slot, progress, since, end]
}

fn dash() -> String {
    "-".to_owned()
}

#[cfg(test)]
mod tests {
    use sealbus_schema::message::SlotStatus;

    use super::*;

    #[test]
    fn the_table_tells_which_slot_is_in_which_phase_where_and_how_far() {
        let slot = |path: &str| SlotStatus {
            path: path.to_owned(),
            holding: None,
            blocked: None,
            unreadable: false,
            identity: None,
            released: 0,
            checking: false,
        };
        let sector = |number: u64| format!("f01000/{number}").parse().expect("sector");
        let work = |slot, age_secs| WorkStatus {
            sector: sector(slot as u64 + 1),
            slot,
            age_secs,
            percent: None,
            note: String::new(),
            left_secs: None,
        };
        let labelling = WorkStatus {
            percent: Some(36),
            note: "layer 4 of 11".to_owned(),
            left_secs: Some(6 * 3600 + 5),
            ..work(0, 3600)
        };
        let pc1 = ProcessorStatus {
            id: "pc1-0".into(),
            busy: true,
            stage: "pc1".into(),
            cpus: "0-3".into(),
            node: Some(1),
            work: vec![labelling],
            ..ProcessorStatus::default()
        };
        let late = WorkStatus { left_secs: Some(3), ..work(1, 100) };
        let c2 = ProcessorStatus {
            id: "c2-0".into(),
            busy: true,
            stage: "c2".into(),
            cpus: "4-7".into(),
            bound: Some("4-6".into()),
            gpus: "0".into(),
            work: vec![late, work(7, 1)],
            ..ProcessorStatus::default()
        };
        let idle = ProcessorStatus { id: "c1-0".into(), stage: "c1".into(), ..ProcessorStatus::default() };
        let old = ProcessorStatus { id: "pc2-0".into(), busy: true, ..ProcessorStatus::default() };
        let beat = Heartbeat {
            worker: "w1".parse().expect("worker"),
            host: "h1".into(),
            version: "1".into(),
            incarnation: 1,
            draining: false,
            orders: 0,
            slots: vec![slot("/nvme0"), slot("/nvme1")],
            processors: vec![pc1, c2, idle, old],
            broken: vec![],
        };
        let table = super::super::super::table::render(&HEADINGS, &rows(&beat, 5));
        let lines: Vec<String> =
            table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        assert_eq!(
            lines,
            [
                "PROCESSOR STAGE CORES NODE GPU SECTOR SLOT PROGRESS SINCE EXPECTED END",
                "pc1-0 pc1 0-3 1 - f01000/1 /nvme0 36 % layer 4 of 11 60 min ago in 6 h",
                "c2-0 c2 4-6 - 0 f01000/2 /nvme1 - 105 s ago any time",
                "c2-0 c2 4-6 - 0 f01000/8 - - 6 s ago -",
                "c1-0 c1 any - - - - - - -",
                "pc2-0 - any - - working - - - -",
            ]
        );
    }
}
