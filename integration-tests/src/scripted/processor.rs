//! The scripted processor: it produces the files and answers of each phase at once, and keeps the promises of a real
//! processor. An output gets its final name when it is complete, inputs are not changed, and the outputs of earlier
//! phases are read and compared.

use std::{
    fs::{self, File},
    io::{self, BufRead, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use sealbus_schema::{
    Commitment, ErrorClass, Phase, ProofBytes, Randomness, SectorId, Token,
    parts::{PieceInfo, StoredFile},
};
use sealbus_worker::{
    identity,
    processor::{
        child::PARENT_PID,
        protocol::{Answer, AnswerResult, Failure, Hello, Request},
    },
    stage::{self, StageError},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    control::{Control, Point},
    yields,
};

/// The message of a failure that the test has requested.
const TOLD: &str = "as told";
/// How long the scripted C2 of a real replica takes: long enough to notice if two overlap.
const PROOF_TIME: Duration = Duration::from_secs(10);
/// How often a held processor checks whether it may continue.
const HOLD_PERIOD: Duration = Duration::from_millis(3);

/// The part of a request that scripts need.
#[derive(Debug, Deserialize)]
struct Task {
    work_dir: PathBuf,
    sector: Option<SectorId>,
    ticket: Option<Randomness>,
    seed: Option<Randomness>,
    comm_r: Option<Commitment>,
    store_dir: Option<PathBuf>,
    #[serde(default)]
    store_name: String,
    store_id: Option<String>,
    token: Option<Token>,
}

/// The part of the real C1's `c1.json` that scripts need.
#[derive(Debug, Deserialize)]
struct C1Record {
    key: C1Key,
}

#[derive(Debug, Deserialize)]
struct C1Key {
    comm_r: Commitment,
    seed: Randomness,
}

/// A processor.
struct Script {
    phase: Phase,
    control: Control,
    real_replicas: bool,
}

/// Serves a phase until stdin ends. With `real_replicas`, which is only for C2, the phases before it are the real ones.
pub fn serve(phase: Phase, control: Control, real_replicas: bool) -> anyhow::Result<()> {
    die_with_parent()?;
    let script = Script { phase, control, real_replicas };
    let mut answers = io::stdout().lock();
    send(&mut answers, &json!(Hello::of(phase)))?;
    for line in io::stdin().lock().lines() {
        let Request { id, task } = serde_json::from_str(&line?)?;
        let task: Task = serde_json::from_value(task)?;
        let work = work_name(&task.work_dir);
        let result = match script.run(&task, &work) {
            Ok(output) => AnswerResult::Output(output),
            Err(failure) => AnswerResult::Error(failure),
        };
        send(&mut answers, &json!(Answer { id, result }))?;
        script.control.mark(Point::Told, phase, &work)?;
    }
    Ok(())
}

impl Script {
    fn run(&self, task: &Task, work: &str) -> Result<Value, Failure> {
        self.reach(Point::Before, work)?;
        let about = |value: Option<[u8; 32]>| value.ok_or_else(|| refused("REQUEST_INVALID", "a field is missing"));
        let ticket = || about(task.ticket.map(|ticket| ticket.0)).map(Randomness);
        let seed = || about(task.seed.map(|seed| seed.0)).map(Randomness);
        let sector = || task.sector.ok_or_else(|| refused("REQUEST_INVALID", "sector is missing"));
        let dir = &task.work_dir;
        let of_work = |phase: Phase| yields::file(phase.name(), work.as_bytes());
        let of_ticket = |phase: Phase, ticket: &Randomness| yields::file(phase.name(), &ticket.0);
        match self.phase {
            Phase::AddPieces => {
                self.write(&dir.join("unsealed"), &of_work(Phase::AddPieces), work)?;
                let commitment = yields::comm_d();
                Ok(json!(stage::add_pieces::Response { pieces: vec![PieceInfo { commitment, padded_bytes: 2048 }] }))
            }
            Phase::TreeD => {
                require(&dir.join("unsealed"), &of_work(Phase::AddPieces))?;
                self.write(&dir.join("tree_d"), &of_work(Phase::TreeD), work)?;
                Ok(json!(stage::tree_d::Response { comm_d: yields::comm_d() }))
            }
            Phase::Pc1 => {
                require(&dir.join("tree_d"), &of_work(Phase::TreeD))?;
                self.write(&dir.join("layer"), &of_ticket(Phase::Pc1, &ticket()?), work)?;
                Ok(json!(stage::pc1::Response { comm_d: yields::comm_d() }))
            }
            Phase::Pc2 => {
                require(&dir.join("layer"), &of_ticket(Phase::Pc1, &ticket()?))?;
                let comm_r = yields::comm_r(sector()?, &ticket()?);
                self.write(&dir.join("sealed"), &yields::file("replica", &comm_r.0), work)?;
                Ok(json!(stage::pc2::Response { comm_r, comm_d: yields::comm_d() }))
            }
            Phase::Transfer => self.transfer(task, sector()?, work).map_err(in_store),
            Phase::C1 => {
                let comm_r = yields::comm_r(sector()?, &ticket()?);
                require(&dir.join("sealed"), &yields::file("replica", &comm_r.0))?;
                self.write(&dir.join("c1"), &yields::file("c1", &seed()?.0), work)?;
                Ok(json!(stage::c1::Response { bytes: yields::FILE_BYTES as u64 }))
            }
            Phase::C2 if self.real_replicas => {
                let key = read_c1_key(&dir.join("c1.json"))?;
                if key.seed != seed()? {
                    return Err(refused("INPUT_MISMATCH", "c1.json is for another seed"));
                }
                std::thread::sleep(PROOF_TIME);
                let proof = ProofBytes(yields::proof(sector()?, &key.comm_r, &ticket()?, &key.seed));
                Ok(json!(stage::c2::Response { proof }))
            }
            Phase::C2 => {
                require(&dir.join("c1"), &yields::file("c1", &seed()?.0))?;
                self.write(&dir.join("c2"), &yields::file("c2", &seed()?.0), work)?;
                let comm_r = yields::comm_r(sector()?, &ticket()?);
                let proof = ProofBytes(yields::proof(sector()?, &comm_r, &ticket()?, &seed()?));
                Ok(json!(stage::c2::Response { proof }))
            }
        }
    }

    /// Copies to the store by the rules of the real stage: an existing file is compared and never overwritten.
    fn transfer(&self, task: &Task, sector: SectorId, work: &str) -> Result<Value, Failure> {
        let missing = || refused("REQUEST_INVALID", "a field is missing");
        let (comm_r, token) = (task.comm_r.ok_or_else(missing)?, task.token.ok_or_else(missing)?);
        let store = task.store_dir.as_ref().ok_or_else(missing)?;
        let content = yields::file("replica", &comm_r.0);
        require(&task.work_dir.join("sealed"), &content)?;
        check_store(store, &task.store_name, task.store_id.as_deref())?;
        let path = format!("sealed/{}", sector.file_name());
        let (to, temporary) = (store.join(&path), store.join(format!("sealed/.{}.{token}.tmp", sector.file_name())));
        fs::create_dir_all(store.join("sealed")).map_err(|error| io_failed("create directory", store, &error))?;
        match fs::read(&to) {
            Ok(found) if found == content => {
                // The file of an earlier attempt is complete, so it is not written again.
                self.reach(Point::Inside, work)?;
            }
            Ok(_) => return Err(refused("STORE_CONFLICT", "another replica is there")),
            Err(_) => self.write_as(&temporary, &to, &content, work)?,
        }
        check_store(store, &task.store_name, task.store_id.as_deref())?;
        self.reach(Point::After, work)?;
        let file = StoredFile { path, bytes: content.len() as u64, blake2b: yields::blake2b(&content) };
        Ok(json!(stage::transfer::Response { files: vec![file] }))
    }

    fn write(&self, path: &Path, content: &[u8], work: &str) -> Result<(), Failure> {
        let temporary = path.with_extension("tmp");
        self.write_as(&temporary, path, content, work)?;
        self.reach(Point::After, work)
    }

    fn write_as(&self, temporary: &Path, path: &Path, content: &[u8], work: &str) -> Result<(), Failure> {
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

/// The check of the real stage, except that an empty store name is accepted.
fn check_store(store: &Path, name: &str, id: Option<&str>) -> Result<(), Failure> {
    match name {
        "" => Ok(()),
        name => Ok(identity::check_store(store, name, id).map(drop)?),
    }
}

fn read_c1_key(path: &Path) -> Result<C1Key, Failure> {
    let bytes = fs::read(path).map_err(|error| io_failed("read", path, &error))?;
    let record: C1Record =
        serde_json::from_slice(&bytes).map_err(|error| refused("INPUT_MISMATCH", &error.to_string()))?;
    Ok(record.key)
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

/// As in the real stage: an unexpected failure here is one of the store.
fn in_store(failure: Failure) -> Failure {
    match failure.code.as_str() {
        "IO_FAILED" if failure.message != TOLD => Failure::new(ErrorClass::Temp, "STORE_UNAVAILABLE", &failure.message),
        _ => failure,
    }
}

fn work_name(dir: &Path) -> String {
    dir.file_name().unwrap_or_default().to_string_lossy().into_owned()
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
