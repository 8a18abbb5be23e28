//! What a stolen credential can do, tried against a real server with the playbook's configuration. Each attempt
//! bypasses this crate, as an attacker would. Decisions 0025 and 0032 in `docs/adr` say what must hold.

#[path = "support/layout.rs"]
mod layout;
#[allow(dead_code, reason = "the rest is for servers without accounts")]
mod support;

use std::time::Duration;

use async_nats::{Client, ConnectOptions, HeaderMap, jetstream};
use layout::Keys;
use nkeys::KeyPair;
use sealbus_nats::{
    Bus, Connection,
    facts::Heard,
    heartbeats::Heart,
    intents::{PullError, Queue},
    lease::ClaimOutcome,
    post::{PostQueue, PostSaid},
    topology::{Layout, POST_ACK_WAIT},
};
use sealbus_schema::{
    Commitment, ErrorClass, ErrorCode, ErrorReport, IntentKind, MinerId, ProofBytes, Randomness, SealProof, SectorId,
    SectorNumber, Token, WorkerName, Workflow, codec,
    message::{CommonFact, Event, EventBody, Fact, Heartbeat, Intent, Orders},
    post::{PostKind, PostReport, PostSubject, PostTask, ProveTask, ReadTask, SectorRead, SectorToRead, Vanilla},
    workflows::seal,
};
use support::{Server, eventually};

const QUEUE: Queue = Queue { miner: MinerId(1000), proof: SealProof::StackedDrg2KiBV1_1, kind: IntentKind::Seal };
const SECTOR: SectorId = SectorId { miner: MinerId(1000), number: SectorNumber(1) };
const STREAMS: [&str; 4] = ["SEAL_INTENTS", "SEAL_SECTORS", "SEAL_HEARTBEATS", "SEAL_COMMANDS"];
/// How long to wait for an answer that must not come.
const SHORT: Duration = Duration::from_millis(700);

struct Site {
    server: Server,
    keys: Vec<(&'static str, KeyPair)>,
    manager: Bus,
    /// The manager's account, to inspect the streams.
    js: jetstream::Context,
}

fn worker(name: &str) -> WorkerName {
    name.parse().expect("worker name")
}

fn intent() -> Intent {
    Intent { sector: SECTOR, kind: QUEUE.kind, proof: QUEUE.proof, lease_sequence: 0, attempt: 1 }
}

fn heartbeat(worker: &str) -> Heartbeat {
    let (worker, host, version) = (worker.parse().expect("worker name"), "h".to_owned(), "0".to_owned());
    let (slots, processors, broken) = (vec![], vec![], vec![]);
    Heartbeat { worker, host, version, incarnation: 1, draining: false, orders: 0, slots, processors, broken }
}

impl Site {
    async fn build() -> Site {
        let keys: Vec<_> =
            ["manager", "operator", "w1", "w2"].into_iter().map(|name| (name, KeyPair::new_user())).collect();
        let public = |of: &str| keys.iter().find(|(name, _)| *name == of).expect("a key").1.public_key();
        let workers = vec![("w1", public("w1")), ("w2", public("w2"))];
        let (manager, operator) = (public("manager"), public("operator"));
        // The workers do not serve the second miner, whose sectors have another size.
        let miners = vec![("f01000", "2KiB"), ("f02000", "32GiB")];
        let known = Keys { manager: &manager, operator: &operator, workers, miners };
        let server = Server::start_with(|port, store| {
            let listen = format!("127.0.0.1:{port}");
            layout::render(&listen, "nats", &store.display().to_string(), "", &known).expect("renders")
        });
        for (name, pair) in &keys {
            std::fs::write(server.directory().join(name), pair.seed().expect("a seed")).expect("writes");
        }
        let manager = bus_of(&server, "manager", None).await;
        manager.ensure_streams(Layout { replicas: 1, max_sectors_bytes: 1 << 28 }).await.expect("streams");
        manager.ensure_queue(QUEUE.miner, QUEUE.proof, QUEUE.kind).await.expect("queue");
        let js = jetstream::new(client_of(&server, &keys, "manager").await);
        Site { server, keys, manager, js }
    }

    async fn bus(&self, worker: &str) -> Bus {
        bus_of(&self.server, worker, Some("SEALBUS.API")).await
    }

    async fn client(&self, name: &str) -> Client {
        client_of(&self.server, &self.keys, name).await
    }

    /// How many messages each stream has. All streams must exist.
    async fn counts(&self) -> Vec<u64> {
        let mut counts = Vec::new();
        for stream in STREAMS {
            counts.push(self.js.get_stream(stream).await.expect("is there").cached_info().state.messages);
        }
        counts
    }

    /// How many tasks on proofs there are, and how many answers.
    async fn posts(&self) -> [u64; 2] {
        let mut counts = [0; 2];
        for (count, stream) in counts.iter_mut().zip(["SEAL_POST_TASKS", "SEAL_POST"]) {
            *count = self.js.get_stream(stream).await.expect("is there").cached_info().state.messages;
        }
        counts
    }

    async fn streams(&self) -> usize {
        use futures::StreamExt;
        self.js.stream_names().count().await
    }
}

async fn bus_of(server: &Server, name: &str, api_prefix: Option<&str>) -> Bus {
    let connection = Connection {
        url: server.url(),
        nkey_seed_file: Some(server.directory().join(name)),
        credentials_file: None,
        ca_file: None,
        api_prefix: api_prefix.map(str::to_owned),
    };
    let connecting = connection.connect_patiently(name);
    tokio::time::timeout(Duration::from_secs(20), connecting).await.expect("comes up").expect("connects")
}

async fn client_of(server: &Server, keys: &[(&'static str, KeyPair)], name: &str) -> Client {
    let seed = keys.iter().find(|(of, _)| *of == name).expect("a key").1.seed().expect("a seed");
    let inbox = if name == "operator" { "_INBOX".to_owned() } else { format!("_INBOX_{name}") };
    let options = ConnectOptions::with_nkey(seed).custom_inbox_prefix(inbox);
    options.connect(server.url()).await.expect("connects")
}

#[tokio::test]
async fn a_worker_with_an_account_of_its_own_does_its_work() {
    let site = Site::build().await;
    let (bus, w1) = (site.bus("w1").await, worker("w1"));
    site.manager.offer(&intent()).await.expect("offers");
    let offer = bus.next_intent(&[QUEUE]).await.expect("an intent");
    let ClaimOutcome::Won(token) = bus.claim(&offer.intent, &w1, "h").await.expect("an outcome") else {
        panic!("nobody else is there");
    };
    offer.accept().await.expect("acknowledged");
    assert_eq!(site.counts().await[0], 0, "the intent is out of the queue");
    bus.report(SECTOR, &w1, &Event { token, number: 1, body: EventBody::Seal(seal::Event::Pc1Done {}) })
        .await
        .expect("reports");
    let stale = Event { token, number: 2, body: EventBody::Seal(seal::Event::Pc1Done {}) };
    let mut wakeups = bus.fact_wakeups(&w1).await.expect("subscribes");
    let mut orders = bus.orders_wakeups(&w1).await.expect("subscribes");
    // This makes sure that the subscription is at the server before the fact.
    assert!(bus.orders(&w1).await.expect("reads").is_none());
    let fact = Fact::new(token, 0, seal::Fact::ProveLanded { activation_epoch: 7 });
    site.manager.tell(SECTOR, &w1, &fact, "1").await.expect("tells");
    site.manager.order(&w1, &Orders { revision: 1, drain: true, ..Orders::default() }).await.expect("orders");
    use futures::StreamExt;
    let waited = tokio::time::timeout(Duration::from_secs(20), futures::future::join(wakeups.next(), orders.next()));
    let heard = Heard { sector: SECTOR, fact: Some(fact.clone()) };
    assert_eq!(waited.await.expect("woken"), (Some(heard), Some(())));
    assert_eq!(bus.last_fact(SECTOR, &w1, seal::Fact::PROVE_LANDED).await.expect("reads"), Some(fact));
    assert!(bus.orders(&w1).await.expect("reads").expect("orders").drain);
    let last = bus.last_sequences(&[SECTOR], &w1).await.expect("reads with a worker's rights");
    assert!(last[&SECTOR] > token.0, "the fact came behind the claim");
    let beat = heartbeat("w1");
    let mut heart = Heart::new(&w1);
    heart.beat(&bus, &beat).await.expect("beats");
    heart.beat(&bus, &beat).await.expect("beats again");
    assert_eq!(bus.sectors_identity().await.expect("reads"), site.manager.sectors_identity().await.expect("reads"));
    site.manager.release(SECTOR, token.0, "a test").await.expect("releases");
    bus.report(SECTOR, &w1, &stale).await.expect_err("fenced");
}

#[tokio::test]
async fn no_answer_of_the_server_reaches_a_stream_or_the_servers_interface() {
    let site = Site::build().await;
    let w2 = worker("w2");
    let ClaimOutcome::Won(token) = site.bus("w2").await.claim(&intent(), &w2, "h").await.expect("an outcome") else {
        panic!("nobody else is there");
    };
    let mut heart = Heart::new(&worker("w1"));
    heart.beat(&site.bus("w1").await, &heartbeat("w1")).await.expect("beats");
    let before = site.counts().await;
    let streams = site.streams().await;
    let forged = [
        "seal.sector.f01000.1.lease.-".to_owned(),
        "seal.sector.f01000.1.ev.w2".to_owned(),
        "seal.sector.f01000.1.fact.w2.abandon".to_owned(),
        "seal.cmd.w2".to_owned(),
        format!("seal.intent.f01000.{}.seal.9.0", QUEUE.proof),
        "$JS.API.STREAM.DELETE.SEAL_SECTORS".to_owned(),
        "$JS.API.STREAM.PURGE.SEAL_SECTORS".to_owned(),
        "$JS.API.STREAM.CREATE.EVIL".to_owned(),
        "$JS.API.CONSUMER.DELETE.SEAL_SECTORS.mgr".to_owned(),
    ];
    for (name, deputies) in [
        (
            "w1",
            vec![
                "SEALBUS.API.DIRECT.GET.SEAL_HEARTBEATS.seal.hb.w1",
                "SEALBUS.API.DIRECT.GET.SEAL_COMMANDS.seal.cmd.w1",
                "SEALBUS.API.STREAM.INFO.SEAL_SECTORS",
                "SEALBUS.API.STREAM.MSG.GET.SEAL_SECTORS",
                "SEALBUS.API.DIRECT.GET.SEAL_SECTORS",
                "seal.hb.w1",
                "$JS.API.DIRECT.GET.SEAL_HEARTBEATS.seal.hb.w1",
            ],
        ),
        (
            "operator",
            vec![
                "SEALBUS.API.DIRECT.GET.SEAL_HEARTBEATS.seal.hb.nobody",
                "SEALBUS.API.DIRECT.GET.SEAL_SECTORS.seal.sector.f01000.1.lease.w2",
                "SEALBUS.API.STREAM.INFO.SEAL_SECTORS",
                "SEALBUS.API.STREAM.LIST",
                "SEALBUS.API.STREAM.MSG.GET.SEAL_SECTORS",
            ],
        ),
    ] {
        let client = site.client(name).await;
        for deputy in deputies {
            for reply in &forged {
                for payload in [
                    "{}",
                    "{\"last_by_subj\":\"seal.sector.f01000.1.lease.*\"}",
                    "{\"multi_last\":[\"seal.sector.f01000.1.lease.*\"]}",
                ] {
                    client.publish_with_reply(deputy.to_owned(), reply.clone(), payload.into()).await.expect("sends");
                }
            }
        }
        client.flush().await.expect("flushes");
    }
    // The effects of the attempt come before this answer.
    site.bus("w1").await.last_lease(SECTOR).await.expect("reads");
    let after = site.counts().await;
    assert_eq!((&after[..2], after[3]), (&before[..2], before[3]), "nothing was stored or removed");
    assert_eq!(site.streams().await, streams);
    assert!(site.js.get_stream("SEAL_SECTORS").await.expect("is there").consumer_info("mgr").await.is_ok());
    let right = Event { token, number: 1, body: EventBody::Seal(seal::Event::Pc1Done {}) };
    site.bus("w2").await.report(SECTOR, &w2, &right).await.expect("the owner goes on");
    assert!(site.manager.orders(&w2).await.expect("reads").is_none());
}

/// Publishes a request, and returns whether anybody answered.
async fn answered(client: &Client, subject: &str, payload: &'static str) -> bool {
    let asked = tokio::time::timeout(SHORT, client.request(subject.to_owned(), payload.into())).await;
    // A "no responders" status comes from the server and is not an answer.
    matches!(asked, Ok(Ok(message)) if message.status.is_none())
}

#[tokio::test]
async fn a_credential_writes_and_asks_for_its_own_alone() {
    let site = Site::build().await;
    let before = site.counts().await;
    let refused = [
        "seal.sector.f01000.1.lease.-",
        "seal.sector.f01000.1.lease.w2",
        "seal.sector.f01000.1.ev.w2",
        "seal.sector.f01000.1.fact.w1.ticket",
        "seal.sector.f01000.1.fact.w2.abandon",
        "seal.cmd.w1",
        "seal.cmd.w2",
        "seal.hb.w2",
        "seal.intent.f01000.StackedDrg2KiBV1_1.seal.9.0",
        "SEALBUS.API.STREAM.DELETE.SEAL_SECTORS",
        "SEALBUS.API.STREAM.PURGE.SEAL_SECTORS",
        "SEALBUS.API.STREAM.UPDATE.SEAL_SECTORS",
        "SEALBUS.API.STREAM.CREATE.EVIL",
        "SEALBUS.API.STREAM.MSG.DELETE.SEAL_SECTORS",
        "SEALBUS.API.CONSUMER.CREATE.SEAL_SECTORS",
        "SEALBUS.API.CONSUMER.CREATE.SEAL_SECTORS.mine",
        "SEALBUS.API.CONSUMER.DELETE.SEAL_INTENTS.f01000_StackedDrg2KiBV1_1_seal",
        "SEALBUS.API.CONSUMER.MSG.NEXT.SEAL_SECTORS.mgr",
        "$JS.API.STREAM.DELETE.SEAL_SECTORS",
        "$JS.API.STREAM.CREATE.EVIL",
        "$JS.ACK.SEAL_SECTORS.mgr.1.1.1.1.1",
    ];
    for name in ["w1", "operator"] {
        let client = site.client(name).await;
        for subject in refused {
            assert!(!answered(&client, subject, "{}").await, "{name} may use {subject}");
        }
    }
    let operator = site.client("operator").await;
    for subject in ["seal.sector.f01000.1.lease.w1", "seal.hb.w1", "SEALBUS.API.CONSUMER.MSG.NEXT.SEAL_INTENTS.x"] {
        assert!(!answered(&operator, subject, "{}").await, "the operator may use {subject}");
    }
    let looked = operator.request("SEALBUS.API.STREAM.INFO.SEAL_SECTORS", "".into()).await.expect("an answer");
    assert_eq!(looked.status, None, "the operator looks");
    assert_eq!(site.counts().await, before);
}

/// A stolen key gives access only to sectors of the miners that its machine seals for.
#[tokio::test]
async fn a_worker_takes_and_claims_sectors_of_its_miners_alone() {
    let site = Site::build().await;
    let (bus, w1) = (site.bus("w1").await, worker("w1"));
    let own: Vec<Queue> = IntentKind::ALL.iter().map(|&kind| Queue { kind, ..QUEUE }).collect();
    let others = [
        Queue { miner: MinerId(2000), proof: SealProof::StackedDrg32GiBV1_1, kind: IntentKind::Seal },
        Queue { miner: MinerId(3000), ..QUEUE },
    ];
    for queue in own.iter().chain(&others) {
        site.manager.ensure_queue(queue.miner, queue.proof, queue.kind).await.expect("queue");
        let sector = SectorId { miner: queue.miner, ..SECTOR };
        let wanted = Intent { sector, kind: queue.kind, proof: queue.proof, ..intent() };
        site.manager.offer(&wanted).await.expect("offers");
    }
    for queue in own {
        let offer = bus.next_intent(&[queue]).await.expect("an intent of its miner");
        offer.accept().await.expect("acknowledged");
    }
    let before = site.counts().await;
    for queue in others {
        let refused = bus.next_intent(&[queue]).await.err().expect("refused");
        assert!(matches!(refused, PullError::NoQueue { .. }), "{refused:?}");
        let client = site.client("w1").await;
        let name = sealbus_nats::topology::queue_name(queue.miner, queue.proof, queue.kind);
        for subject in [
            format!("SEALBUS.API.CONSUMER.MSG.NEXT.SEAL_INTENTS.{name}"),
            format!("SEALBUS.API.CONSUMER.INFO.SEAL_INTENTS.{name}"),
            format!("$JS.ACK.SEAL_INTENTS.{name}.1.1.1.1.0"),
            format!("seal.sector.{}.1.lease.{w1}", queue.miner),
            format!("seal.sector.{}.1.ev.{w1}", queue.miner),
        ] {
            assert!(!answered(&client, &subject, "").await, "w1 may use {subject}");
        }
    }
    assert_eq!(site.counts().await, before, "nothing was taken, claimed or reported");
}

#[tokio::test]
async fn what_a_worker_hears_is_its_own() {
    use futures::StreamExt;
    let site = Site::build().await;
    let client = site.client("w1").await;
    let mut heard = Vec::new();
    for subject in [">", "seal.>", "seal.cmd.w2", "_INBOX_w2.>", "_INBOX_manager.>", "seal.sector.*.*.fact.w2.*"] {
        heard.push(client.subscribe(subject).await.expect("asks"));
    }
    client.flush().await.expect("flushes");
    let ClaimOutcome::Won(token) = site.bus("w2").await.claim(&intent(), &worker("w2"), "h").await.expect("claims")
    else {
        panic!("nobody else is there");
    };
    let error = ErrorReport::new(ErrorClass::Abort, ErrorCode::ABANDONED, "a test");
    site.manager
        .tell(SECTOR, &worker("w2"), &Fact::new(token, 0, CommonFact::Abandon { error }), "1")
        .await
        .expect("tells");
    site.manager.order(&worker("w2"), &Orders::default()).await.expect("orders");
    site.bus("w1").await.last_lease(SECTOR).await.expect("reads");
    for mut subscription in heard {
        let next = tokio::time::timeout(Duration::from_millis(100), subscription.next()).await;
        assert!(!matches!(next, Ok(Some(_))), "{next:?}");
    }
}

#[tokio::test]
async fn a_message_that_is_larger_than_any_of_ours_is_refused() {
    let site = Site::build().await;
    let js = jetstream::with_prefix(site.client("w1").await, "SEALBUS.API");
    let before = site.counts().await;
    let publish = |bytes: usize| {
        let js = js.clone();
        async move { js.publish("seal.sector.f01000.1.ev.w1", vec![0u8; bytes].into()).await.expect("sends").await }
    };
    publish(codec::MAX_MESSAGE_BYTES).await.expect("as large as ours are");
    publish(200_000).await.expect_err("larger than the stream takes");
    assert_eq!(site.counts().await[1], before[1] + 1);
    // The server closes a connection that sends more than its maximum.
    let client = site.client("w1").await;
    let _ = client.publish("seal.sector.f01000.1.ev.w1", vec![0u8; 1_000_000].into()).await;
    let _ = tokio::time::timeout(SHORT, client.flush()).await;
    assert_eq!(site.counts().await[1], before[1] + 1);
}

/// This is possible, but limited and reported: the manager offers a missing intent again, and says so.
#[tokio::test]
async fn an_intent_that_somebody_else_acknowledged_is_offered_again_and_that_is_noticed() {
    let site = Site::build().await;
    site.manager.offer(&intent()).await.expect("offers");
    let offer = site.bus("w2").await.next_intent(&[QUEUE]).await.expect("an intent");
    assert_eq!(offer.intent, intent());
    let client = site.client("w1").await;
    let queue = sealbus_nats::topology::queue_name(QUEUE.miner, QUEUE.proof, QUEUE.kind);
    client.publish(format!("$JS.ACK.SEAL_INTENTS.{queue}.1.1.1.1.0"), "+ACK".into()).await.expect("sends");
    client.flush().await.expect("flushes");
    eventually("the loss", || async { (site.counts().await[0] == 0).then_some(()) }).await;
    // The worker that really took the intent can still claim.
    let claim = site.bus("w2").await.claim(&offer.intent, &worker("w2"), "h").await.expect("an outcome");
    assert!(matches!(claim, ClaimOutcome::Won(Token(1))), "{claim:?}");
}

#[tokio::test]
async fn a_roll_up_wipes_nothing() {
    let site = Site::build().await;
    let mut heart = Heart::new(&worker("w2"));
    heart.beat(&site.bus("w2").await, &heartbeat("w2")).await.expect("beats");
    let client = site.client("w1").await;
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Rollup", "all");
    let answer = client.request_with_headers("seal.hb.w1", headers, "x".into()).await.expect("an answer");
    assert!(String::from_utf8_lossy(&answer.payload).contains("error"), "{answer:?}");
    assert_eq!(site.manager.workers().await.expect("reads").len(), 1);
}

/// A worker whose account lacks a queue waits for nothing in it.
#[test]
fn the_playbook_names_the_intents_of_each_workflow_that_machines_serve_by_default() {
    const DEFAULTS: &str = include_str!("../../ansible/roles/nats/defaults/main.yml");
    let served = Workflow::ALL.iter().filter(|workflow| workflow.is_served_by_default());
    let kinds: Vec<&str> = served.flat_map(|workflow| workflow.intents()).map(|kind| kind.name()).collect();
    let line = format!("sealbus_intents: [{}]", kinds.join(", "));
    assert!(DEFAULTS.lines().any(|found| found == line), "{line} is not in the defaults of the role");
}

fn post_of(miner: u64) -> PostSubject {
    PostSubject {
        miner: MinerId(miner),
        job: "w-2880-7-0".parse().expect("a name"),
        post: PostKind::Window,
        proof: QUEUE.proof,
        randomness: Randomness([7; 32]),
    }
}

fn read_task(miner: u64, store: &str) -> PostTask {
    let sectors = vec![SectorToRead { number: SectorNumber(1), comm_r: Commitment([9; 32]) }];
    let (store, store_id) = (store.to_owned(), None);
    PostTask::Read(ReadTask {
        of: post_of(miner),
        piece: 0,
        store,
        store_id,
        sectors,
        sector_limit_ms: 1,
        limit_ms: 1,
        is_trial: false,
    })
}

fn prove_task(miner: u64) -> PostTask {
    let (readers, sectors) = (vec![worker("w1")], vec![(SectorNumber(1), Commitment([9; 32]), 0)]);
    PostTask::Prove(ProveTask { of: post_of(miner), attempt: 0, readers, sectors, limit_ms: 1, failed_at: vec![] })
}

#[tokio::test]
async fn a_worker_reads_and_proves_for_its_miners_and_its_store() {
    use futures::StreamExt;
    let site = Site::build().await;
    let (bus, w1) = (site.bus("w1").await, worker("w1"));
    let reads = |miner, store: &str| PostQueue::Reads { miner: MinerId(miner), store: store.to_owned() };
    let proves = |miner| PostQueue::Proves { miner: MinerId(miner) };
    for queue in [reads(1000, "main"), reads(1000, "other"), reads(2000, "main"), proves(1000), proves(2000)] {
        site.manager.ensure_post_queue(&queue, POST_ACK_WAIT).await.expect("queue");
    }
    let offered = [read_task(1000, "main"), prove_task(1000), read_task(1000, "other"), prove_task(2000)];
    for task in &offered {
        assert!(site.manager.offer_post(task).await.expect("offers").is_some());
        assert!(site.manager.offer_post(task).await.expect("offers again").is_none(), "it is there already");
    }
    for (queue, task) in [(reads(1000, "main"), &offered[0]), (proves(1000), &offered[1])] {
        let offer = bus.next_post(&queue).await.expect("a task");
        assert_eq!((&offer.task, offer.delivered), (task, 1));
        offer.still_working().await.expect("says so");
        offer.put_back(Duration::ZERO).await.expect("gives it back");
        let again = bus.next_post(&queue).await.expect("the task again");
        assert_eq!(again.delivered, 2);
        again.done().await.expect("acknowledged");
    }
    // A block's tasks are taken from queues of their own, whatever else waits.
    let winning = |task: PostTask| match task {
        PostTask::Read(mut task) => {
            task.of.post = PostKind::Winning;
            PostTask::Read(task)
        }
        PostTask::Prove(mut task) => {
            task.of.post = PostKind::Winning;
            PostTask::Prove(task)
        }
        PostTask::Unknown => PostTask::Unknown,
    };
    let winning_reads = |miner, store: &str| PostQueue::WinningReads { miner: MinerId(miner), store: store.to_owned() };
    let winning_proves = |miner| PostQueue::WinningProves { miner: MinerId(miner) };
    for (queue, task) in [
        (winning_reads(1000, "main"), winning(read_task(1000, "main"))),
        (winning_proves(1000), winning(prove_task(1000))),
    ] {
        site.manager.ensure_post_queue(&queue, POST_ACK_WAIT).await.expect("queue");
        site.manager.offer_post(&task).await.expect("offers");
        let offer = bus.next_post(&queue).await.expect("a task");
        assert_eq!(offer.task, task);
        offer.done().await.expect("acknowledged");
    }
    site.manager.ensure_post_queue(&winning_proves(2000), POST_ACK_WAIT).await.expect("queue");
    for queue in [reads(1000, "other"), reads(2000, "main"), proves(2000), winning_proves(2000)] {
        let refused = bus.next_post(&queue).await.err().expect("refused");
        assert!(matches!(refused, PullError::NoQueue { .. }), "{refused:?}");
    }

    let of = post_of(1000);
    let (post, randomness) = (of.post, of.randomness);
    let vanilla =
        |byte| Vanilla { post, randomness, comm_r: Commitment([9; 32]), bytes: ProofBytes(vec![byte; 24_000]) };
    // Two requests' worth, and one that nobody has made.
    for n in 0..130 {
        let at = (of.miner, &of.job, SectorNumber(n));
        bus.publish_vanilla(at, &w1, &vanilla(n as u8)).await.expect("publishes");
    }
    let wanted: Vec<_> = (0..131).map(|n| (SectorNumber(n), w1.clone())).collect();
    let found = site.bus("w2").await.vanillas(of.miner, &of.job, &wanted).await.expect("reads");
    assert_eq!(found.len(), 130);
    assert_eq!(found[&SectorNumber(129)], vanilla(129));

    let report =
        |ms| PostReport::Read { piece: 0, sectors: vec![SectorRead { number: SectorNumber(1), ms, error: None }] };
    let mut heard = site.manager.post_reports().await.expect("listens");
    for ms in [1, 2, 1] {
        bus.report_post((of.miner, &of.job), &w1, &report(ms)).await.expect("reports");
        let said = tokio::time::timeout(Duration::from_secs(20), heard.next()).await.expect("heard");
        let (miner, job, worker) = (of.miner, of.job.clone(), w1.clone());
        let expected = PostSaid { miner, job, worker, report: report(ms) };
        assert_eq!(said.expect("goes on").expect("reads"), expected, "also what was said before");
    }

    assert_eq!(bus.posts_due(&[of.miner]).await.expect("reads"), []);
    let due = async || bus.posts_due(&[of.miner]).await.expect("reads")[0].1;
    site.manager.tell_post_due(of.miner).await.expect("says so");
    let first = due().await;
    site.manager.tell_post_due(of.miner).await.expect("says so again");
    assert!(due().await > first);

    let client = site.client("w1").await;
    let before = site.posts().await;
    for subject in [
        "seal.post.due.f01000",
        "seal.post.winprove.f01000.w-2880-7-0.1",
        "seal.post.vanilla.f01000.w-2880-7-0.1.w2",
        "seal.post.report.f01000.w-2880-7-0.read-0.w2",
        "seal.post.vanilla.f02000.w-2880-7-0.1.w1",
        "seal.post.report.f02000.w-2880-7-0.read-0.w1",
        "seal.post.read.f01000.main.w-2880-7-0.1",
        "seal.post.prove.f01000.w-2880-7-0.1",
        "SEALBUS.API.CONSUMER.MSG.NEXT.SEAL_POST_TASKS.prove_f02000",
        "SEALBUS.API.STREAM.PURGE.SEAL_POST",
        "$JS.ACK.SEAL_POST_TASKS.prove_f02000.1.1.1.1.0",
    ] {
        assert!(!answered(&client, subject, "{}").await, "w1 may use {subject}");
    }
    assert_eq!(site.posts().await, before);

    site.manager.withdraw_post(MinerId(2000), &of.job).await.expect("withdraws");
    site.manager.withdraw_post(MinerId(1000), &of.job).await.expect("withdraws");
    assert_eq!(site.posts().await[0], 0, "what is of no use is gone");
}
