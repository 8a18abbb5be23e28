//! The log of manager and worker: one event per line on stderr, whatever the event contains. A line that is the same as
//! others of the last minute is written a few times only ([`repeats`]).
//!
//! It is in this package because this is the lowest one with IO that both programs use.

mod repeats;

use std::{
    io::{self, Write},
    sync::{Mutex, PoisonError},
    time::Instant,
};

use sealbus_schema::text;
use tracing_subscriber::EnvFilter;

use repeats::Repeats;

/// The environment variable with the format: `text`, or `json` for one object per line.
pub const FORMAT: &str = "SEALBUS_LOG_FORMAT";

/// Starts the log. It has no colours, because control characters are escaped. An event that cannot be written is lost:
/// a broken log must not stop the program.
pub fn start_log(filter: EnvFilter) {
    let format = std::env::var(FORMAT).unwrap_or_default();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).log_internal_errors(false);
    match format.as_str() {
        "json" => log.json().flatten_event(true).with_writer(|| Log(json_line)).init(),
        _ => log.with_writer(|| Log(line)).init(),
    }
    if !["", "json", "text"].contains(&format.as_str()) {
        tracing::warn!(format, "{FORMAT} is not `text` or `json`; the log is text");
    }
}

/// The lines of the last minute.
static REPEATS: Mutex<Repeats> = Mutex::new(Repeats::new());

/// Writes one event as a line.
struct Log(fn(&[u8]) -> String);

impl Write for Log {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let line = self.0(event);
        let is_written = REPEATS.lock().unwrap_or_else(PoisonError::into_inner).admit(&line, Instant::now());
        if is_written {
            let _ = io::stderr().lock().write_all(line.as_bytes());
        }
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn line(event: &[u8]) -> String {
    let words = String::from_utf8_lossy(event);
    format!("{}\n", text::one_line(words.trim_end()))
}

fn json_line(event: &[u8]) -> String {
    let object = String::from_utf8_lossy(event);
    format!("{}\n", text::printable_json(object.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_whatever_it_says() {
        assert_eq!(
            line(b"WARN failed error=a\nERROR forged\x1b[2J \xff\n"),
            "WARN failed error=a\\nERROR forged\\u{1b}[2J \u{fffd}\n"
        );
    }

    #[test]
    fn an_event_as_json_stays_json_and_shows_no_control_characters() {
        let event = serde_json::json!({ "error": "a\nb\u{9b}c" });
        let written = json_line(format!("{event}\n").as_bytes());
        assert_eq!(written, "{\"error\":\"a\\nb\\u009bc\"}\n");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&written).expect("JSON"), event);
    }
}
