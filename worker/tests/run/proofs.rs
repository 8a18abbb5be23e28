//! Proofs of spacetime: real sectors, real SNARKs, and trouble of each kind.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use filecoin_proofs_api::{PublicReplicaInfo, RegisteredPoStProof, post as library};
use futures::{StreamExt, stream::BoxStream};
use sealbus_nats::{
    lease::ReadError,
    post::{PostQueue, PostSaid},
    topology::POST_ACK_WAIT,
};
use sealbus_schema::{
    Commitment, ErrorClass, ErrorCode, ErrorReport, ProofBytes, Randomness, SectorNumber, WorkerName,
    identity::{self, STORE_FILE, StoreIdentity},
    post::{PostKind, PostReport, PostSubject, PostTask, ProveTask, ReadTask, SectorRead, SectorToRead, Vanilla},
};
use sealbus_worker::stage::sector::{api_number, prover_id};

use crate::{
    sealed::sector,
    support::{Bench, MINER, Manager, PROOF, Server, Worker, eventually},
};

pub const RANDOMNESS: Randomness = Randomness([5; 32]);
const WINDOW: RegisteredPoStProof = RegisteredPoStProof::StackedDrgWindow2KiBV1_2;
const WINNING: RegisteredPoStProof = RegisteredPoStProof::StackedDrgWinning2KiBV1;

/// The manager's part in proofs.
pub struct Prover {
    pub manager: Manager,
    reports: BoxStream<'static, Result<PostSaid, ReadError>>,
    /// Whether sectors are read on trial.
    is_trial: bool,
}

fn w(name: &str) -> WorkerName {
    name.parse().expect("name")
}

pub fn of(job: &str, post: PostKind, randomness: Randomness) -> PostSubject {
    PostSubject { miner: MINER, job: job.parse().expect("a name"), post, proof: PROOF, randomness }
}

pub fn window(job: &str) -> PostSubject {
    of(job, PostKind::Window, RANDOMNESS)
}

/// A bench whose machine reads and proves.
pub fn bench(server: &Server) -> Bench {
    let mut bench = Bench::new(server.url(), 1);
    bench.more = "[proving]\nprove = true\ntrial = false\nreaders = 2\nwin = true\n".to_owned();
    bench
}

impl Prover {
    pub async fn connect(url: &str) -> Prover {
        let manager = Manager::connect(url).await;
        for queue in [
            PostQueue::Reads { miner: MINER, store: "main".to_owned() },
            PostQueue::Proves { miner: MINER },
            PostQueue::WinningReads { miner: MINER, store: "main".to_owned() },
            PostQueue::WinningProves { miner: MINER },
        ] {
            manager.bus.ensure_post_queue(&queue, POST_ACK_WAIT).await.expect("queue");
        }
        let reports = manager.bus.post_reports().await.expect("reports");
        Prover { manager, reports, is_trial: false }
    }

    pub async fn said(&mut self) -> PostSaid {
        let said = tokio::time::timeout(Duration::from_secs(300), self.reports.next()).await;
        said.expect("in time").expect("a report").expect("reads")
    }

    /// Offers a task, as soon as an earlier one of the same name is out of the queue.
    async fn offer(&self, task: PostTask) {
        eventually("room for a task", async || self.manager.bus.offer_post(&task).await.expect("offers")).await;
    }

    pub async fn offer_read(
        &self,
        of: &PostSubject,
        sectors: &[(u64, Commitment)],
        store_id: Option<&str>,
        limit_ms: u64,
    ) {
        let sectors = sectors.iter().map(|&(number, comm_r)| SectorToRead { number: SectorNumber(number), comm_r });
        let task = ReadTask {
            of: of.clone(),
            piece: 0,
            store: "main".to_owned(),
            store_id: store_id.map(str::to_owned),
            sectors: sectors.collect(),
            sector_limit_ms: limit_ms,
            limit_ms: 120_000,
            is_trial: self.is_trial,
        };
        self.offer(PostTask::Read(task)).await;
    }

    pub async fn read(
        &mut self,
        of: &PostSubject,
        sectors: &[(u64, Commitment)],
        store_id: Option<&str>,
        limit_ms: u64,
    ) -> Vec<SectorRead> {
        self.offer_read(of, sectors, store_id, limit_ms).await;
        match self.said().await.report {
            PostReport::Read { sectors, .. } => sectors,
            other => panic!("{other:?}"),
        }
    }

    pub async fn offer_prove(&self, of: &PostSubject, sectors: &[(u64, Commitment)], failed_at: Vec<WorkerName>) {
        self.offer_attempt(of, sectors, 0, failed_at).await;
    }

    pub async fn offer_attempt(
        &self,
        of: &PostSubject,
        sectors: &[(u64, Commitment)],
        attempt: u32,
        failed_at: Vec<WorkerName>,
    ) {
        let task = ProveTask {
            of: of.clone(),
            attempt,
            readers: vec![w("w1")],
            sectors: sectors.iter().map(|&(number, comm_r)| (SectorNumber(number), comm_r, 0)).collect(),
            limit_ms: 300_000,
            failed_at,
        };
        self.offer(PostTask::Prove(task)).await;
    }

    pub async fn prove(&mut self, of: &PostSubject, sectors: &[(u64, Commitment)]) -> PostReport {
        self.offer_prove(of, sectors, Vec::new()).await;
        self.said().await.report
    }
}

pub fn proof(report: &PostReport) -> &ProofBytes {
    match report {
        PostReport::Proved { proof, .. } => proof,
        other => panic!("{other:?}"),
    }
}

/// Whether the chain would take a proof.
pub fn verifies(of: &PostSubject, sectors: &[(u64, Commitment)], proof: &ProofBytes) -> bool {
    let kind = match of.post {
        PostKind::Window => WINDOW,
        _ => WINNING,
    };
    let replica = |&(number, comm_r): &(u64, Commitment)| {
        (api_number(SectorNumber(number)), PublicReplicaInfo::new(kind, comm_r.0))
    };
    let replicas: BTreeMap<_, _> = sectors.iter().map(replica).collect();
    let (randomness, prover) = (&of.randomness.0, prover_id(MINER));
    match of.post {
        PostKind::Window => library::verify_window_post(randomness, &[(kind, &proof.0[..])], &replicas, prover),
        _ => library::verify_winning_post(randomness, &proof.0, &replicas, prover),
    }
    .expect("verifies")
}

pub fn all_read(read: &[SectorRead]) -> bool {
    read.iter().all(|sector| sector.error.is_none())
}

fn error_of(read: &[SectorRead], number: u64) -> &ErrorReport {
    let of = read.iter().find(|sector| sector.number.0 == number).expect("it was tried");
    of.error.as_ref().unwrap_or_else(|| panic!("sector {number} could be read"))
}

fn flip_a_bit(path: &Path, byte: usize) {
    let mut bytes = fs::read(path).expect("reads");
    bytes[byte] ^= 1;
    fs::write(path, bytes).expect("writes");
}

/// In the place of a file: opening it waits for ever.
pub fn make_pipe(path: &Path) {
    let mode = rustix::fs::Mode::RWXU;
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).expect("a pipe");
}

/// The bench's prover, once it has opened the parameters of a proof.
fn proving(bench: &Bench) -> Option<rustix::process::Pid> {
    let (dir, of) = (bench.path("slot0").display().to_string(), |pid: i32, file: &str| {
        String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default()).into_owned()
    });
    let pids =
        fs::read_dir("/proc").expect("lists").filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let is_it = |pid: &i32| {
        of(*pid, "cmdline").contains("post_prove")
            && of(*pid, "environ").contains(&dir)
            && of(*pid, "maps").contains(".params")
    };
    pids.into_iter().find(is_it).and_then(rustix::process::Pid::from_raw)
}

/// Gives the bench a parameter directory of its own, with links to the files of the common one.
fn own_parameters(bench: &mut Bench) -> PathBuf {
    let common = PathBuf::from(std::env::var_os("FIL_PROOFS_PARAMETER_CACHE").expect("names the parameters"));
    let own = bench.path("params");
    fs::create_dir(&own).expect("directory");
    for entry in fs::read_dir(&common).expect("lists") {
        let path = entry.expect("entry").path();
        std::os::unix::fs::symlink(&path, own.join(path.file_name().expect("name"))).expect("links");
    }
    bench.more += "[[processor]]\nstage = \"post_prove\"\nenv = { FIL_PROOFS_PARAMETER_CACHE = ";
    bench.more += &format!("{own:?} }}\n");
    own
}

fn identify(store: &Path, id: &str) {
    let store_identity = StoreIdentity {
        id: id.to_owned(),
        name: "main".to_owned(),
        network: String::new(),
        miners: Vec::new(),
        made_at: String::new(),
    };
    fs::write(store.join(STORE_FILE), identity::render(&store_identity).expect("renders")).expect("writes");
}

#[tokio::test]
async fn sectors_are_read_and_proven_for_a_window_and_for_a_block_and_who_spoils_a_proof_is_named() {
    let server = Server::start();
    let mut prover = Prover::connect(&server.url()).await;
    let bench = bench(&server);
    let comm_r = bench.seal();
    bench.copy_to(7);
    let _worker = bench.start();

    let (job, sectors) = (window("w-2880-7-0"), [(1, comm_r), (7, comm_r)]);
    assert!(all_read(&prover.read(&job, &sectors, None, 60_000).await));
    let report = prover.prove(&job, &sectors).await;
    assert!(verifies(&job, &sectors, proof(&report)));
    assert_eq!(proof(&report).0.len(), 192);

    let job = of("b-1", PostKind::Winning, RANDOMNESS);
    assert!(all_read(&prover.read(&job, &sectors[..1], None, 60_000).await));
    let report = prover.prove(&job, &sectors[..1]).await;
    assert!(verifies(&job, &sectors[..1], proof(&report)));

    // Sector 7's proof is of another randomness; sector 9 has none.
    let job = window("w-2880-8-0");
    let bus = &prover.manager.bus;
    let found = bus.vanillas(MINER, &window("w-2880-7-0").job, &[(SectorNumber(7), w("w1"))]).await.expect("reads");
    let other = Vanilla { randomness: Randomness([6; 32]), ..found[&SectorNumber(7)].clone() };
    for (number, vanilla) in [(1, &found[&SectorNumber(7)]), (7, &other)] {
        bus.publish_vanilla((MINER, &job.job, SectorNumber(number)), &w("w1"), vanilla).await.expect("publishes");
    }
    let spoilt = |report: PostReport| match report {
        PostReport::NotProved { error, culprits, .. } => {
            assert_eq!(error.host, "bench");
            (error.code, culprits.into_iter().map(|number| number.0).collect::<Vec<_>>())
        }
        other => panic!("{other:?}"),
    };
    let report = prover.prove(&job, &[(1, comm_r), (7, comm_r), (9, comm_r)]).await;
    assert_eq!(spoilt(report), (ErrorCode::INPUT_MISMATCH, vec![9, 7]));
    // What is on the bus as sector 1's says that it is for this. It is sector 7's.
    let report = prover.prove(&job, &[(1, comm_r)]).await;
    assert_eq!(spoilt(report), (ErrorCode::INPUT_MISMATCH, vec![1]));
    // The right sector, but the answers to other challenges.
    let job = of("w-2880-9-0", PostKind::Window, Randomness([6; 32]));
    let bus = &prover.manager.bus;
    bus.publish_vanilla((MINER, &job.job, SectorNumber(7)), &w("w1"), &other).await.expect("publishes");
    let report = prover.prove(&job, &[(7, comm_r)]).await;
    assert_eq!(spoilt(report), (ErrorCode::INPUT_MISMATCH, vec![7]));
}

#[tokio::test]
async fn each_sector_that_cannot_be_read_is_named_with_its_cause_and_costs_only_itself() {
    let server = Server::start();
    let mut prover = Prover::connect(&server.url()).await;
    let bench = bench(&server);
    let comm_r = bench.seal();
    (2..=8).for_each(|number| bench.copy_to(number));
    let sealed = |number: u64| bench.path("store/sealed").join(sector(number).file_name());
    let cache = |number: u64| bench.path("store/cache").join(sector(number).file_name());
    fs::remove_file(sealed(2)).expect("removes");
    fs::remove_file(cache(3).join("p_aux")).expect("removes");
    flip_a_bit(&cache(4).join("sc-02-data-tree-r-last.dat"), 0);
    let five = api_number(SectorNumber(5));
    let challenges = library::generate_fallback_sector_challenges(WINDOW, &RANDOMNESS.0, &[five], prover_id(MINER));
    let challenged = challenges.expect("challenges")[&five][0] as usize;
    flip_a_bit(&sealed(5), 32 * challenged);
    // As if the sector had been another one before: the roots belong together, but not to the CommR on chain.
    flip_a_bit(&cache(6).join("p_aux"), 0);
    fs::remove_file(sealed(7)).expect("removes");
    make_pipe(&sealed(7));
    let _worker = bench.start();

    let sectors: Vec<_> = [7, 1, 2, 3, 4, 5, 6, 8].into_iter().map(|number| (number, comm_r)).collect();
    let read = prover.read(&window("w-1"), &sectors, None, 8_000).await;
    assert_eq!(read.iter().map(|sector| sector.number.0).collect::<Vec<_>>(), [7, 1, 2, 3, 4, 5, 6, 8]);
    for whole in [1, 8] {
        assert_eq!(read.iter().find(|sector| sector.number.0 == whole).expect("tried").error, None);
    }
    for number in 2..=6 {
        let error = error_of(&read, number);
        let (class, code) = (error.class, error.code.clone());
        assert_eq!((class, code), (ErrorClass::Perm, ErrorCode::FILES_UNPROVABLE), "{error:?}");
        let name = sector(number).file_name();
        assert!(error.message().contains(&name) && error.host == "bench" && error.stderr_tail.is_empty(), "{error:?}");
    }
    assert!(error_of(&read, 6).message().contains("on chain is"), "{read:?}");
    let hung = error_of(&read, 7);
    assert_eq!((hung.class, hung.code.clone()), (ErrorClass::Temp, ErrorCode::IO_TIMED_OUT));
    assert!(hung.message().contains("s-t01000-7") && hung.message().contains("killed"), "{hung:?}");
    let asked = [1, 2, 8].map(|number| (SectorNumber(number), w("w1")));
    let found = prover.manager.bus.vanillas(MINER, &window("w-1").job, &asked).await.expect("reads");
    assert_eq!(found.into_keys().map(|number| number.0).collect::<Vec<_>>(), [1, 8]);

    // Both readers serve again, and what is on the bus is not read again.
    fs::remove_file(sealed(8)).expect("removes");
    fs::remove_file(sealed(7)).expect("removes");
    fs::copy(sealed(1), sealed(7)).expect("copies");
    assert!(all_read(&prover.read(&window("w-1"), &[(7, comm_r), (8, comm_r)], None, 60_000).await));
    assert!(!all_read(&prover.read(&window("w-2"), &[(8, comm_r)], None, 60_000).await));

    // On trial it is told what cannot be read, and nothing is put on the bus.
    prover.is_trial = true;
    let read = prover.read(&window("a-1"), &[(1, comm_r), (2, comm_r)], None, 60_000).await;
    assert_eq!(read.iter().map(|sector| sector.error.is_none()).collect::<Vec<_>>(), [true, false]);
    let asked = [(SectorNumber(1), w("w1"))];
    let found = prover.manager.bus.vanillas(MINER, &window("a-1").job, &asked).await.expect("reads");
    assert!(found.is_empty());
    prover.is_trial = false;

    // Another store in its place: nothing is said about its sectors' files.
    let job = window("w-3");
    identify(&bench.path("store"), "b");
    let read = prover.read(&job, &[(1, comm_r), (2, comm_r)], Some("a"), 60_000).await;
    for number in [1, 2] {
        let error = error_of(&read, number);
        assert_eq!((error.class, error.code.clone()), (ErrorClass::Temp, ErrorCode::STORE_UNAVAILABLE));
        assert!(error.message().contains("--replace"), "{error:?}");
    }
    identify(&bench.path("store"), "a");
    assert!(all_read(&prover.read(&job, &[(1, comm_r)], Some("a"), 60_000).await));
}

#[tokio::test]
async fn a_prover_that_is_killed_at_work_is_replaced_and_one_that_has_failed_leaves_the_task_to_others() {
    let server = Server::start();
    let mut prover = Prover::connect(&server.url()).await;
    let bench = bench(&server);
    let comm_r = bench.seal();
    let worker = bench.start();
    let (job, sectors) = (window("w-1"), [(1, comm_r)]);
    assert!(all_read(&prover.read(&job, &sectors, None, 60_000).await));
    prover.offer_prove(&job, &sectors, Vec::new()).await;
    let pid = eventually("a prover at work", async || proving(&bench)).await;
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kills");
    let said = prover.said().await;
    assert!(verifies(&job, &sectors, proof(&said.report)));

    // w1 is told that it has failed, and w2 is there.
    let second = Bench::new(server.url(), 1);
    let config = second.config().replace("name = \"w1\"", "name = \"w2\"");
    let config = config.replace("path = \"store\"", &format!("path = {:?}", bench.path("store")));
    let config = second.write_config(&format!("{config}[proving]\nread = false\nprove = true\ntrial = false\n"));
    let _other = Worker::start(&config, &second.path("worker.log"));
    eventually("the other worker", async || {
        let seen = prover.manager.bus.workers().await.unwrap_or_default();
        seen.iter().any(|seen| seen.heartbeat.worker == w("w2")).then_some(())
    })
    .await;
    let job = window("w-2");
    assert!(all_read(&prover.read(&job, &sectors, None, 60_000).await));
    prover.offer_prove(&job, &sectors, vec![w("w1")]).await;
    let said = prover.said().await;
    assert_eq!(said.worker, w("w2"));
    assert!(verifies(&job, &sectors, proof(&said.report)));

    // If nobody else is there, whoever has failed tries again.
    drop(worker);
    prover.offer_prove(&job, &sectors, vec![w("w2")]).await;
    let said = prover.said().await;
    assert_eq!(said.worker, w("w2"));
    proof(&said.report);
}

#[tokio::test]
async fn a_wrong_verifying_key_is_told_before_the_first_task_and_a_made_up_sector_is_proven_when_it_is_mended() {
    let server = Server::start();
    let mut prover = Prover::connect(&server.url()).await;
    let mut bench = bench(&server);
    bench.more = bench.more.replace("trial = false\n", "");
    let comm_r = bench.seal();
    let key = WINDOW.cache_verifying_key_path().expect("named");
    let key = own_parameters(&mut bench).join(key.file_name().expect("name"));
    let whole = fs::read(&key).expect("reads");
    fs::remove_file(&key).expect("removes");
    fs::write(&key, &whole).expect("writes");
    flip_a_bit(&key, whole.len() - 1);
    let _worker = bench.start();
    let (job, sectors) = (window("w-1"), [(1, comm_r)]);
    assert!(all_read(&prover.read(&job, &sectors, None, 60_000).await));
    prover.offer_prove(&job, &sectors, Vec::new()).await;
    let name = key.file_name().expect("name").to_string_lossy().into_owned();
    eventually("the word of it", async || {
        let log = bench.log();
        log.lines().any(|line| line.contains("cannot prove") && line.contains(&name)).then_some(())
    })
    .await;
    fs::write(&key, &whole).expect("writes");
    let report = prover.said().await.report;
    assert!(verifies(&job, &sectors, proof(&report)));
    assert!(bench.log().contains("this machine can prove"));
}

#[tokio::test]
async fn what_a_killed_worker_was_reading_is_read_by_another() {
    let server = Server::start();
    let mut prover = Prover::connect(&server.url()).await;
    let bench = bench(&server);
    let comm_r = bench.seal();
    let sealed = bench.path("store/sealed/s-t01000-1");
    let aside = bench.path("aside");
    fs::rename(&sealed, &aside).expect("renames");
    make_pipe(&sealed);
    let worker = bench.start();
    prover.offer_read(&window("w-1"), &[(1, comm_r)], None, 100_000).await;
    prover
        .manager
        .heartbeat_with("a reader at work", |seen| {
            seen.processors.iter().any(|one| one.stage == "post_read" && one.busy)
        })
        .await;
    worker.kill();
    fs::rename(&aside, &sealed).expect("renames");
    let _worker = bench.start();
    let said = prover.said().await;
    assert!(matches!(&said.report, PostReport::Read { sectors, .. } if sectors.len() == 1 && all_read(sectors)));
}

#[tokio::test]
async fn a_store_that_goes_away_in_mid_read_is_blamed_and_its_sectors_are_not() {
    let server = Server::start();
    let mut prover = Prover::connect(&server.url()).await;
    let bench = bench(&server);
    let comm_r = bench.seal();
    let (store, away) = (bench.path("store"), bench.path("away"));
    identify(&store, "a");
    // The read goes on for as long as nobody writes into the pipe.
    let (sealed, aside) = ("sealed/s-t01000-1", bench.path("aside"));
    fs::rename(store.join(sealed), &aside).expect("renames");
    make_pipe(&store.join(sealed));
    let _worker = bench.start();
    prover.offer_read(&window("w-1"), &[(1, comm_r)], Some("a"), 100_000).await;
    prover
        .manager
        .heartbeat_with("a reader at work", |seen| {
            seen.processors.iter().any(|one| one.stage == "post_read" && one.busy)
        })
        .await;
    // It waits until the reader has opened the pipe.
    let pipe = fs::File::options().write(true).open(store.join(sealed)).expect("opens");
    fs::rename(&store, &away).expect("renames");
    drop(pipe);
    let read = match prover.said().await.report {
        PostReport::Read { sectors, .. } => sectors,
        other => panic!("{other:?}"),
    };
    let error = error_of(&read, 1);
    assert_eq!((error.class, error.code.clone()), (ErrorClass::Temp, ErrorCode::STORE_UNAVAILABLE), "{error:?}");

    fs::remove_file(away.join(sealed)).expect("removes");
    fs::rename(&aside, away.join(sealed)).expect("renames");
    fs::rename(&away, &store).expect("renames");
    assert!(all_read(&prover.read(&window("w-1"), &[(1, comm_r)], Some("a"), 60_000).await));
}
