//! The log of manager and worker: one event per line on stderr, whatever the event contains.
//!
//! It is in this package because this is the lowest one with IO that both programs use.

use std::io::{self, Write};

use sealbus_schema::text;
use tracing_subscriber::EnvFilter;

/// Starts the log. It has no colours, because control characters are escaped. An event that cannot be written is lost:
/// a broken log must not stop the program.
pub fn start_log(filter: EnvFilter) {
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| Log)
        .with_ansi(false)
        .log_internal_errors(false)
        .init();
}

/// Writes one event.
struct Log;

impl Write for Log {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let _ = io::stderr().lock().write_all(line(event).as_bytes());
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
}
