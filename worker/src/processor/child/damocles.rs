//! An executable that speaks the protocol of damocles, as a child of a child.
//!
//! The worker sees a processor of version 2 of the built-in kind; this is the part of it that starts the executable,
//! waits for its readiness, hands it tasks and routes its answers. The executable is in the same process group, so
//! the worker's kill reaches it, and it dies with this process. If it ends, every task on it fails, and the next task
//! starts another.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::stage::foreign::Foreign;
use crate::stage::{Json, Stage, StageCode, StageError};

mod process;

use process::Process;

/// How to start the executable.
#[derive(Clone, Debug)]
pub struct Program {
    /// The executable.
    pub bin: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// The stage that it must say it is ready for.
    pub stage: Stage,
    /// How long it may take to be ready.
    pub ready_wait: Duration,
}

/// The executable, started when it is first needed.
#[derive(Debug)]
pub struct Damocles {
    program: Program,
    process: Mutex<Option<Arc<Process>>>,
}

impl Damocles {
    /// Starts nothing yet.
    #[must_use]
    pub fn new(program: Program) -> Self {
        Self { program, process: Mutex::new(None) }
    }

    /// The process, a new one if there is none or it has ended. Others who ask meanwhile wait here.
    fn running(&self) -> Result<Arc<Process>, StageError> {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        match process.as_ref() {
            Some(running) if !running.has_ended() => Ok(Arc::clone(running)),
            _ => {
                let started = Arc::new(Process::start(&self.program)?);
                *process = Some(Arc::clone(&started));
                Ok(started)
            }
        }
    }
}

impl Foreign for Damocles {
    fn ask(&self, task: Json) -> Result<Value, StageError> {
        let response = self.running()?.ask(task)?;
        match (response.err_msg, response.output) {
            (Some(message), _) => Err(StageError::new(StageCode::ProcessorRefused, message)),
            (None, Some(output)) => Ok(output),
            (None, None) => Err(StageError::new(
                StageCode::ProcessorProtocol,
                format!("the executable answered request {} with neither an output nor an error", response.id),
            )),
        }
    }
}
