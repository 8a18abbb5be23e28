//! The only way to stdout and stderr of a person's command, and of the log.
//!
//! Both may fail: a reader that has seen enough, a full disk, a log that nobody collects. Data that does not arrive fails
//! the command; words that do not arrive fail nothing. What is written is made harmless first ([`sealbus_schema::text`]).

use std::{
    fmt,
    io::{self, Write},
};

use sealbus_schema::text;

pub use sealbus_nats::stderr::start_log;

/// Stdout did not take what was to be printed.
#[derive(Debug, thiserror::Error)]
#[error("cannot write to stdout")]
pub struct OutError(#[source] io::Error);

impl OutError {
    /// Whether nobody reads it any more, as after `| head`. Nobody needs to be told then.
    #[must_use]
    pub fn is_reader_gone(&self) -> bool {
        self.0.kind() == io::ErrorKind::BrokenPipe
    }
}

/// Prints text for people, with its own line breaks.
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

/// Prints what we made ourselves.
///
/// # Errors
/// [`OutError`].
pub fn bytes(bytes: &[u8]) -> Result<(), OutError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(OutError)
}

/// Tells a person something on stderr, with a line break after it. It is lost if stderr does not take it.
pub fn note(words: impl fmt::Display) {
    let _ = io::stderr().lock().write_all(format!("{}\n", text::printable(&words.to_string())).as_bytes());
}
