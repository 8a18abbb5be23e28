//! A person's orders on the command line, with real databases, while neither the bus nor the node is available.

mod databases;
mod lives;

use std::{
    path::PathBuf,
    process::{Command, Output, Stdio},
    time::Duration,
};

use databases::TestDatabase;
use lives::inputs;
use sealbus_manager::{
    config::Database,
    life,
    store::{Happening, Job, OutboxKind, OutboxRow, Store},
    waits::{Cause, Subject},
};
use sealbus_schema::{
    Commitment, ErrorClass, ErrorCode, ErrorReport, Phase, SealProof, SectorId, Token, codec,
    lease::Ownership,
    machine::manager::AttemptPolicy,
    message::{CommonEvent, CommonFact, EventBody, Fact},
    workflows::{
        Input,
        seal::{self, manager::State},
    },
};
use serde_json::{Value, json};

const POLICY: AttemptPolicy = AttemptPolicy { max_attempts: 3, max_issues: 6 };

on_every_database! {
    an_order_is_stored_and_audited_while_everything_else_is_away,
    of_several_sectors_each_is_ordered_by_itself,
    a_sector_is_given_to_another_worker_by_ending_its_lease,
    a_deposit_is_not_lost_by_mistake,
    what_is_blocked_says_why_since_when_what_it_costs_and_what_can_be_ordered,
    a_whole_machine_is_ordered_about_until_it_is_told_otherwise,
    what_is_pledged_is_shown_and_can_be_taken_back,
    a_queue_that_is_given_up_is_not_filled_again_by_its_pledges,
    what_makes_no_sense_is_refused_in_words_and_changes_nothing,
    a_broken_invariant_is_shown_by_check_whatever_else_is_away,
    what_holds_up_many_sectors_is_told_once_with_their_number,
}

/// A manager's host on which only the database is available.
struct Host {
    directory: tempfile::TempDir,
    store: Store,
    /// Kept alive as long as the host is used.
    _database: TestDatabase,
}

impl Host {
    async fn new(database: TestDatabase) -> Host {
        let directory = tempfile::tempdir().expect("directory");
        let store = database.open().await;
        let place = match &database.database {
            Database::Sqlite { path } => format!("path = {path:?}"),
            Database::Postgres { url, password_file } => {
                let file = password_file.as_ref().expect("the test database has one");
                format!("url = \"{url}\"\npassword_file = {file:?}")
            }
        };
        // Nothing listens on port 9 of a loopback address.
        let config = format!(
            "[database]\n{place}\n[nats]\nurl = \"nats://127.0.0.1:9\"\n[chain]\n\
             url = \"http://127.0.0.1:9/rpc/v1\"\n[[miner]]\nid = \"f01000\"\nsector_size = \"2KiB\"\n"
        );
        std::fs::write(directory.path().join("manager.toml"), config).expect("writes");
        Host { directory, store, _database: database }
    }

    fn config(&self) -> PathBuf {
        self.directory.path().join("manager.toml")
    }

    /// A sector on worker `w1` that has reached `state` without problems. It is blocked there if there is a cause.
    async fn sector(&self, number: u64, state: &str, cause: Option<ErrorReport>) -> SectorId {
        let id: SectorId = format!("f01000/{number}").parse().expect("sector");
        let mut tx = self.store.begin().await.expect("begins");
        tx.insert_sector(id, SealProof::StackedDrg2KiBV1_1).await.expect("inserts");
        tx.commit().await.expect("commits");
        let mut inputs = inputs().into_iter();
        while self.read(id).await.state.name() != state {
            self.apply(id, inputs.next().expect("a state of the happy path")).await;
        }
        if let Some(error) = cause {
            self.apply(id, Input::Event(EventBody::Common(CommonEvent::Failed { error }))).await;
        }
        for row in self.store.outbox(0, 1000).await.expect("reads") {
            self.store.remove_from_outbox(&[row.id]).await.expect("removes");
        }
        id
    }

    async fn apply(&self, id: SectorId, input: Input) {
        let mut tx = self.store.begin().await.expect("begins");
        let mut sector = tx.sector(id).await.expect("reads").expect("exists");
        if input == Input::Claimed {
            let token = Token(100 + id.number.0);
            sector.ownership = Ownership::claimed("w1".parse().expect("worker"), token);
        }
        let detail = match &input {
            Input::Event(body) => json!(body),
            _ => json!({}),
        };
        let outcome = life::decide(sector, input, Happening::of_manager("test", detail), POLICY);
        tx.store_outcomes(vec![outcome]).await.expect("stores");
        tx.commit().await.expect("commits");
    }

    async fn read(&self, id: SectorId) -> Job {
        self.store.sector(id).await.expect("reads").expect("exists")
    }

    async fn outbox(&self) -> Vec<OutboxRow> {
        self.store.outbox(0, 1000).await.expect("reads")
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_sealbus-manager"))
            .args(arguments)
            .env("SEALBUS_MANAGER_CONFIG", self.config())
            // Anybody can set this in the environment.
            .env("USER", "mallory")
            .env("LOGNAME", "mallory")
            .env_remove("SUDO_USER")
            .stdin(Stdio::null())
            .output()
            .expect("runs")
    }

    /// Runs a command that must end with this exit code. Returns what it printed on stdout and stderr.
    fn ends(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let printed = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {printed}");
        assert!(!printed.contains("panicked"), "{printed}");
        printed
    }

    fn json(&self, arguments: &[&str]) -> Value {
        self.json_ending(0, arguments)
    }

    /// The JSON of a command that ends with this exit code.
    fn json_ending(&self, code: i32, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }
}

fn error(code: ErrorCode) -> ErrorReport {
    ErrorReport {
        host: "h1".into(),
        slot: "/nvme0".into(),
        phase: Some(Phase::Pc1),
        stderr_tail: "last words".into(),
        ..ErrorReport::new(ErrorClass::Crit, code, "it failed")
    }
}

fn blocked(sector: &Job) -> bool {
    sector.blocked.is_some()
}

async fn an_order_is_stored_and_audited_while_everything_else_is_away(database: TestDatabase) {
    let host = Host::new(database).await;
    let id = host.sector(1, "sealing", Some(error(ErrorCode::DISK_FULL))).await;
    let said =
        host.ends(0, &["sectors", "resubmit", "f01000/1", "--from", "pc1", "--why", "a new disk", "--by", "bob"]);
    for words in ["f01000/1: goes on from pc1", "not on the bus yet", "the workers cannot be seen"] {
        assert!(said.contains(words), "{said}");
    }
    let sector = host.read(id).await;
    assert!(!blocked(&sector) && sector.state.name() == "sealing" && sector.issues == 0);
    let outbox = host.outbox().await;
    assert!(
        matches!(&outbox[..], [row] if matches!(&row.kind, OutboxKind::Fact { worker } if worker.as_str() == "w1"))
    );
    let fact: Fact = codec::decode(&outbox[0].payload).expect("a fact");
    assert_eq!(fact, Fact::new(Token(101), 1, CommonFact::Resubmit { from: Some(Phase::Pc1) }));

    let history = host.store.history(id).await.expect("reads");
    let last = history.last().expect("a line");
    let by = |name: &str| name.ends_with(", said to be bob") && !name.contains("mallory");
    assert!(by(&last.happening.actor) && last.happening.kind == "resubmitted", "{last:?}");
    assert_eq!(last.happening.detail["why"], "a new disk");
    let audit = host.json(&["audit", "list", "--target", "f01000/1", "--since", "1h"]);
    assert_eq!(audit.as_array().map(Vec::len), Some(1));
    assert!(audit[0]["actor"].as_str().is_some_and(by) && audit[0]["verb"] == "sectors resubmit", "{audit:#}");
    assert_eq!((&audit[0]["why"], &audit[0]["detail"]["blocked"]), (&json!("a new disk"), &json!("DISK_FULL")));
    assert_eq!(host.json(&["sectors", "show", "f01000/1"])["waits_for_the_bus"], true);
    host.sector(2, "queued", None).await;
    assert_eq!(host.json(&["audit", "list", "--target", "f01000/2"]), json!([]));
}

async fn of_several_sectors_each_is_ordered_by_itself(database: TestDatabase) {
    let host = Host::new(database).await;
    let full = host.sector(1, "sealing", Some(error(ErrorCode::DISK_FULL))).await;
    let other = host.sector(2, "packing", Some(error(ErrorCode::IO_FAILED))).await;
    let well = host.sector(3, "sealing", None).await;

    let said =
        host.ends(0, &["sectors", "resubmit", "--class", "crit", "--code", "disk_full", "--worker", "w1", "--dry-run"]);
    assert!(said.contains("f01000/1: would be: goes on in sealing") && !said.contains("f01000/2"), "{said}");
    let said = host.ends(2, &["sectors", "resubmit", "--slot", "/nvme0"]);
    assert!(said.contains("--yes") && said.contains("WHAT HAPPENS") && said.contains("f01000/2"), "{said}");
    assert!(blocked(&host.read(full).await) && blocked(&host.read(other).await), "nothing was ordered");
    assert!(host.outbox().await.is_empty());

    let said = host.ends(1, &["sectors", "resubmit", "f01000/3", "f01000/1", "f01000/1", "--yes"]);
    assert!(said.contains("f01000/3: not possible: it is not blocked"), "{said}");
    assert!(said.contains("1 of 2 sectors could not be ordered"), "{said}");
    assert!(!blocked(&host.read(full).await), "the others go on");
    assert!(blocked(&host.read(other).await), "nobody named it");
    assert_eq!(host.read(well).await.state.name(), "sealing");
    let said = host.ends(0, &["sectors", "resubmit", "--state", "committing", "--yes"]);
    assert!(said.contains("no sector is selected"), "{said}");
}

async fn a_sector_is_given_to_another_worker_by_ending_its_lease(database: TestDatabase) {
    let host = Host::new(database).await;
    let early = host.sector(1, "sealing", None).await;
    let late = host.sector(2, "committing", Some(error(ErrorCode::PROOFS_FAILED))).await;
    host.sector(3, "prove_committing", None).await;
    let refused = host.sector(4, "prove_committing", None).await;
    host.apply(refused, Input::Refused(error(ErrorCode::PROVE_COMMIT_REFUSED))).await;

    let said = host.ends(1, &["sectors", "resubmit", "f01000/3", "--elsewhere"]);
    assert!(said.contains("no worker is needed"), "{said}");
    let said = host.ends(0, &["sectors", "resubmit", "--worker", "w1", "--elsewhere", "--yes"]);
    assert!(said.contains("with a new ticket") && said.contains("to the same CommR"), "{said}");
    assert!(!said.contains("f01000/3"), "a filter leaves alone what needs no worker: {said}");
    let rows = host.outbox().await;
    assert!(
        rows.iter().all(|row| row.kind == OutboxKind::Release),
        "never an intent, and nothing to be told: {rows:?}"
    );
    assert_eq!(rows.iter().map(|row| row.lease_sequence).collect::<Vec<_>>(), [101, 102, 104]);
    for id in [early, late, refused] {
        assert!(matches!(host.read(id).await.ownership, Ownership::Held { .. }), "until the log says so");
    }
    assert_eq!(host.read(refused).await.state.name(), "committing", "another proof is needed");
}

async fn a_deposit_is_not_lost_by_mistake(database: TestDatabase) {
    let host = Host::new(database).await;
    let id = host.sector(1, "persisting", Some(error(ErrorCode::STORE_FULL))).await;
    let young = host.sector(2, "packing", None).await;
    let said = host.ends(1, &["sectors", "abandon", "f01000/1", "--why", "lost"]);
    assert!(said.contains("deposit"), "{said}");
    host.ends(0, &["sectors", "abandon", "f01000/1", "--why", "lost", "--lose-deposit"]);
    host.ends(0, &["sectors", "abandon", "f01000/2", "--why", "not wanted"]);
    for id in [id, young] {
        let state = host.read(id).await.state;
        let Some(State::Abandoning { cause }) = state.seal() else { panic!("{id} is not given up") };
        let message = cause.message();
        assert!(message.contains("given up by") && !message.contains("mallory"), "{message}");
    }
    assert!(host.ends(1, &["sectors", "abandon", "f01000/2", "--why", "again"]).contains("already"));
}

async fn what_is_blocked_says_why_since_when_what_it_costs_and_what_can_be_ordered(database: TestDatabase) {
    let host = Host::new(database).await;
    host.sector(1, "sealing", Some(error(ErrorCode::DISK_FULL))).await;
    host.sector(2, "persisting", Some(error(ErrorCode::STORE_FULL))).await;
    host.sector(3, "committing", None).await;
    // There is no running manager and no bus, so the answer has gaps. It must say so.
    let all = host.json_ending(1, &["sectors", "blocked"]);
    let sectors = all["sectors"].as_array().expect("sectors");
    assert_eq!(sectors.iter().map(|s| &s["sector"]).collect::<Vec<_>>(), ["f01000/1", "f01000/2"]);
    assert!(sectors[0]["since"].is_string() && sectors[0]["slot"] == "/nvme0", "{all:#}");
    let waiting = &sectors[0]["waiting"];
    assert_eq!((&waiting["cost"], &waiting["expires_epoch"]), (&json!("ticket"), &json!(2900)));
    // The node does not answer. The manager knows the chain only from the last head that it stored.
    assert_eq!((&waiting["now_epoch"], &waiting["now_is_live"]), (&json!(31), &json!(false)));
    assert_eq!(
        (&sectors[1]["waiting"]["cost"], &sectors[1]["waiting"]["secs_left"]),
        (&json!("deposit"), &json!(86_409 * 30))
    );
    let orders = |index: usize| sectors[index]["orders"].as_array().expect("orders").clone();
    assert!(orders(0).contains(&json!("resubmit --from pc1")) && !orders(0).contains(&json!("resubmit --from c1")));
    assert!(orders(0).contains(&json!("abandon")) && orders(1).contains(&json!("abandon --lose-deposit")));
    let said = host.ends(1, &["sectors", "blocked", "--code", "STORE_FULL"]);
    assert!(said.contains("at most 86409 epochs") && said.contains("the node does not answer"), "{said}");
    assert!(!said.contains("f01000/1"), "{said}");
    let said = host.ends(0, &["sectors", "show", "f01000/1"]);
    for words in ["phase   pc1", "slot    /nvme0", "stderr  last words", "offered 1 time since", "orders    resubmit"] {
        assert!(said.contains(words), "{words}: {said}");
    }
}

async fn a_whole_machine_is_ordered_about_until_it_is_told_otherwise(database: TestDatabase) {
    let host = Host::new(database).await;
    let id = host.sector(1, "sealing", Some(error(ErrorCode::PROOFS_FAILED))).await;
    let w1 = "w1".parse().expect("worker");
    let said = host.ends(0, &["workers", "drain", "w1", "--why", "new kernel"]);
    for words in ["worker w1 drains", "not on the bus yet", "f01000/1", "the ticket expires at epoch 2900"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert!(host.ends(0, &["workers", "drain", "w1"]).contains("was ordered to drain already"));
    let orders = host.store.orders_of(&w1).await.expect("reads").expect("orders");
    assert!(orders.orders.drain && orders.orders.revision == 1 && !orders.is_published());
    let said = host.ends(0, &["workers", "list"]);
    assert!(said.contains("w1") && said.contains("drain (not on the bus yet)"), "{said}");

    assert!(host.ends(2, &["slots", "release", "w1", "/nvme0"]).contains("--yes"));
    let said = host.ends(0, &["slots", "release", "w1", "/nvme0", "--yes", "--why", "the disk is gone"]);
    assert!(said.contains("f01000/1: taken from worker w1"), "{said}");
    assert!(matches!(&host.outbox().await[..], [row] if row.kind == OutboxKind::Release && row.lease_sequence == 101));
    assert!(blocked(&host.read(id).await), "what follows is the log's to say");
    assert!(host.ends(0, &["slots", "release", "w1", "/nvme0", "--yes"]).contains("was to be freed already"));
    let said = host.ends(1, &["slots", "release", "w1", "/nvme7", "--yes"]);
    assert!(said.contains("nobody can say whether it has a slot /nvme7") && said.contains("tell of: /nvme0"), "{said}");
    host.ends(0, &["slots", "release", "w1", "/nvme7", "--yes", "--force"]);
    let standing = host.json(&["slots", "orders"]);
    let slots: Vec<&Value> = standing.as_array().expect("a list").iter().map(|order| &order["slot"]).collect();
    assert_eq!(slots, ["/nvme0", "/nvme7"]);
    assert!(standing[0]["why"] == "the disk is gone" && standing[0]["by"] != "-", "{standing:#}");
    assert!(host.ends(0, &["slots", "withdraw", "w1", "/nvme7"]).contains("taken back"));
    assert!(host.ends(1, &["slots", "withdraw", "w1", "/nvme7"]).contains("standing are: w1 /nvme0"));
    assert!(host.ends(0, &["workers", "resume", "w1"]).contains("takes sectors again"));
    let orders = host.store.orders_of(&w1).await.expect("reads").expect("orders");
    assert!(!orders.orders.drain && orders.orders.revision == 5, "{orders:?}");
    assert!(matches!(&orders.orders.release[..], [release] if release.slot == "/nvme0"), "{orders:?}");
    let said = host.ends(0, &["workers", "show", "w1"]);
    assert!(said.contains("release /nvme0") && said.contains("f01000/1"), "{said}");
    let verbs: Vec<Value> =
        host.json(&["audit", "list"]).as_array().expect("a list").iter().map(|e| e["verb"].clone()).collect();
    let slots = ["slots release"; 3].into_iter().chain(["slots withdraw"]);
    let wanted: Vec<&str> = ["workers drain"].into_iter().chain(slots).chain(["workers resume"]).collect();
    assert_eq!(verbs, wanted);
}

async fn what_is_pledged_is_shown_and_can_be_taken_back(database: TestDatabase) {
    let host = Host::new(database).await;
    let pledge = |count: &'static str| ["pledge", "--miner", "f01000", "--count", count];
    assert!(host.ends(2, &pledge("100000")).contains("--yes"), "nobody means that many by mistake");
    assert_eq!(host.json(&["pledges", "list"]), json!([]));
    host.ends(0, &[&pledge("100000")[..], &["--yes", "--why", "a new hall"]].concat());
    host.ends(0, &pledge("7"));
    let mut tx = host.store.begin().await.expect("begins");
    assert!(tx.use_pledge(1, 40).await.expect("counts"), "the manager gave some of them a number");
    tx.commit().await.expect("commits");
    let listed = host.json(&["pledges", "list"]);
    assert_eq!((&listed[0]["remaining"], &listed[0]["numbered"]), (&json!(99_960), &json!(40)));
    assert_eq!((&listed[0]["why"], &listed[1]["asked"]), (&json!("a new hall"), &json!(7)));
    assert!(host.ends(0, &["pledges", "list"]).contains("99960"));

    assert!(host.ends(1, &["pledges", "cancel", "1", "9"]).contains("there is no pledge 9 (open pledges: 1, 2)"));
    let said = host.ends(0, &["pledges", "cancel", "1", "--why", "a slip"]);
    assert!(said.contains("99960 sectors of f01000 taken back") && said.contains("40 sectors"), "{said}");
    let mut tx = host.store.begin().await.expect("begins");
    assert!(!tx.use_pledge(1, 40).await.expect("counts"), "a manager that read it before gives no more numbers");
    tx.commit().await.expect("commits");
    assert!(host.ends(1, &["pledges", "cancel", "1"]).contains("nothing is left to take back"));
    assert!(host.ends(2, &["pledges", "cancel", "--all"]).contains("--yes"));
    host.ends(0, &["pledges", "cancel", "--all", "--miner", "f01000", "--yes"]);
    assert!(host.ends(0, &["pledges", "cancel", "--all", "--yes"]).contains("nothing was taken back"));
    let all = host.json(&["pledges", "list", "--all"]);
    assert_eq!((&all[0]["cancelled"], &all[1]["cancelled"]), (&json!(99_960), &json!(7)));
    let audit = host.json(&["audit", "list", "--target", "f01000"]);
    let verbs: Vec<&Value> = audit.as_array().expect("a list").iter().map(|entry| &entry["verb"]).collect();
    assert_eq!(verbs, ["pledge", "pledge", "pledges cancel", "pledges cancel"]);
}

async fn a_queue_that_is_given_up_is_not_filled_again_by_its_pledges(database: TestDatabase) {
    let host = Host::new(database).await;
    host.ends(0, &["pledge", "--miner", "f01000", "--count", "7"]);
    for number in [1, 2] {
        host.sector(number, "queued", None).await;
    }
    host.sector(3, "sealing", None).await;
    host.ends(0, &["sectors", "abandon", "f01000/1", "--why", "this one"]);
    let queued = ["sectors", "abandon", "--state", "queued", "--why", "a slip"];
    let said = host.ends(0, &[&queued[..], &["--dry-run"]].concat());
    assert!(said.contains("pledge 1") && said.contains("taken back as well"), "{said}");
    assert_eq!(host.store.open_pledges().await.expect("reads").len(), 1, "as before, until it is ordered");
    host.ends(0, &[&queued[..], &["--yes"]].concat());
    assert!(host.store.open_pledges().await.expect("reads").is_empty());
    assert_eq!(host.read("f01000/2".parse().expect("sector")).await.state.name(), "aborted");
    assert_eq!(host.read("f01000/3".parse().expect("sector")).await.state.name(), "sealing");
    host.ends(0, &["pledge", "--miner", "f01000", "--count", "7"]);
    host.sector(4, "queued", None).await;
    host.ends(0, &[&queued[..], &["--yes", "--keep-pledges"]].concat());
    assert_eq!(host.store.open_pledges().await.expect("reads").len(), 1);
}

async fn what_makes_no_sense_is_refused_in_words_and_changes_nothing(database: TestDatabase) {
    let host = Host::new(database).await;
    host.sector(1, "sealing", Some(error(ErrorCode::DISK_FULL))).await;
    for (code, arguments, words) in [
        (2, &["sectors", "resubmit"][..], "name sectors"),
        (2, &["sectors", "abandon", "--why", "x"], "name sectors"),
        (2, &["sectors", "resubmit", "f01000/1", "--code", "DISK_FULL"], "not both"),
        (2, &["sectors", "resubmit", "f01000/1", "--from", "pc1", "--elsewhere"], "cannot be used with"),
        (2, &["sectors", "resubmit", "f01000/1", "--from", "pc9"], "tree_d"),
        (2, &["sectors", "resubmit", "--class", "bad"], "perm"),
        (2, &["sectors", "resubmit", "--state", "bad"], "pre_committing"),
        (2, &["sectors", "resubmit", "1000/1"], "f01000/42"),
        (2, &["sectors", "abandon", "f01000/1"], "--why"),
        (2, &["sectors", "abandon", "f01000/1", "--why", ""], "--why"),
        (2, &["sectors", "resubmit", "f01000/1", "--by", ""], "--by"),
        (1, &["sectors", "resubmit", "f01000/1", "f01000/99", "--yes"], "there is no sector f01000/99"),
        (1, &["sectors", "resubmit", "f01000/1", "--from", "c1"], "not come to that phase"),
        (2, &["workers", "drain"], "WORKERS"),
        (2, &["workers", "drain", "no/name"], "worker name"),
        (1, &["workers", "drain", "w2"], "known are: w1"),
        (1, &["workers", "show", "w2"], "known are: w1"),
        (1, &["slots", "release", "w2", "/nvme0"], "known are: w1"),
        (2, &["audit", "list", "--since", "yesterday"], "90m"),
        (2, &["audit", "list", "--target", "f01000/99"], "no such sector"),
        (2, &["audit", "list", "--target", "w2"], "There are: f01000, w1"),
        (2, &["sectors", "blocked", "--code", "DISK_FUL"], "Is DISK_FULL meant?"),
        (2, &["sectors", "resubmit", "--code", "NOSUCH", "--yes"], "there is no such code"),
        (2, &["sectors", "list", "--miner", "f09999"], "There are: f01000"),
        (2, &["sectors", "blocked", "--miner", "f09999"], "There are: f01000"),
        (2, &["pledges", "list", "--miner", "f09999"], "There are: f01000"),
        (1, &["sectors", "blocked", "--worker", "w2"], "known are: w1"),
        (2, &["pledges", "cancel"], "<IDS>..."),
        (1, &["pledges", "cancel", "7"], "there is no pledge 7 (open pledges: none)"),
        (2, &["pledge", "--miner", "f01000", "--count", "0"], "--count"),
        (1, &["slots", "release", "w1", "/nvme7", "--yes"], "--force"),
        (1, &["slots", "withdraw", "w1", "/nvme0"], "standing are: none"),
        (2, &["sectors", "resubmit", "f01000/1", "--by", "a\nb"], "--by"),
        (1, &["bus", "recover", "--yes"], "never been used"),
    ] {
        let said = host.ends(code, arguments);
        assert!(said.contains(words), "{arguments:?} does not say `{words}`: {said}");
    }
    assert!(blocked(&host.read("f01000/1".parse().expect("sector")).await));
    assert!(host.outbox().await.is_empty() && host.store.worker_orders().await.expect("reads").is_empty());
    assert_eq!(host.json(&["audit", "list"]), json!([]));
    assert_eq!(host.json(&["check", "--offline"])["good"], true);
}

async fn a_broken_invariant_is_shown_by_check_whatever_else_is_away(database: TestDatabase) {
    let host = Host::new(database).await;
    assert!(!host.ends(75, &["check"]).contains("broken"), "nothing was seen");
    let id = host.sector(1, "packing", None).await;
    let commitment = Commitment([7; 32]);
    let early = seal::Event::Pc2Done { comm_r: commitment, comm_d: commitment };
    host.apply(id, Input::Event(EventBody::Seal(early))).await;
    let said = host.ends(75, &["check"]);
    for words in ["broken nothing_illegal: the manager saw it 1 time(s), first ", ": f01000/1: ", "docs/operations.md"]
    {
        assert!(said.contains(words), "{said}");
    }
}

async fn what_holds_up_many_sectors_is_told_once_with_their_number(database: TestDatabase) {
    let host = Host::new(database).await;
    for number in 1..=7 {
        host.sector(number, "drawing_ticket", None).await;
    }
    host.sector(8, "packing", None).await;
    let mut tx = host.store.begin().await.expect("begins");
    let cause = Cause::passing(ErrorCode::NODE_UNAVAILABLE, "no answer");
    tx.save_wait(&Subject::Node, &cause, Duration::from_secs(2), 1).await.expect("stores");
    tx.commit().await.expect("commits");
    let said = host.ends(1, &["sectors", "blocked"]);
    let held = "  holds up 7 sector(s): f01000/1, f01000/2, f01000/3, f01000/4, f01000/5, and 2 more\n";
    assert!(said.contains(held), "{said}");
    assert_eq!(said.matches("NODE_UNAVAILABLE").count(), 1, "{said}");
    assert_eq!(host.json_ending(1, &["sectors", "blocked"])["waits"][0]["holds_up"], 7);
}
