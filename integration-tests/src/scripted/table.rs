//! The printed table of the crash matrix.

use std::{io::Write, time::Duration};

use super::ledger::Entry;

/// A row: the fault and the result.
#[derive(Clone, Debug)]
pub struct Row {
    /// The process that was killed, or the other kind of fault.
    pub what: String,
    /// The point of the fault.
    pub point: String,
    /// The phase of the fault.
    pub phase: String,
    /// The sector's number, if the row is about a single one.
    pub sector: Option<u64>,
    /// The records about the sector.
    pub entry: Entry,
    /// How many times the phase began, if the row is about one.
    pub begun: Option<usize>,
    /// The time from the restart until the phase ran again; `None` if it never stopped.
    pub again: Option<Duration>,
    /// What is wrong; `None` if the row passed.
    pub failure: Option<String>,
}

const HEAD: [&str; 13] = [
    "KILLED",
    "POINT",
    "PHASE",
    "SECTOR",
    "STATE",
    "PRECOMMITS",
    "PROVECOMMITS",
    "ACCEPTED",
    "FENCED",
    "ILLEGAL",
    "LEASES",
    "BEGUN",
    "AGAIN",
];

impl Row {
    /// A row for something that did not complete.
    pub fn failed(what: &str, failure: String) -> Row {
        Row {
            what: what.to_owned(),
            point: "-".to_owned(),
            phase: "-".to_owned(),
            sector: None,
            entry: Entry::default(),
            begun: None,
            again: None,
            failure: Some(failure),
        }
    }
}

/// Writes the table to stdout past the test harness's capture, because the table is the point of the test.
pub fn print(title: &str, rows: &[Row], notes: &[String]) -> std::io::Result<()> {
    let cells: Vec<[String; 13]> = rows.iter().map(cells).collect();
    let width = |column: usize| {
        cells.iter().map(|row| row[column].chars().count()).chain([HEAD[column].len()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let mut text = format!("\n{title}\n");
    let mut line = |row: &[String]| {
        let padded: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(padded.join("  ").trim_end());
        text.push('\n');
    };
    line(&HEAD.map(str::to_owned));
    cells.iter().for_each(|row| line(row));
    for row in rows {
        if let Some(failure) = &row.failure {
            text.push_str(&format!("FAILED: {} {} {}: {failure}\n", row.what, row.point, row.phase));
        }
    }
    for note in notes {
        text.push_str(&format!("{note}\n"));
    }
    let failed = rows.iter().filter(|row| row.failure.is_some()).count();
    text.push_str(&format!("{} cells, {failed} failed\n", rows.len()));
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

fn cells(row: &Row) -> [String; 13] {
    let entry = &row.entry;
    let state = match &entry.blocked {
        Some(code) => format!("{} ({code})", entry.state),
        None => entry.state.clone(),
    };
    [
        row.what.clone(),
        row.point.clone(),
        row.phase.clone(),
        row.sector.map_or_else(|| "-".to_owned(), |sector| sector.to_string()),
        state,
        entry.pre_commits.to_string(),
        entry.prove_commits.to_string(),
        entry.accepted.to_string(),
        entry.fenced.to_string(),
        entry.illegal.to_string(),
        entry.leases.claims().to_string(),
        row.begun.map_or_else(|| "-".to_owned(), |begun| begun.to_string()),
        row.again.map_or_else(|| "-".to_owned(), |again| format!("{} ms", again.as_millis())),
    ]
}
