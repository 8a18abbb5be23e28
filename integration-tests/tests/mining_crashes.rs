//! The manager dies at each call to the node, at each task for workers and at each write to its database while it makes
//! blocks. Another one takes over. Whatever was made by then, no epoch gets two blocks, and mining goes on.
//!
//! The points are found and tried as in `sending_crashes.rs`. The mining loop, the database and the devnet with its
//! elections are the real ones; the workers that read and prove are played here. Only the chain's time passes.
//!
//! This is a program of its own, because it listens to what the database library logs about its statements.

#[path = "sending/points.rs"]
mod points;
#[path = "sending/world.rs"]
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
};

use futures::{
    FutureExt, StreamExt,
    future::FusedFuture,
    stream::{self, BoxStream},
};
use sealbus_integration_tests::{
    devnet::{
        Config as ChainConfig,
        blocks::{BlockStats, Fate},
        faults::Reverted,
        stats::MinerStats,
    },
    scripted::{verifier::Scripted, yields},
};
use sealbus_manager::{
    chain::{Error as ChainError, NodeClient, RpcClient, Transport},
    errln,
    mining::{Memory, Mining, Surroundings, block::BlockState},
    proofs::Verifier,
    proving::{Error, tasks::Tasks},
    store::{Store, StoreError},
    waits::Waits,
};
use sealbus_nats::post::{PostQueue, PostSaid};
use sealbus_schema::{
    MinerId, ProofBytes, WorkerName,
    post::{PostJob, PostReport, PostTask, SectorRead, SectorToRead},
};
use serde_json::Value;
use tokio::sync::Notify;

use crate::{
    points::{Dying, IS_TICKING, Points, hear_statements, is_all, is_statement, listen},
    world::World,
};

const MINER: MinerId = MinerId(1000);
const SECTORS: u64 = 2;
/// How many of the second manager's blocks must get into the chain.
const BLOCKS: usize = 2;

/// The blocks that the node has signed, by epoch and parents. It may have signed some for a manager that was dead by then.
type Signed = Arc<Mutex<Vec<(i64, Value)>>>;

/// A node that remembers which blocks it has signed.
struct Signing {
    inner: RpcClient,
    signed: Signed,
}

impl Transport for Signing {
    async fn call(&self, method: &'static str, params: Value) -> Result<Value, ChainError> {
        let answer = self.inner.call(method, params).await;
        if let ("MinerCreateBlock", Ok(made)) = (method, &answer) {
            let header = &made["Header"];
            let epoch = header["Height"].as_i64().expect("an epoch");
            self.signed.lock().unwrap_or_else(PoisonError::into_inner).push((epoch, header["Parents"].clone()));
        }
        answer
    }
}

/// What workers have said, as the bus keeps it.
#[derive(Default)]
struct Workers {
    said: Mutex<Vec<PostSaid>>,
    rang: Notify,
}

impl Workers {
    /// A worker carries out a task.
    fn work(&self, task: &PostTask) {
        let of = task.of().expect("of this version").clone();
        let report = match task {
            PostTask::Read(task) => {
                let read = |sector: &SectorToRead| SectorRead { number: sector.number, ms: 3, error: None };
                PostReport::Read { piece: task.piece, sectors: task.sectors.iter().map(read).collect() }
            }
            PostTask::Prove(task) => {
                let sectors: Vec<_> = task.sectors.iter().map(|(number, comm_r, _)| (*number, *comm_r)).collect();
                let proof = ProofBytes(yields::post("winning", of.miner, &of.randomness, &sectors));
                PostReport::Proved { attempt: task.attempt, proof, collect_ms: 1, prove_ms: 2 }
            }
            PostTask::Unknown => return,
        };
        let worker: WorkerName = "w1".parse().expect("a name");
        let said = PostSaid { miner: of.miner, job: of.job, worker, report };
        self.said.lock().unwrap_or_else(PoisonError::into_inner).push(said);
        self.rang.notify_waiters();
    }
}

/// The bus, as one manager has it.
struct Bus {
    workers: Arc<Workers>,
    points: Arc<Points>,
}

impl Tasks for Bus {
    async fn ensure(&self, _: &PostQueue) -> Result<(), Error> {
        Ok(())
    }

    async fn offer(&self, task: &PostTask) -> Result<(), Error> {
        let kind = if matches!(task, PostTask::Read(_)) { "reading" } else { "proving" };
        self.points.pass_call(format!("before the task of {kind}")).await;
        self.workers.work(task);
        self.points.pass_call(format!("after the task of {kind}")).await;
        Ok(())
    }

    async fn withdraw(&self, _: MinerId, _: &PostJob) -> Result<(), Error> {
        Ok(())
    }

    async fn reports(&self) -> Result<BoxStream<'static, Result<PostSaid, Error>>, Error> {
        let next = |(workers, at): (Arc<Workers>, usize)| async move {
            loop {
                let mut rang = std::pin::pin!(workers.rang.notified());
                rang.as_mut().enable();
                let said = workers.said.lock().unwrap_or_else(PoisonError::into_inner).get(at).cloned();
                if let Some(said) = said {
                    return Some((Ok(said), (workers.clone(), at + 1)));
                }
                rang.await;
            }
        };
        Ok(stream::unfold((self.workers.clone(), 0), next).boxed())
    }
}

/// What happens to the chain while no manager is there.
#[derive(Clone, Copy, Debug)]
enum Case {
    /// Nothing: the second manager finds the epoch as the first one left it.
    SameEpoch,
    /// The epoch passes.
    NextEpoch,
    /// The base is replaced by another one.
    OtherBase,
}

impl Case {
    fn happens(self, world: &World) {
        match self {
            Case::SameEpoch => {}
            Case::NextEpoch => world.advance(1),
            Case::OtherBase => {
                world.devnet.with_node(|node| node.reorganise(1, Reverted::Again).expect("reorganises"));
            }
        }
    }
}

/// A miner with enough power to win nearly every epoch.
struct Site {
    world: World,
    workers: Arc<Workers>,
    signed: Signed,
}

impl Site {
    async fn new() -> Site {
        let chain = ChainConfig {
            elections: true,
            deadlines: 4,
            window_epochs: 4,
            // A miner waits a fifteenth of it before it looks at a base again.
            block_delay_secs: 1,
            ..ChainConfig::default()
        };
        let world = World::with_chain(SECTORS, chain).await;
        let driver = world.driver("").await;
        for _ in 0..300 {
            if world.in_state("proving").await.len() as u64 == SECTORS {
                // A sector counts as proven when its deadline closes, and elections follow the state of 60 epochs ago.
                world.advance(16 + 60 + 1);
                return Site { world, workers: Arc::default(), signed: Signed::default() };
            }
            world.work().await;
            world.tick(&driver).await;
            world.advance(1);
        }
        panic!("not sealed\n{}", world.described().await);
    }

    fn store(&self) -> &Store {
        &self.world.store
    }

    /// A manager makes blocks, and the chain moves after each look, until enough blocks of epochs after this one are on
    /// chain, or another manager has taken over.
    async fn mine(&self, epoch: i64, points: &Arc<Points>, after: i64) {
        let signing = Signing { inner: self.world.client(), signed: self.signed.clone() };
        let node = NodeClient::new(Dying { inner: signing, points: points.clone() });
        let bus = Bus { workers: self.workers.clone(), points: points.clone() };
        let verifier: Arc<dyn Verifier> = Arc::new(Scripted);
        let config = self.world.config("", "mine = true");
        let waits = Waits::load(self.store(), epoch).await.expect("loads");
        let mining = Mining::new(Surroundings {
            node: &node,
            store: self.store(),
            tasks: &bus,
            config: &config,
            epoch,
            epoch_millis: 1_000,
            verifier: &verifier,
            waits: &waits,
        });
        let looks = async {
            let mut memory = Memory::default();
            for _ in 0..30 {
                IS_TICKING.store(true, Ordering::SeqCst);
                let looked = mining.look(MINER, &mut memory).await;
                IS_TICKING.store(false, Ordering::SeqCst);
                match looked {
                    Ok(_) => {}
                    Err(Error::Store(StoreError::TakenOver { .. })) => return,
                    Err(error) => panic!("{error:?}"),
                }
                let blocks = self.store().last_blocks(None, 1000).await.expect("reads");
                let included = blocks.iter().filter(|block| block.state == BlockState::Included);
                if included.filter(|block| block.id.epoch > after).count() >= BLOCKS {
                    return;
                }
                self.world.advance(1);
            }
            panic!("mining does not go on: {:?}", self.store().last_blocks(None, 1000).await);
        };
        tokio::select! {
            () = looks => {}
            never = mining.listen() => match never {},
        }
    }

    fn stats(&self) -> MinerStats {
        self.world.devnet.with_node(|node| node.stats.miners.get(&MINER.0).cloned().unwrap_or_default())
    }

    fn head(&self) -> i64 {
        self.world.devnet.with_node(|node| node.chain.head().height())
    }

    /// Nothing was done that a miner is punished for, and the database agrees with the chain.
    async fn check(&self, what: &str) {
        let MinerStats { blocks, consensus_faults, .. } = self.stats();
        assert!(consensus_faults.is_empty(), "{what}: {consensus_faults:?}");
        let signed = self.signed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let epochs: BTreeSet<i64> = signed.iter().map(|(epoch, _)| *epoch).collect();
        assert_eq!(epochs.len(), signed.len(), "{what}: two blocks of an epoch: {signed:?}");
        let parents: BTreeSet<String> = signed.iter().map(|(_, parents)| parents.to_string()).collect();
        assert_eq!(parents.len(), signed.len(), "{what}: two blocks with the same parents: {signed:?}");
        for (epoch, parents) in &signed {
            let height = self.world.devnet.with_node(|node| {
                let cid = parents[0]["/"].as_str().expect("a CID").parse().expect("a CID");
                node.chain.tipset(&cid).expect("a tipset").height()
            });
            let own = blocks.iter().find(|block| block.epoch == height);
            assert!(
                own.is_none_or(|own| parents[0]["/"] == own.cid),
                "{what}: the block of {epoch} leaves out our block of {height}"
            );
        }
        for known in self.store().last_blocks(None, 1000).await.expect("reads") {
            let on_chain: Vec<&BlockStats> = blocks.iter().filter(|block| block.epoch == known.id.epoch).collect();
            let is_in =
                on_chain.iter().any(|block| block.fate == Fate::Included && Some(&block.cid) == known.cid.as_ref());
            assert_eq!(known.state == BlockState::Included, is_in, "{what}: {known:?}, {on_chain:?}");
        }
    }
}

/// The points at which the manager may die, in the order in which they are passed.
async fn points_of_a_run() -> Vec<String> {
    let site = Site::new().await;
    let points = Points::dying_at(None);
    listen(Some(points.clone()));
    site.mine(site.world.epoch, &points, 0).await;
    listen(None);
    site.check("without a crash").await;
    points.passed()
}

/// A manager dies at a point, and another one takes over. `lives` says whether the first one goes on afterwards. Returns the
/// point, or `None` if it was not reached this time.
async fn crash(case: Case, dies_at: usize, lives: bool) -> Option<String> {
    let site = Site::new().await;
    let points = Points::dying_at(Some(dies_at));
    listen(Some(points.clone()));
    let mut first = Box::pin(site.mine(site.world.epoch, &points, 0)).fuse();
    let has_died = tokio::select! {
        biased;
        () = points.died.notified() => true,
        () = &mut first => false,
    };
    listen(None);
    if !has_died {
        return None;
    }
    let name = points.passed()[dies_at].clone();
    let second = async {
        let mut tx = site.store().begin().await.expect("begins");
        let epoch = tx.take_over().await.expect("takes over");
        tx.commit().await.expect("commits");
        case.happens(&site.world);
        site.mine(epoch, &Points::dying_at(None), site.head()).await;
    };
    if lives {
        second.await;
        points.revive();
        // It finds that another manager holds the fold.
        if !first.is_terminated() {
            first.await;
        }
    } else {
        drop(first);
        second.await;
    }
    site.check(&format!("{case:?}, {name}, {lives}")).await;
    Some(name)
}

#[tokio::test]
async fn no_epoch_gets_two_blocks_wherever_the_manager_dies_and_mining_goes_on() {
    hear_statements();
    let points = points_of_a_run().await;
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut tried = Vec::new();
    for (index, name) in points.iter().enumerate() {
        let times = seen.entry(name).or_default();
        *times += 1;
        if *times > if is_all() { 6 } else { 1 } {
            continue;
        }
        let cases = [Case::SameEpoch, Case::NextEpoch, Case::OtherBase].into_iter();
        let ways = cases.flat_map(|case| [false, true].map(|lives| (case, lives)));
        // In the middle of a transaction there is no call that could hang.
        let ways: Vec<_> = ways.filter(|(_, lives)| !lives || !is_statement(name)).collect();
        let turn = tried.len();
        for (at, (case, lives)) in ways.iter().copied().enumerate() {
            if is_all() || at == turn % ways.len() {
                tried.extend(crash(case, index, lives).await.map(|name| (case, name, lives)));
            }
        }
    }
    errln!("{} points, {} crashes", points.len(), tried.len());
    for (case, name, lives) in &tried {
        errln!("  {name}{}, then {case:?}", if *lives { ", and lives on" } else { "" });
    }
}
