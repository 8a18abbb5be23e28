//! Plain tables for people.
//!
//! If a table is wider than the terminal, its last column, which is the one with sentences, is wrapped to the remaining
//! width. If there is too little width left, each row becomes a block of lines. In a file or a pipe each row is one
//! line.

use std::iter::once;

use sealbus_schema::text;
use terminal_size::{Width, terminal_size_of};

/// The least width of a wrapped last column.
const LEAST_LAST: usize = 24;
/// The width of the gap between two columns.
const GAP: usize = 2;

/// How many rows of a long table are kept before they are printed.
const PAGE: usize = 1000;

/// A table that is printed while its rows are read. Its columns are as wide as in the first page, or as a later page needs.
pub struct Pages<'h> {
    headings: &'h [&'h str],
    terminal: Option<usize>,
    /// The least widths of the columns; `None` until the first page is printed.
    widths: Option<Vec<usize>>,
    rows: Vec<Vec<String>>,
}

impl<'h> Pages<'h> {
    /// A table for stdout.
    pub fn new(headings: &'h [&'h str]) -> Pages<'h> {
        Pages { headings, terminal: terminal(), widths: None, rows: Vec::new() }
    }

    /// Adds a row.
    pub fn push(&mut self, row: Vec<String>) {
        self.rows.push(row);
        if self.rows.len() == PAGE {
            out!("{}", self.next());
        }
    }

    /// Prints what is left. A table without rows has its headings.
    pub fn finish(mut self) {
        if self.widths.is_none() || !self.rows.is_empty() {
            out!("{}", self.next());
        }
    }

    /// The rows that were not printed yet, as text. The headings come with the first ones.
    fn next(&mut self) -> String {
        let rows = clean(&std::mem::take(&mut self.rows));
        let is_first = self.widths.is_none();
        let widths = widths(self.headings, &rows, &self.widths.take().unwrap_or_default());
        let text = lines(self.headings, is_first, &rows, &widths, self.terminal);
        self.widths = Some(widths);
        text
    }
}

/// Prints rows under headings, each column as wide as its widest cell.
pub fn print(headings: &[&str], rows: &[Vec<String>]) {
    out!("{}", fitted(headings, rows, terminal()));
}

fn terminal() -> Option<usize> {
    terminal_size_of(std::io::stdout()).map(|(Width(width), _)| usize::from(width))
}

/// Rows under headings, as text. Control characters are escaped, so that a cell cannot break its line.
pub fn render(headings: &[&str], rows: &[Vec<String>]) -> String {
    fitted(headings, rows, None)
}

fn fitted(headings: &[&str], rows: &[Vec<String>], terminal: Option<usize>) -> String {
    let rows = clean(rows);
    lines(headings, true, &rows, &widths(headings, &rows, &[]), terminal)
}

fn clean(rows: &[Vec<String>]) -> Vec<Vec<String>> {
    rows.iter().map(|row| row.iter().map(|cell| text::one_line(cell).into_owned()).collect()).collect()
}

/// The widths of columns that have at least these.
fn widths(headings: &[&str], rows: &[Vec<String>], least: &[usize]) -> Vec<usize> {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([headings[column].len()]).chain(least.get(column).copied()).max().unwrap_or(0)
    };
    (0..headings.len()).map(width).collect()
}

fn lines(
    headings: &[&str],
    with_headings: bool,
    rows: &[Vec<String>],
    widths: &[usize],
    terminal: Option<usize>,
) -> String {
    let Some((last, others)) = widths.split_last() else { return String::new() };
    let before: usize = others.iter().map(|width| width + GAP).sum();
    let room = match terminal {
        Some(terminal) if before + last > terminal => terminal.saturating_sub(before),
        _ => usize::MAX,
    };
    if room < LEAST_LAST.max(headings[others.len()].len()) {
        let gap = if with_headings || rows.is_empty() { "" } else { "\n" };
        return format!("{gap}{}", blocks(headings, rows, terminal.unwrap_or(usize::MAX)));
    }
    let headings: Vec<String> = headings.iter().map(|heading| (*heading).to_owned()).collect();
    let line = |cells: &Vec<String>| {
        let (last, cells) = cells.split_last().map_or(("", &[][..]), |(last, cells)| (last.as_str(), cells));
        let mut start = String::new();
        for (cell, width) in cells.iter().zip(others) {
            start.push_str(&format!("{cell:width$}{:GAP$}", ""));
        }
        hanging(&start, last, room)
    };
    once(&headings).filter(|_| with_headings).chain(rows).map(line).collect()
}

/// One block of lines per row, without empty cells.
fn blocks(headings: &[&str], rows: &[Vec<String>], terminal: usize) -> String {
    let width = headings.iter().map(|heading| heading.len()).max().unwrap_or(0);
    let block = |row: &Vec<String>| {
        let said = headings.iter().zip(row).filter(|(_, cell)| !matches!(cell.as_str(), "" | "-"));
        let lines = said.map(|(heading, cell)| {
            let start = format!("{:width$}{:GAP$}", heading.to_lowercase(), "");
            hanging(&start, cell, terminal.saturating_sub(start.len()).max(LEAST_LAST))
        });
        lines.collect::<String>()
    };
    rows.iter().map(block).collect::<Vec<_>>().join("\n")
}

/// `start`, followed by the text, wrapped at spaces to the given width with a hanging indent.
fn hanging(start: &str, text: &str, room: usize) -> String {
    if room == usize::MAX || text.chars().count() <= room {
        return format!("{}\n", format!("{start}{text}").trim_end());
    }
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let mut word: Vec<char> = word.chars().collect();
        loop {
            let line = lines.last_mut().map_or(0, |line| line.chars().count());
            let space = usize::from(line > 0);
            let fits = line + space + word.len() <= room;
            // A word that is wider than a line is broken; any other word goes to the next line.
            if !fits && (line > 0 || word.is_empty()) {
                lines.push(String::new());
                continue;
            }
            let rest = word.split_off(word.len().min(room - line - space));
            if let Some(last) = lines.last_mut() {
                last.extend((space > 0).then_some(' ').into_iter().chain(word));
            }
            if rest.is_empty() {
                break;
            }
            word = rest;
        }
    }
    let indent = " ".repeat(start.chars().count());
    let starts = once(start).chain(std::iter::repeat(indent.as_str()));
    starts.zip(&lines).map(|(start, line)| format!("{}\n", format!("{start}{line}").trim_end())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADINGS: [&str; 3] = ["SLOT", "STEP", "WHY"];

    fn rows() -> Vec<Vec<String>> {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        vec![row(["/nvme0", "BLOCKED", "the disk of the slot has no room left"]), row(["/nvme1", "-", ""])]
    }

    #[test]
    fn a_table_that_fits_or_goes_to_a_file_has_one_line_a_row() {
        let table = "SLOT    STEP     WHY\n/nvme0  BLOCKED  the disk of the slot has no room left\n/nvme1  -\n";
        assert_eq!(render(&HEADINGS, &rows()), table);
        assert_eq!(fitted(&HEADINGS, &rows(), Some(54)), table);
    }

    #[test]
    fn a_last_column_that_is_too_wide_is_broken_at_spaces() {
        let table = fitted(&HEADINGS, &rows(), Some(45));
        let lines: Vec<&str> = table.lines().collect();
        let indent = " ".repeat(17);
        let rest = format!("{indent}room left");
        let wanted = ["SLOT    STEP     WHY", "/nvme0  BLOCKED  the disk of the slot has no", &rest, "/nvme1  -"];
        assert_eq!(lines, wanted);
        assert!(lines.iter().all(|line| line.chars().count() <= 45));
    }

    #[test]
    fn where_nothing_is_left_for_the_last_column_each_row_is_a_block() {
        let table = fitted(&HEADINGS, &rows(), Some(35));
        assert_eq!(
            table,
            "slot  /nvme0\nstep  BLOCKED\nwhy   the disk of the slot has no\n      room left\n\nslot  /nvme1\n"
        );
    }

    #[test]
    fn a_table_in_pages_has_its_headings_once_and_the_widths_of_its_first_page() {
        for (terminal, widest) in [(None, usize::MAX), (Some(54), 54), (Some(45), 45), (Some(35), 35)] {
            let mut pages = Pages { headings: &HEADINGS, terminal, widths: None, rows: rows() };
            let first = pages.next();
            assert_eq!(first, fitted(&HEADINGS, &rows(), terminal));
            pages.rows = rows();
            pages.rows.remove(0);
            let second = pages.next();
            assert_eq!(
                format!("{first}{second}"),
                fitted(&HEADINGS, &[rows(), rows()[1..].to_vec()].concat(), terminal)
            );
            assert!(second.lines().all(|line| line.chars().count() <= widest), "{second}");
        }
    }

    #[test]
    fn no_text_and_no_terminal_is_too_strange() {
        let long = vec![vec!["x".repeat(100), String::new(), format!("{} ü  y ", "z".repeat(70))]];
        for width in [0, 1, 24, 30, 200] {
            let table = fitted(&HEADINGS, &long, Some(width));
            let letters = |wanted: char| table.chars().filter(|letter| *letter == wanted).count();
            assert!((letters('x'), letters('z')) == (100, 70) && letters('ü') == 1, "{width}: {table}");
        }
        assert_eq!(fitted(&HEADINGS, &[], Some(10)), "");
    }

    #[test]
    fn a_cell_that_holds_escapes_and_line_breaks_stays_one_cell() {
        let table = render(&["WHY", "SLOT"], &[vec!["disk\u{1b}[2K\nfake  row".to_owned(), "/slot".to_owned()]]);
        assert_eq!(table, "WHY                       SLOT\ndisk\\u{1b}[2K\\nfake  row  /slot\n");
    }
}
