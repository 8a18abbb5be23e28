//! Prints rows as they come: as a table, as comma-separated values, or as JSON.

use serde_json::{Map, Value};

use crate::{cli::table::Pages, out};

/// A row: a value for each heading.
pub type Row = Vec<Value>;

/// The form of the output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Table,
    /// Comma-separated values.
    Csv,
    /// JSON.
    Json,
}

/// Prints rows one by one, so that a long list needs no memory.
pub struct Printer {
    form: Form,
    headings: &'static [&'static str],
    table: Pages<'static>,
    rows: u64,
}

impl Printer {
    /// Nothing is printed yet. Values that are not a table are named after the headings.
    pub fn new(form: Form, headings: &'static [&'static str]) -> Printer {
        Printer { form, headings, table: Pages::new(headings), rows: 0 }
    }

    /// Prints a row, at the latest with the next page.
    pub fn row(&mut self, row: Row) {
        let names = self.headings.iter().map(|heading| name(heading));
        match self.form {
            Form::Table => self.table.push(row.iter().map(|value| text(value, "-")).collect()),
            Form::Csv => {
                if self.rows == 0 {
                    outln!("{}", names.collect::<Vec<_>>().join(","));
                }
                // No value has a comma, a quotation mark or a line break.
                outln!("{}", row.iter().map(|value| text(value, "")).collect::<Vec<_>>().join(","));
            }
            Form::Json => {
                let fields: Map<String, Value> = names.zip(row).collect();
                let start = if self.rows == 0 { "{\"rows\": [\n  " } else { "  ," };
                out::json(&format!("{start}{}", Value::Object(fields)));
            }
        }
        self.rows += 1;
    }

    /// Prints what is left, and for JSON what is known about the book. There must have been a row.
    pub fn finish(self, book: &Value) {
        match self.form {
            Form::Table => self.table.finish(),
            Form::Csv => {}
            Form::Json => out::json(&format!("], \"book\": {book}}}")),
        }
    }
}

/// The name of a column in scripts: `prove_commit_gas` for `PROVE COMMIT GAS`.
pub fn name(heading: &str) -> String {
    heading.to_lowercase().replace(' ', "_")
}

fn text(value: &Value, nothing: &str) -> String {
    match value {
        Value::Null => nothing.to_owned(),
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}
