//! The only way to stdout and stderr.
//!
//! Both may fail: a reader that has seen enough, a full disk, a log that nobody collects. A command goes to its end all
//! the same, so that an order is never half given because of where its words went; [`finish`] then tells what was lost.
//! What is written is made harmless first ([`sealbus_schema::text`]).

use std::{
    fmt,
    io::{self, Write},
    process::ExitCode,
    sync::Mutex,
};

use sealbus_schema::text;

pub use sealbus_nats::stderr::start_log;

/// The exit code of a program whose reader went away: 128 and SIGPIPE, as of one that the signal ends.
const READER_GONE: u8 = 141;

/// The first failure of stdout. Nothing is written after it.
static FAILED: Mutex<Option<io::Error>> = Mutex::new(None);

/// Writes a line of data to stdout, as `println!` does.
#[macro_export]
macro_rules! outln {
    () => { $crate::out::line(format_args!("")) };
    ($($arg:tt)*) => { $crate::out::line(format_args!($($arg)*)) };
}

/// Writes to stdout as `print!` does.
#[macro_export]
macro_rules! out {
    ($($arg:tt)*) => { $crate::out::text(format_args!($($arg)*)) };
}

/// Writes a line to stderr, as `eprintln!` does. One that cannot be written is lost.
#[macro_export]
macro_rules! errln {
    ($($arg:tt)*) => { $crate::out::note_line(format_args!($($arg)*)) };
}

/// Writes to stderr as `eprint!` does. What cannot be written is lost.
#[macro_export]
macro_rules! err {
    ($($arg:tt)*) => { $crate::out::note(format_args!($($arg)*)) };
}

/// A line for people. Lines that an argument begins are indented, so that none passes for one of ours.
pub fn line(words: fmt::Arguments<'_>) {
    write_out(format!("{}\n", indented(&words.to_string())).as_bytes());
}

/// Text for people, with its own line breaks: a table, whose cells are clean already.
pub fn text(words: fmt::Arguments<'_>) {
    write_out(text::printable(&words.to_string()).as_bytes());
}

/// JSON for scripts.
pub fn json(json: &str) {
    write_out(format!("{}\n", text::printable_json(json)).as_bytes());
}

/// Bytes that we made ourselves.
pub fn bytes(bytes: &[u8]) {
    write_out(bytes);
}

/// A line on stderr.
pub fn note_line(words: fmt::Arguments<'_>) {
    let _ = io::stderr().lock().write_all(format!("{}\n", indented(&words.to_string())).as_bytes());
}

/// Text on stderr.
pub fn note(words: fmt::Arguments<'_>) {
    let mut stderr = io::stderr().lock();
    let _ = stderr.write_all(text::printable(&words.to_string()).as_bytes());
    let _ = stderr.flush();
}

/// What the command line's parser says: the help that was asked for on stdout, or what is wrong on stderr.
pub fn told(words: &clap::Error) -> ExitCode {
    let code = ExitCode::from(u8::try_from(words.exit_code()).unwrap_or(2));
    match words.print() {
        Err(error) if !words.use_stderr() => remember(error),
        _ => {}
    }
    finish(code)
}

/// What the program ends with: its own exit code, unless its data did not arrive.
pub fn finish(code: ExitCode) -> ExitCode {
    write_out(&[]);
    let failed = FAILED.lock().map(|mut failed| failed.take()).unwrap_or_default();
    match failed {
        None => code,
        Some(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::from(READER_GONE),
        Some(error) => {
            note_line(format_args!("error: cannot write to stdout: {error}; what the command did is done"));
            ExitCode::FAILURE
        }
    }
}

fn remember(error: io::Error) {
    if let Ok(mut failed) = FAILED.lock() {
        failed.get_or_insert(error);
    }
}

fn indented(words: &str) -> String {
    let mut lines = words.split('\n').map(text::printable);
    let first = lines.next().unwrap_or_default().into_owned();
    lines.fold(first, |text, line| match line.starts_with(' ') || line.is_empty() {
        true => format!("{text}\n{line}"),
        false => format!("{text}\n    {line}"),
    })
}

fn write_out(bytes: &[u8]) {
    let Ok(mut failed) = FAILED.lock() else { return };
    if failed.is_some() {
        return;
    }
    let mut stdout = io::stdout().lock();
    if let Err(error) = stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        *failed = Some(error);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_begin_a_line_that_passes_for_one_of_ours() {
        assert_eq!(indented("  why  disk\nnothing is blocked"), "  why  disk\n    nothing is blocked");
        assert_eq!(indented("worker w1 stops\n  as ordered\n"), "worker w1 stops\n  as ordered\n");
        assert_eq!(indented("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
    }
}
