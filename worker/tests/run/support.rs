//! A test bench: a server, slots and a store, with the worker as a child process and the manager played by the test.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use sealbus_nats::{
    Bus, Connection,
    lease::ClaimOutcome,
    log::{Record, SectorsLog},
    topology::{self, Layout},
};
use sealbus_schema::{
    IntentKind, MinerId, Randomness, SealProof, SectorId, SectorNumber, Token, WorkerName,
    identity::KnownStore,
    message::{Event, EventBody, Fact, Heartbeat, Intent, KnownSlot, LeaseRecord, Orders, SlotRelease},
    parts::{PreCommitInfo, Seed, Ticket},
    workflows::seal,
};
use tempfile::TempDir;

use ports::Port;

#[path = "../../../nats/tests/support/ports.rs"]
pub mod ports;

pub const MINER: MinerId = MinerId(1000);
pub const PROOF: SealProof = SealProof::StackedDrg2KiBV1_1;
// A missing queue is looked for every 30 s, and a slot that waits for its turn looks again after as long.
const PATIENCE: Duration = Duration::from_secs(120);

/// A processor that gives each stage's real form of answer. Files control it: it waits while `hold-<stage>` exists,
/// fails once with the class in `fail-<stage>`, and dies while `die-<stage>` exists. Once for `flood-<stage>`, it
/// writes 20 MB to stderr. Once for `leave-<stage>`, it leaves a process with its own session and an empty environment
/// behind, whose pid is then in `left`. Once it runs the shell script `try-<stage>`, whose output is then in `tried`.
const PROCESSOR: &str = r#"#!/bin/sh
stage=$1; control=$2
echo "{\"sealbus_processor\":2,\"stage\":\"$stage\",\"pid\":$$}"
bytes() { head -c "$1" /dev/zero | tr '\0' "$2"; }
d=$(bytes 64 1); r=$(bytes 64 2)
n=0
while read -r line; do
    n=$((n+1))
    echo "start $stage" >> "$control/log"
    while [ -e "$control/hold-$stage" ]; do sleep 0.02; done
    if [ -e "$control/leave-$stage" ]; then
        setsid env -i sh -c 'sleep 1000 & echo $! > "$0"; wait' "$control/left" </dev/null >/dev/null 2>&1 &
        while ! [ -s "$control/left" ]; do sleep 0.02; done
        rm "$control/leave-$stage"
    fi
    if [ -e "$control/try-$stage" ]; then
        sh "$control/try-$stage" > "$control/tried" 2>&1
        rm "$control/try-$stage"
    fi
    if [ -e "$control/flood-$stage" ]; then
        rm "$control/flood-$stage"
        yes 'CUDA: something is odd, again' | head -c 20000000 >&2
    fi
    if [ -e "$control/die-$stage" ]; then
        echo "the last words of $stage" >&2
        exit 7
    fi
    if [ -e "$control/fail-$stage" ]; then
        class=$(cat "$control/fail-$stage"); rm "$control/fail-$stage"
        echo "{\"id\":$n,\"error\":{\"class\":\"$class\",\"code\":\"IO_FAILED\",\"message\":\"as told\"}}"
        continue
    fi
    case $stage in
        add_pieces) out="{\"pieces\":[{\"commitment\":\"$d\",\"padded_bytes\":2048}]}" ;;
        tree_d|pc1) out="{\"comm_d\":\"$d\"}" ;;
        pc2) out="{\"comm_r\":\"$r\",\"comm_d\":\"$d\"}" ;;
        transfer) out="{\"files\":[{\"path\":\"sealed/x\",\"bytes\":2048,\"blake2b\":\"$r\"}]}" ;;
        c1) out="{\"bytes\":1}" ;;
        c2) out="{\"proof\":\"$(bytes 384 3)\"}" ;;
    esac
    echo "{\"id\":$n,\"output\":$out}"
done
"#;

/// A real nats-server on loopback, stopped at the end of the test.
pub struct Server {
    child: Child,
    port: Port,
    directory: TempDir,
}

impl Server {
    pub fn start() -> Server {
        let directory = tempfile::tempdir().expect("a directory for the server");
        let port = Port::hold().expect("a free port");
        let child = spawn_server(&port, directory.path(), "");
        Server { child, port, directory }
    }

    /// Starts a server that requires a password.
    pub fn start_closed() -> Server {
        let directory = tempfile::tempdir().expect("a directory for the server");
        let port = Port::hold().expect("a free port");
        let child = spawn_server(&port, directory.path(), "authorization { user: a, password: b }\n");
        Server { child, port, directory }
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port.number())
    }

    /// Removes a stream, as somebody with all permissions could.
    pub fn remove_stream(&self, name: &str) {
        self.ask(&format!("STREAM.DELETE.{name}"));
    }

    /// How many pulls are open at the queue of intents to seal.
    pub fn open_pulls(&self) -> u64 {
        let queue = topology::queue_name(MINER, PROOF, IntentKind::Seal);
        let info = self.ask(&format!("CONSUMER.INFO.{}.{queue}", topology::INTENTS));
        info["num_waiting"].as_u64().expect("the information about a consumer")
    }

    /// Asks the server's interface without a client, and returns what it answers.
    fn ask(&self, what: &str) -> serde_json::Value {
        let mut connection = std::net::TcpStream::connect(("127.0.0.1", self.port.number())).expect("connects");
        let text =
            format!("CONNECT {{\"verbose\":false}}\r\nSUB _INBOX.test 1\r\nPUB $JS.API.{what} _INBOX.test 0\r\n\r\n");
        connection.write_all(text.as_bytes()).expect("writes");
        let mut lines = BufReader::new(connection).lines().map_while(Result::ok);
        lines.find(|line| line.starts_with("MSG _INBOX.test")).expect("an answer");
        serde_json::from_str(&lines.next().expect("its content")).expect("JSON")
    }

    pub fn stop(&mut self) {
        self.child.kill().expect("kills");
        self.child.wait().expect("reaps");
    }

    pub fn start_again(&mut self) {
        self.child = spawn_server(&self.port, self.directory.path(), "");
    }

    /// Like [`Self::stop`], and deletes everything that was stored.
    pub fn stop_and_forget(&mut self) {
        self.stop();
        fs::remove_dir_all(self.directory.path().join("store")).expect("removes");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn_server(port: &Port, directory: &Path, more: &str) -> Child {
    let port = port.number();
    let config = directory.join("server.conf");
    let store = directory.join("store");
    let text =
        format!("listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: {store:?}, sync_interval: always }}\n{more}");
    fs::write(&config, text).expect("writes the configuration");
    let installed = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../.tools/bin/nats-server");
    let binary = if installed.exists() { installed } else { PathBuf::from("nats-server") };
    Command::new(binary)
        .arg("-c")
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts nats-server; `make tools` installs it")
}

/// The directories and the configuration of a worker.
pub struct Bench {
    pub dir: TempDir,
    pub url: String,
    pub slots: usize,
    pub scripted: bool,
    /// Text appended to the configuration.
    pub more: String,
}

impl Bench {
    /// Creates a bench with scripted processors.
    pub fn new(url: String, slots: usize) -> Bench {
        let dir = tempfile::tempdir().expect("directory");
        for name in ["store", "control", "parents"] {
            fs::create_dir(dir.path().join(name)).expect("directory");
        }
        for slot in 0..slots {
            fs::create_dir(dir.path().join(format!("slot{slot}"))).expect("directory");
        }
        let script = dir.path().join("processor.sh");
        fs::write(&script, PROCESSOR).expect("writes");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("permissions");
        Bench { dir, url, slots, scripted: true, more: String::new() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().expect("there").join(name)
    }

    pub fn config(&self) -> String {
        let mut text = format!(
            "[worker]\nname = \"w1\"\nhost = \"bench\"\nminers = [\"f01000\"]\nsector_size = \"2KiB\"\nrecover_interval_secs = 1\n\
             heartbeat_secs = 1\n[nats]\nurl = \"{}\"\n[store]\nname = \"main\"\npath = \"store\"\n[params]\nparent_cache = \"parents\"\n",
            self.url
        );
        for slot in 0..self.slots {
            text += &format!("[[slot]]\npath = \"slot{slot}\"\n");
        }
        if self.scripted {
            for stage in ["add_pieces", "tree_d", "pc1", "pc2", "transfer", "c1", "c2"] {
                text += &self.scripted_processor(stage);
            }
        }
        text + &self.more
    }

    pub fn scripted_processor(&self, stage: &str) -> String {
        let (script, control) = (self.path("processor.sh"), self.path("control"));
        format!(
            "[[processor]]\nstage = \"{stage}\"\nbin = {script:?}\nargs = [\"{stage}\", {control:?}]\n\
             writable = [{control:?}]\ntimeout_secs = 60\n"
        )
    }

    pub fn write_config(&self, text: &str) -> PathBuf {
        let path = self.path("worker.toml");
        fs::write(&path, text).expect("writes");
        path
    }

    pub fn start(&self) -> Worker {
        Worker::start(&self.write_config(&self.config()), &self.path("worker.log"))
    }

    pub fn hold(&self, stage: &str) {
        fs::write(self.path("control").join(format!("hold-{stage}")), "").expect("writes");
    }

    pub fn let_go(&self, stage: &str) {
        fs::remove_file(self.path("control").join(format!("hold-{stage}"))).expect("removes");
    }

    pub fn fail_once(&self, stage: &str, class: &str) {
        fs::write(self.path("control").join(format!("fail-{stage}")), class).expect("writes");
    }

    /// From now on the stage's process dies at each request.
    pub fn let_die(&self, stage: &str) {
        self.tell_processor("die", stage);
    }

    /// Creates a control file that the script knows.
    pub fn tell_processor(&self, what: &str, stage: &str) {
        fs::write(self.path("control").join(format!("{what}-{stage}")), "").expect("writes");
    }

    /// How many times a stage has begun.
    pub fn starts(&self, stage: &str) -> usize {
        let log = fs::read_to_string(self.path("control").join("log")).unwrap_or_default();
        log.lines().filter(|line| *line == format!("start {stage}")).count()
    }

    pub async fn begun(&self, stage: &str, times: usize) {
        eventually(&format!("start {times} of {stage}"), async || (self.starts(stage) >= times).then_some(())).await;
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("worker.log")).unwrap_or_default()
    }

    /// The files in a slot, except those that are always there.
    pub fn left_in(&self, slot: usize) -> Vec<String> {
        let entries = fs::read_dir(self.path(&format!("slot{slot}"))).expect("list");
        let names = entries.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned());
        let always = ["sealbus-slot.json", "slot.lock", "tmp", ".probe"];
        let mut left: Vec<String> = names.filter(|name| !always.contains(&name.as_str())).collect();
        left.sort();
        left
    }
}

/// The worker's process.
pub struct Worker {
    child: Child,
}

impl Worker {
    pub fn start(config: &Path, log: &Path) -> Worker {
        let log = fs::File::options().create(true).append(true).open(log).expect("log");
        let child = Command::new(env!("CARGO_BIN_EXE_sealbus-worker"))
            .args(["run", "--config"])
            .arg(config)
            .env("RUST_LOG", "debug,async_nats=warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("starts the worker");
        Worker { child }
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().expect("kills");
        self.child.wait().expect("reaps");
    }

    /// Sends SIGTERM and returns the exit status.
    pub async fn terminate(mut self) -> Option<i32> {
        self.signal(rustix::process::Signal::TERM);
        self.ended().await
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("signals");
    }

    pub async fn ended(&mut self) -> Option<i32> {
        let status = eventually("the end of the worker", async || self.child.try_wait().expect("waits")).await;
        status.code()
    }

    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("waits").is_none()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Plays the manager: publishes intents and facts, and reads the log.
pub struct Manager {
    pub bus: Bus,
    log: SectorsLog,
    pub records: Vec<(u64, Record)>,
    pub worker: WorkerName,
    /// The serial of the last resubmit order, which its answers contain.
    pub serial: u32,
    /// The slots that its orders name.
    pub slots: Vec<KnownSlot>,
    /// The stores that its answers name.
    pub stores: Vec<KnownStore>,
}

impl Manager {
    pub async fn connect(url: &str) -> Manager {
        let connection = Connection {
            url: url.to_owned(),
            nkey_seed_file: None,
            credentials_file: None,
            ca_file: None,
            api_prefix: None,
        };
        let bus = tokio::time::timeout(PATIENCE, connection.connect_patiently("manager"))
            .await
            .expect("the server comes up")
            .expect("connects");
        bus.ensure_streams(Layout { replicas: 1, max_sectors_bytes: 1 << 28 }).await.expect("streams");
        for kind in IntentKind::ALL {
            bus.ensure_queue(MINER, PROOF, *kind).await.expect("queue");
        }
        let log = bus.open_log(0).await.expect("log");
        Manager {
            bus,
            log,
            records: Vec::new(),
            worker: "w1".parse().expect("name"),
            serial: 0,
            slots: Vec::new(),
            stores: Vec::new(),
        }
    }

    pub async fn offer(&self, number: u64) -> SectorId {
        let sector = SectorId { miner: MINER, number: SectorNumber(number) };
        let intent = Intent { sector, kind: IntentKind::Seal, proof: PROOF, lease_sequence: 0, attempt: 1 };
        self.bus.offer(&intent).await.expect("offers");
        sector
    }

    /// Reads the log until `answer` returns a value.
    pub async fn until<T>(&mut self, what: &str, answer: impl Fn(&Manager) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = answer(self) {
                return answer;
            }
            assert!(Instant::now() < deadline, "{what} did not come; the log has {:#?}", self.records);
            // Cancelling the read loses nothing: a batch is taken as a whole or not at all.
            if let Ok(batch) = tokio::time::timeout(Duration::from_millis(200), self.log.next_batch()).await {
                self.records.extend(batch.unwrap_or_default().into_iter().map(|entry| (entry.sequence, entry.record)));
                self.log.acknowledge().await;
            }
        }
    }

    pub fn token(&self, sector: SectorId) -> Option<Token> {
        self.records.iter().rev().find_map(|(sequence, record)| match record {
            Record::Lease { sector: of, owner: Some(owner), record: LeaseRecord::Claim { .. } }
                if *of == sector && *owner == self.worker =>
            {
                Some(Token(*sequence))
            }
            _ => None,
        })
    }

    pub async fn claimed(&mut self, sector: SectorId) -> Token {
        self.until("the claim", |manager| manager.token(sector)).await
    }

    pub fn events(&self, of: SectorId) -> Vec<Event> {
        let events = self.records.iter().filter_map(|(_, record)| match record {
            Record::Event { sector, event, .. } if *sector == of => Some(event.clone()),
            _ => None,
        });
        events.collect()
    }

    pub fn kinds(&self, of: SectorId) -> Vec<&'static str> {
        self.events(of).iter().map(|event| event.body.kind()).collect()
    }

    /// Waits for an event of a kind.
    pub async fn event(&mut self, sector: SectorId, kind: &str) -> EventBody {
        self.until(kind, |manager| {
            manager.events(sector).into_iter().rev().map(|event| event.body).find(|body| body.kind() == kind)
        })
        .await
    }

    pub async fn tell(&self, sector: SectorId, fact: Fact) {
        let id = format!("{}.{}", fact.kind().expect("kind").name(), self.records.len());
        let fence = self.bus.last_lease(sector).await.expect("reads").expect("a lease").sequence;
        self.bus.tell_behind(sector, &self.worker, &fact, &id, fence).await.expect("tells");
    }

    /// Answers each question once, as a manager would, until an event of the kind `until`. That one is not answered.
    pub async fn see_through(&mut self, sector: SectorId, until: &str) -> EventBody {
        for question in ["ticket_wanted", "pc2_done", "persisted", "c2_done"] {
            let body = self
                .until(until, |manager| {
                    let bodies: Vec<EventBody> = manager.events(sector).into_iter().map(|event| event.body).collect();
                    let last = bodies.iter().rev().find(|body| body.kind() == until);
                    last.or(bodies.iter().rev().find(|body| body.kind() == question)).cloned()
                })
                .await;
            if body.kind() == until {
                return body;
            }
            self.answer(sector, &body).await;
        }
        self.event(sector, until).await
    }

    pub async fn answer(&mut self, sector: SectorId, body: &EventBody) {
        let token = self.claimed(sector).await;
        let serial = self.serial;
        match body {
            EventBody::Seal(seal::Event::TicketWanted { draw }) => {
                self.tell(sector, Fact::new(token, 0, seal::Fact::Ticket { ticket: ticket(*draw) })).await
            }
            EventBody::Seal(seal::Event::Pc2Done { .. }) => {
                self.tell(
                    sector,
                    Fact::new(
                        token,
                        serial,
                        seal::Fact::PrecommitLanded { precommit: precommit(100_000), stores: self.stores.clone() },
                    ),
                )
                .await;
            }
            EventBody::Seal(seal::Event::Persisted { .. }) => {
                self.tell(sector, Fact::new(token, serial, seal::Fact::PersistChecked {})).await;
                self.tell(sector, Fact::new(token, serial, seal::Fact::Seed { seed: seed(1) })).await;
            }
            EventBody::Seal(seal::Event::C2Done { .. }) => {
                self.tell(sector, Fact::new(token, serial, seal::Fact::ProveLanded { activation_epoch: 300 })).await
            }
            _ => {}
        }
    }

    /// Checks an invariant of the log: a single token, and numbers from 1 without gaps or repetitions.
    pub fn assert_gapless(&self, sector: SectorId) {
        let events = self.events(sector);
        let numbers: Vec<u64> = events.iter().map(|event| event.number).collect();
        assert_eq!(numbers, (1..=events.len() as u64).collect::<Vec<_>>(), "{:?}", self.kinds(sector));
        assert!(events.iter().all(|event| Some(event.token) == self.token(sector)), "one token");
    }

    /// Publishes whose the sector still is, as a manager whose fold knows this many events.
    pub async fn reinstate(&self, sector: SectorId, token: Token, stream: Option<String>, last_event: u64) {
        let fence = self.bus.last_lease(sector).await.expect("reads").map_or(0, |lease| lease.sequence);
        let (worker, reason) = (self.worker.clone(), "a test".to_owned());
        let record = LeaseRecord::Reinstate { worker, token, stream, last_event, reason };
        self.bus.reinstate(sector, fence, &record).await.expect("reinstates");
    }

    /// Claims a sector that was not offered to the claimant. The forger knows the sequence that the server expects.
    pub async fn forge_claim(&self, sector: SectorId, token: Token) {
        let thief = "thief".parse().expect("name");
        let intent = Intent { sector, kind: IntentKind::Seal, proof: PROOF, lease_sequence: token.0, attempt: 1 };
        let outcome = self.bus.claim(&intent, &thief, "nowhere").await.expect("an outcome");
        assert!(matches!(outcome, ClaimOutcome::Won(_)), "{outcome:?}");
    }

    /// Gives the worker standing orders: a revision, whether to drain, and slots to free by order number.
    pub async fn order(&self, revision: u64, drain: bool, release: &[(u64, &Path)]) {
        let release = release.iter().map(|(id, slot)| SlotRelease { id: *id, slot: slot.display().to_string() });
        let orders =
            Orders { revision, drain, release: release.collect(), slots: self.slots.clone(), ..Orders::default() };
        self.bus.order(&self.worker, &orders).await.expect("orders");
    }

    pub async fn heartbeat(&self) -> Option<Heartbeat> {
        let seen = self.bus.workers().await.unwrap_or_default();
        seen.into_iter().map(|seen| seen.heartbeat).find(|heartbeat| heartbeat.worker == self.worker)
    }

    pub async fn heartbeat_with(&self, what: &str, is_it: impl Fn(&Heartbeat) -> bool) -> Heartbeat {
        eventually(what, async || self.heartbeat().await.filter(|heartbeat| is_it(heartbeat))).await
    }
}

pub fn ticket(draw: u32) -> Ticket {
    let randomness = Randomness([draw as u8; 32]);
    Ticket { draw, randomness, epoch: 90, expires_epoch: 10_000, head_epoch: 100, epoch_millis: 30_000 }
}

pub fn precommit(prove_by_epoch: i64) -> PreCommitInfo {
    PreCommitInfo { epoch: 105, prove_by_epoch, head_epoch: 110, epoch_millis: 30_000 }
}

pub fn seed(draw: u32) -> Seed {
    Seed { draw, randomness: Randomness([64 + draw as u8; 32]), epoch: 255 }
}

/// Repeats `ask` until it returns a value, within a generous time limit.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what} did not come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
