//! The manager dies at each call to the node and at each write to its database while it sends messages. Another one takes over.
//! Whatever was sent by then, each purpose takes effect once.
//!
//! The points are found by running each case once without a crash: before and after each call, and after each statement that
//! writes, within its transaction. At a call the dying manager is also let live: it goes on when the other one is done, as if
//! its machine had slept.
//!
//! This is a program of its own, because it listens to what the database library logs about its statements.

#[path = "sending/world.rs"]
mod world;

use std::{
    collections::BTreeMap,
    fmt::Debug,
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use fvm_shared::econ::TokenAmount;
use sealbus_integration_tests::devnet::faults::Fault;
use sealbus_manager::{
    chain::{Error as ChainError, RpcClient, Transport},
    drive::Driver,
    errln,
    store::NewErrand,
};
use sealbus_schema::{ErrorClass, ErrorCode, ErrorReport, ProofBytes, workflows::Input};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tracing::{
    Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context, layer::SubscriberExt};

use crate::world::{RIGHT, Trusting, World, id};

/// How often each point is tried in a case: the first time that it is passed, and some later ones.
fn occurrences() -> usize {
    if std::env::var_os("SEALBUS_ALL_CASES").is_some() { 6 } else { 1 }
}

/// The points that a manager has passed, and the one at which it dies.
#[derive(Default)]
struct Points {
    passed: Mutex<Vec<String>>,
    dies_at: Option<usize>,
    is_dead: AtomicBool,
    died: Notify,
    /// Lets a dead manager live again.
    revived: AtomicBool,
    revive: Notify,
}

impl Points {
    fn dying_at(dies_at: Option<usize>) -> Arc<Points> {
        Arc::new(Points { dies_at, ..Points::default() })
    }

    /// Passes a point. Returns whether the manager dies there.
    fn pass(&self, name: String) -> bool {
        if self.is_dead.load(Ordering::SeqCst) {
            return false;
        }
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        let dies = self.dies_at == Some(passed.len());
        passed.push(name);
        if dies {
            self.is_dead.store(true, Ordering::SeqCst);
            self.died.notify_one();
        }
        dies
    }

    async fn pass_call(&self, name: String) {
        if self.pass(name) {
            while !self.revived.load(Ordering::SeqCst) {
                self.revive.notified().await;
            }
        }
    }
}

/// A node whose caller dies before or after a call.
struct Dying {
    inner: RpcClient,
    points: Arc<Points>,
}

impl Transport for Dying {
    async fn call(&self, method: &'static str, params: Value) -> Result<Value, ChainError> {
        self.points.pass_call(format!("before {method}")).await;
        let answer = self.inner.call(method, params).await;
        self.points.pass_call(format!("after {method}")).await;
        answer
    }
}

/// Whose statements are listened to.
static LISTENER: LazyLock<Mutex<Option<Arc<Points>>>> = LazyLock::new(Mutex::default);

fn listen(points: Option<Arc<Points>>) {
    *LISTENER.lock().unwrap_or_else(PoisonError::into_inner) = points;
}

struct Statements;

impl<S: Subscriber> Layer<S> for Statements {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() != "sqlx::query" {
            return;
        }
        let mut text = Summary(String::new());
        event.record(&mut text);
        let words: Vec<&str> = text.0.split_whitespace().take(3).collect();
        if !matches!(words.first(), Some(&("INSERT" | "UPDATE" | "DELETE"))) {
            return;
        }
        let listener = LISTENER.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(points) = listener {
            points.pass(format!("after {}", words.join(" ")));
        }
    }
}

struct Summary(String);

impl Visit for Summary {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "summary" {
            value.clone_into(&mut self.0);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "summary" {
            self.0 = format!("{value:?}");
        }
    }
}

/// What is sent.
#[derive(Clone, Copy, Debug)]
enum Case {
    /// A PreCommit and a ProveCommit of one sector.
    Single,
    /// Those of three sectors, in one message each.
    Batch,
    /// The ProveCommit of four sectors with an aggregate.
    Aggregate,
    /// A PreCommit of two sectors that others outbid, so that it is signed for more.
    Replacement,
    /// A PreCommit of two sectors, of which one is given up, so that a filler takes the nonce.
    Withdrawal,
    /// What a person asked for.
    Errand,
}

const CASES: [Case; 6] =
    [Case::Single, Case::Batch, Case::Aggregate, Case::Replacement, Case::Withdrawal, Case::Errand];

impl Case {
    const fn sectors(self) -> u64 {
        match self {
            Case::Errand => 0,
            Case::Single => 1,
            Case::Replacement | Case::Withdrawal => 2,
            Case::Batch => 3,
            Case::Aggregate => 4,
        }
    }

    fn verifier(self) -> Trusting {
        let aggregate = matches!(self, Case::Aggregate).then(|| Ok(ProofBytes(RIGHT.to_vec())));
        Trusting { aggregate }
    }

    /// What happens to the world by itself at this step of a run.
    async fn happens(self, world: &World, step: u64) {
        match (self, step) {
            (Case::Replacement | Case::Withdrawal, 0) => world.fault(Fault::StallInclusion { on: true }),
            (Case::Replacement, 2) => world.fault(Fault::Premium { atto: 300_000 }),
            (Case::Withdrawal, 2) => {
                let given_up = ErrorReport::new(ErrorClass::Abort, ErrorCode::ABANDONED, "by a person");
                world.apply(2, Input::Abandoned { cause: given_up, lose_deposit: true }).await;
            }
            (Case::Replacement | Case::Withdrawal, 9) => world.fault(Fault::StallInclusion { on: false }),
            _ => {}
        }
    }

    /// How many PreCommits and ProveCommits of each sector must take effect.
    fn effects(self) -> Vec<(u64, u64)> {
        match self {
            Case::Withdrawal => vec![(1, 1), (0, 0)],
            case => vec![(1, 1); case.sectors() as usize],
        }
    }

    async fn is_over(self, world: &World, started: &Start) -> bool {
        let errand = world.balance(&world.owner()).await - started.owner.clone();
        match self {
            Case::Errand => {
                let open = world.store.errands(None).await.expect("reads");
                open.is_empty() && errand == TokenAmount::from_atto(77)
            }
            case => {
                let open = world.store.open_messages().await.expect("reads");
                world.effects() == case.effects() && open.is_empty()
            }
        }
    }
}

/// What there was at the beginning.
struct Start {
    owner: TokenAmount,
}

async fn start(case: Case) -> (World, Start) {
    let world = World::new(case.sectors()).await;
    let started = Start { owner: world.balance(&world.owner()).await };
    if matches!(case, Case::Errand) {
        let errand = NewErrand {
            miner: id(1).miner,
            kind: "transfer".to_owned(),
            sender: world.worker().to_string(),
            receiver: world.owner().to_string(),
            method: 0,
            params: Vec::new(),
            value_atto: "77".to_owned(),
            detail: json!({}),
            asked_by: "a person".to_owned(),
        };
        let mut tx = world.store.begin().await.expect("begins");
        tx.ask_errand(&errand).await.expect("stores");
        tx.commit().await.expect("commits");
    }
    (world, started)
}

const CHAIN: &str = "repush_epochs = 3";

/// Ticks and moves the world until the case is over, from this step on.
async fn run<T: Transport + 'static>(case: Case, world: &World, started: &Start, driver: &Driver<T>, step: &mut u64) {
    for _ in 0..200 {
        case.happens(world, *step).await;
        world.tick(driver).await;
        world.work().await;
        if case.is_over(world, started).await {
            return;
        }
        if matches!(case, Case::Aggregate) && world.in_state("prove_committing").await.len() == 4 {
            // The aggregate is made by another process, in real time.
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        world.advance(1);
        *step += 1;
    }
    let (effects, open) = (world.effects(), world.store.open_messages().await.expect("reads"));
    panic!("{case:?} is not over: {effects:?}, {open:#?}");
}

/// The points of a case, in the order in which they are passed.
async fn points_of(case: Case) -> Vec<String> {
    let (world, started) = start(case).await;
    let points = Points::dying_at(None);
    let dying = Dying { inner: world.client(), points: points.clone() };
    let driver = world.driver_over(CHAIN, dying, world.epoch, case.verifier()).await;
    listen(Some(points.clone()));
    run(case, &world, &started, &driver, &mut 0).await;
    listen(None);
    let passed = points.passed.lock().unwrap_or_else(PoisonError::into_inner).clone();
    passed
}

/// Runs a case with a manager that dies at a point, and with another one that takes over. `lives` says whether the first one
/// goes on afterwards. Returns the point, or `None` if it was not reached this time.
async fn crash(case: Case, dies_at: usize, lives: bool) -> Option<String> {
    let (world, started) = start(case).await;
    let points = Points::dying_at(Some(dies_at));
    let dying = Dying { inner: world.client(), points: points.clone() };
    let driver = world.driver_over(CHAIN, dying, world.epoch, case.verifier()).await;
    listen(Some(points.clone()));
    let mut step = 0;
    let mut first = Box::pin(async {
        let mut step = 0;
        run(case, &world, &started, &driver, &mut step).await;
    });
    let has_died = tokio::select! {
        biased;
        () = points.died.notified() => true,
        () = &mut first => false,
    };
    listen(None);
    if !has_died {
        return None;
    }
    let name = points.passed.lock().unwrap_or_else(PoisonError::into_inner)[dies_at].clone();
    let first = if lives {
        Some(first)
    } else {
        drop(first);
        None
    };

    let mut tx = world.store.begin().await.expect("begins");
    let epoch = tx.take_over().await.expect("takes over");
    tx.commit().await.expect("commits");
    // What was to happen by itself has happened, or happens now.
    for earlier in 0..9 {
        step = earlier;
        if !matches!((case, earlier), (Case::Withdrawal, 2)) || world.job(2).await.blocked.is_none() {
            case_happens_once(case, &world, earlier).await;
        }
    }
    step += 1;
    let second = world.driver_over(CHAIN, world.client(), epoch, case.verifier()).await;
    run(case, &world, &started, &second, &mut step).await;
    if let Some(first) = first {
        points.revived.store(true, Ordering::SeqCst);
        points.revive.notify_waiters();
        // It finds that another manager holds the fold, which ends it, or has nothing left to do.
        let lived = tokio::time::timeout(std::time::Duration::from_millis(300), first);
        let _ = futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(lived)).await;
    }
    for _ in 0..8 {
        world.advance(1);
        world.tick(&second).await;
    }
    assert!(case.is_over(&world, &started).await, "{case:?}, {name}, {lives}: {:?}", world.effects());
    Some(name)
}

async fn case_happens_once(case: Case, world: &World, step: u64) {
    if matches!((case, step), (Case::Withdrawal, 2)) && world.in_state("abandoning").await == [2] {
        return;
    }
    case.happens(world, step).await;
}

#[tokio::test]
async fn wherever_the_manager_dies_each_purpose_takes_effect_once() {
    let subscriber = tracing_subscriber::registry().with(Statements);
    tracing::subscriber::set_global_default(subscriber).expect("the only one");
    for case in CASES {
        let points = points_of(case).await;
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        let mut tried: Vec<(String, bool)> = Vec::new();
        for (index, name) in points.iter().enumerate() {
            let times = seen.entry(name).or_default();
            *times += 1;
            if *times > occurrences() {
                continue;
            }
            for lives in [false, true] {
                // A manager that is stopped within a transaction keeps others from writing, so it is not let live.
                let is_call = !name.contains(' ')
                    || !name
                        .split(' ')
                        .nth(1)
                        .is_some_and(|word| word == "INSERT" || word == "UPDATE" || word == "DELETE");
                if lives && !is_call {
                    continue;
                }
                if let Some(name) = crash(case, index, lives).await {
                    tried.push((name, lives));
                }
            }
        }
        errln!("{case:?}: {} points, {} crashes", points.len(), tried.len());
        for (name, lives) in &tried {
            errln!("  {name}{}", if *lives { ", and lives on" } else { "" });
        }
    }
}
