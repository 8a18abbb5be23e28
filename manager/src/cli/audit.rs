//! `audit`: who ordered what, and why.

use clap::{Args, Subcommand};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

use super::{ConfigArg, known::insist_on_target, print_json, table};
use crate::store::{AuditFilter, time_text};

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// List the orders that people gave, oldest first.
    List(List),
}

/// Which orders to list.
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    config: ConfigArg,
    /// Only orders since a time such as 2026-01-31T12:00:00Z, or since so long ago, such as 90m, 12h or 7d.
    #[arg(long, value_parser = since)]
    since: Option<OffsetDateTime>,
    /// Only orders about this sector, miner, worker, or slot (`<worker> <directory>`).
    #[arg(long)]
    target: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Audit {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let Audit::List(list) = self;
        let config = list.config.load()?;
        let store = list.config.store().await?;
        let filter = AuditFilter { since: list.since.map(time_text), target: list.target };
        let entries = store.audit(&filter).await?;
        if let Some(target) = filter.target.as_ref().filter(|_| entries.is_empty()) {
            insist_on_target(target, &config, &store).await?;
        }
        if list.json {
            return print_json(&entries);
        }
        let rows: Vec<Vec<String>> = entries
            .into_iter()
            .map(|entry| vec![entry.at, entry.actor, entry.verb, entry.target, brief(&entry.detail), entry.why])
            .collect();
        table::print(&["AT", "BY", "VERB", "TARGET", "HOW", "WHY"], &rows);
        Ok(())
    }
}

/// The details that are worth a column.
fn brief(detail: &serde_json::Value) -> String {
    use serde_json::Value;
    let fields = detail.as_object().into_iter().flatten();
    let said = fields.filter(|(_, value)| !matches!(value, Value::Null | Value::Bool(false)));
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    said.map(|(name, value)| format!("{name}={}", text(value))).collect::<Vec<_>>().join(" ")
}

fn since(text: &str) -> Result<OffsetDateTime, String> {
    if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(time);
    }
    let wrong =
        || format!("`{text}` is neither a time such as 2026-01-31T12:00:00Z nor a length such as 90m, 12h or 7d");
    let (at, unit) = text.char_indices().last().ok_or_else(wrong)?;
    let count: i64 = text[..at].parse().map_err(|_| wrong())?;
    let unit_secs = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let ago = count.checked_mul(unit_secs).filter(|secs| *secs >= 0).ok_or_else(wrong)?;
    OffsetDateTime::now_utc().checked_sub(Duration::seconds(ago)).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_date_or_a_length() {
        assert_eq!(since("1970-01-01T00:00:10Z"), Ok(OffsetDateTime::UNIX_EPOCH + Duration::seconds(10)));
        let then = since("1h").expect("a length");
        let hour = OffsetDateTime::now_utc() - then;
        assert!((3600..3660).contains(&hour.whole_seconds()), "{hour}");
        for bad in ["", "h", "1", "-1h", "1y", "yesterday", "99999999999999999d", "ü"] {
            assert!(since(bad).is_err(), "{bad}");
        }
    }
}
