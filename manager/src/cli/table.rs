//! Plain tables for people.

use sealbus_schema::text;

/// Prints rows under headings, each column as wide as its widest cell.
pub fn print(headings: &[&str], rows: &[Vec<String>]) {
    out!("{}", render(headings, rows));
}

/// Rows under headings, as text. Whatever a cell says, it is one cell of one line.
pub fn render(headings: &[&str], rows: &[Vec<String>]) -> String {
    let clean = |cell: &String| text::one_line(cell).into_owned();
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(clean).collect()).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([headings[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", padded.collect::<Vec<_>>().join("  ").trim_end())
    };
    let rows = rows.iter().map(|row| line(row.iter().map(String::as_str).collect()));
    std::iter::once(line(headings.to_vec())).chain(rows).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_that_holds_escapes_and_line_breaks_stays_one_cell() {
        let table = render(&["WHY", "SLOT"], &[vec!["disk\u{1b}[2K\nfake  row".to_owned(), "/slot".to_owned()]]);
        assert_eq!(table, "WHY                       SLOT\ndisk\\u{1b}[2K\\nfake  row  /slot\n");
    }
}
