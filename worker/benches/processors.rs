//! Measures the cost of child processes, their protocol and the scheduler, against the same work without them.
//!
//! `cargo bench --workspace --profile dev --bench processors` seals eight sectors of 2 KiB in two ways: through the
//! pool, and by calling the same stages in this process on as many threads as there are cores. Each is repeated, and
//! the best times are compared. C2 is included if its parameters exist (`FIL_PROOFS_PARAMETER_CACHE`), unless `--
//! --no-c2` is given. `-- --8MiB` adds sectors of 8 MiB, which take minutes. Then it measures the round trip of a small
//! task, and that of a task of 100 MB as a file and as a line, against plain copies of the same size.

#![allow(clippy::unwrap_used)]
#![allow(clippy::disallowed_macros, reason = "for whoever reads the output")]

use std::borrow::Cow;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sealbus_planner::schedule::Rules;
use sealbus_schema::parts::PieceInfo;
use sealbus_schema::{Commitment, MinerId, Randomness, SealProof, SectorId, SectorNumber};
use sealbus_worker::processor::{GroupConfig, PoolConfig, ProcessError, ProcessorPool};
use sealbus_worker::stage::{Json, Stage, StageRequest, add_pieces, c1, c2, pc1, pc2, tree_d};
use serde::Deserialize;
use serde_json::{Value, json};

const SECTORS: usize = 8;
const SMALL_TASKS: usize = 2000;
const LARGE_BYTES: usize = 100_000_000;
const LARGE_TIMES: usize = 7;
/// The option that makes this program a processor that answers with the length of its task.
const SERVE: &str = "--serve";
/// The option that makes such a processor take large tasks as lines.
const LINES: &str = "--lines";
const TICKET: Randomness = Randomness([3; 32]);
const SEED: Randomness = Randomness([5; 32]);

/// A sector in a directory of its own.
struct Sector {
    dir: PathBuf,
    number: u64,
    proof: SealProof,
}

/// The results of a sector's phases that later phases need.
struct Sealed {
    pieces: Vec<PieceInfo>,
    comm_r: Commitment,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let asked = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if asked(SERVE) {
        return serve(!asked(LINES));
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap();
    println!("{cores} cores, load before the start: {}", load.trim());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let has_parameters =
        std::env::var_os("FIL_PROOFS_PARAMETER_CACHE").is_some_and(|cache| has_parameters(Path::new(&cache)));
    let with_c2 = has_parameters && !asked("--no-c2");
    if !has_parameters {
        println!("without C2: there are no parameters for 2 KiB; `make params` makes them");
    }
    sectors(&runtime, SealProof::StackedDrg2KiBV1_1, cores, 15, false);
    if with_c2 {
        sectors(&runtime, SealProof::StackedDrg2KiBV1_1, cores, 1, true);
    }
    if asked("--8MiB") {
        sectors(&runtime, SealProof::StackedDrg8MiBV1_1, cores, 1, false);
    }
    runtime.block_on(protocol());
}

/// Seals eight sectors through the pool and without it, `rounds` times in turn.
fn sectors(runtime: &tokio::runtime::Runtime, proof: SealProof, cores: usize, rounds: usize, with_c2: bool) {
    let last = if with_c2 { "c2" } else { "c1" };
    println!("\n{SECTORS} sectors of {proof}, add_pieces to {last}, best of {rounds}:");
    let dir = tempfile::tempdir().unwrap();
    let pool = {
        let _within = runtime.enter();
        pool(dir.path(), cores)
    };
    // A warm-up for everything that happens once per process: starts, parent caches, loading parameters.
    seal_on_threads(&made(dir.path(), "warm-up-raw", proof, cores), cores, with_c2);
    runtime.block_on(seal_in_pool(&pool, made(dir.path(), "warm-up-pool", proof, 2 * cores), with_c2));

    let mut raw = vec![Duration::MAX; cores];
    let mut pooled = Duration::MAX;
    for round in 0..rounds {
        for threads in (1..=cores).filter(|threads| *threads == 1 || *threads == cores) {
            let sectors = made(dir.path(), &format!("raw-{round}-{threads}"), proof, SECTORS);
            let best = &mut raw[threads - 1];
            *best = (*best).min(timed(|| seal_on_threads(&sectors, threads, with_c2)));
        }
        let sectors = made(dir.path(), &format!("pool-{round}"), proof, SECTORS);
        pooled = pooled.min(timed(|| runtime.block_on(seal_in_pool(&pool, sectors, with_c2))));
    }
    for (index, best) in raw.iter().enumerate().filter(|(_, best)| **best < Duration::MAX) {
        println!("  the stages called in this process, {} thread(s): {:9.1} ms", index + 1, millis(*best));
    }
    let best = raw.into_iter().min().unwrap();
    println!("  through the pool: {:9.1} ms", millis(pooled));
    println!("  ratio: {:.3} (at most 1.05 wanted)", pooled.as_secs_f64() / best.as_secs_f64());
    let overhead = pooled.saturating_sub(best) / u32::try_from(SECTORS).unwrap();
    println!("  that is {:.2} ms a sector", millis(overhead));
}

/// Processors for all stages. No more of them work at the same time than there are cores.
fn pool(dir: &Path, cores: usize) -> ProcessorPool {
    let groups = Stage::SEALING.map(|stage| {
        let mut group = GroupConfig::built_in(stage, cores);
        group.bin = Some(env!("CARGO_BIN_EXE_sealbus-worker").into());
        group.args = vec!["processor".into(), stage.name().into()];
        group.env.insert("RUST_LOG".into(), "error".into());
        group.locks = vec!["core".into()];
        group
    });
    let rules = Rules { locks: [("core".to_owned(), cores)].into(), ..Rules::default() };
    let config = PoolConfig { groups: groups.into(), tmp_roots: vec![dir.join("tmp")] };
    ProcessorPool::with_rules(config, rules).unwrap()
}

fn seal_on_threads(sectors: &[Sector], threads: usize, with_c2: bool) {
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(sector) = sectors.get(next.fetch_add(1, Ordering::Relaxed)) {
            let pieces = sector.add_pieces().run().unwrap().pieces;
            sector.tree_d(&pieces).run().unwrap();
            sector.pc1(&pieces).run().unwrap();
            let comm_r = sector.pc2(&pieces).run().unwrap().comm_r;
            let sealed = Sealed { pieces, comm_r };
            sector.c1(&sealed).run().unwrap();
            if with_c2 {
                sector.c2().run().unwrap();
            }
        }
    };
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
}

/// Seals all sectors at the same time. The pool decides the order of the phases.
async fn seal_in_pool(pool: &ProcessorPool, sectors: Vec<Sector>, with_c2: bool) {
    let mut tasks = tokio::task::JoinSet::new();
    for sector in sectors {
        let pool = pool.clone();
        tasks.spawn(async move {
            let pieces = pool.run(&sector.add_pieces()).await.unwrap().pieces;
            pool.run(&sector.tree_d(&pieces)).await.unwrap();
            pool.run(&sector.pc1(&pieces)).await.unwrap();
            let comm_r = pool.run(&sector.pc2(&pieces)).await.unwrap().comm_r;
            let sealed = Sealed { pieces, comm_r };
            pool.run(&sector.c1(&sealed)).await.unwrap();
            if with_c2 {
                pool.run(&sector.c2()).await.unwrap();
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}

/// Measures the protocol, with this program as the processor.
async fn protocol() {
    let dir = tempfile::tempdir().unwrap();
    let own = std::env::current_exe().unwrap();
    let to_files = serving(&dir.path().join("files"), &own, &[SERVE]);
    let to_lines = serving(&dir.path().join("lines"), &own, &[SERVE, LINES]);
    ask(&to_files, Json::of(&json!({})).unwrap()).await.unwrap();

    let mut taken: Vec<Duration> = Vec::with_capacity(SMALL_TASKS);
    for number in 0..SMALL_TASKS {
        let began = Instant::now();
        ask(&to_files, Json::of(&json!({ "number": number })).unwrap()).await.unwrap();
        taken.push(began.elapsed());
    }
    taken.sort_unstable();
    println!("\na small task through the pool to a processor and back, {SMALL_TASKS} times:");
    let (median, late) = (taken[SMALL_TASKS / 2], taken[SMALL_TASKS * 99 / 100]);
    println!("  median {:.3} ms, 99 % within {:.3} ms (less than 1 ms wanted)", millis(median), millis(late));

    println!("\na task of {} MB, best of {LARGE_TIMES}:", LARGE_BYTES / 1_000_000);
    let built_in = serving(&dir.path().join("built-in"), env!("CARGO_BIN_EXE_sealbus-worker"), &["processor", "c2"]);
    let text = "x".repeat(LARGE_BYTES);
    let value = json!({ "text": text });
    let [mut made, mut by_file, mut by_line, mut refused, mut copied, mut piped] = [Duration::MAX; 6];
    for _ in 0..LARGE_TIMES {
        let mut task = None;
        made = made.min(timed(|| task = Some(Json::of(&value).unwrap())));
        let task = task.unwrap();
        for (pool, best) in [(&to_files, &mut by_file), (&to_lines, &mut by_line), (&built_in, &mut refused)] {
            let task = task.clone();
            let began = Instant::now();
            match ask(pool, task).await {
                Ok(output) => assert_eq!(output["bytes"], LARGE_BYTES),
                Err(error) => assert_eq!(error.code().as_str(), "REQUEST_INVALID", "{error}"),
            }
            *best = (*best).min(began.elapsed());
        }
        copied = copied.min(timed(|| copy(dir.path(), text.as_bytes())));
        piped = piped.min(timed(|| pipe(text.as_bytes())));
    }
    let tell = |what: &str, time: Duration| {
        println!("  {what:44} {:7.1} ms, ratio {:.2}", millis(time), time.as_secs_f64() / copied.as_secs_f64());
    };
    tell("copied into a file and read back", copied);
    tell("as a file to a processor (at most 2 wanted)", by_file);
    tell("  and with its JSON made first", by_file + made);
    tell("as a file to the built-in C2, which refuses it", refused);
    tell("as a line to a processor", by_line);
    tell("copied through a pipe to `cat >/dev/null`", piped);
}

/// A pool with one processor.
fn serving(dir: &Path, bin: impl Into<PathBuf>, args: &[&str]) -> ProcessorPool {
    std::fs::create_dir_all(dir).unwrap();
    let mut group = GroupConfig::built_in(Stage::C2, 1);
    group.bin = Some(bin.into());
    group.args = args.iter().map(|arg| (*arg).to_owned()).collect();
    ProcessorPool::new(PoolConfig { groups: vec![group], tmp_roots: vec![dir.join("tmp")] }).unwrap()
}

async fn ask(pool: &ProcessorPool, task: Json) -> Result<Value, ProcessError> {
    pool.acquire(Stage::C2).await.unwrap().run_json(task).await
}

/// A processor that answers with the length of its task's text in bytes.
fn serve(with_files: bool) {
    #[derive(Deserialize)]
    struct Request<'a> {
        id: u64,
        #[serde(borrow)]
        task: Option<Task<'a>>,
        task_file: Option<PathBuf>,
    }
    #[derive(Deserialize)]
    struct Task<'a> {
        #[serde(borrow, default)]
        text: Cow<'a, str>,
    }
    let mut answers = std::io::stdout().lock();
    let features: &[&str] = if with_files { &["files"] } else { &[] };
    let hello = json!({ "sealbus_processor": 2, "stage": "c2", "pid": std::process::id(), "features": features });
    writeln!(answers, "{hello}").and_then(|()| answers.flush()).unwrap();
    let mut requests = BufReader::with_capacity(1 << 20, std::io::stdin().lock());
    let mut line = Vec::new();
    while requests.read_until(b'\n', &mut line).unwrap() > 0 {
        let Request { id, task, task_file } = serde_json::from_slice(&line).unwrap();
        let file = task_file.map(|path| std::fs::read(path).unwrap());
        let task = file.as_deref().map(|json| serde_json::from_slice::<Task>(json).unwrap()).or(task);
        let answer = json!({ "id": id, "output": { "bytes": task.unwrap().text.len() } });
        writeln!(answers, "{answer}").and_then(|()| answers.flush()).unwrap();
        line = Vec::new();
    }
}

fn pipe(bytes: &[u8]) {
    let mut cat = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    cat.stdin.take().unwrap().write_all(bytes).unwrap();
    assert!(cat.wait().unwrap().success());
}

fn copy(dir: &Path, bytes: &[u8]) {
    let path = dir.join("copy");
    std::fs::write(&path, bytes).unwrap();
    assert_eq!(std::fs::read(&path).unwrap().len(), bytes.len());
    std::fs::remove_file(&path).unwrap();
}

fn made(dir: &Path, name: &str, proof: SealProof, count: usize) -> Vec<Sector> {
    let sector = |number: usize| {
        let dir = dir.join(name).join(number.to_string());
        std::fs::create_dir_all(&dir).unwrap();
        Sector { dir, number: number as u64, proof }
    };
    (0..count).map(sector).collect()
}

impl Sector {
    fn id(&self) -> SectorId {
        SectorId { miner: MinerId(1000), number: SectorNumber(self.number) }
    }

    fn add_pieces(&self) -> add_pieces::Request {
        add_pieces::Request::committed_capacity(self.dir.clone(), self.proof)
    }

    fn tree_d(&self, pieces: &[PieceInfo]) -> tree_d::Request {
        tree_d::Request {
            work_dir: self.dir.clone(),
            proof: self.proof,
            pieces: pieces.to_vec(),
            static_dirs: Vec::new(),
        }
    }

    fn pc1(&self, pieces: &[PieceInfo]) -> pc1::Request {
        let (work_dir, pieces) = (self.dir.clone(), pieces.to_vec());
        pc1::Request { work_dir, proof: self.proof, sector: self.id(), ticket: TICKET, pieces }
    }

    fn pc2(&self, pieces: &[PieceInfo]) -> pc2::Request {
        let (work_dir, pieces) = (self.dir.clone(), pieces.to_vec());
        pc2::Request { work_dir, proof: self.proof, sector: self.id(), ticket: TICKET, pieces }
    }

    fn c1(&self, sealed: &Sealed) -> c1::Request {
        let (work_dir, proof, sector) = (self.dir.clone(), self.proof, self.id());
        let Sealed { pieces, comm_r } = sealed;
        c1::Request { work_dir, proof, sector, ticket: TICKET, seed: SEED, comm_r: *comm_r, pieces: pieces.clone() }
    }

    fn c2(&self) -> c2::Request {
        let (work_dir, proof, sector) = (self.dir.clone(), self.proof, self.id());
        c2::Request { work_dir, proof, sector, ticket: TICKET, seed: SEED }
    }
}

/// Whether the large parameter file for PoRep of 2 KiB exists: no other file of that size has this length.
fn has_parameters(cache: &Path) -> bool {
    let files = std::fs::read_dir(cache).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).any(|file| file.len() == 1_114_707_768)
}

fn timed(work: impl FnOnce()) -> Duration {
    let began = Instant::now();
    work();
    began.elapsed()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
