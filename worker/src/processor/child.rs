//! The process `sealbus-worker processor <stage>`: reads requests on stdin, runs the stage, answers.
//!
//! [`session`] is the conversation, [`engine`] what carries a request out: this process itself, or an executable that
//! speaks the protocol of damocles ([`damocles`]).

use std::io;
use std::path::PathBuf;

use super::orphans;
use crate::stage::Stage;

pub mod damocles;
pub mod engine;
mod parent;
pub mod progress;
mod session;

pub use engine::Engine;
pub use parent::{PARENT_PID, ParentError, die_with_parent};

use session::Session;

/// Why the child stopped serving.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// The descriptors could not be arranged.
    #[error("cannot set up the processor: {0}")]
    SetUp(#[source] io::Error),
    /// The child's life is not bound to its parent's.
    #[error(transparent)]
    Parent(#[from] ParentError),
    /// A line that is no request.
    #[error("request cannot be read: {0}")]
    Request(String),
    /// A pipe broke.
    #[error("pipe to the parent: {0}")]
    Pipe(#[source] io::Error),
    /// The process could not become another program.
    #[error("cannot start {}: {error}", program.display())]
    Exec {
        /// The program.
        program: PathBuf,
        /// The operating system's reason.
        error: io::Error,
    },
}

/// Serves `stage` until stdin ends. Requests that are being worked on are answered first.
///
/// Answers go to a private duplicate of stdout; stdout itself then leads to stderr, so that a library that prints
/// cannot disturb them.
///
/// # Errors
/// [`ChildError`]; errors of the stage are answers.
pub fn serve(stage: Stage, engine: Engine) -> Result<(), ChildError> {
    die_with_parent()?;
    orphans::adopt().map_err(ChildError::SetUp)?;
    let answers = take_stdout().map_err(ChildError::SetUp)?;
    let tmp_dir = std::env::var_os("TMPDIR").map(PathBuf::from);
    let session = Session::new(stage, engine, std::fs::File::from(answers), tmp_dir);
    session.greet()?;
    session.with_heartbeat(|| session.serve(&mut io::stdin().lock()))
}

fn take_stdout() -> io::Result<rustix::fd::OwnedFd> {
    let answers = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdout(), 3)?;
    rustix::stdio::dup2_stdout(rustix::stdio::stderr())?;
    Ok(answers)
}
