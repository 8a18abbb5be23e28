//! The process `sealbus-worker processor <stage>`: it reads requests on stdin, runs the stage, and answers on stdout.
//!
//! [`session`] holds the conversation. [`engine`] carries a request out, either in this process or with an executable
//! that speaks the protocol of damocles ([`damocles`]).

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
    /// The file descriptors could not be set up.
    #[error("cannot set up the processor: {0}")]
    SetUp(#[source] io::Error),
    /// The kernel could not be told to kill this process with its parent.
    #[error(transparent)]
    Parent(#[from] ParentError),
    /// A line is not a valid request.
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

/// Serves `stage` until stdin ends. Requests in progress are answered before it returns.
///
/// Answers go to a private duplicate of stdout. Stdout itself is redirected to stderr, so that a library that prints
/// cannot corrupt them.
///
/// # Errors
/// [`ChildError`]. Errors of the stage itself are sent as answers.
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
