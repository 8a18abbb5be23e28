//! Slots that an older heartbeat still shows as blocked, while the log knows more. What came after what is told by the
//! order of the sector's history alone: no clock of two hosts is compared.

use sealbus_schema::{lease::Ownership, message::SlotStatus};

use super::super::fleet::Fleet;
use crate::store::{HistoryEntry, Sector};

/// What the log says of a slot that a heartbeat shows as blocked, and whose sector is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Echo {
    /// A person ordered to go on, and the worker has said nothing since.
    NotPickedUp,
    /// The worker went on since: the heartbeat is older than that.
    WentOn,
    /// The worker has not reported, or the report is not here yet.
    NotReported,
}

impl Echo {
    /// In words.
    pub const fn words(self) -> &'static str {
        match self {
            Echo::NotPickedUp => "resubmitted; its worker has not picked it up yet",
            Echo::WentOn => "its worker went on; the sign of life is older than that",
            Echo::NotReported => "blocked on its worker, whose report is not here yet",
        }
    }
}

/// The sector in a blocked slot that its worker still owns and that is not blocked itself.
pub fn sector_of<'a>(slot: &SlotStatus, fleet: &Fleet, live: &'a [Sector]) -> Option<&'a Sector> {
    let holding = slot.holding.as_ref()?;
    let owned = |sector: &&Sector| {
        sector.id == holding.sector
            && matches!(&sector.ownership, Ownership::Held { token, .. } if *token == holding.token)
    };
    live.iter().find(owned).filter(|sector| fleet.slot_of(sector).is_some())
}

/// What the history says came last.
pub fn echo(history: &[HistoryEntry]) -> Echo {
    let is_order = |entry: &HistoryEntry| entry.happening.kind == "resubmitted";
    let Some(ordered) = history.iter().rposition(is_order) else { return Echo::NotReported };
    let mut since = history[ordered + 1..].iter().filter(|entry| entry.happening.token.is_some());
    match since.next_back() {
        None => Echo::NotPickedUp,
        // One of class `temp` is tried again and blocks nothing.
        Some(entry) if entry.happening.kind == "failed" && entry.happening.detail["error"]["class"] != "temp" => {
            Echo::NotReported
        }
        Some(_) => Echo::WentOn,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::store::Happening;

    fn entry(kind: &str, token: Option<u64>, detail: Value) -> HistoryEntry {
        let happening =
            Happening { at: String::new(), sequence: None, actor: String::new(), token, kind: kind.to_owned(), detail };
        HistoryEntry { happening, verdict: "applied".to_owned() }
    }

    #[test]
    fn what_came_after_the_order_tells_whether_the_worker_has_taken_it() {
        let failed = |class: &str| entry("failed", Some(9), json!({ "error": { "class": class } }));
        let (order, fact) = (entry("resubmitted", None, json!({})), entry("files_checked", None, json!({})));
        let started = entry("phase_started", Some(9), json!({}));
        assert_eq!(echo(&[failed("perm"), order.clone(), fact]), Echo::NotPickedUp);
        assert_eq!(echo(&[failed("perm"), order.clone(), started.clone()]), Echo::WentOn);
        assert_eq!(echo(&[failed("perm"), order.clone(), started.clone(), failed("temp")]), Echo::WentOn);
        assert_eq!(echo(&[order, started.clone(), failed("crit")]), Echo::NotReported);
        assert_eq!(echo(&[started]), Echo::NotReported);
    }
}
