//! Ticks over sectors that wait for tickets, with a scripted node and a real database.

use std::sync::atomic::{AtomicBool, Ordering};

use sealbus_schema::{
    Commitment, ErrorClass, ErrorCode, ErrorReport, SealProof, Token,
    lease::Ownership,
    message::EventBody,
    workflows::seal::{
        self,
        manager::{PreCommitted, State},
    },
};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{tick::LOST_LIMIT, *};
use crate::{
    chain::{commitment::sealed_cid, local_keys::LocalKeys},
    child::Program,
    config::Database,
    proofs::Porep,
    store::{Job, Outcome, Verdict},
    workflows::seal::tests::proven,
};

const CID: &str = "bafy2bzacebbpdegvr3i4cosewthysg5xkxpqfn2wfcz6mv2hmoktwbdxkax4s";
const URL: &str = "http://node";

type Answer = Result<Value, ChainError>;

/// A node that answers correctly, except where a test says otherwise.
struct Node(Script);

type Script = Box<dyn Fn(&'static str, &Value) -> Option<Answer> + Send + Sync>;

impl Transport for Node {
    async fn call(&self, method: &'static str, params: Value) -> Answer {
        if let Some(answer) = (self.0)(method, &params) {
            return answer;
        }
        Ok(match method {
            "ChainHead" => tipset(100),
            "ChainGetTipSetByHeight" => tipset(params[0].as_i64().unwrap_or_default()),
            "StateGetNetworkParams" => {
                json!({ "NetworkName": "test", "BlockDelaySecs": 4, "PreCommitChallengeDelay": 10 })
            }
            "StateMinerInfo" => json!({
                "Owner": "t01000", "Worker": "t01001", "ControlAddresses": null, "WindowPoStProofType": 10,
                "SectorSize": 2048, "WindowPoStPartitionSectors": 2,
            }),
            "StateAccountKey" => json!("t01001"),
            "WalletHas" => json!(true),
            "StateMinerPreCommitDepositForPower" => json!("1"),
            "StateGetActor" => json!({ "Nonce": 0, "Balance": "1000" }),
            "StateMinerAllocated" => json!([0]),
            "StateMinerSectorAllocated" => json!(false),
            "StateGetRandomnessFromTickets" => json!("AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM="),
            other => return Err(ChainError::refused(other, 1, "a call that the test does not expect")),
        })
    }
}

fn tipset(height: i64) -> Value {
    json!({
        "Cids": [{ "/": CID }], "Height": height,
        "Blocks": [{ "Miner": "t01000", "Parents": null, "Timestamp": 1_700_000_000, "ParentBaseFee": "100" }],
    })
}

/// Whether a call asks about a sector's number.
fn asks_of(method: &str, params: &Value, number: u64) -> bool {
    method == "StateMinerSectorAllocated" && params[1] == number
}

#[derive(Default)]
struct Keys {
    missing: AtomicBool,
}

impl Verifier for Keys {
    fn ready(&self, _: SealProof) -> Result<(), ErrorReport> {
        match self.missing.load(Ordering::SeqCst) {
            true => Err(ErrorReport::new(ErrorClass::Crit, ErrorCode::PARAMS_MISSING, "no verifying key")),
            false => Ok(()),
        }
    }

    fn verify_seal(&self, _: SectorId, _: SealProof, _: &Porep) -> Result<(), ErrorReport> {
        Ok(())
    }

    /// Finds all files good.
    fn file_checker(&self) -> Program {
        let arguments = ["-c", "cat > /dev/null; echo '{\"Ok\":null}'"];
        Program { program: "/bin/sh".into(), arguments: arguments.map(Into::into).to_vec() }
    }

    fn challenge_files(
        &self,
        _: SectorId,
        _: SealProof,
        _: Commitment,
        _: std::path::PathBuf,
        _: std::path::PathBuf,
        _: [u8; 32],
    ) -> Result<(), ErrorReport> {
        Ok(())
    }
}

struct World {
    driver: Driver<Node>,
    keys: Arc<Keys>,
    _directory: tempfile::TempDir,
}

impl World {
    /// A driver with this many sectors whose workers want a ticket.
    async fn new(
        sectors: u64,
        script: impl Fn(&'static str, &Value) -> Option<Answer> + Send + Sync + 'static,
    ) -> World {
        World::with_period(sectors, 10, script).await
    }

    /// The same, with this many milliseconds between two ticks if nothing changes.
    async fn with_period(
        sectors: u64,
        period_ms: u64,
        script: impl Fn(&'static str, &Value) -> Option<Answer> + Send + Sync + 'static,
    ) -> World {
        let directory = tempfile::tempdir().expect("directory");
        let store = Store::open(&Database::Sqlite { path: directory.path().join("manager.db") }).await.expect("opens");
        let file = directory.path().join("manager.toml");
        let text = format!(
            "[database]\npath = \"{}/manager.db\"\n[nats]\nurl = \"nats://127.0.0.1:4222\"\n[chain]\nurl = \"{URL}\"\n\
             poll_interval_ms = {period_ms}\n[[miner]]\nid = \"f01000\"\nsector_size = \"2KiB\"\n\
             [[store]]\nname = \"main\"\npath = \"{}/main\"\n",
            directory.path().display(),
            directory.path().display()
        );
        std::fs::write(&file, text).expect("writes");
        let config = Arc::new(Config::load(&file).expect("loads"));
        let mut tx = store.begin().await.expect("begins");
        tx.start_fold("SEAL_SECTORS@1").await.expect("starts");
        let epoch = tx.take_over().await.expect("takes over");
        for number in 1..=sectors {
            want_ticket(&mut tx, id(number)).await;
        }
        tx.commit().await.expect("commits");
        let node = Arc::new(NodeClient::new(Node(Box::new(script))));
        let keys = Arc::new(Keys::default());
        let driver = Driver::new(node, store, config, epoch, Wake::default(), keys.clone()).await.expect("a driver");
        World { driver, keys, _directory: directory }
    }

    async fn state(&self, number: u64) -> State {
        self.driver
            .store
            .sector(id(number))
            .await
            .expect("reads")
            .expect("exists")
            .state
            .seal()
            .expect("a seal")
            .clone()
    }

    /// The code of each wait, with its subject, as the command line would read them.
    async fn waits(&self) -> Vec<(String, String)> {
        self.driver.waits.flush().await.expect("stores");
        let waits = self.driver.store.waits().await.expect("reads");
        waits.iter().map(|wait| (wait.subject.to_string(), wait.cause.code.to_string())).collect()
    }
}

async fn want_ticket(tx: &mut crate::store::Tx, id: SectorId) {
    tx.insert_sector(id, SealProof::StackedDrg2KiBV1_1).await.expect("inserts");
    let policy = AttemptPolicy { max_attempts: 3, max_issues: 5 };
    for (kind, input) in [
        ("wanted", Input::Claimed),
        ("ticket_wanted", Input::Event(EventBody::Seal(seal::Event::TicketWanted { draw: 1 }))),
    ] {
        let mut sector = tx.sector(id).await.expect("reads").expect("exists");
        sector.ownership = Ownership::claimed("w1".parse().expect("worker"), Token(9));
        let happening = Happening::of_manager(kind, json!({ "why": "pledged" }));
        life::apply(tx, sector, input, happening, policy).await.expect("applies");
    }
}

fn id(number: u64) -> SectorId {
    format!("f01000/{number}").parse().expect("a sector")
}

fn named(subject: &str, code: ErrorCode) -> (String, String) {
    (subject.to_owned(), code.to_string())
}

#[tokio::test]
async fn one_sectors_trouble_is_its_own_and_ends_with_its_cause() {
    let broken = Arc::new(AtomicBool::new(true));
    let is_broken = broken.clone();
    let world = World::new(2, move |method, params| {
        let fails = is_broken.load(Ordering::SeqCst) && asks_of(method, params, 1);
        fails.then(|| Err(ChainError::refused(method, 1, "the state of this tipset is not there")))
    })
    .await;
    world.driver.tick().await.expect("the node answers");
    assert!(matches!(world.state(2).await, State::Sealing { .. }), "it was behind the one that fails");
    assert_eq!(world.waits().await, [named("sector f01000/1", ErrorCode::NODE_CALL_FAILED)]);
    broken.store(false, Ordering::SeqCst);
    while matches!(world.state(1).await, State::DrawingTicket { .. }) {
        world.driver.tick().await.expect("the node answers");
    }
    assert_eq!(world.waits().await, []);
}

#[tokio::test]
async fn a_node_that_does_not_answer_at_all_ends_the_round() {
    let gone = Arc::new(AtomicBool::new(false));
    let world = World::new(1, move |method, params| {
        if asks_of(method, params, 1) {
            gone.store(true, Ordering::SeqCst);
        }
        let unreachable = || Err(ChainError::Unreachable { url: URL.to_owned(), source: "refused".into() });
        gone.load(Ordering::SeqCst).then(unreachable)
    })
    .await;
    let error = world.driver.tick().await.expect_err("nobody answers");
    assert_eq!(waits::of_node_error(&error).code, ErrorCode::NODE_UNAVAILABLE);
}

#[tokio::test]
async fn a_call_that_takes_too_long_holds_up_its_own_sector_alone() {
    let world = World::new(3, |method, params| {
        let timed_out = || Err(ChainError::TimedOut { url: URL.to_owned(), method, limit: LOST_LIMIT });
        (asks_of(method, params, 1) || asks_of(method, params, 2)).then(timed_out)
    })
    .await;
    for _ in 0..3 {
        world.driver.tick().await.expect("the node answers");
    }
    assert!(matches!(world.state(3).await, State::Sealing { .. }), "the rounds go on behind the slow ones");
}

#[tokio::test]
async fn a_number_that_is_taken_is_given_up_before_anything_is_sealed_and_another_is_pledged() {
    let world = World::new(1, |method, params| match method {
        _ if asks_of(method, params, 1) => Some(Ok(json!(true))),
        "StateMinerAllocated" => Some(Ok(json!([1, 1]))),
        _ => None,
    })
    .await;
    world.driver.tick().await.expect("the node answers");
    let State::Abandoning { cause } = world.state(1).await else { panic!("given up") };
    assert_eq!((cause.code, cause.class), (ErrorCode::NUMBER_TAKEN, ErrorClass::Abort));
    world.driver.tick().await.expect("the node answers");
    assert_eq!(world.state(2).await, State::Queued, "the next number");
}

#[tokio::test]
async fn nothing_is_begun_whose_proof_could_not_be_verified() {
    let world = World::new(1, |_, _| None).await;
    world.keys.missing.store(true, Ordering::SeqCst);
    world.driver.look_around().await;
    let mut tx = world.driver.store.begin().await.expect("begins");
    tx.add_pledge("f01000", 1, "alice").await.expect("pledges");
    tx.commit().await.expect("commits");
    world.driver.tick().await.expect("the node answers");
    assert_eq!(world.waits().await, [named("miner f01000", ErrorCode::PARAMS_MISSING)]);
    assert_eq!(world.state(1).await, State::DrawingTicket { draw: 1 });
    assert_eq!(world.driver.store.sector(id(2)).await.expect("reads"), None, "no number is given out");
    world.keys.missing.store(false, Ordering::SeqCst);
    world.driver.look_around().await;
    world.driver.tick().await.expect("the node answers");
    assert!(matches!(world.state(1).await, State::Sealing { .. }));
    assert_eq!(world.waits().await, []);
}

#[tokio::test]
async fn a_sender_that_the_miner_names_is_taken() {
    let world = World::new(0, |_, _| None).await;
    let head = world.driver.node.chain_head().await.expect("a head");
    let found = async |sender: &str| {
        let miner = crate::config::Miner { sender: Some(sender.to_owned()), ..world.driver.config.miners[0].clone() };
        let found =
            preflight::miner(&world.driver.node, &miner, preflight::Signing::Here(&LocalKeys::default()), &head)
                .await
                .expect("the node answers");
        found.into_iter().map(|finding| (finding.cause.code, finding.holds)).collect::<Vec<_>>()
    };
    assert_eq!(found("t01001").await, [], "its worker");
    assert_eq!(found("t01000").await, [], "its owner");
}

#[tokio::test]
async fn a_sender_that_could_not_send_is_found_before_anything_is_sealed() {
    let world = World::new(0, |method, _| match method {
        "WalletHas" => Some(Ok(json!(false))),
        "StateLookupID" => Some(Ok(json!("t01099"))),
        "StateGetActor" => Some(Ok(json!({ "Nonce": 0, "Balance": "0" }))),
        _ => None,
    })
    .await;
    let head = world.driver.node.chain_head().await.expect("a head");
    let miner = crate::config::Miner { sender: Some("t01099".to_owned()), ..world.driver.config.miners[0].clone() };
    let found = preflight::miner(&world.driver.node, &miner, preflight::Signing::Here(&LocalKeys::default()), &head)
        .await
        .expect("the node answers");
    let found: Vec<_> = found.into_iter().map(|finding| (finding.cause.code, finding.holds)).collect();
    assert_eq!(
        found,
        [
            (ErrorCode::SENDER_NOT_ALLOWED, true),
            (ErrorCode::WALLET_KEY_MISSING, true),
            (ErrorCode::FUNDS_MISSING, false)
        ]
    );
}

#[tokio::test]
async fn a_tick_asks_about_what_is_due_and_not_about_what_waits_for_nothing() {
    let asked = Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = asked.clone();
    let world = World::new(3, move |method, params| {
        if method == "StateMinerSectorAllocated" {
            lock(&noted).push(params[1].as_u64().unwrap_or_default());
        }
        None
    })
    .await;
    world.driver.tick().await.expect("the node answers");
    let mut first = std::mem::take(&mut *lock(&asked));
    first.sort_unstable();
    assert_eq!(first, [1, 2, 3]);
    world.driver.tick().await.expect("the node answers");
    assert_eq!(world.driver.store.due(i64::MAX, 10).await.expect("reads").len(), 0, "they are being sealed");
    world.driver.tick().await.expect("the node answers");
    assert!(lock(&asked).is_empty());
}

#[tokio::test]
async fn a_tick_asks_for_the_head_only_if_nobody_has_just_heard_of_it() {
    let asked = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let noted = asked.clone();
    let world = World::new(1, move |method, _| {
        if method == "ChainHead" {
            noted.fetch_add(1, Ordering::SeqCst);
        }
        None
    })
    .await;
    let (driver, hour) = (&world.driver, std::time::Duration::from_secs(3600));
    // Afterwards nothing is due.
    driver.tick().await.expect("the node answers");
    let head = driver.node.chain_head().await.expect("a head");
    for (heard, asks) in [(Instant::now() + hour, 0), (Instant::now() - hour, 1)] {
        *lock(&driver.followed) = Some((head.clone(), heard));
        asked.store(0, Ordering::SeqCst);
        driver.tick().await.expect("the node answers");
        assert_eq!(asked.load(Ordering::SeqCst), asks);
    }
}

#[tokio::test]
async fn a_sector_that_changes_during_a_tick_is_seen_without_waiting_for_the_period() {
    let world = World::with_period(1, 3_600_000, |_, _| None).await;
    let (driver, changed) = (&world.driver, world.driver.changed.clone());
    let drawn = async {
        // The first tick may have begun already, or comes without a wake-up. What counts is that no later wake-up is
        // missed.
        for number in 2..=20 {
            let mut tx = driver.store.begin().await.expect("begins");
            want_ticket(&mut tx, id(number)).await;
            tx.commit().await.expect("commits");
            changed.ring();
            while matches!(world.state(number).await, State::DrawingTicket { .. }) {
                tokio::task::yield_now().await;
            }
        }
    };
    tokio::select! {
        ended = driver.drive() => panic!("{ended:?}"),
        () = drawn => {}
    }
}

#[tokio::test]
async fn a_check_of_files_that_outlives_its_tick_lets_the_sector_go_on() {
    let stored = proven().seeded.stored;
    let PreCommitted { sealed, precommit, .. } = &stored.precommitted;
    let on_chain = json!({
        "Info": {
            "SealProof": 5, "SectorNumber": 1, "SealedCID": { "/": sealed_cid(&sealed.comm_r.0).expect("a CID").to_string() },
            "SealRandEpoch": sealed.ticket.epoch, "DealIDs": null, "Expiration": 600_000, "UnsealedCid": null,
        },
        "PreCommitDeposit": "1", "PreCommitEpoch": precommit.epoch,
    });
    let world = World::new(1, move |method, _| match method {
        "ChainHead" => Some(Ok(tipset(2200))),
        "StateSectorPreCommitInfo" => Some(Ok(on_chain.clone())),
        "StateGetRandomnessFromBeacon" => Some(Ok(json!("AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM="))),
        _ => None,
    })
    .await;
    let mut tx = world.driver.store.begin().await.expect("begins");
    let job = tx.sector(id(1)).await.expect("reads").expect("exists");
    let job = Job { state: State::CheckingFiles(stored.clone()).into(), ..job };
    let history = vec![(Happening::of_manager("persisted", json!({})), Verdict::Applied)];
    tx.store_outcomes(vec![Outcome { history, ..Outcome::unchanged(job) }]).await.expect("stores");
    tx.commit().await.expect("commits");
    world.driver.tick().await.expect("the node answers");
    while matches!(world.state(1).await, State::CheckingFiles(_)) {
        tokio::task::yield_now().await;
    }
    assert_eq!(world.state(1).await, State::AwaitingSeed(stored));
    assert_eq!(world.waits().await, []);
}
