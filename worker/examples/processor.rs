//! A processor of version 2 in Rust, written from docs/processors.md alone. It hands each task to a command of yours.
//!
//! ```text
//! processor <stage> <command> [arguments]
//! ```
//!
//! The command gets the task as JSON on stdin and prints the output as JSON on stdout; its stderr is logged. Exit
//! status 0 means success, 75 (`EX_TEMPFAIL`) an error that is worth retrying, and anything else an error for a person.
//! Each request runs in its own process. So several can run at the same time, and a cancelled one is stopped without
//! affecting the others.

use std::collections::HashMap;
use std::error::Error;
use std::io::{BufRead, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

/// Larger outputs, in bytes, go into a file.
const LINE_BYTES: usize = 1 << 20;
/// The exit status of a command that is worth retrying.
const TEMPORARY_FAILURE: i32 = 75;

/// The requests in progress.
type Running = Arc<Mutex<HashMap<u64, Request>>>;

#[derive(Default)]
struct Request {
    child: Option<Child>,
    cancelled: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let stage = arguments.next().ok_or("which stage?")?;
    let command: Arc<[String]> = arguments.collect();
    if command.is_empty() {
        return Err("which command?".into());
    }
    // All output goes through `say`, which writes whole lines, so that those of different threads do not mix.
    say(&json!({
        "sealbus_processor": 2,
        "stage": stage,
        "pid": std::process::id(),
        "features": ["progress", "cancel", "heartbeat", "files", "concurrent"],
    }));
    std::thread::spawn(|| {
        loop {
            std::thread::sleep(Duration::from_secs(5));
            say(&json!({ "heartbeat": true }));
        }
    });
    let running = Running::default();
    let mut threads = Vec::new();
    for line in std::io::stdin().lock().lines() {
        let order: Value = serde_json::from_str(&line?)?;
        if let Some(id) = order["cancel"].as_u64() {
            cancel(&running, id);
        } else if let Some(id) = order["id"].as_u64() {
            lock(&running).insert(id, Request::default());
            let (running, command) = (Arc::clone(&running), Arc::clone(&command));
            threads.push(std::thread::spawn(move || serve(id, &order, &command, &running)));
        }
    }
    // There are no more requests. Those in progress are finished and answered.
    for thread in threads {
        let _ = thread.join();
    }
    Ok(())
}

fn serve(id: u64, order: &Value, command: &[String], running: &Running) {
    let outcome = task_of(order).and_then(|task| run(id, &task, command, running));
    let cancelled = lock(running).remove(&id).is_some_and(|request| request.cancelled);
    match outcome {
        // Only now has all work on the request ended.
        _ if cancelled => fail(id, "temp", "CANCELLED", "as told"),
        Ok(Done::Output(output)) => answer(id, &output),
        Ok(Done::Failed { status, message }) => {
            let class = if status == Some(TEMPORARY_FAILURE) { "temp" } else { "perm" };
            fail(id, class, "COMMAND_FAILED", &message);
        }
        Err(error) => fail(id, "crit", "COMMAND_NOT_RUN", &error.to_string()),
    }
}

/// A large task is in a file. The worker removes the file when the request has been answered.
fn task_of(order: &Value) -> Result<Vec<u8>, Box<dyn Error>> {
    match order["task_file"].as_str() {
        Some(path) => Ok(std::fs::read(path)?),
        None => Ok(serde_json::to_vec(&order["task"])?),
    }
}

enum Done {
    Output(Value),
    Failed { status: Option<i32>, message: String },
}

fn run(id: u64, task: &[u8], command: &[String], running: &Running) -> Result<Done, Box<dyn Error>> {
    let mut child =
        Command::new(&command[0]).args(&command[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (mut stdin, mut stdout) = (child.stdin.take().ok_or("no stdin")?, child.stdout.take().ok_or("no stdout")?);
    if let Some(request) = lock(running).get_mut(&id) {
        if request.cancelled {
            child.kill()?;
        }
        request.child = Some(child);
    }
    progress(id, 0.0, "handing over");
    let task = task.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&task));
    progress(id, 0.1, "working");
    let mut output = Vec::new();
    stdout.read_to_end(&mut output)?;
    // A command may answer without having read its whole task.
    let _ = writer.join();
    // The command has closed its stdout, so this wait is short. Meanwhile other requests can still be cancelled.
    let child = lock(running).get_mut(&id).and_then(|request| request.child.take());
    let status = child.ok_or("no command")?.wait()?;
    if !status.success() {
        return Ok(Done::Failed { status: status.code(), message: format!("{} ended with {status}", command[0]) });
    }
    Ok(Done::Output(serde_json::from_slice(&output)?))
}

fn cancel(running: &Running, id: u64) {
    if let Some(request) = lock(running).get_mut(&id) {
        request.cancelled = true;
        if let Some(child) = &mut request.child {
            let _ = child.kill();
        }
    }
}

fn answer(id: u64, output: &Value) {
    let text = output.to_string();
    let directory = std::env::var("TMPDIR").unwrap_or_default();
    if text.len() > LINE_BYTES && !directory.is_empty() {
        // The file must be directly in TMPDIR. The worker removes it.
        let path = Path::new(&directory).join(format!("output-{id}.json"));
        if std::fs::write(&path, &text).is_ok() {
            return say(&json!({ "id": id, "output_file": path }));
        }
    }
    say(&json!({ "id": id, "output": output }));
}

fn fail(id: u64, class: &str, code: &str, message: &str) {
    say(&json!({ "id": id, "error": { "class": class, "code": code, "message": message } }));
}

fn progress(id: u64, done: f64, note: &str) {
    say(&json!({ "id": id, "progress": { "done": done, "note": note } }));
}

fn say(message: &Value) {
    let mut line = message.to_string();
    line.push('\n');
    let mut stdout = std::io::stdout().lock();
    // If the worker is gone, this process will be killed shortly.
    let _ = stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush());
}

fn lock(running: &Running) -> std::sync::MutexGuard<'_, HashMap<u64, Request>> {
    running.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
