//! Single rules of the order of work, by example.

use std::time::Duration;

use sealbus_planner::schedule::{Grant, Group, OVERTAKEN_MAX, Rules, Scheduler, Setup, SetupError, Ticket, Urgency};
use sealbus_schema::Phase as Stage;

use crate::machine::ticks;

const NOW: Duration = Duration::ZERO;

fn group(stage: Stage, count: usize, concurrent: usize, locks: &[&str]) -> Group {
    Group { stage, count, concurrent, locks: locks.iter().map(|lock| (*lock).to_owned()).collect() }
}

fn locks(units: &[(&str, usize)]) -> Rules {
    Rules { locks: units.iter().map(|(name, units)| ((*name).to_owned(), *units)).collect(), ..Rules::default() }
}

fn scheduler(groups: Vec<Group>, rules: Rules) -> Scheduler {
    Scheduler::new(&Setup::new(groups, rules)).expect("a setup")
}

fn ask(scheduler: &mut Scheduler, stage: Stage) -> Ticket {
    scheduler.request(stage, Urgency::NONE).expect("served")
}

fn tickets(granted: &[Grant]) -> Vec<Ticket> {
    granted.iter().map(|grant| grant.ticket).collect()
}

fn processors(granted: &[Grant]) -> Vec<usize> {
    granted.iter().filter_map(|grant| grant.seat).map(|seat| seat.processor).collect()
}

fn release(scheduler: &mut Scheduler, grant: &Grant) {
    release_at(scheduler, grant, NOW);
}

fn release_at(scheduler: &mut Scheduler, grant: &Grant, now: Duration) {
    scheduler.release(grant.seat.expect("a seat").grant, now).expect("held");
}

#[test]
fn the_oldest_is_served_first_by_the_processor_with_the_most_room() {
    let mut machine = scheduler(vec![group(Stage::Pc2, 2, 2, &[])], Rules::default());
    let asked: Vec<Ticket> = (0..6).map(|_| ask(&mut machine, Stage::Pc2)).collect();
    let granted = machine.poll(NOW);
    assert_eq!(tickets(&granted), asked[..4]);
    assert_eq!(processors(&granted), [0, 1, 0, 1]);
    release(&mut machine, &granted[3]);
    assert_eq!(processors(&machine.poll(NOW)), [1]);
    assert_eq!((machine.running(Stage::Pc2), machine.waiting(Stage::Pc2), machine.free_seats(Stage::Pc2)), (4, 1, 0));
    assert!(machine.request(Stage::C1, Urgency::NONE).is_err(), "nobody serves it");
}

#[test]
fn a_limit_of_the_machine_holds_over_all_groups() {
    let mut rules = Rules::default();
    rules.concurrent.insert(Stage::Pc1, 3);
    let mut machine = scheduler(vec![group(Stage::Pc1, 2, 1, &[]), group(Stage::Pc1, 2, 1, &[])], rules);
    (0..4).for_each(|_| {
        ask(&mut machine, Stage::Pc1);
    });
    assert_eq!(machine.poll(NOW).len(), 3);
    assert_eq!(machine.free_seats(Stage::Pc1), 1);
}

#[test]
fn starts_of_a_stage_are_kept_apart_and_the_next_one_is_announced() {
    let mut rules = Rules::default();
    rules.staggered.insert(Stage::Pc1, ticks(300));
    let mut machine = scheduler(vec![group(Stage::Pc1, 3, 1, &[])], rules);
    assert_eq!(machine.next_wakeup(NOW), None);
    (0..3).for_each(|_| {
        ask(&mut machine, Stage::Pc1);
    });
    assert_eq!(machine.poll(ticks(50)).len(), 1);
    assert_eq!(machine.next_wakeup(ticks(50)), Some(ticks(350)));
    assert!(machine.poll(ticks(349)).is_empty());
    assert_eq!(machine.poll(ticks(350)).len(), 1);
    assert_eq!(machine.poll(ticks(1000)).len(), 1);
    assert_eq!(machine.next_wakeup(ticks(1000)), None, "nobody waits");
}

#[test]
fn a_lock_is_shared_by_stages_and_taken_with_everything_else_or_not_at_all() {
    let groups = vec![group(Stage::Pc2, 1, 1, &["gpu0"]), group(Stage::C2, 1, 1, &["gpu0", "memory"])];
    let mut machine = scheduler(groups, locks(&[("gpu0", 1), ("memory", 1)]));
    ask(&mut machine, Stage::Pc2);
    let c2 = ask(&mut machine, Stage::C2);
    let first = machine.poll(NOW);
    assert_eq!(first.len(), 1);
    assert_eq!((machine.lock_taken("gpu0"), machine.lock_taken("memory")), (1, 0), "nothing is held while waiting");
    release(&mut machine, &first[0]);
    assert_eq!(tickets(&machine.poll(NOW)), [c2]);
    assert_eq!((machine.lock_taken("gpu0"), machine.lock_taken("memory")), (1, 1));
}

#[test]
fn a_processor_whose_lock_nobody_else_needs_is_taken_before_others() {
    let groups =
        vec![group(Stage::Pc2, 1, 1, &["gpu0"]), group(Stage::Pc2, 1, 1, &["gpu1"]), group(Stage::C2, 1, 1, &["gpu0"])];
    let mut machine = scheduler(groups, locks(&[("gpu0", 1), ("gpu1", 1)]));
    ask(&mut machine, Stage::Pc2);
    ask(&mut machine, Stage::C2);
    assert_eq!(processors(&machine.poll(NOW)), [1, 2]);
}

#[test]
fn what_will_be_worthless_soon_goes_before_what_is_older_and_the_earliest_first() {
    let mut setup = Setup::new(vec![group(Stage::C2, 1, 1, &[])], Rules::default());
    setup.urgent_within = ticks(100);
    let mut machine = Scheduler::new(&setup).expect("a setup");
    let old = ask(&mut machine, Stage::C2);
    let later = machine.request(Stage::C2, Urgency::by(ticks(5000))).expect("served");
    let soon = machine.request(Stage::C2, Urgency::by(ticks(90))).expect("served");
    let sooner = machine.request(Stage::C2, Urgency::by(ticks(80))).expect("served");
    let mut order = Vec::new();
    while let [grant] = machine.poll(ticks(10))[..] {
        order.push(grant.ticket);
        release(&mut machine, &grant);
    }
    assert_eq!(order, [sooner, soon, old, later], "there is time enough for the one that expires later");
}

#[test]
fn an_older_sector_goes_before_a_request_that_came_earlier() {
    let groups = vec![group(Stage::Pc2, 1, 1, &["gpu0"]), group(Stage::C2, 1, 1, &["gpu0"])];
    let mut machine = scheduler(groups, locks(&[("gpu0", 1)]));
    let of_sector = |seniority| Urgency { seniority, ..Urgency::NONE };
    let young = machine.request(Stage::Pc2, of_sector(7)).expect("served");
    let old = machine.request(Stage::C2, of_sector(3)).expect("served");
    let granted = machine.poll(NOW);
    assert_eq!(tickets(&granted), [old]);
    release(&mut machine, &granted[0]);
    assert_eq!(tickets(&machine.poll(NOW)), [young]);
}

#[test]
fn of_stages_that_share_a_lock_the_one_with_the_longest_queue_goes_first_whatever_is_older() {
    let groups = vec![group(Stage::Pc2, 1, 1, &["gpu0"]), group(Stage::C2, 1, 1, &["gpu0"])];
    let mut machine = scheduler(groups, locks(&[("gpu0", 1)]));
    let of_sector = |seniority| Urgency { seniority, ..Urgency::NONE };
    let old = machine.request(Stage::C2, of_sector(1)).expect("served");
    let young: Vec<Ticket> =
        [2, 3].map(|seniority| machine.request(Stage::Pc2, of_sector(seniority)).expect("served")).into();
    let mut order = Vec::new();
    while let [grant] = machine.poll(NOW)[..] {
        order.push(grant.ticket);
        release(&mut machine, &grant);
    }
    assert_eq!(order, [young[0], old, young[1]]);
}

#[test]
fn what_a_reserved_seat_needs_is_kept_for_it_and_nothing_that_runs_is_stopped() {
    let prover = Stage::POST[1];
    let groups = vec![
        group(Stage::Pc1, 1, 1, &["memory"]),
        group(Stage::Pc2, 2, 1, &["gpu0"]),
        group(Stage::C2, 1, 1, &["gpu0"]),
        group(prover, 1, 1, &["gpu0", "memory"]),
    ];
    let mut machine = scheduler(groups, locks(&[("gpu0", 1), ("memory", 1)]));
    for stage in [Stage::Pc2, Stage::Pc1] {
        ask(&mut machine, stage);
    }
    let running = machine.poll(NOW);
    assert_eq!(running.len(), 2);
    for _ in 0..3 {
        machine.request(Stage::Pc2, Urgency::by(NOW)).expect("served");
        machine.request(Stage::C2, Urgency { seniority: 1, expires: Some(NOW) }).expect("served");
    }
    let reserved = machine.reserve(prover).expect("served");
    assert!(machine.poll(NOW).is_empty());
    release(&mut machine, &running[0]);
    assert!(machine.poll(NOW).is_empty(), "the card is kept while memory is awaited");
    release(&mut machine, &running[1]);
    let granted = machine.poll(NOW);
    assert_eq!(tickets(&granted), [reserved]);
    release(&mut machine, &granted[0]);
    assert_eq!(machine.poll(NOW).len(), 1, "then others have it");

    machine.reserve(prover).map(|ticket| machine.cancel(ticket)).expect("served");
    assert_eq!((machine.waiting(prover), machine.poll(NOW).len()), (0, 0));
}

/// A scheduler in which long work could take a lock, but would hold it beyond the next start of a stage with more
/// waiting requests.
fn until_a_start_is_due(waiting_for_it: usize) -> (Scheduler, Duration) {
    let groups = vec![group(Stage::Pc2, 1, 1, &["gpu0"]), group(Stage::C2, 1, 1, &["gpu0"])];
    let mut rules = locks(&[("gpu0", 1)]);
    rules.staggered.insert(Stage::C2, ticks(150));
    let mut machine = scheduler(groups, rules);
    let mut now = NOW;
    for stage in [Stage::Pc2, Stage::C2] {
        ask(&mut machine, stage);
        let granted = machine.poll(now);
        now += ticks(100);
        release_at(&mut machine, &granted[0], now);
    }
    ask(&mut machine, Stage::Pc2);
    (0..waiting_for_it).for_each(|_| {
        ask(&mut machine, Stage::C2);
    });
    (machine, now)
}

#[test]
fn a_lock_idles_until_a_start_is_due_for_which_many_wait() {
    // The lock would work for 100 of 150 ticks. For four waiting requests that is more than twice as much as 150 ticks
    // for one.
    let (mut machine, now) = until_a_start_is_due(4);
    assert!(machine.poll(now).is_empty());
    let due = machine.next_wakeup(now).expect("C2 may start again");
    assert_eq!(due, now + ticks(50));
    assert_eq!(processors(&machine.poll(due)), [1]);
    let (mut machine, now) = until_a_start_is_due(3);
    assert_eq!(processors(&machine.poll(now)), [0], "not for three");
}

#[test]
fn a_lock_is_left_to_others_rather_than_keep_a_better_seat_idle() {
    let groups =
        vec![group(Stage::Pc2, 1, 1, &[]), group(Stage::Pc2, 1, 1, &["gpu0"]), group(Stage::C2, 1, 1, &["gpu0"])];
    let mut rules = locks(&[("gpu0", 1)]);
    rules.staggered.insert(Stage::Pc2, ticks(150));
    let mut machine = scheduler(groups, rules);
    for (stage, begins, ends) in [(Stage::C2, 0, 100), (Stage::Pc2, 100, 300)] {
        ask(&mut machine, stage);
        let granted = machine.poll(ticks(begins));
        release_at(&mut machine, &granted[0], ticks(ends));
    }
    (0..4).for_each(|_| {
        ask(&mut machine, Stage::Pc2);
    });
    assert_eq!(processors(&machine.poll(ticks(300))), [0]);
    (0..2).for_each(|_| {
        ask(&mut machine, Stage::C2);
    });
    // By queue length it is PC2's turn. But the seat without a lock becomes free in 50 ticks, and would then idle for
    // 100 more until the next start is allowed.
    assert_eq!(processors(&machine.poll(ticks(450))), [2]);
}

#[test]
fn the_urgent_overtake_an_old_request_so_many_times_and_no_more() {
    let mut machine = scheduler(vec![group(Stage::C2, 1, 1, &[])], Rules::default());
    let old = ask(&mut machine, Stage::C2);
    let mut before = 0;
    loop {
        machine.request(Stage::C2, Urgency::by(ticks(1))).expect("served");
        let [grant] = machine.poll(NOW)[..] else { panic!("one seat") };
        if grant.ticket == old {
            break;
        }
        before += 1;
        release(&mut machine, &grant);
    }
    assert_eq!(before, OVERTAKEN_MAX);
}

#[test]
fn one_that_needs_two_locks_is_not_kept_from_them_for_ever() {
    let groups =
        vec![group(Stage::C2, 1, 1, &["a", "b"]), group(Stage::Pc1, 2, 1, &["a"]), group(Stage::Pc2, 2, 1, &["b"])];
    let mut machine = scheduler(groups, locks(&[("a", 1), ("b", 1)]));
    ask(&mut machine, Stage::Pc1);
    ask(&mut machine, Stage::Pc2);
    let mut works = machine.poll(NOW);
    let both = ask(&mut machine, Stage::C2);
    // The locks are given back in turn, while the other one is held, and another request wants each of them at once.
    for turn in 0..10 * OVERTAKEN_MAX {
        let done = works.remove(0);
        release(&mut machine, &done);
        ask(&mut machine, if turn % 2 == 0 { Stage::Pc1 } else { Stage::Pc2 });
        let granted = machine.poll(NOW);
        if tickets(&granted).contains(&both) {
            assert!(turn >= OVERTAKEN_MAX, "later ones pass as long as it is fair");
            return;
        }
        works.extend(granted);
    }
    panic!("the one that needs both locks starves");
}

#[test]
fn to_see_room_takes_nothing_and_keeps_its_turn() {
    let mut rules = Rules::default();
    rules.staggered.insert(Stage::Pc1, ticks(100));
    let mut machine = scheduler(vec![group(Stage::Pc1, 1, 1, &[])], rules);
    let first = ask(&mut machine, Stage::Pc1);
    let room = machine.request_room(Stage::Pc1, Urgency::NONE).expect("served");
    let second = ask(&mut machine, Stage::Pc1);
    let granted = machine.poll(NOW);
    assert_eq!(tickets(&granted), [first]);
    release(&mut machine, &granted[0]);
    assert!(machine.poll(ticks(99)).is_empty(), "what could not start is no room");
    let granted = machine.poll(ticks(100));
    assert_eq!(tickets(&granted), [room, second]);
    assert!(granted[0].seat.is_none() && granted[1].seat.is_some());
}

#[test]
fn what_is_released_or_given_up_twice_is_refused_and_changes_nothing() {
    let mut machine = scheduler(vec![group(Stage::C2, 1, 1, &["gpu0"])], locks(&[("gpu0", 1)]));
    let ticket = ask(&mut machine, Stage::C2);
    let granted = machine.poll(NOW);
    assert!(!machine.cancel(ticket), "it has its seat");
    release(&mut machine, &granted[0]);
    assert!(machine.release(granted[0].seat.expect("a seat").grant, NOW).is_err());
    assert_eq!((machine.lock_taken("gpu0"), machine.running(Stage::C2)), (0, 0));
}

#[test]
fn a_setup_in_which_something_can_never_work_is_refused() {
    let stage = Stage::C2;
    let gpu0 = || "gpu0".to_owned();
    let limited = |stage, limit| Rules { concurrent: [(stage, limit)].into(), ..Rules::default() };
    for (groups, rules, expected) in [
        (vec![group(stage, 0, 1, &[])], Rules::default(), SetupError::NoProcess(stage)),
        (vec![group(stage, 1, 0, &[])], Rules::default(), SetupError::NoSeat(stage)),
        (vec![group(stage, 1, 1, &[])], limited(stage, 0), SetupError::NothingAllowed(stage)),
        (
            vec![group(stage, 1, 1, &[])],
            limited(Stage::Pc1, 1),
            SetupError::LimitWithoutProcessor { limit: "concurrent", stage: Stage::Pc1 },
        ),
        (vec![group(stage, 1, 1, &[])], locks(&[("gpu0", 0)]), SetupError::EmptyLock(gpu0())),
        (vec![group(stage, 1, 1, &["gpu0"])], Rules::default(), SetupError::UnknownLock { stage, lock: gpu0() }),
        (
            vec![group(stage, 1, 1, &["gpu0", "gpu0"])],
            locks(&[("gpu0", 2)]),
            SetupError::LockTwice { stage, lock: gpu0() },
        ),
        (
            vec![group(stage, 1, 2, &["gpu0"])],
            locks(&[("gpu0", 1)]),
            SetupError::LockTooSmall { stage, lock: gpu0(), concurrent: 2, units: 1 },
        ),
    ] {
        assert_eq!(Scheduler::new(&Setup::new(groups, rules)).expect_err("refused"), expected);
    }
}
