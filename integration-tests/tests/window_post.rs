//! Window PoSt against the devnet, which makes sectors faulty that nobody proves. The driver, the proving loop and the
//! database are the manager's own; the workers that read and prove are played here, so that each kind of trouble comes at
//! a stated moment. Only the chain's time passes.

#[path = "sending/world.rs"]
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::stream::BoxStream;
use sealbus_integration_tests::{
    devnet::{
        Config as ChainConfig,
        faults::{Fault, Reverted},
    },
    scripted::{verifier::Scripted, yields},
};
use sealbus_manager::{
    chain::{NodeClient, RpcClient},
    drive::Driver,
    proofs::Verifier,
    proving::{
        Error, Memory, Proving,
        proof::{PartitionProof, ProofState},
        tasks::Tasks,
    },
    store::Store,
    wake::Wake,
};
use sealbus_nats::post::{PostQueue, PostSaid};
use sealbus_schema::{
    ErrorClass, ErrorCode, ErrorReport, MinerId, ProofBytes, SectorNumber, WorkerName,
    post::{PostJob, PostReport, PostTask, ProveTask, ReadTask, SectorRead},
};
use world::World;

/// Four deadlines of this many epochs are a proving period.
const WINDOW: i64 = 20;
const PERIOD: i64 = 4 * WINDOW;

/// The bus, and the workers at it.
#[derive(Default)]
struct Workers {
    queue: Mutex<Vec<PostTask>>,
    queues: Mutex<BTreeSet<PostQueue>>,
    play: Mutex<Play>,
}

/// How the workers behave.
#[derive(Default)]
struct Play {
    /// Sectors that cannot be read, with the class of the error.
    unreadable: BTreeMap<u64, ErrorClass>,
    /// Sectors whose reads never end.
    hanging: BTreeSet<u64>,
    /// Nobody reads, or nobody proves.
    readers_away: bool,
    provers_away: bool,
    /// The next proof is wrong.
    lies: u32,
    /// The next SNARK is lost with its worker.
    loses: u32,
}

impl Tasks for Workers {
    async fn ensure(&self, queue: &PostQueue) -> Result<(), Error> {
        lock(&self.queues).insert(queue.clone());
        Ok(())
    }

    async fn offer(&self, task: &PostTask) -> Result<(), Error> {
        let mut queue = lock(&self.queue);
        if !queue.contains(task) {
            queue.push(task.clone());
        }
        Ok(())
    }

    async fn withdraw(&self, miner: MinerId, job: &PostJob) -> Result<(), Error> {
        lock(&self.queue).retain(|task| task.of().is_none_or(|of| of.miner != miner || of.job != *job));
        Ok(())
    }

    async fn reports(&self) -> Result<BoxStream<'static, Result<PostSaid, Error>>, Error> {
        unreachable!("reports are handed over")
    }
}

impl Workers {
    fn play(&self) -> MutexGuard<'_, Play> {
        lock(&self.play)
    }

    /// Carries out what is in the queue, and says what became of it. What nobody takes stays there.
    fn work(&self) -> Vec<PostSaid> {
        let tasks = std::mem::take(&mut *lock(&self.queue));
        let (mut said, mut left) = (Vec::new(), Vec::new());
        for task in tasks {
            match self.carry_out(&task) {
                Some(report) => {
                    let of = task.of().expect("of this version");
                    let worker: WorkerName = "w1".parse().expect("a name");
                    said.push(PostSaid { miner: of.miner, job: of.job.clone(), worker, report });
                }
                None => left.push(task),
            }
        }
        lock(&self.queue).extend(left);
        said
    }

    fn carry_out(&self, task: &PostTask) -> Option<PostReport> {
        let mut play = self.play();
        match task {
            PostTask::Read(task) if !play.readers_away => Some(read(&play, task)),
            PostTask::Prove(task) if !play.provers_away => {
                if play.loses > 0 {
                    play.loses -= 1;
                    return None;
                }
                let is_lie = play.lies > 0;
                play.lies = play.lies.saturating_sub(1);
                Some(prove(task, is_lie))
            }
            _ => None,
        }
    }
}

fn read(play: &Play, task: &ReadTask) -> PostReport {
    let sectors = task.sectors.iter().map(|sector| {
        let number = sector.number.0;
        let error = |class, code, text: &str| Some(ErrorReport::new(class, code, text));
        let error = match play.unreadable.get(&number) {
            Some(class) => error(*class, ErrorCode::FILES_UNPROVABLE, "the sealed file is not there"),
            None if play.hanging.contains(&number) => {
                error(ErrorClass::Temp, ErrorCode::STORE_UNAVAILABLE, "the store did not answer in time")
            }
            None => None,
        };
        SectorRead { number: sector.number, ms: 20, error }
    });
    PostReport::Read { piece: task.piece, sectors: sectors.collect() }
}

fn prove(task: &ProveTask, is_lie: bool) -> PostReport {
    let sectors: Vec<_> = task.sectors.iter().map(|(number, comm_r, _)| (*number, *comm_r)).collect();
    assert!(sectors.is_sorted_by_key(|(number, _)| *number));
    let mut proof = yields::post("window", task.of.miner, &task.of.randomness, &sectors);
    if is_lie {
        proof[0] ^= 1;
    }
    PostReport::Proved { attempt: task.attempt, proof: ProofBytes(proof), collect_ms: 1, prove_ms: 2 }
}

fn lock<V>(mutex: &Mutex<V>) -> MutexGuard<'_, V> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Active sectors, a manager and its workers.
struct Site {
    world: World,
    workers: Workers,
    config: sealbus_manager::config::Config,
    node: NodeClient<RpcClient>,
    driver: Driver<RpcClient>,
    memory: Memory,
    verifier: Arc<dyn Verifier>,
    changed: Wake,
}

impl Site {
    async fn new(sectors: u64) -> Site {
        Site::with_window(sectors, WINDOW).await
    }

    /// With deadlines of so many epochs.
    async fn with_window(sectors: u64, window_epochs: i64) -> Site {
        let chain = ChainConfig { proving: true, deadlines: 4, window_epochs, ..ChainConfig::default() };
        let world = World::with_chain(sectors, chain).await;
        let driver = world.driver("").await;
        let (config, node) = (world.config("", ""), NodeClient::new(world.client()));
        let (workers, verifier): (Workers, Arc<dyn Verifier>) = (Workers::default(), Arc::new(Scripted));
        let (memory, changed) = (Memory::default(), Wake::default());
        let mut site = Site { world, workers, config, node, driver, memory, verifier, changed };
        for _ in 0..300 {
            if site.world.in_state("proving").await.len() as u64 == sectors {
                return site;
            }
            site.world.work().await;
            site.pass(1).await;
        }
        panic!("not sealed\n{}", site.world.described().await);
    }

    /// Lets epochs pass. In each the manager looks, and the workers work.
    async fn pass(&mut self, epochs: i64) {
        for _ in 0..epochs {
            // What is asked in an epoch is answered in it, as on the main network.
            for _ in 0..3 {
                self.look().await;
                for said in self.workers.work() {
                    self.memory.hear(said);
                }
            }
            // While the node is away the driver reports that, and goes on later.
            let _ = self.world.try_tick(&self.driver).await;
            self.world.advance(1);
        }
    }

    async fn look(&mut self) {
        let proving = Proving {
            node: &self.node,
            store: &self.world.store,
            tasks: &self.workers,
            config: &self.config,
            epoch: self.world.epoch,
            epoch_millis: 30_000,
            verifier: &self.verifier,
            waits: self.driver.waits(),
            changed: &self.changed,
        };
        proving.look(&mut self.memory).await.expect("looks");
    }

    /// The manager ends, and another one begins with what is stored.
    async fn restart(&mut self) {
        self.driver = self.world.driver("").await;
        self.memory = Memory::default();
    }

    /// How many epochs the open deadline stays open.
    async fn left(&self) -> i64 {
        let head = self.node.chain_head().await.expect("a head");
        let miner = sealbus_manager::drive::address(MinerId(1000));
        let told = self.node.miner_proving_deadline(&miner, &head.key).await.expect("answers");
        told.close - head.height
    }

    /// Passes until a proof is in a state.
    async fn until(&mut self, state: ProofState) -> PartitionProof {
        for _ in 0..2 * PERIOD {
            if let Some(proof) = self.proofs().await.into_iter().find(|proof| proof.state == state) {
                return proof;
            }
            self.pass(1).await;
        }
        panic!("no proof is {state:?}\n{}", self.world.described().await);
    }

    /// A proof as it is stored now.
    async fn again(&self, proof: &PartitionProof) -> PartitionProof {
        self.proofs().await.into_iter().find(|other| other.id == proof.id).expect("it is stored")
    }

    fn store(&self) -> &Store {
        &self.world.store
    }

    async fn proofs(&self) -> Vec<PartitionProof> {
        self.store().last_proofs(None, 1000).await.expect("reads")
    }

    /// The sectors that ever became faulty because nobody proved them, and those that proofs left out.
    fn lost(&self) -> (BTreeSet<u64>, BTreeSet<u64>) {
        self.world.devnet.with_node(|node| {
            let miner = node.stats.miners.get(&1000).expect("the miner");
            assert!(miner.posts.iter().all(|(_, posted)| posted.is_right), "{:?}", miner.posts);
            let missed = miner.deadline_ends.iter().flat_map(|end| end.faulty.iter().chain(&end.not_recovered));
            let skipped = miner.posts.iter().flat_map(|(_, posted)| &posted.skipped);
            (missed.copied().collect(), skipped.copied().collect())
        })
    }

    /// The faulty sectors at the head.
    async fn faulty(&self) -> BTreeSet<u64> {
        let miner = sealbus_manager::drive::address(MinerId(1000));
        let head = self.node.chain_head().await.expect("a head");
        let mut faulty = BTreeSet::new();
        for deadline in 0..4 {
            for partition in self.node.miner_partitions(&miner, deadline, &head.key).await.expect("answers") {
                faulty.extend(partition.faulty_sectors.iter());
            }
        }
        faulty
    }

    fn posts(&self) -> usize {
        self.world.devnet.with_node(|node| node.stats.miners.get(&1000).map_or(0, |miner| miner.posts.len()))
    }
}

#[tokio::test]
async fn workers_can_wait_at_the_queues_before_there_is_work() {
    let mut site = Site::new(0).await;
    site.pass(1).await;
    assert!(lock(&site.workers.queues).contains(&PostQueue::Proves { miner: MinerId(1000) }));
}

#[tokio::test]
async fn for_five_proving_periods_each_sector_is_proven() {
    let mut site = Site::new(6).await;
    site.pass(5 * PERIOD).await;
    assert_eq!(site.lost(), Default::default());
    let proofs = site.proofs().await;
    let landed = proofs.iter().filter(|proof| proof.state == ProofState::Landed).count();
    assert!(landed >= 5 * 3, "{landed} proofs of 6 sectors, two a partition, in 5 periods");
    assert!(proofs.iter().all(|proof| proof.state != ProofState::Missed));
    let failed = site.world.failed();
    assert!(failed.is_empty(), "{failed:?}");
}

#[tokio::test]
async fn a_manager_that_restarts_in_every_epoch_proves_all_and_sends_each_proof_once() {
    let mut site = Site::new(4).await;
    let before = site.posts();
    for _ in 0..2 * PERIOD {
        site.pass(1).await;
        site.restart().await;
    }
    assert_eq!(site.lost(), Default::default());
    let sent = site.posts() - before;
    assert!((4..=6).contains(&sent), "{sent} messages for two partitions in two periods");
    assert!(site.world.failed().is_empty(), "none was refused as a second one");
}

#[tokio::test]
async fn a_sector_that_cannot_be_read_is_left_out_alone_and_recovers_when_it_can() {
    let mut site = Site::new(4).await;
    site.workers.play().unreadable.insert(2, ErrorClass::Perm);
    site.pass(PERIOD + WINDOW).await;
    let (missed, skipped) = site.lost();
    assert_eq!((missed, skipped), (BTreeSet::new(), BTreeSet::from([2])));
    assert_eq!(site.faulty().await, BTreeSet::from([2]));
    let proofs = site.proofs().await;
    let told = proofs.iter().flat_map(|proof| &proof.skipped).next().expect("it is named");
    assert_eq!(told.number, SectorNumber(2));
    assert!(told.cause.contains("the sealed file is not there"), "{told:?}");
    // As long as it cannot be read it is not declared as recovered.
    site.pass(PERIOD).await;
    assert_eq!(site.lost().0, BTreeSet::new());
    site.workers.play().unreadable.clear();
    site.pass(2 * PERIOD).await;
    assert_eq!(site.faulty().await, BTreeSet::new(), "{}", site.world.described().await);
    assert_eq!(site.lost().0, BTreeSet::new());
}

#[tokio::test]
async fn a_read_that_never_ends_costs_its_own_sector_alone() {
    let mut site = Site::new(4).await;
    site.workers.play().hanging.insert(3);
    site.pass(PERIOD + WINDOW).await;
    assert_eq!(site.lost(), (BTreeSet::new(), BTreeSet::from([3])));
    // It goes on at the cut, not at the close.
    let with_skips: Vec<_> = site.proofs().await.into_iter().filter(|proof| !proof.skipped.is_empty()).collect();
    assert!(!with_skips.is_empty());
    for proof in with_skips {
        let begun = proof.read_epoch.expect("was read");
        assert!(begun - proof.open <= WINDOW / 6 + 1, "begun {} epochs after the opening", begun - proof.open);
    }
}

#[tokio::test]
async fn provers_that_are_away_until_10_epochs_before_the_close_lose_nothing() {
    // The epochs of real networks.
    let mut site = Site::with_window(2, 60).await;
    for _ in 0..5 * 60 {
        let head = site.node.chain_head().await.expect("a head").height;
        let closes_soon = |proof: &PartitionProof| proof.state == ProofState::Making && proof.close - head <= 10;
        let is_late = site.proofs().await.iter().any(closes_soon);
        site.workers.play().provers_away = !is_late;
        site.pass(1).await;
    }
    assert_eq!(site.lost(), Default::default());
    let proofs = site.proofs().await;
    let landed: Vec<_> = proofs.iter().filter(|proof| proof.state == ProofState::Landed).collect();
    assert!(!landed.is_empty());
    for proof in landed {
        let left = proof.close - proof.proved_epoch.expect("proved");
        assert!(left <= 10, "proved {left} epochs before the close");
    }
}

#[tokio::test]
async fn a_store_that_is_away_as_a_whole_until_shortly_before_the_close_loses_nothing() {
    let mut site = Site::new(4).await;
    for _ in 0..PERIOD + WINDOW {
        let is_away = site.left().await > 8;
        site.workers.play().hanging = if is_away { (1..=4).collect() } else { BTreeSet::new() };
        site.pass(1).await;
    }
    assert_eq!(site.lost(), Default::default());
}

#[tokio::test]
async fn a_lost_prover_and_a_wrong_proof_cost_a_try() {
    let mut site = Site::new(2).await;
    for (lies, loses) in [(1, 0), (0, 3), (2, 2)] {
        (site.workers.play().lies, site.workers.play().loses) = (lies, loses);
        site.pass(PERIOD).await;
    }
    assert_eq!(site.lost(), Default::default());
}

#[tokio::test]
async fn a_missed_proof_is_told_and_its_sectors_recover() {
    let mut site = Site::new(2).await;
    site.workers.play().readers_away = true;
    site.pass(PERIOD + WINDOW).await;
    let (missed, _) = site.lost();
    assert!(!missed.is_empty());
    let proofs = site.proofs().await;
    let told = proofs.iter().find(|proof| proof.state == ProofState::Missed).expect("it is told");
    assert_eq!(told.problem.as_deref(), Some("no proof was made in time"));
    site.workers.play().readers_away = false;
    site.pass(3 * PERIOD).await;
    assert_eq!(site.faulty().await, BTreeSet::new());
}

#[tokio::test]
async fn a_node_that_is_away_from_the_challenge_to_the_opening_is_no_loss() {
    let mut site = Site::new(2).await;
    let head = site.node.chain_head().await.expect("a head");
    let miner = sealbus_manager::drive::address(MinerId(1000));
    let start = site.node.miner_proving_deadline(&miner, &head.key).await.expect("answers").open;
    for _ in 0..PERIOD + WINDOW {
        // From some epochs before the close of one deadline, when the next one is challenged, to its opening.
        let height = site.world.devnet.with_node(|node| node.chain.head().height());
        site.world.fault(Fault::Away { on: (height - start).rem_euclid(WINDOW) > WINDOW - 8 });
        site.pass(1).await;
    }
    site.world.fault(Fault::Away { on: false });
    site.pass(2).await;
    assert_eq!(site.lost(), Default::default());
}

#[tokio::test]
async fn a_manager_that_dies_between_proof_and_message_sends_the_stored_proof() {
    let mut site = Site::new(2).await;
    let made = site.until(ProofState::Proved).await;
    let before = site.posts();
    site.restart().await;
    // Nobody could make it again.
    (site.workers.play().readers_away, site.workers.play().provers_away) = (true, true);
    while site.again(&made).await.state.is_open() {
        site.pass(1).await;
    }
    let landed = site.again(&made).await;
    assert_eq!((landed.state, &landed.proof), (ProofState::Landed, &made.proof));
    assert_eq!(site.posts(), before + 1);
    assert!(site.world.failed().is_empty());
}

#[tokio::test]
async fn commit_randomness_that_is_reorganised_needs_another_message_and_no_other_proof() {
    let mut site = Site::new(2).await;
    let made = site.until(ProofState::Asked).await;
    let first = made.errand.expect("asked for");
    let named = |errand: &sealbus_manager::store::Errand| errand.asked.detail["commit_rand"].clone();
    let before = named(&site.store().errand(first).await.expect("reads").expect("is there"));
    site.world.devnet.with_node(|node| {
        let depth = node.chain.head().height() - made.challenge + 1;
        node.reorganise(depth as u64, Reverted::Lost).expect("forks");
    });
    // The proof itself stays as it is.
    (site.workers.play().readers_away, site.workers.play().provers_away) = (true, true);
    while site.again(&made).await.state.is_open() {
        site.pass(1).await;
    }
    let landed = site.again(&made).await;
    assert_eq!((landed.state, &landed.proof), (ProofState::Landed, &made.proof));
    let second = landed.errand.expect("asked for");
    assert_ne!(first, second);
    assert_ne!(before, named(&site.store().errand(second).await.expect("reads").expect("is there")));
    assert_eq!(site.lost(), Default::default());
}

#[tokio::test]
async fn a_base_fee_spike_at_the_opening_is_paid_for() {
    let mut site = Site::new(2).await;
    site.world.fault(Fault::BaseFeeSpike { times: 50, epochs: (PERIOD + WINDOW) as u32 });
    site.pass(PERIOD + WINDOW).await;
    assert_eq!(site.lost(), Default::default());
}
