//! An executable that speaks the protocol of damocles, run as a child of the built-in processor.
//!
//! The worker sees an ordinary built-in processor of version 2. This module starts the executable behind it, waits
//! until it is ready, hands it tasks and routes its answers. The executable is in the same process group, so the
//! worker's kill reaches it, and it dies with this process. If it ends, all its tasks fail, and the next task starts it
//! again.

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
    /// The stage that its ready line must name.
    pub stage: Stage,
    /// How long it may take to become ready.
    pub ready_wait: Duration,
}

/// The executable. It is started when it is first needed.
#[derive(Debug)]
pub struct Damocles {
    program: Program,
    process: Mutex<Option<Arc<Process>>>,
}

impl Damocles {
    /// Creates the handle; nothing is started yet.
    #[must_use]
    pub fn new(program: Program) -> Self {
        Self { program, process: Mutex::new(None) }
    }

    /// The running process; a new one is started if there is none or it has ended. Concurrent callers wait here for the
    /// same one.
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
