//! The scripted processor: it produces the files and answers of each phase at once, and keeps the promises of a real
//! processor. An output gets its final name when it is complete, inputs are not changed, and the outputs of earlier
//! phases are read and compared.

mod post;

use std::{
    fs::{self, File},
    io::{self, BufRead, Write},
    path::Path,
    time::Duration,
};

use anyhow::{Context, bail};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use sealbus_schema::{ErrorClass, Phase};
use sealbus_worker::{
    identity,
    processor::{
        child::PARENT_PID,
        protocol::{Answer, AnswerResult, Failure, Hello, Request},
    },
    stage::StageError,
};
use serde_json::{Value, json};

use super::control::{Control, Point};
use crate::workflows::{self, NamedStore, Script, ScriptedFile};

/// The message of a failure that the test has requested.
const TOLD: &str = "as told";
/// How often a held processor checks whether it may continue.
const HOLD_PERIOD: Duration = Duration::from_millis(3);

/// One processor.
struct Processor {
    phase: Phase,
    control: Control,
    real_replicas: bool,
}

/// Serves a phase until stdin ends. With `real_replicas`, which is only for C2, the phases before it are the real ones.
pub fn serve(phase: Phase, control: Control, real_replicas: bool) -> anyhow::Result<()> {
    die_with_parent()?;
    let processor = Processor { phase, control, real_replicas };
    let mut answers = io::stdout().lock();
    send(&mut answers, &json!(Hello::of(phase)))?;
    for line in io::stdin().lock().lines() {
        let Request { id, task } = serde_json::from_str(&line?)?;
        let work = work_name(&task);
        let result = match processor.run(&task, &work) {
            Ok(output) => AnswerResult::Output(output),
            Err(failure) => AnswerResult::Error(failure),
        };
        send(&mut answers, &json!(Answer { id, result }))?;
        processor.control.mark(Point::Told, phase, &work)?;
    }
    Ok(())
}

impl Processor {
    fn run(&self, task: &Value, work: &str) -> Result<Value, Failure> {
        self.reach(Point::Before, work)?;
        if let Some(answer) = post::run(self.phase, task, &self.control) {
            return answer;
        }
        let script = workflows::script(self.phase, task, self.real_replicas)
            .unwrap_or_else(|| Err(refused("REQUEST_INVALID", "nobody has a script for this stage")))?;
        match script.store {
            Some(_) => self.play(script, work).map_err(in_store),
            None => self.play(script, work),
        }
    }

    fn play(&self, script: Script, work: &str) -> Result<Value, Failure> {
        let Script { inputs, store, pause, output, answer } = script;
        for (path, content) in &inputs {
            require(path, content)?;
        }
        std::thread::sleep(pause);
        let Some(file) = output else { return Ok(answer) };
        match store {
            Some(store) => self.store(&store, &file, work)?,
            None => self.write(&file, work)?,
        }
        self.reach(Point::After, work)?;
        Ok(answer)
    }

    /// Writes a file into the store under the rules of the real stage: an existing file is compared and never
    /// overwritten.
    fn store(&self, store: &NamedStore, file: &ScriptedFile, work: &str) -> Result<(), Failure> {
        check_store(store)?;
        for dir in [&file.temporary, &file.path].into_iter().filter_map(|path| path.parent()) {
            fs::create_dir_all(dir).map_err(|error| io_failed("create directory", dir, &error))?;
        }
        match fs::read(&file.path) {
            // An earlier try has already written the complete file.
            Ok(found) if found == file.content => self.reach(Point::Inside, work)?,
            Ok(_) => return Err(refused("STORE_CONFLICT", "another replica is there")),
            Err(_) => self.write(file, work)?,
        }
        check_store(store)
    }

    fn write(&self, ScriptedFile { temporary, path, content }: &ScriptedFile, work: &str) -> Result<(), Failure> {
        let (first, second) = content.split_at(content.len() / 2);
        let failed = |error: io::Error| io_failed("write", temporary, &error);
        let mut file = File::create(temporary).map_err(failed)?;
        file.write_all(first).map_err(failed)?;
        self.reach(Point::Inside, work)?;
        file.write_all(second).and_then(|()| file.sync_all()).map_err(failed)?;
        fs::rename(temporary, path).map_err(|error| io_failed("rename", path, &error))
    }

    /// Records the point, waits there while it is held, and fails if the test says so.
    fn reach(&self, point: Point, work: &str) -> Result<(), Failure> {
        self.control.mark(point, self.phase, work).map_err(|error| io_failed("mark", self.control.path(), &error))?;
        while self.control.is_held(point, self.phase) {
            std::thread::sleep(HOLD_PERIOD);
        }
        match self.control.take_failure(point, self.phase) {
            Some((class, code)) => {
                let class = serde_json::from_value(json!(class)).unwrap_or(ErrorClass::Perm);
                Err(Failure::new(class, code, TOLD))
            }
            None => Ok(()),
        }
    }
}

/// Checks the store's identity file as the real stage does. A request without a store name skips the check.
fn check_store(NamedStore { dir, name, id }: &NamedStore) -> Result<(), Failure> {
    match name.as_str() {
        "" => Ok(()),
        name => Ok(identity::check_store(dir, name, id.as_deref()).map(drop)?),
    }
}

fn require(path: &Path, content: &[u8]) -> Result<(), Failure> {
    match fs::read(path) {
        Ok(found) if found == content => Ok(()),
        Ok(_) => Err(refused("INPUT_MISMATCH", &format!("{} is not what the phase before makes", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(refused("INPUT_MISSING", &format!("{} is not there", path.display())))
        }
        Err(error) => Err(io_failed("read", path, &error)),
    }
}

fn refused(code: &str, message: &str) -> Failure {
    Failure::new(ErrorClass::Perm, code, message)
}

fn io_failed(operation: &str, path: &Path, error: &io::Error) -> Failure {
    StageError::io(operation, path, error).into()
}

/// Blames the store for an unexpected failure, as the real stage does.
fn in_store(failure: Failure) -> Failure {
    match failure.code.as_str() {
        "IO_FAILED" if failure.message != TOLD => Failure::new(ErrorClass::Temp, "STORE_UNAVAILABLE", &failure.message),
        _ => failure,
    }
}

/// The name of the job's directory, which every request has.
fn work_name(task: &Value) -> String {
    let dir = task.get("work_dir").and_then(Value::as_str).unwrap_or_default();
    Path::new(dir).file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn send(to: &mut impl Write, message: &Value) -> anyhow::Result<()> {
    writeln!(to, "{message}")?;
    Ok(to.flush()?)
}

/// A held processor does not notice the end of its stdin, so the kernel kills it with its parent.
fn die_with_parent() -> anyhow::Result<()> {
    let parent: i32 = std::env::var(PARENT_PID).context("not started by a worker")?.parse()?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid().map(rustix::process::Pid::as_raw_pid) != Some(parent) {
        bail!("the worker is gone");
    }
    Ok(())
}
