//! All output of the commands and of the log goes through here, to stdout or stderr.
//!
//! Either stream may fail: the reader has closed the pipe, or the disk is full. A command fails if its data cannot be
//! written; a failure to write messages for people is ignored. Everything is made safe for a terminal first
//! ([`sealbus_schema::text`]).

use std::{
    fmt,
    io::{self, Write},
};

use sealbus_schema::text;

pub use sealbus_nats::stderr::start_log;

/// Stdout could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to stdout")]
pub struct OutError(#[source] io::Error);

impl OutError {
    /// Whether the reader has closed the pipe, as `| head` does. That needs no error message.
    #[must_use]
    pub fn is_reader_gone(&self) -> bool {
        self.0.kind() == io::ErrorKind::BrokenPipe
    }
}

/// Prints text for people as it is, line breaks included.
///
/// # Errors
/// [`OutError`].
pub fn print(words: &str) -> Result<(), OutError> {
    bytes(text::printable(words).as_bytes())
}

/// Prints JSON for scripts.
///
/// # Errors
/// [`OutError`].
pub fn json(json: &str) -> Result<(), OutError> {
    bytes(format!("{}\n", text::printable_json(json)).as_bytes())
}

/// Prints bytes that this program produced itself. They need no escaping.
///
/// # Errors
/// [`OutError`].
pub fn bytes(bytes: &[u8]) -> Result<(), OutError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(OutError)
}

/// Prints a line for people on stderr. If stderr cannot be written, the line is lost.
pub fn note(words: impl fmt::Display) {
    let _ = io::stderr().lock().write_all(format!("{}\n", text::printable(&words.to_string())).as_bytes());
}
