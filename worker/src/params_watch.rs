//! The Groth16 parameters as the slots see them: read as a whole once, then looked at from outside; read again while
//! something is wrong with them.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use sealbus_schema::{Phase, SectorSize};
use tokio::sync::Mutex;

use crate::{
    config::Config,
    params::{self, CheckRequest},
    processor,
};

/// Watches the directory that the built-in C2 reads. All slots share it.
#[derive(Debug)]
pub struct ParamsWatch {
    /// None where every C2 is somebody else's.
    watched: Option<Watched>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct Watched {
    dir: PathBuf,
    size: SectorSize,
    /// The least time between two full checks.
    interval: Duration,
}

#[derive(Debug)]
enum State {
    Unknown,
    /// The files with their sizes.
    Whole(Vec<(PathBuf, u64)>),
    Bad {
        problem: String,
        checked: Instant,
    },
}

impl ParamsWatch {
    /// Watches what the configuration's C2 needs.
    pub fn new(config: &Config) -> ParamsWatch {
        let built_in = config.processors.iter().find(|group| group.stage == Phase::C2 && group.bin.is_none());
        let watched = built_in.map(|group| {
            let environment = group.environment(processor::own_environment());
            let dir = environment.get(params::DIR_VARIABLE).map_or(params::DEFAULT_DIR, String::as_str).into();
            Watched { dir, size: config.sector_size, interval: config.recover_interval / 2 }
        });
        ParamsWatch { watched, state: Mutex::new(State::Unknown) }
    }

    /// What is wrong with the parameters, file by file. The first call reads them all, which may take minutes.
    pub async fn problem(&self) -> Option<String> {
        let watched = self.watched.as_ref()?;
        let mut state = self.state.lock().await;
        match &*state {
            State::Whole(files) if files.iter().all(|(path, size)| has_size(path, *size)) => return None,
            State::Bad { problem, checked } if checked.elapsed() < watched.interval => return Some(problem.clone()),
            State::Unknown => {
                tracing::info!(dir = %watched.dir.display(), size = %watched.size, "checking the parameters")
            }
            State::Whole(_) | State::Bad { .. } => {}
        }
        let (dir, size) = (watched.dir.clone(), watched.size);
        let checked = tokio::task::spawn_blocking(move || check(dir, size)).await;
        match checked.unwrap_or_else(|error| Err(format!("the check ended badly: {error}"))) {
            Ok(files) => {
                *state = State::Whole(files);
                None
            }
            Err(problem) => {
                *state = State::Bad { problem: problem.clone(), checked: Instant::now() };
                Some(problem)
            }
        }
    }
}

fn has_size(path: &PathBuf, size: u64) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.len() == size)
}

/// All files with their sizes, or what is wrong.
fn check(dir: PathBuf, size: SectorSize) -> Result<Vec<(PathBuf, u64)>, String> {
    let checked = CheckRequest::for_worker(dir, vec![size]).and_then(|request| params::check(&request));
    let report = checked.map_err(|error| error.to_string())?;
    let bad: Vec<_> = report.bad().map(|file| format!("{} {}", file.name, file.finding)).collect();
    if !bad.is_empty() {
        return Err(format!("{}: {}", report.dir.display(), bad.join("; ")));
    }
    let paths = report.files.iter().map(|file| report.dir.join(&file.name));
    let sized = paths.map(|path| std::fs::metadata(&path).map(|found| (path, found.len())));
    sized.collect::<Result<_, _>>().map_err(|error| format!("{}: {error}", report.dir.display()))
}
