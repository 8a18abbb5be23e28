//! The manager dies at each call to the node and at each write to its database while it sends messages. Another one takes over.
//! Whatever was sent by then, each purpose takes effect once.
//!
//! The points are found by running each case once without a crash: before and after each call, and after each statement that
//! writes, within its transaction. At a call the dying manager is also let live: it goes on when the other one is done, as if
//! its machine had slept.
//!
//! This is a program of its own, because it listens to what the database library logs about its statements.

#[path = "sending/points.rs"]
mod points;
#[path = "sending/world.rs"]
mod world;

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
};

use futures::{FutureExt, future::FusedFuture};
use fvm_shared::econ::TokenAmount;
use sealbus_integration_tests::devnet::{faults::Fault, messager::Stage};
use sealbus_manager::{
    chain::{Messager, RpcClient, Transport, messager::Overestimation},
    drive::{DriveError, Driver},
    errln,
    store::{NewErrand, StoreError},
};
use sealbus_schema::{ErrorClass, ErrorCode, ErrorReport, ProofBytes, machine::manager::Life, workflows::Input};
use serde_json::json;

use crate::points::{Dying, IS_TICKING, Points, hear_statements, is_all, is_statement, listen};
use crate::world::{RIGHT, Trusting, World, id};

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
    /// A PreCommit and a ProveCommit of two sectors in one message each, which the messager sends.
    Messager,
    /// The messager is to send a PreCommit of two sectors, and one of them is given up before it is signed there.
    MessagerWithdrawal,
    /// The messager marks the PreCommit of a sector bad, so that another one follows.
    MessagerFailure,
    /// The messager sends what a person asked for.
    MessagerErrand,
}

impl Case {
    const fn sectors(self) -> u64 {
        match self {
            Case::Errand | Case::MessagerErrand => 0,
            Case::Single | Case::MessagerFailure => 1,
            Case::Replacement | Case::Withdrawal | Case::Messager | Case::MessagerWithdrawal => 2,
            Case::Batch => 3,
            Case::Aggregate => 4,
        }
    }

    const fn has_messager(self) -> bool {
        matches!(self, Case::Messager | Case::MessagerWithdrawal | Case::MessagerFailure | Case::MessagerErrand)
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
            (Case::MessagerWithdrawal | Case::MessagerFailure, 0) => {
                world.messager().faults(|faults| faults.stuck = true);
            }
            (Case::MessagerFailure, 2) => {
                if let Some((id, Stage::Unfilled)) = world.messager().stages().first() {
                    world.messager().set_stage(id, Some(Stage::Failed));
                }
            }
            (Case::MessagerWithdrawal | Case::MessagerFailure, 9) => {
                world.messager().faults(|faults| faults.stuck = false);
            }
            (Case::Withdrawal | Case::MessagerWithdrawal, 2)
                if world.job(2).await.state.traits().life == Life::Going =>
            {
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
            Case::Withdrawal | Case::MessagerWithdrawal => vec![(1, 1), (0, 0)],
            case => vec![(1, 1); case.sectors() as usize],
        }
    }

    async fn is_over(self, world: &World, started: &Start) -> bool {
        let errand = world.balance(&world.owner()).await - started.owner.clone();
        match self {
            Case::Errand | Case::MessagerErrand => {
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
    let world = match case.has_messager() {
        true => World::with_messager(case.sectors()).await,
        false => World::new(case.sectors()).await,
    };
    let started = Start { owner: world.balance(&world.owner()).await };
    if matches!(case, Case::Errand | Case::MessagerErrand) {
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

/// Ticks and moves the world until the case is over or another manager has taken over.
async fn run<T: Transport + 'static>(case: Case, world: &World, started: &Start, driver: &Driver<T>, point: &str) {
    for step in 0..200 {
        case.happens(world, step).await;
        IS_TICKING.store(true, Ordering::SeqCst);
        let ticked = world.try_tick(driver).await;
        IS_TICKING.store(false, Ordering::SeqCst);
        if let Err(error) = ticked {
            // Another manager has taken over.
            assert!(matches!(error, DriveError::Store(StoreError::TakenOver { .. })), "{error}");
            return;
        }
        world.work().await;
        if case.is_over(world, started).await {
            return;
        }
        if matches!(case, Case::Aggregate) && world.in_state("prove_committing").await.len() == 4 {
            // The aggregate is made by another process, in real time.
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        world.advance(1);
    }
    panic!("{case:?}, {point} is not over: {:?}\n{}", world.effects(), world.described().await);
}

/// A driver that dies at a point of its calls to the node and to the messager.
async fn dying_driver(case: Case, world: &World, points: &Arc<Points>) -> Driver<Dying<RpcClient>> {
    let dying = |inner| Dying { inner, points: points.clone() };
    let driver = world.driver_over(CHAIN, dying(world.client()), world.epoch, case.verifier()).await;
    match case.has_messager() {
        true => driver.with_messager(Messager::new(dying(world.messager_client()), Overestimation::default())),
        false => driver,
    }
}

/// The points of a case, in the order in which they are passed.
async fn points_of(case: Case) -> Vec<String> {
    let (world, started) = start(case).await;
    let points = Points::dying_at(None);
    listen(Some(points.clone()));
    let driver = dying_driver(case, &world, &points).await;
    run(case, &world, &started, &driver, "without a crash").await;
    listen(None);
    points.passed()
}

/// Runs a case with a manager that dies at a point, and with another one that takes over. `lives` says whether the first one
/// goes on afterwards. Returns the point, or `None` if it was not reached this time.
async fn crash(case: Case, dies_at: usize, lives: bool) -> Option<String> {
    let (world, started) = start(case).await;
    let points = Points::dying_at(Some(dies_at));
    listen(Some(points.clone()));
    let mut first = Box::pin(async {
        let driver = dying_driver(case, &world, &points).await;
        run(case, &world, &started, &driver, "alive").await;
    })
    .fuse();
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
        let mut tx = world.store.begin().await.expect("begins");
        let epoch = tx.take_over().await.expect("takes over");
        tx.commit().await.expect("commits");
        // What happens by itself happens again, if it has not happened yet.
        let driver = world.driver_over(CHAIN, world.client(), epoch, case.verifier()).await;
        run(case, &world, &started, &driver, &name).await;
        driver
    };
    let driver = if lives {
        // Only the one call hangs. Whatever else the first manager was doing goes on.
        let mut second = std::pin::pin!(second.fuse());
        let ended = futures::select_biased! {
            driver = second => Some(driver),
            () = first => None,
        };
        let driver = match ended {
            Some(driver) => driver,
            None => second.await,
        };
        points.revive();
        // It finds that another manager holds the fold, or that nothing is left to do.
        if !first.is_terminated() {
            first.await;
        }
        driver
    } else {
        drop(first);
        second.await
    };
    for _ in 0..8 {
        world.advance(1);
        world.tick(&driver).await;
    }
    assert!(case.is_over(&world, &started).await, "{case:?}, {name}, {lives}: {:?}", world.effects());
    Some(name)
}

/// One case at a time may listen.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

async fn dies_everywhere(case: Case) {
    let _alone = ONE_AT_A_TIME.lock().await;
    hear_statements();
    let points = points_of(case).await;
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    let mut tried: Vec<(String, bool)> = Vec::new();
    for (index, name) in points.iter().enumerate() {
        let is_odd = !seen.contains_key(name.as_str()) && seen.len() % 2 == 1;
        let times = seen.entry(name).or_default();
        *times += 1;
        if *times > if is_all() { 6 } else { 1 } || (is_odd && !is_all()) {
            continue;
        }
        let alternates = tried.len() % 2 == 1;
        for lives in [false, true] {
            let is_call = !is_statement(name);
            let is_next = is_all() || lives == (is_call && alternates);
            if (lives && !is_call) || !is_next {
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

#[tokio::test]
async fn a_message_of_one_sector_takes_effect_once_wherever_the_manager_dies() {
    dies_everywhere(Case::Single).await;
}

#[tokio::test]
async fn a_message_of_many_sectors_takes_effect_once_wherever_the_manager_dies() {
    dies_everywhere(Case::Batch).await;
}

#[tokio::test]
async fn an_aggregate_takes_effect_once_wherever_the_manager_dies() {
    dies_everywhere(Case::Aggregate).await;
}

#[tokio::test]
async fn a_message_that_is_signed_for_more_takes_effect_once_wherever_the_manager_dies() {
    dies_everywhere(Case::Replacement).await;
}

#[tokio::test]
async fn a_message_that_is_taken_back_takes_effect_once_wherever_the_manager_dies() {
    dies_everywhere(Case::Withdrawal).await;
}

#[tokio::test]
async fn an_errand_takes_effect_once_wherever_the_manager_dies() {
    dies_everywhere(Case::Errand).await;
}

#[tokio::test]
async fn what_the_messager_sends_takes_effect_once_wherever_the_manager_dies() {
    dies_everywhere(Case::Messager).await;
}

#[tokio::test]
async fn what_is_taken_back_from_the_messager_takes_no_effect_wherever_the_manager_dies() {
    dies_everywhere(Case::MessagerWithdrawal).await;
}

#[tokio::test]
async fn what_the_messager_drops_is_sent_once_more_wherever_the_manager_dies() {
    dies_everywhere(Case::MessagerFailure).await;
}

#[tokio::test]
async fn an_errand_that_the_messager_sends_takes_effect_once_wherever_the_manager_dies() {
    dies_everywhere(Case::MessagerErrand).await;
}
