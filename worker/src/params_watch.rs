//! Watches the Groth16 parameters for the slots. They are read in full once. After that only names and sizes are
//! compared, and they are read in full again while something is wrong with them.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use sealbus_schema::{Phase, SectorSize};
use tokio::sync::Mutex;

use crate::{
    config::Config,
    params::{self, CheckRequest},
    processor::{self, GroupConfig, Parameters},
};

/// Watches the directories that the C2 processors read. All slots share it.
#[derive(Debug)]
pub struct ParamsWatch {
    /// `None` if all C2 processors are third-party executables.
    watched: Option<Watched>,
    state: Mutex<State>,
    theirs: Vec<Theirs>,
}

/// A directory that a third-party executable reads, as far as the configuration shows.
#[derive(Clone, Debug)]
struct Theirs {
    bin: PathBuf,
    dir: PathBuf,
    size: SectorSize,
    with_parameters: bool,
}

#[derive(Debug)]
struct Watched {
    dir: PathBuf,
    size: SectorSize,
    /// The shortest time between two full checks.
    interval: Duration,
}

#[derive(Debug)]
enum State {
    Unknown,
    /// All files are good. These are their sizes.
    Whole(Vec<(PathBuf, u64)>),
    Bad {
        problem: String,
        checked: Instant,
    },
}

impl ParamsWatch {
    /// Watches the directories that the configuration's C2 groups need.
    pub fn new(config: &Config) -> ParamsWatch {
        let size = config.sector_size;
        let groups = || config.processors.iter().filter(|group| group.stage == Phase::C2);
        let built_in = groups().find(|group| group.parameters == Parameters::Whole);
        let watched =
            built_in.map(|group| Watched { dir: directory(group), size, interval: config.recover_interval / 2 });
        let theirs = groups().filter_map(|group| {
            let with_parameters = match group.parameters {
                Parameters::Sized => true,
                Parameters::VerifyingKey => false,
                Parameters::Unknown | Parameters::Whole => return None,
            };
            Some(Theirs { bin: group.bin.clone()?, dir: directory(group), size, with_parameters })
        });
        ParamsWatch { watched, state: Mutex::new(State::Unknown), theirs: theirs.collect() }
    }

    /// What is wrong with the parameters, file by file; `None` if nothing is. The first call reads the parameters of
    /// the built-in C2 in full, which may take minutes.
    pub async fn problem(&self) -> Option<String> {
        match self.problem_of_ours().await {
            None => self.problem_of_theirs().await,
            problem => problem,
        }
    }

    async fn problem_of_theirs(&self) -> Option<String> {
        for theirs in &self.theirs {
            let theirs = theirs.clone();
            let looked = tokio::task::spawn_blocking(move || theirs.problem()).await;
            if let Some(problem) = looked.unwrap_or_else(|error| Some(format!("the check crashed: {error}"))) {
                return Some(problem);
            }
        }
        None
    }

    async fn problem_of_ours(&self) -> Option<String> {
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
        match checked.unwrap_or_else(|error| Err(format!("the check crashed: {error}"))) {
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

impl Theirs {
    fn problem(&self) -> Option<String> {
        let Self { bin, dir, size, with_parameters } = self;
        let found =
            params::c2_files_problem(dir, *size, *with_parameters).unwrap_or_else(|error| Some(error.to_string()));
        let wanted = match with_parameters {
            true => "the executable reads them there: name another directory in its env, or set own_params = true",
            false => "the proofs that the executable makes are checked with it",
        };
        found.map(|problem| format!("{}: {problem} (c2 by {}: {wanted})", dir.display(), bin.display()))
    }
}

/// The parameter directory that a group's environment names.
pub(crate) fn directory(group: &GroupConfig) -> PathBuf {
    let environment = group.environment(processor::own_environment());
    environment.get(params::DIR_VARIABLE).map_or(params::DEFAULT_DIR, String::as_str).into()
}

fn has_size(path: &PathBuf, size: u64) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.len() == size)
}

/// All files with their sizes, or what is wrong with them.
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
