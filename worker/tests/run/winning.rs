//! Winning PoSts beside other work, provers that are kept for window PoSts, and machines that only prove.

use std::{fs, time::Duration};

use sealbus_schema::post::PostKind;

use crate::{
    proofs::{Prover, RANDOMNESS, all_read, bench, make_pipe, of, proof, verifies, window},
    support::{Bench, MINER, Server, Worker},
};

/// A prover of window PoSts that never ends.
const ENDLESS: &str = r#"[[processor]]
stage = "post_prove"
bin = "/bin/sh"
args = ["-c", '''printf '{"sealbus_processor":2,"stage":"post_prove","pid":%s}\n' $$; read -r line; exec sleep 300''']
"#;

#[tokio::test]
async fn a_worker_whose_reader_and_prover_are_busy_with_a_window_post_makes_a_winning_one_at_once() {
    let server = Server::start();
    let mut prover = Prover::connect(&server.url()).await;
    let mut bench = bench(&server);
    bench.more = format!("{ENDLESS}[proving]\nprove = true\nwin = true\ntrial = false\nreaders = 1\n");
    let comm_r = bench.seal();
    bench.copy_to(7);
    let _worker = bench.start();
    let sectors = [(1, comm_r)];
    assert!(all_read(&prover.read(&window("w-1"), &sectors, None, 60_000).await));
    prover.offer_prove(&window("w-1"), &sectors, Vec::new()).await;
    let hanging = bench.path("store/sealed/s-t01000-7");
    fs::remove_file(&hanging).expect("removes");
    make_pipe(&hanging);
    prover.offer_read(&window("w-2"), &[(7, comm_r)], None, 110_000).await;
    let are_busy = prover.manager.heartbeat_with("a busy reader and a busy prover", |seen| {
        let is_busy = |stage| seen.processors.iter().any(|one| one.stage == stage && one.busy);
        is_busy("post_read") && is_busy("post_prove")
    });
    are_busy.await;

    let job = of("b-1", PostKind::Winning, RANDOMNESS);
    assert!(all_read(&prover.read(&job, &sectors, None, 60_000).await));
    let report = prover.prove(&job, &sectors).await;
    assert!(verifies(&job, &sectors, proof(&report)));
}

#[tokio::test]
async fn a_machine_that_also_seals_keeps_its_prover_free_while_window_posts_are_due() {
    let server = Server::start();
    let mut prover = Prover::connect(&server.url()).await;
    let mut bench = bench(&server);
    let comm_r = bench.seal();
    let shared = |stage: &str| format!("[[processor]]\nstage = \"{stage}\"\nlocks = [\"gpu0\"]\n");
    bench.more = format!("{}{}{}[locks]\ngpu0 = 1\n", bench.more, shared("c2"), shared("post_prove"));
    let _worker = bench.start();
    // The manager says so again and again.
    let said = async {
        loop {
            prover.manager.bus.tell_post_due(MINER).await.expect("says so");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let is_kept = prover.manager.heartbeat_with("a prover that is kept", |seen| {
        seen.processors.iter().any(|one| one.stage == "post_prove" && one.busy)
    });
    tokio::select! {
        _ = is_kept => {}
        () = said => {}
    }
    let (job, sectors) = (window("w-1"), [(1, comm_r)]);
    assert!(all_read(&prover.read(&job, &sectors, None, 60_000).await));
    let report = prover.prove(&job, &sectors).await;
    assert!(verifies(&job, &sectors, proof(&report)), "it is kept for this");
}

#[tokio::test]
async fn a_machine_that_only_proves_needs_no_slot() {
    let server = Server::start();
    let mut prover = Prover::connect(&server.url()).await;
    let bench = bench(&server);
    let comm_r = bench.seal();
    let _reader = bench.start();
    let (job, sectors) = (of("b-1", PostKind::Winning, RANDOMNESS), [(1, comm_r)]);
    assert!(all_read(&prover.read(&job, &sectors, None, 60_000).await));

    let alone = Bench { scripted: false, ..Bench::new(server.url(), 0) };
    let config = alone.config().replace("name = \"w1\"", "name = \"w2\"\nworkflows = []");
    let config = config.replace("path = \"store\"", &format!("path = {:?}", bench.path("store")));
    let config = alone.write_config(&format!("{config}[proving]\nread = false\nwin = true\ntrial = false\n"));
    let _prover = Worker::start(&config, &alone.path("worker.log"));
    let report = prover.prove(&job, &sectors).await;
    assert!(verifies(&job, &sectors, proof(&report)));
}

#[tokio::test]
async fn a_machine_that_has_proven_a_job_does_not_prove_it_again_because_it_was_offered_twice() {
    let server = Server::start();
    let mut prover = Prover::connect(&server.url()).await;
    let bench = bench(&server);
    let comm_r = bench.seal();
    let _worker = bench.start();
    let (first, next) = (of("b-1", PostKind::Winning, RANDOMNESS), of("b-2", PostKind::Winning, RANDOMNESS));
    let sectors = [(1, comm_r)];
    for job in [&first, &next] {
        assert!(all_read(&prover.read(job, &sectors, None, 60_000).await));
    }
    prover.offer_attempt(&first, &sectors, 0, Vec::new()).await;
    prover.offer_attempt(&first, &sectors, 1, Vec::new()).await;
    prover.offer_prove(&next, &sectors, Vec::new()).await;
    let jobs = [prover.said().await.job, prover.said().await.job];
    assert_eq!(jobs, [first.job.clone(), next.job]);
    prover.offer_attempt(&first, &sectors, 2, vec!["w1".parse().expect("a name")]).await;
    assert_eq!(prover.said().await.job, first.job, "its proof was wrong");
}
