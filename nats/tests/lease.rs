//! The lease protocol against a real server.

mod support;

use futures::StreamExt;
use sealbus_nats::{
    Bus,
    intents::Queue,
    lease::ClaimOutcome,
    log::Record,
    publish::PublishError,
    topology::{self, Layout, TopologyError},
};
use sealbus_schema::{
    IntentKind, MinerId, SealProof, SectorId, SectorNumber, Token, WorkerName,
    message::{Event, EventBody, Fact, Intent},
    workflows::seal,
};
use support::Server;

const QUEUE: Queue = Queue { miner: MinerId(1000), proof: SealProof::StackedDrg2KiBV1_1, kind: IntentKind::Seal };

fn worker(name: &str) -> WorkerName {
    name.parse().expect("worker name")
}

fn intent(number: u64, lease_sequence: u64) -> Intent {
    let sector = SectorId { miner: QUEUE.miner, number: SectorNumber(number) };
    Intent { sector, kind: QUEUE.kind, proof: QUEUE.proof, lease_sequence, attempt: 1 }
}

fn event(token: Token, number: u64) -> Event {
    Event { token, number, body: EventBody::Seal(seal::Event::Pc1Done {}) }
}

async fn claim(bus: &Bus, intent: &Intent, name: &str) -> ClaimOutcome {
    bus.claim(intent, &worker(name), "host").await.expect("the claim has an outcome")
}

async fn won(bus: &Bus, intent: &Intent, name: &str) -> Token {
    match claim(bus, intent, name).await {
        ClaimOutcome::Won(token) => token,
        ClaimOutcome::Lost => panic!("{name} lost {intent:?}"),
    }
}

#[tokio::test]
async fn a_log_that_is_nearly_full_is_told_before_it_refuses() {
    let server = Server::start();
    let bus = server.connect("manager").await;
    bus.ensure_streams(Layout { replicas: 1, max_sectors_bytes: 1 << 20 }).await.expect("streams");
    let js = async_nats::jetstream::new(async_nats::connect(server.url()).await.expect("connects"));
    assert!(!bus.sectors_fill().await.expect("reads").is_nearly_full());
    let mut number = 0;
    let refused = loop {
        let told = bus.sectors_fill().await.expect("reads").is_nearly_full();
        let subject = format!("seal.sector.f01000.{number}.ev.w1");
        number += 1;
        if js.publish(subject, vec![0; 30_000].into()).await.expect("sends").await.is_err() {
            break told;
        }
    };
    assert!(refused, "told before record {number} was refused");
}

#[tokio::test]
async fn a_stream_that_the_servers_disk_has_no_room_for_names_the_limit_that_is_too_large() {
    let server = Server::start_with(|port, store| {
        format!("listen: 127.0.0.1:{port}\njetstream {{ store_dir: {store:?}, max_file_store: 8MB }}\n")
    });
    let bus = server.connect("manager").await;
    let layout = |max_sectors_bytes| Layout { replicas: 1, max_sectors_bytes };
    let error = bus.ensure_streams(layout(10 << 30)).await.expect_err("too large");
    assert!(matches!(&error, TopologyError::NoRoom { max_bytes, .. } if *max_bytes == 10 << 30), "{error:?}");
    bus.ensure_streams(layout(4 << 20)).await.expect("fits");
    let error = bus.ensure_streams(layout(10 << 30)).await.expect_err("too large");
    assert!(error.to_string().contains("streams.max_sectors_bytes"), "{error}");
}

#[tokio::test]
async fn an_intent_is_taken_by_one_worker_whose_events_alone_are_accepted() {
    let server = Server::start();
    let bus = server.connect_with_streams("manager").await;
    bus.ensure_queue(QUEUE.miner, QUEUE.proof, QUEUE.kind).await.expect("queue");
    bus.offer(&intent(1, 0)).await.expect("offers").expect("is new");

    let offer = bus.next_intent(&[QUEUE]).await.expect("an intent");
    assert_eq!(offer.intent, intent(1, 0));
    let token = won(&bus, &offer.intent, "w1").await;
    offer.accept().await.expect("acknowledged");
    assert_eq!(claim(&bus, &offer.intent, "w2").await, ClaimOutcome::Lost);

    bus.report(offer.intent.sector, &worker("w1"), &event(token, 1)).await.expect("the owner's event");
    let stale = Event { token: Token(token.0 + 1), ..event(token, 2) };
    let refused = bus.report(offer.intent.sector, &worker("w1"), &stale).await.expect_err("another token");
    assert!(matches!(refused, PublishError::Open { .. }), "no word of the manager: {refused}");
}

#[tokio::test]
async fn an_owner_that_lost_its_lease_is_fenced_and_the_next_claim_gets_a_higher_token() {
    let server = Server::start();
    let bus = server.connect_with_streams("manager").await;
    let first = won(&bus, &intent(1, 0), "w1").await;
    let released = bus.release(intent(1, 0).sector, first.0, "a test").await.expect("releases");
    let fenced = bus.report(intent(1, 0).sector, &worker("w1"), &event(first, 1)).await.expect_err("fenced");
    assert!(matches!(fenced, PublishError::Fenced { .. }));
    assert_eq!(claim(&bus, &intent(1, 0), "w2").await, ClaimOutcome::Lost, "the old intent cannot claim");
    let second = won(&bus, &intent(1, released), "w2").await;
    assert!(second > first);
    let lease = bus.last_lease(intent(1, 0).sector).await.expect("reads").expect("a lease");
    assert_eq!((lease.owner, lease.sequence), (Some(worker("w2")), second.0));
}

/// Without the lease's sequence in the intent's subject, an unacknowledged stale intent blocks the new one and is then
/// acknowledged, and the sector is lost forever.
#[tokio::test]
async fn a_stale_intent_in_the_queue_does_not_block_the_next_one() {
    let server = Server::start();
    let bus = server.connect_with_streams("manager").await;
    bus.ensure_queue(QUEUE.miner, QUEUE.proof, QUEUE.kind).await.expect("queue");
    bus.offer(&intent(1, 0)).await.expect("offers");
    let token = won(&bus, &intent(1, 0), "w1").await;
    let released = bus.release(intent(1, 0).sector, token.0, "a test").await.expect("releases");
    bus.offer(&intent(1, released)).await.expect("offers").expect("is stored beside the stale one");

    let stale = bus.next_intent(&[QUEUE]).await.expect("the stale one");
    assert_eq!(claim(&bus, &stale.intent, "w2").await, ClaimOutcome::Lost);
    stale.accept().await.expect("acknowledged");
    let fresh = bus.next_intent(&[QUEUE]).await.expect("the new one");
    assert_eq!(fresh.intent.lease_sequence, released);
    won(&bus, &fresh.intent, "w2").await;
}

#[tokio::test]
async fn the_same_intent_twice_is_one_message() {
    let server = Server::start();
    let bus = server.connect_with_streams("manager").await;
    bus.offer(&intent(1, 0)).await.expect("offers");
    let again = bus.offer(&intent(1, 0)).await.expect("is no error");
    assert!(again.is_none_or(|stored| stored.duplicate));
}

#[tokio::test]
async fn a_claim_whose_answer_was_lost_is_found_again() {
    let server = Server::start();
    let bus = server.connect_with_streams("manager").await;
    let token = won(&bus, &intent(1, 0), "w1").await;
    // The process died before it stored the token, and the intent was delivered to it again.
    assert_eq!(claim(&bus, &intent(1, 0), "w1").await, ClaimOutcome::Won(token));
}

#[tokio::test]
async fn an_event_sent_again_is_stored_once() {
    let server = Server::start();
    let bus = server.connect_with_streams("manager").await;
    let token = won(&bus, &intent(1, 0), "w1").await;
    let first = bus.report(intent(1, 0).sector, &worker("w1"), &event(token, 1)).await.expect("stored");
    let again = bus.report(intent(1, 0).sector, &worker("w1"), &event(token, 1)).await.expect("known");
    assert_eq!(again.sequence, first.sequence);
    assert!(again.duplicate);
}

/// Anyone who may write to the stream can use up a predictable id: the server drops later messages with the same id.
#[tokio::test]
async fn an_id_that_somebody_else_has_used_up_stops_no_event() {
    let server = Server::start();
    let bus = server.connect_with_streams("manager").await;
    let js = async_nats::jetstream::new(async_nats::connect(server.url()).await.expect("connects"));
    let token = won(&bus, &intent(1, 0), "w1").await;
    let sector = intent(1, 0).sector;
    let first = bus.report(sector, &worker("w1"), &event(token, 1)).await.expect("stored");
    let stream = js.get_stream("SEAL_SECTORS").await.expect("the stream");
    let id = |sequence| {
        let stream = stream.clone();
        async move {
            let message = stream.get_raw_message(sequence).await.expect("is there");
            message.headers.get("Nats-Msg-Id").expect("an id").to_string()
        }
    };
    // The next message's id does not follow from the log, and a known id is abandoned.
    let known = id(first.sequence).await;
    let forged = known.replacen(&format!(".{token}.1."), &format!(".{token}.2."), 1);
    assert_ne!(forged, known);
    for id in [forged, format!("1000.1.{token}.2"), format!("f01000.1.{token}.2")] {
        let message = async_nats::jetstream::message::PublishMessage::build().message_id(id).payload("x".into());
        js.send_publish("seal.sector.f01000.7.ev.w2", message).await.expect("sends").await.expect("is stored");
    }
    let second = bus.report(sector, &worker("w1"), &event(token, 2)).await.expect("stored");
    assert!(!second.duplicate && id(second.sequence).await != known, "{second:?}");
    let read = bus.last_event(sector, &worker("w1")).await.expect("reads").expect("an event");
    assert_eq!(read.number, 2);
}

/// The same id for another message, as after a forgery that guessed the id.
#[tokio::test]
async fn what_the_server_takes_for_a_copy_of_another_message_is_stored_under_another_id() {
    let server = Server::start();
    let bus = server.connect_with_streams("manager").await;
    let token = won(&bus, &intent(1, 0), "w1").await;
    let sector = intent(1, 0).sector;
    bus.report(sector, &worker("w1"), &event(token, 1)).await.expect("stored");
    // An event's number determines its id; this is another event with the same number.
    let other = Event { body: EventBody::Seal(seal::Event::TicketWanted { draw: 1 }), ..event(token, 1) };
    let stored = bus.report(sector, &worker("w1"), &other).await.expect("stored");
    assert!(!stored.duplicate, "{stored:?}");
    assert_eq!(bus.last_event(sector, &worker("w1")).await.expect("reads"), Some(other));
}

#[tokio::test]
async fn an_intent_that_names_another_sector_than_its_subject_is_taken_out() {
    let server = Server::start();
    let bus = server.connect_with_streams("manager").await;
    bus.ensure_queue(QUEUE.miner, QUEUE.proof, QUEUE.kind).await.expect("queue");
    let js = async_nats::jetstream::new(async_nats::connect(server.url()).await.expect("connects"));
    let payload = sealbus_schema::codec::encode(&intent(2, 0)).expect("packs");
    let subject = sealbus_nats::subject::intent(intent(1, 0).sector, QUEUE.proof, QUEUE.kind, 0);
    js.publish(subject, payload.into()).await.expect("sends").await.expect("is stored");
    bus.offer(&intent(3, 0)).await.expect("offers");
    assert_eq!(bus.next_intent(&[QUEUE]).await.expect("an intent").intent, intent(3, 0));
}

#[tokio::test]
async fn a_fact_is_read_back_and_a_later_one_replaces_it() {
    let server = Server::start();
    let bus = server.connect_with_streams("manager").await;
    let token = won(&bus, &intent(1, 0), "w1").await;
    let (sector, w1) = (intent(1, 0).sector, worker("w1"));
    let landed = |activation_epoch| Fact::new(token, 0, seal::Fact::ProveLanded { activation_epoch });
    assert_eq!(bus.last_fact(sector, &w1, seal::Fact::PROVE_LANDED).await.expect("reads"), None);
    bus.tell(sector, &w1, &landed(7), "1").await.expect("tells");
    bus.tell(sector, &w1, &landed(8), "2").await.expect("tells");
    assert_eq!(bus.last_fact(sector, &w1, seal::Fact::PROVE_LANDED).await.expect("reads"), Some(landed(8)));
    assert_eq!(bus.last_fact(sector, &w1, seal::Fact::SEED).await.expect("reads"), None);
}

#[tokio::test]
async fn the_age_of_a_fact_is_told_by_the_server_alone() {
    let server = Server::start();
    let bus = server.connect_with_streams("manager").await;
    let token = won(&bus, &intent(1, 0), "w1").await;
    let (sector, w1) = (intent(1, 0).sector, worker("w1"));
    let age = async |kind| bus.fact_age(sector, &w1, kind).await.expect("reads");
    assert_eq!(age(seal::Fact::PROVE_LANDED).await, None, "there is none");
    bus.tell(sector, &w1, &Fact::new(token, 0, seal::Fact::ProveLanded { activation_epoch: 7 }), "1")
        .await
        .expect("tells");
    bus.tell(sector, &w1, &Fact::new(token, 0, seal::Fact::PersistChecked {}), "2").await.expect("tells");
    // The later fact is queried first, so the earlier one is older whatever the delay between the queries.
    let (later, earlier) = (age(seal::Fact::PERSIST_CHECKED).await, age(seal::Fact::PROVE_LANDED).await);
    assert!(later.is_some() && earlier > later, "{earlier:?}, {later:?}");
}

#[tokio::test]
async fn the_log_is_read_in_order_and_again_from_any_offset() {
    let server = Server::start();
    let bus = server.connect_with_streams("manager").await;
    let token = won(&bus, &intent(1, 0), "w1").await;
    for number in 1..=3 {
        bus.report(intent(1, 0).sector, &worker("w1"), &event(token, number)).await.expect("stored");
    }
    let numbers = |entries: &[sealbus_nats::log::Entry]| -> Vec<u64> {
        let number = |entry: &sealbus_nats::log::Entry| match &entry.record {
            Record::Event { event, .. } => Some(event.number),
            _ => None,
        };
        entries.iter().filter_map(number).collect()
    };
    let mut log = bus.open_log(0).await.expect("opens");
    let mut entries = Vec::new();
    while entries.len() < 4 {
        entries.extend(log.next_batch().await.expect("reads"));
    }
    assert!(matches!(entries[0].record, Record::Lease { .. }));
    assert_eq!(numbers(&entries), [1, 2, 3]);
    drop(log);

    // Nothing was acknowledged, but a second reader still starts after what it has folded.
    let mut log = bus.open_log(entries[1].sequence).await.expect("opens");
    let mut rest = Vec::new();
    while rest.len() < 2 {
        rest.extend(log.next_batch().await.expect("reads"));
    }
    assert_eq!(numbers(&rest), [2, 3]);
}

#[tokio::test]
async fn a_reader_never_skips_what_the_server_gave_to_another_one() {
    let server = Server::start();
    let bus = server.connect_with_streams("manager").await;
    let token = won(&bus, &intent(1, 0), "w1").await;
    // A reader that waits at the server and then hangs, like a stopped process, gets nothing.
    let mut hanging = bus.open_log(0).await.expect("opens");
    assert_eq!(hanging.next_batch().await.expect("reads").len(), 1);
    let mut log = bus.open_log(0).await.expect("opens");
    for number in 1..=3 {
        bus.report(intent(1, 0).sector, &worker("w1"), &event(token, number)).await.expect("stored");
    }
    // A reader that continues gets some records, and that is noticed.
    let stream = async_nats::jetstream::new(async_nats::connect(server.url()).await.expect("connects"));
    let stream = stream.get_stream("SEAL_SECTORS").await.expect("the stream");
    let other: async_nats::jetstream::consumer::PullConsumer = stream.get_consumer("mgr").await.expect("the reader");
    assert_eq!(other.fetch().max_messages(2).messages().await.expect("pulls").count().await, 2);
    log.next_batch().await.expect_err("the first two are missing");

    drop(log);
    let mut log = bus.open_log(0).await.expect("opens again");
    let mut sequences = Vec::new();
    while sequences.len() < 4 {
        sequences.extend(log.next_batch().await.expect("reads").iter().map(|entry| entry.sequence));
    }
    assert_eq!(sequences, (token.0..=token.0 + 3).collect::<Vec<_>>());
    drop(hanging);
}

#[tokio::test]
async fn a_killed_server_loses_nothing_that_was_acknowledged_and_changes_no_owner() {
    let mut server = Server::start();
    let bus = server.connect_with_streams("manager").await;
    let token = won(&bus, &intent(1, 0), "w1").await;
    bus.report(intent(1, 0).sector, &worker("w1"), &event(token, 1)).await.expect("stored");
    let identity = bus.sectors_identity().await.expect("identity");
    server.kill_and_restart();
    // The connection recovers by itself; the report waits until the server is back.
    let stored = bus.report(intent(1, 0).sector, &worker("w1"), &event(token, 2)).await.expect("stored");
    assert_eq!(stored.sequence, token.0 + 2);
    assert_eq!(bus.sectors_identity().await.expect("identity"), identity, "the same stream");
}

#[tokio::test]
async fn a_message_nobody_can_read_is_taken_out_and_the_next_one_comes() {
    let server = Server::start();
    let bus = server.connect_with_streams("manager").await;
    bus.ensure_queue(QUEUE.miner, QUEUE.proof, QUEUE.kind).await.expect("queue");
    let raw = async_nats::connect(server.url()).await.expect("connects");
    let js = async_nats::jetstream::new(raw);
    let subject = "seal.intent.f01000.StackedDrg2KiBV1_1.seal.9.0";
    js.publish(subject, "rubbish".into()).await.expect("publishes").await.expect("is stored");
    bus.offer(&intent(1, 0)).await.expect("offers");
    let offer = bus.next_intent(&[QUEUE]).await.expect("an intent");
    assert_eq!(offer.intent, intent(1, 0));
}

#[tokio::test]
async fn a_queue_that_no_manager_made_is_named() {
    let server = Server::start();
    let bus = server.connect_with_streams("manager").await;
    let Err(error) = bus.next_intent(&[Queue { miner: MinerId(77), ..QUEUE }]).await else {
        panic!("there is no such queue");
    };
    assert!(error.to_string().contains("f077_StackedDrg2KiBV1_1_seal"), "{error}");
}

#[tokio::test]
async fn what_was_given_out_is_acknowledged_only_once_it_was_returned() {
    let server = Server::start();
    let bus = server.connect_with_streams("manager").await;
    let token = won(&bus, &intent(1, 0), "w1").await;
    let mut log = bus.open_log(0).await.expect("opens");
    assert_eq!(log.next_batch().await.expect("reads").len(), 1);
    for number in 1..=3 {
        bus.report(intent(1, 0).sector, &worker("w1"), &event(token, number)).await.expect("stored");
    }
    let stream = async_nats::jetstream::new(async_nats::connect(server.url()).await.expect("connects"));
    let stream = stream.get_stream("SEAL_SECTORS").await.expect("the stream");
    let seen = async || {
        let mut reader: async_nats::jetstream::consumer::PullConsumer = stream.get_consumer("mgr").await.expect("it");
        let info = reader.info().await.expect("told").clone();
        (info.delivered.stream_sequence, info.ack_floor.stream_sequence)
    };
    let last = token.0 + 3;
    support::eventually("all records are given out", || async { (seen().await.0 == last).then_some(()) }).await;
    log.acknowledge().await;
    support::eventually("the first is acknowledged", || async { (seen().await.1 == token.0).then_some(()) }).await;
    let mut rest = 0;
    while rest < 3 {
        rest += log.next_batch().await.expect("reads").len();
    }
    assert_eq!(seen().await.1, token.0);
    log.acknowledge().await;
    support::eventually("all are acknowledged", || async { (seen().await.1 == last).then_some(()) }).await;
}

#[tokio::test]
async fn a_stream_in_the_place_of_a_lost_one_goes_on_behind_all_of_its_sequences() {
    let server = Server::start();
    let bus = server.connect_with_streams("manager").await;
    let early = won(&bus, &intent(1, 0), "w1").await;
    // The second call is that of a process that was killed after the first one.
    for _ in 0..2 {
        let before = bus.begin_sectors_behind(70).await.expect("empties the stream");
        assert!(before > 70 && bus.sectors_last_sequence().await.expect("reads") == before);
    }
    assert_eq!(bus.last_lease(intent(1, 0).sector).await.expect("reads"), None, "claimed before it counted");
    let token = won(&bus, &intent(1, 0), "w2").await;
    assert!(token.0 > 70 && token > early, "{token:?}");
    // Called for the same lost stream once more, it deletes what has come behind it as well.
    let before = bus.begin_sectors_behind(70).await.expect("empties the stream");
    assert_eq!((bus.sectors_records().await.expect("reads"), before), (0, token.0));
    assert!(won(&bus, &intent(1, 0), "w2").await > token);
}

#[test]
fn a_port_stays_with_its_server_while_that_is_down() {
    let held: Vec<_> = (0..50).map(|_| support::ports::Port::hold().expect("a port")).collect();
    let numbers: std::collections::BTreeSet<u16> = held.iter().map(|port| port.number()).collect();
    assert_eq!(numbers.len(), held.len(), "nobody listens on any of them, and none is given out twice");
    let given_out = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
    assert!(!numbers.contains(&given_out));
}

#[tokio::test]
async fn the_last_records_of_many_sectors_are_read_at_once() {
    let server = Server::start();
    let bus = server.connect_with_streams("manager").await;
    let mut expected = std::collections::HashMap::new();
    let sectors: Vec<SectorId> = (1..=200).map(|number| intent(number, 0).sector).collect();
    for number in 1..=150 {
        let token = won(&bus, &intent(number, 0), "w1").await;
        let sector = intent(number, 0).sector;
        bus.report(sector, &worker("w1"), &event(token, 1)).await.expect("an event, which is nobody's news");
        let mut last = token.0;
        if number % 2 == 0 {
            let fact = Fact::new(token, 0, seal::Fact::PersistChecked {});
            last = bus.tell(sector, &worker("w1"), &fact, "1").await.expect("tells").sequence;
        }
        if number % 50 == 0 {
            last = bus.release(sector, token.0, "a test").await.expect("releases");
        }
        expected.insert(sector, last);
    }
    let found = bus.last_sequences(&sectors, &worker("w1")).await.expect("reads");
    assert_eq!(found, expected, "and nothing of the sectors without a log");
    assert_eq!(bus.last_sequences(&[], &worker("w1")).await.expect("reads").len(), 0);
}

#[tokio::test]
async fn queues_are_asked_in_the_given_order_and_waited_for_when_all_are_empty() {
    let server = Server::start();
    let bus = server.connect_with_streams("manager").await;
    let other = Queue { miner: MinerId(1001), ..QUEUE };
    for queue in [QUEUE, other] {
        bus.ensure_queue(queue.miner, queue.proof, queue.kind).await.expect("queue");
    }
    let of = |queue: Queue, number: u64| {
        let sector = SectorId { miner: queue.miner, number: SectorNumber(number) };
        Intent { sector, ..intent(number, 0) }
    };
    for number in 1..=3 {
        bus.offer(&of(QUEUE, number)).await.expect("offers");
        bus.offer(&of(other, number)).await.expect("offers");
    }
    let mut taken = Vec::new();
    for first in [other, QUEUE, QUEUE, other, other, other] {
        let queues = if first == other { [other, QUEUE] } else { [QUEUE, other] };
        let offer = bus.next_intent(&queues).await.expect("an intent");
        assert!(!offer.waited && offer.intent.sector.miner == offer.queue.miner);
        offer.accept().await.expect("acknowledged");
        taken.push(offer.queue);
    }
    assert_eq!(taken, [other, QUEUE, QUEUE, other, other, QUEUE], "the last one from where there was one left");

    let queues = [other, QUEUE];
    let (offer, stored) = tokio::join!(bus.next_intent(&queues), async {
        let js = async_nats::jetstream::new(async_nats::connect(server.url()).await.expect("connects"));
        let stream = js.get_stream(topology::INTENTS).await.expect("stream");
        support::eventually("the pull that waits", || async {
            let name = topology::queue_name(QUEUE.miner, QUEUE.proof, QUEUE.kind);
            (stream.consumer_info(name).await.expect("consumer").num_waiting == 1).then_some(())
        })
        .await;
        bus.offer(&of(QUEUE, 4)).await.expect("offers")
    });
    let offer = offer.expect("an intent");
    assert!(stored.is_some() && offer.waited && offer.queue == QUEUE);
    assert_eq!(offer.intent, of(QUEUE, 4));

    offer.put_back().await.expect("put back");
    let again = bus.next_intent(&queues).await.expect("the one that was put back");
    assert_eq!(again.intent, of(QUEUE, 4));
}
