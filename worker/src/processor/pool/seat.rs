//! One configured processor: how its process is started, given requests and replaced.
//!
//! All use of [`Running`] is here. The process is started at the first request and kept for later ones. After a failure
//! the next request starts a new process, after a pause that grows with each failure. A processor is given as many
//! requests at a time as it has seats. If the process cannot work on several at once, they take turns.

use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::process::Command;
use tokio::sync::{Mutex, watch};
use tokio::task::spawn_blocking;

use super::bound;
use super::confined::{self, Confinement, Fate};
use crate::bind::Binding;
use crate::cgroup::CgroupRoot;
use crate::processor::command::Program;
use crate::processor::config::{GroupConfig, Placement, own_environment};
use crate::processor::error::{ProcessError, ProcessFailure};
use crate::processor::protocol::{AnswerResult, Progress};
use crate::processor::running::{Answered, AskOptions, Ended, Gone, Launch, Running, usage};
use crate::processor::spawner::Spawner;
use crate::sandbox::{Places, Rules};
use crate::stage::Json;

const SYS: &str = "/sys";
/// How often to look whether a killed process is gone.
const ENDED_LOOK: Duration = Duration::from_millis(50);
/// How long a killed process may take to end before people are told.
const ENDING_MAX: Duration = Duration::from_secs(30);

/// A processor, whether its process is running or not.
#[derive(Debug)]
pub(super) struct Processor {
    pub(super) id: String,
    config: Arc<GroupConfig>,
    program: Program,
    /// The worker's executable, which binds the process.
    own: PathBuf,
    placement: Placement,
    /// The control groups of its processes, if they are used.
    confinement: Option<Confinement>,
    /// The candidates for its temporary directory. At each start the first usable one is taken.
    tmp_dirs: Vec<PathBuf>,
    process: std::sync::Mutex<Process>,
    /// Held while looking for a usable process and starting one.
    starting: Mutex<()>,
    /// Held during a request if the process takes only one request at a time.
    alone: Mutex<()>,
}

#[derive(Debug, Default)]
struct Process {
    running: Option<Arc<Running>>,
    /// Resolves when the last process is gone. It must be, before the next one starts.
    gone: Option<Gone>,
    /// Resolves when its control group is gone, which must also come first.
    fate: Option<Fate>,
    tmp_dir: PathBuf,
    /// What its sandbox allows; empty if it is not confined.
    places: Places,
    failures: u32,
}

impl Processor {
    /// Creates the `nth` processor of a group. `own` is the worker's executable.
    pub(super) fn new(id: String, config: Arc<GroupConfig>, nth: usize, own: &Path, tmp_roots: &[PathBuf]) -> Self {
        let tmp_dirs = tmp_roots.iter().map(|root| root.join(&id)).collect();
        let (starting, alone) = (Mutex::new(()), Mutex::new(()));
        let (program, placement) = (Program::of(&config, own), config.placement(nth));
        let (own, process) = (own.to_owned(), std::sync::Mutex::default());
        Self { id, config, program, own, placement, confinement: None, tmp_dirs, process, starting, alone }
    }

    /// Adds a control group below `root` for each of its processes, if `root` is given.
    pub(super) fn confined(mut self, root: Option<&Arc<CgroupRoot>>) -> Self {
        self.confinement = root.map(|root| Confinement::new(Arc::clone(root), &self.id, self.config.cgroup.clone()));
        self
    }

    /// The process id, if the process is running.
    pub(super) fn pid(&self) -> Option<u32> {
        self.lock().running.as_ref().filter(|running| !running.has_ended()).and_then(|running| running.pid())
    }

    /// Starts the process if it is not running.
    pub(super) async fn ready(
        &self,
        spawner: &Spawner,
        runs: impl Fn(Option<u32>, Option<String>),
    ) -> Result<(), ProcessError> {
        self.usable(spawner, None, &runs).await.map(drop)
    }

    /// Waits until a process that is being ended is gone, however long that takes: what hangs in the kernel, as on a
    /// dead network file system, goes only when the kernel lets it. Returns at once if none is being ended.
    pub(super) async fn ended(&self) {
        let running = self.lock().running.clone();
        let Some(pid) = running.filter(|running| running.has_ended()).and_then(|running| running.pid()) else { return };
        let Some(since) = usage::start_time(pid) else { return };
        let began = Instant::now();
        let mut told = false;
        // It still counts while it is a zombie: another of its threads may hang.
        while usage::start_time(pid) == Some(since) {
            if began.elapsed() > ENDING_MAX && !std::mem::replace(&mut told, true) {
                tracing::warn!(processor = %self.id, pid, "was killed and does not end; its seat stays taken");
            }
            tokio::time::sleep(ENDED_LOOK).await;
        }
        if told {
            tracing::info!(processor = %self.id, pid, "has ended at last; its seat is free again");
        }
    }

    /// The last lines of its stderr.
    pub(super) fn tail(&self) -> Vec<String> {
        self.lock().running.as_ref().map(|running| running.tail()).unwrap_or_default()
    }

    /// Has a task of the sector in `sector_dir` carried out. `runs` is told the process id and, once for each process, its binding. If the future is
    /// dropped early, the request is stopped, and the process too if it works on nothing else.
    pub(super) async fn ask(
        &self,
        spawner: &Spawner,
        task: Json,
        sector_dir: Option<&Path>,
        progress: watch::Sender<Option<Progress>>,
        runs: impl Fn(Option<u32>, Option<String>),
    ) -> Result<Value, ProcessError> {
        let (running, fate) = self.usable(spawner, sector_dir, &runs).await?;
        let _alone = match running.features().concurrent {
            true => None,
            false => Some(self.alone.lock().await),
        };
        let options = AskOptions { limit: self.config.timeout, progress: Some(progress) };
        match running.ask(task, options).await {
            Ok(Answered { result, usage }) => {
                tracing::debug!(processor = %self.id, ?usage, "request done");
                // Even an error of the stage shows that the process works, so the pauses start over.
                self.lock().failures = 0;
                match result {
                    AnswerResult::Output(output) => Ok(output),
                    AnswerResult::Error(failure) => Err(ProcessError {
                        processor: self.id.clone(),
                        exit: failure.exit,
                        failure: ProcessFailure::Stage(failure),
                        stderr_tail: running.last_words().await,
                    }),
                }
            }
            Err(ended) => {
                self.count_failure_of(&running);
                runs(self.pid(), None);
                Err(self.failed(confined::explained(ended, fate).await))
            }
        }
    }

    /// A process that can take a request, and the fate of its control group. If there is none, one is started.
    async fn usable(
        &self,
        spawner: &Spawner,
        sector_dir: Option<&Path>,
        runs: &impl Fn(Option<u32>, Option<String>),
    ) -> Result<(Arc<Running>, Option<Fate>), ProcessError> {
        // One at a time: a second request waits for the process that the first one starts.
        let _starting = self.starting.lock().await;
        let needed = self.places(sector_dir).await;
        let (present, fate, tmp_dir, may_touch) = {
            let process = self.lock();
            let may_touch = needed.iter().all(|(path, place)| process.places.get(path) == Some(place));
            (process.running.clone(), process.fate.clone(), process.tmp_dir.clone(), may_touch)
        };
        if let Some(running) = present {
            // If the temporary directory has gone away with its disk, the process is replaced. So is one that may not touch
            // what this request is about.
            if may_touch && running.ready().await && tmp_dir.is_dir() {
                runs(running.pid(), None);
                return Ok((running, fate));
            }
        }
        self.lock().running = None;
        runs(None, None);
        match self.start(spawner, sector_dir).await {
            Ok((running, fate, bound)) => {
                tracing::info!(processor = %self.id, pid = running.pid(), bound, "processor started");
                runs(running.pid(), bound);
                Ok((running, fate))
            }
            Err(ended) => {
                let mut process = self.lock();
                process.failures = process.failures.saturating_add(1);
                drop(process);
                Err(self.failed(ended))
            }
        }
    }

    /// Starts a process. Returns it with the fate of its control group and its binding, if any.
    async fn start(
        &self,
        spawner: &Spawner,
        sector_dir: Option<&Path>,
    ) -> Result<(Arc<Running>, Option<Fate>, Option<String>), Ended> {
        let (failures, gone, fate) = {
            let mut process = self.lock();
            (process.failures, process.gone.take(), process.fate.take())
        };
        let pause = self.config.backoff_after(failures);
        if pause > Duration::ZERO {
            tracing::debug!(processor = %self.id, failures, ?pause, "waiting before a restart");
            tokio::time::sleep(pause).await;
        }
        // The old process and its group must be gone first: two at once could exceed the machine's memory and GPUs.
        if let Some(gone) = gone {
            gone.wait().await;
        }
        confined::settled(fate).await;
        let bin = self.config.bin.as_ref().unwrap_or(&self.program.bin).display().to_string();
        let failed = |reason, stderr_tail| {
            let failure = ProcessFailure::Start { bin: bin.clone(), reason };
            Ended { failure, exit: None, stderr_tail }
        };
        let tmp_dir = self.usable_tmp_dir().map_err(|reason| failed(reason, Vec::new()))?;
        let (sandbox, places) = self.sandbox(sector_dir, &tmp_dir).await;
        let binding = bound::binding(&self.placement).map_err(|error| failed(error.to_string(), Vec::new()))?;
        // A new group for each start, so that its counters belong to this process alone.
        let confined = match &self.confinement {
            Some(confinement) => {
                let fresh = confinement.fresh(binding.as_ref()).await;
                Some(fresh.map_err(|reason| failed(format!("no control group: {reason}"), Vec::new()))?)
            }
            None => None,
        };
        let cgroup = confined.as_ref().map(|confined| confined.path());
        let launch = Launch {
            spawner,
            command: self.command(cgroup, binding.as_ref(), sandbox.as_ref(), &tmp_dir),
            bin: bin.clone(),
            processor: self.id.clone(),
            stage: self.config.stage,
            tmp_dir: tmp_dir.clone(),
            limits: self.config.limits(),
        };
        let running = match Running::start(launch).await {
            Ok(running) => Arc::new(running),
            Err(ended) => {
                // The process never came up. The group is removed at once.
                let fate = confined.map(|confined| confined.end_after(std::future::ready(())));
                self.lock().fate.clone_from(&fate);
                return Err(confined::explained(bound::explained(ended, &bin), fate).await);
            }
        };
        let gone = running.gone();
        let fate = confined.map(|confined| confined.end_after(gone.clone().happened()));
        {
            let mut process = self.lock();
            (process.gone, process.fate) = (Some(gone), fate.clone());
        }
        let bound = match binding {
            Some(binding) => {
                let verified = bound::verified(running.pid(), binding).await;
                Some(verified.map_err(|reason| failed(format!("not bound as it must be: {reason}"), running.tail()))?)
            }
            None => None,
        };
        // Only a process with the right binding becomes usable.
        let mut process = self.lock();
        (process.tmp_dir, process.places, process.running) = (tmp_dir, places, Some(Arc::clone(&running)));
        Ok((running, fate, bound))
    }

    /// What a sandbox must allow for a request; empty if processes are not confined.
    async fn places(&self, sector_dir: Option<&Path>) -> Places {
        let Some(sandbox) = self.config.sandbox.clone() else { return Places::new() };
        let sector_dir = sector_dir.map(Path::to_owned);
        // On a thread: a disk or a server may take long to answer.
        spawn_blocking(move || sandbox.places(sector_dir.as_deref())).await.unwrap_or_default()
    }

    /// The sandbox of a process that is about to start, and what it allows.
    async fn sandbox(&self, sector_dir: Option<&Path>, tmp_dir: &Path) -> (Option<Rules>, Places) {
        let Some(sandbox) = self.config.sandbox.clone() else { return (None, Places::new()) };
        let rules = sandbox.rules(sector_dir, tmp_dir);
        // One that is shared may touch all slots, whatever the first request is about.
        let sector_dir = sector_dir.filter(|_| !sandbox.is_shared()).map(Path::to_owned);
        let looking = spawn_blocking(move || {
            sandbox.prepare();
            sandbox.places(sector_dir.as_deref())
        });
        (Some(rules), looking.await.unwrap_or_default())
    }

    fn command(
        &self,
        cgroup: Option<&Path>,
        binding: Option<&Binding>,
        sandbox: Option<&Rules>,
        tmp_dir: &Path,
    ) -> Command {
        let mut environment = self.config.environment(own_environment());
        match self.config.huge_page_variables(Path::new(SYS), &environment) {
            Ok(variables) => environment.extend(variables),
            Err(reason) => tracing::warn!(processor = %self.id, %reason, "starting without the configured huge pages"),
        }
        let mut command = bound::command(&self.program, cgroup, binding, sandbox, &self.own);
        command.env_clear().env("TMPDIR", tmp_dir).envs(environment);
        command
    }

    /// A lost process counts as one failure, however many requests it had.
    fn count_failure_of(&self, running: &Arc<Running>) {
        let mut process = self.lock();
        if process.running.as_ref().is_some_and(|present| Arc::ptr_eq(present, running)) {
            process.failures = process.failures.saturating_add(1);
            if running.has_ended() {
                process.running = None;
            }
        }
    }

    fn failed(&self, ended: Ended) -> ProcessError {
        let Ended { failure, exit, stderr_tail } = ended;
        let error = ProcessError { processor: self.id.clone(), failure, exit, stderr_tail };
        tracing::warn!(processor = %self.id, code = %error.code(), %error, "request lost");
        error
    }

    fn lock(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Empties the first usable directory for temporary files. If none is usable, the error has the reason for each.
    fn usable_tmp_dir(&self) -> Result<PathBuf, String> {
        let mut reasons = Vec::new();
        for dir in &self.tmp_dirs {
            match empty_dir(dir) {
                Ok(()) => return Ok(dir.clone()),
                Err(error) => reasons.push(format!("{}: {error}", dir.display())),
            }
        }
        Err(format!("no directory for temporary files: {}", reasons.join("; ")))
    }
}

/// Creates an empty directory and, if needed, its parent. The parent's parent must exist: it may be a disk that is not
/// mounted.
fn empty_dir(dir: &Path) -> std::io::Result<()> {
    if let Some(root) = dir.parent() {
        make_dir(root)?;
    }
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    make_dir(dir)
}

fn make_dir(dir: &Path) -> std::io::Result<()> {
    match std::fs::create_dir(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
        made => made,
    }
}
