//! The only way to stdout and stderr.
//!
//! Writing can fail: the reader has gone, a disk is full, nobody collects the log. A command runs to its end all the
//! same, so that an order is never half given because of its output. [`finish`] then reports the loss. Everything is
//! sanitised first ([`sealbus_schema::text`]).

use std::{
    fmt,
    io::{self, Write},
    process::ExitCode,
    sync::Mutex,
};

use sealbus_schema::text;

pub use sealbus_nats::stderr::start_log;

/// The exit code if the reader has gone: 128 + SIGPIPE, as a shell reports for a program ended by that signal.
const READER_GONE: u8 = 141;

/// The first failure of stdout. After it nothing more is written.
static FAILED: Mutex<Option<io::Error>> = Mutex::new(None);

/// Writes a line of data to stdout, like `println!`.
#[macro_export]
macro_rules! outln {
    () => { $crate::out::line(format_args!("")) };
    ($($arg:tt)*) => { $crate::out::line(format_args!($($arg)*)) };
}

/// Writes to stdout, like `print!`.
#[macro_export]
macro_rules! out {
    ($($arg:tt)*) => { $crate::out::text(format_args!($($arg)*)) };
}

/// Writes a line to stderr, like `eprintln!`. A line that cannot be written is lost.
#[macro_export]
macro_rules! errln {
    ($($arg:tt)*) => { $crate::out::note_line(format_args!($($arg)*)) };
}

/// Writes to stderr, like `eprint!`. Text that cannot be written is lost.
#[macro_export]
macro_rules! err {
    ($($arg:tt)*) => { $crate::out::note(format_args!($($arg)*)) };
}

/// A line for people. Text after a line break inside an argument is indented, so that it cannot pass for a line of ours.
pub fn line(words: fmt::Arguments<'_>) {
    write_out(format!("{}\n", indented(&words.to_string())).as_bytes());
}

/// Text for people with its own line breaks, such as a table whose cells are already sanitised.
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

/// The output of the command line's parser: requested help on stdout, or an error on stderr.
pub fn told(words: &clap::Error) -> ExitCode {
    let code = ExitCode::from(u8::try_from(words.exit_code()).unwrap_or(2));
    match words.print() {
        Err(error) if !words.use_stderr() => remember(error),
        _ => {}
    }
    finish(code)
}

/// The program's exit code: its own, unless its output could not be written.
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
