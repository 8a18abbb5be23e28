//! Reads ahead of deadlines, and what the next proofs need.

use super::*;

/// Deadline 3 is challenged then.
const CHALLENGE_3: Epoch = CHALLENGE + 3 * 60;

fn id_3() -> ProofId {
    ProofId { miner: MINER, period: OPEN, deadline: 3, partition: 0 }
}

async fn world(sound: &[u64]) -> World {
    let world = World::new(sound).await;
    (world.script().sectors, world.script().sound_later) = (vec![], sound.to_vec());
    world
}

impl World {
    fn alarm(&self) -> Option<String> {
        self.waits.cause(&Subject::Ahead(id_3())).map(|cause| cause.text)
    }

    fn lack(&self) -> Option<String> {
        self.waits.cause(&Subject::NextProofs(MINER)).map(|cause| cause.text)
    }

    /// The tasks that are in the queue. They are out of it then.
    fn taken(&self) -> Vec<ReadTask> {
        let reads = self.reads();
        self.script().tasks.clear();
        reads
    }
}

/// What a worker says that reads all sectors of a task but these.
fn read_but(task: &ReadTask, bad: &[(u64, ErrorClass)]) -> PostReport {
    let sectors: Vec<(u64, Option<ErrorClass>)> = task
        .sectors
        .iter()
        .map(|sector| {
            let error = bad.iter().find(|(number, _)| *number == sector.number.0).map(|(_, class)| *class);
            (sector.number.0, error)
        })
        .collect();
    read(task.piece, &sectors)
}

#[tokio::test]
async fn a_bad_sector_is_told_before_its_deadline_opens_and_until_it_can_be_read() {
    let (world, mut memory) = (world(&[1, 2, 3]).await, Memory::default());
    world.look(&mut memory, OPEN).await;
    let tasks = world.taken();
    assert_eq!((tasks.len(), tasks[0].sectors.len(), tasks[0].is_trial), (1, 3, true));
    assert!(tasks[0].of.job.as_str().starts_with("a-28800-3-0-"), "{}", tasks[0].of.job);
    world.say_of(&mut memory, tasks[0].of.job.clone(), "w1", read_but(&tasks[0], &[(2, ErrorClass::Perm)]));
    world.look(&mut memory, OPEN + 1).await;
    let alarm = world.alarm().expect("it is told");
    for part in ["1 of 3 sectors", "sector 2 (store `main`)", "s-t01000-2 is not there", "deadline 3", "in 179 epochs"]
    {
        assert!(alarm.contains(part), "{part}: {alarm}");
    }
    let cause = world.waits.cause(&Subject::Ahead(id_3())).expect("waits");
    assert!(crate::waits::is_mended_by_a_person(&cause), "a file that is gone does not come back by itself");
    let known = world.store.reads_ahead(Some(MINER)).await.expect("reads").pop().expect("a row");
    assert_eq!((known.sectors, known.read, known.unread.len(), known.left()), (3, 2, 1, 0));

    // It alone is read again, some epochs later.
    assert!(world.taken().is_empty());
    world.look(&mut memory, OPEN + 11).await;
    let again = world.taken().pop().expect("a task");
    assert_eq!(again.sectors.iter().map(|sector| sector.number.0).collect::<Vec<_>>(), [2]);
    assert_ne!(again.of.randomness, tasks[0].of.randomness);
    world.say_of(&mut memory, again.of.job.clone(), "w1", read_but(&again, &[]));
    world.look(&mut memory, OPEN + 12).await;
    assert_eq!(world.alarm(), None);
    let known = world.store.reads_ahead(Some(MINER)).await.expect("reads").pop().expect("a row");
    assert_eq!((known.read, known.unread.len()), (3, 0));
    world.look(&mut memory, CHALLENGE_3 - 1).await;
    assert!(world.taken().is_empty(), "it is read once");
}

#[tokio::test]
async fn an_alarm_survives_a_restart_and_ends_with_the_challenge() {
    let world = world(&[1, 2]).await;
    let mut memory = Memory::default();
    world.look(&mut memory, OPEN).await;
    let task = world.taken().pop().expect("a task");
    world.say_of(&mut memory, task.of.job.clone(), "w1", read_but(&task, &[(1, ErrorClass::Temp)]));
    world.look(&mut memory, OPEN + 1).await;
    assert!(world.alarm().is_some());
    let mut memory = Memory::default();
    world.look(&mut memory, OPEN + 2).await;
    assert!(world.alarm().is_some_and(|alarm| alarm.contains("sector 1")), "{:?}", world.alarm());
    world.look(&mut memory, CHALLENGE_3).await;
    assert!(world.alarm().is_some());
    world.look(&mut memory, CHALLENGE_3 + 1).await;
    assert_eq!(world.alarm(), None, "from now on the proof itself tells");
    assert!(world.store.reads_ahead(None).await.expect("reads").is_empty());
}

#[tokio::test]
async fn what_nobody_reads_ahead_is_told_a_window_before_the_challenge() {
    let (world, mut memory) = (world(&[1, 2]).await, Memory::default());
    world.look(&mut memory, CHALLENGE_3 - 61).await;
    assert_eq!(world.alarm(), None);
    world.look(&mut memory, CHALLENGE_3 - 60).await;
    let alarm = world.alarm().expect("it is told");
    assert!(alarm.contains("2 of 2 sectors were not read ahead in time"), "{alarm}");
}

#[tokio::test]
async fn few_tasks_are_in_the_queue_at_a_time_and_none_while_a_proof_is_read() {
    let sound: Vec<u64> = (1..=100).collect();
    let (world, mut memory) = (world(&sound).await, Memory::default());
    world.look(&mut memory, OPEN).await;
    let tasks = world.taken();
    assert_eq!(tasks.iter().map(|task| task.piece).collect::<Vec<_>>(), [0, 1]);
    world.look(&mut memory, OPEN + 1).await;
    assert!(world.taken().is_empty(), "both are being worked on");
    world.say_of(&mut memory, tasks[0].of.job.clone(), "w1", read_but(&tasks[0], &[]));
    world.look(&mut memory, OPEN + 2).await;
    assert_eq!(world.taken().iter().map(|task| task.piece).collect::<Vec<_>>(), [2]);
    // What a worker has lost is offered again.
    world.look(&mut memory, OPEN + 6).await;
    assert_eq!(world.taken().iter().map(|task| task.piece).collect::<Vec<_>>(), [1, 2]);

    let (world, mut memory) = (self::world(&sound).await, Memory::default());
    world.script().sectors = vec![1, 2];
    world.look(&mut memory, OPEN).await;
    let of =
        |tasks: &[ReadTask]| tasks.iter().map(|task| task.of.job.as_str()[..1].to_owned()).collect::<BTreeSet<_>>();
    world.look(&mut memory, OPEN + 1).await;
    let tasks = world.taken();
    let proof = tasks.iter().find(|task| task.of.job == job()).expect("the proof's reads").clone();
    for head in OPEN + 2..OPEN + 8 {
        world.look(&mut memory, head).await;
        assert!(!of(&world.taken()).contains("a"), "at {head}");
    }
    world.say(&mut memory, "w1", read_but(&proof, &[]));
    world.look(&mut memory, OPEN + 8).await;
    world.look(&mut memory, OPEN + 9).await;
    assert!(of(&world.taken()).contains("a"));
}

#[tokio::test]
async fn workers_and_funds_that_are_missing_are_told_before_the_deadline_opens() {
    let (world, mut memory) = (world(&[1, 2]).await, Memory::default());
    world.script().workers_away = true;
    world.look(&mut memory, OPEN).await;
    assert_eq!(world.lack(), None, "a worker may be between two tasks");
    world.look(&mut memory, OPEN + 5).await;
    let lack = world.lack().expect("it is told");
    for part in
        ["no worker reads in the store `main`", "no worker proves", "deadline 3 with 1 proof(s)", "in 175 epochs"]
    {
        assert!(lack.contains(part), "{part}: {lack}");
    }
    world.script().workers_away = false;
    world.look(&mut memory, OPEN + 10).await;
    assert_eq!(world.lack(), None);
    world.script().is_poor = true;
    world.look(&mut memory, OPEN + 15).await;
    world.look(&mut memory, OPEN + 20).await;
    assert!(world.lack().is_some_and(|lack| lack.contains("no sender can pay")), "{:?}", world.lack());
    world.look(&mut memory, CHALLENGE_3 + 1).await;
    assert_eq!(world.lack(), None, "no deadline with sectors comes");
}

#[tokio::test]
async fn while_the_miner_owes_no_recovery_is_declared_and_that_is_told() {
    let (world, mut memory) = (world(&[1]).await, Memory::default());
    (world.script().owes, world.script().faulty_later) = (true, vec![2]);
    world.store.pretend_stored(SectorId { miner: MINER, number: SectorNumber(2) }, "main").await;
    world.look(&mut memory, OPEN).await;
    let task = world.taken().into_iter().find(|task| task.of.job.as_str().starts_with("r-")).expect("a task");
    world.say_of(&mut memory, task.of.job.clone(), "w1", read_but(&task, &[]));
    world.look(&mut memory, OPEN + 5).await;
    assert!(world.lack().is_some_and(|lack| lack.contains("miners repay-debt")), "{:?}", world.lack());
    assert!(world.errands().await.is_empty(), "the chain would refuse it");
    world.script().owes = false;
    world.look(&mut memory, OPEN + 10).await;
    assert_eq!((world.errands().await.len(), world.lack()), (1, None));
}
