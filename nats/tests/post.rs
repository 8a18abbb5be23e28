//! Proofs of spacetime on the bus, against a real server.

mod support;

use futures::StreamExt;
use sealbus_nats::topology::POST_ACK_WAIT;
use sealbus_schema::{ErrorClass, ErrorCode, ErrorReport, MinerId, post::PostReport};
use support::{Server, eventually};

const MINER: MinerId = MinerId(1000);

fn report(attempt: u32) -> PostReport {
    let error = ErrorReport::new(ErrorClass::Temp, ErrorCode::PROCESSOR_DIED, "killed");
    PostReport::NotProved { attempt, error, culprits: Vec::new() }
}

#[tokio::test]
async fn who_listens_to_reports_learns_that_the_server_was_restarted_and_hears_all_again() {
    let mut server = Server::start();
    let bus = server.connect_with_streams("manager").await;
    let (job, worker) = ("w-1".parse().expect("a name"), "w1".parse().expect("a name"));
    let mut heard = bus.post_reports().await.expect("listens");
    bus.report_post((MINER, &job), &worker, &report(0)).await.expect("stored");
    assert_eq!(heard.next().await.expect("one").expect("reads").report, report(0));
    server.kill_and_restart();
    // The consumer was in the server's memory. Without this nothing would be heard until its heartbeats are missed.
    assert!(heard.next().await.is_none());
    let mut heard = eventually("the reports", || async { bus.post_reports().await.ok() }).await;
    bus.report_post((MINER, &job), &worker, &report(1)).await.expect("stored");
    for attempt in [0, 1] {
        assert_eq!(heard.next().await.expect("one").expect("reads").report, report(attempt));
    }
}

#[tokio::test]
async fn a_silent_workers_task_is_delivered_again_after_the_configured_time() {
    use sealbus_nats::post::PostQueue;
    use sealbus_schema::{
        Commitment, Randomness, SealProof, SectorNumber,
        post::{PostKind, PostSubject, PostTask, ProveTask},
    };
    let server = Server::start();
    let bus = server.connect_with_streams("manager").await;
    let queue = PostQueue::Proves { miner: MINER };
    // A queue that is there already follows the configuration.
    bus.ensure_post_queue(&queue, POST_ACK_WAIT).await.expect("queue");
    bus.ensure_post_queue(&queue, std::time::Duration::from_secs(1)).await.expect("queue");
    let of = PostSubject {
        miner: MINER,
        job: "w-1".parse().expect("a name"),
        post: PostKind::Window,
        proof: SealProof::StackedDrg2KiBV1_1,
        randomness: Randomness([1; 32]),
    };
    let (readers, sectors) = (vec!["w1".parse().expect("a name")], vec![(SectorNumber(1), Commitment([9; 32]), 0)]);
    let task = PostTask::Prove(ProveTask { of, attempt: 0, readers, sectors, limit_ms: 1, failed_at: vec![] });
    bus.offer_post(&task).await.expect("offers");
    let first = bus.next_post(&queue).await.expect("a task");
    assert!(first.sign_of_life() < std::time::Duration::from_secs(1));
    let again = bus.next_post(&queue).await.expect("a task");
    assert_eq!((first.task, again.task, again.delivered), (task.clone(), task, 2));
}
