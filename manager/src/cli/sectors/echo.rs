//! Slots that an old heartbeat still shows as blocked, while the log is already ahead. The order of events is taken
//! from the sector's history alone; clocks of different hosts are never compared.

use sealbus_schema::{ErrorCode, Token, lease::Ownership};
use serde_json::Value;

use crate::store::{HistoryEntry, Job};

/// What the log says about a slot that a heartbeat shows as blocked, although its sector is not blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Echo {
    /// A person gave this order, and the worker has reported nothing since.
    NotPickedUp(&'static str),
    /// The worker has continued since: the heartbeat is older.
    WentOn,
    /// The worker has not reported the block, or the report has not arrived yet.
    NotReported,
    /// The worker has reported what it waits for.
    Waits,
}

impl Echo {
    /// In words.
    pub fn words(self) -> String {
        match self {
            Echo::NotPickedUp(order) => format!("{order}; its worker has not picked it up yet"),
            Echo::WentOn => "its worker has continued since this heartbeat".to_owned(),
            Echo::NotReported => "blocked on its worker, whose report has not arrived yet".to_owned(),
            Echo::Waits => "its worker waits for that, and goes on by itself".to_owned(),
        }
    }
}

/// Whether a sector's lease is the one that a heartbeat names.
pub fn is_held(sector: &Job, lease: Token) -> bool {
    matches!(&sector.ownership, Ownership::Held { token, .. } if *token == lease)
}

/// What came last under a lease, according to the sector's history.
pub fn echo(history: &[HistoryEntry], lease: Token) -> Echo {
    let order = |entry: &HistoryEntry| match entry.happening.kind.as_str() {
        "resubmitted" => Some("resubmitted"),
        "abandoned" => Some("abandoned"),
        "slot_released" => Some("to be released"),
        _ => None,
    };
    let ordered = history.iter().enumerate().rev().find_map(|(at, entry)| Some((at, order(entry)?)));
    let since = &history[ordered.map_or(0, |(at, _)| at + 1)..];
    match (since.iter().rfind(|entry| entry.happening.token == Some(lease.0)), ordered) {
        (Some(entry), _) if waits(entry) => Echo::Waits,
        (_, None) => Echo::NotReported,
        (None, Some((_, order))) => Echo::NotPickedUp(order),
        // One of class `temp` is tried again and blocks nothing.
        (Some(entry), _) if failed(entry).is_some_and(|error| error["class"] != "temp") => Echo::NotReported,
        (Some(_), _) => Echo::WentOn,
    }
}

fn failed(entry: &HistoryEntry) -> Option<&Value> {
    (entry.happening.kind == "failed").then(|| &entry.happening.detail["error"])
}

/// Whether a worker reported that it waits for what passes by itself, for however long.
fn waits(entry: &HistoryEntry) -> bool {
    let code = failed(entry).and_then(|error| error["code"].as_str());
    code.is_some_and(|code| ErrorCode::from_text(code).is_waited_for())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::Happening;

    fn entry(kind: &str, token: Option<u64>, detail: Value) -> HistoryEntry {
        let happening =
            Happening { at: String::new(), sequence: None, actor: String::new(), token, kind: kind.to_owned(), detail };
        HistoryEntry { happening, verdict: "applied".to_owned() }
    }

    #[test]
    fn what_came_after_the_order_tells_whether_the_worker_has_taken_it() {
        let echo_of = |history: &[HistoryEntry]| echo(history, Token(9));
        let failed = |class: &str| entry("failed", Some(9), json!({ "error": { "class": class } }));
        let (order, fact) = (entry("resubmitted", None, json!({})), entry("files_checked", None, json!({})));
        let started = entry("phase_started", Some(9), json!({}));
        assert_eq!(echo_of(&[failed("perm"), order.clone(), fact]), Echo::NotPickedUp("resubmitted"));
        assert_eq!(echo_of(&[failed("perm"), order.clone(), started.clone()]), Echo::WentOn);
        assert_eq!(echo_of(&[failed("perm"), order.clone(), started.clone(), failed("temp")]), Echo::WentOn);
        let other = entry("phase_started", Some(10), json!({}));
        assert_eq!(echo_of(&[order.clone(), other]), Echo::NotPickedUp("resubmitted"), "another lease's");
        assert_eq!(echo_of(&[entry("abandoned", None, json!({}))]), Echo::NotPickedUp("abandoned"));
        assert_eq!(echo_of(&[order, started.clone(), failed("crit")]), Echo::NotReported);
        assert_eq!(echo_of(std::slice::from_ref(&started)), Echo::NotReported);
        let away = entry("failed", Some(9), json!({ "error": { "class": "temp", "code": "STORE_UNAVAILABLE" } }));
        for earlier in [vec![], vec![entry("resubmitted", None, json!({}))]] {
            let history = |more: &[HistoryEntry]| [&earlier[..], more].concat();
            assert_eq!(echo_of(&history(&[started.clone(), away.clone()])), Echo::Waits);
            assert_ne!(echo_of(&history(&[away.clone(), started.clone()])), Echo::Waits, "it went on");
        }
    }
}
