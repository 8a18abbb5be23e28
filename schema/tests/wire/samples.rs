//! One message of each kind, twice: with everything that it can carry, and with the least.
//!
//! No sample uses `..`: whoever adds a field has to say here what it looks like.

use sealbus_schema::{
    Commitment, ErrorClass, ErrorCode, ErrorReport, IntentKind, MinerId, Phase, ProofBytes, Randomness, SealProof,
    SectorId, SectorNumber, Token, WorkerName,
    codec::{self, CodecError},
    error::Exit,
    identity::{self, KnownStore, SlotIdentity, StoreIdentity},
    message::{
        BrokenInvariant, CommonEvent, CommonFact, Event, EventBody, Fact, FactBody, Heartbeat, Holding, Intent,
        KnownSlot, LeaseRecord, Orders, ProcessorStatus, SlotRelease, SlotStatus, Weights, WorkStatus,
    },
    parts::{PieceInfo, PreCommitInfo, Seed, StoredFile, StoredSector, Ticket},
    workflows::seal,
};
use serde::{Serialize, de::DeserializeOwned};

/// A message that can be read again from bytes.
pub trait Message: Serialize + DeserializeOwned {
    /// What it is called in recordings, before the kind.
    const NAME: &'static str;

    fn bytes(&self) -> Vec<u8> {
        codec::encode(self).expect("packs")
    }

    fn read(bytes: &[u8]) -> Result<Self, String> {
        codec::decode(bytes).map_err(|error: CodecError| format!("{error}: {:?}", std::error::Error::source(&error)))
    }
}

impl Message for Event {
    const NAME: &'static str = "event";
}
impl Message for Fact {
    const NAME: &'static str = "fact";
}
impl Message for LeaseRecord {
    const NAME: &'static str = "lease";
}
impl Message for Intent {
    const NAME: &'static str = "intent";
}
impl Message for Heartbeat {
    const NAME: &'static str = "heartbeat";
}
impl Message for Orders {
    const NAME: &'static str = "orders";
}
// Identity files are not messages, but one side writes what the other reads.
impl Message for StoreIdentity {
    const NAME: &'static str = "store_identity";

    fn bytes(&self) -> Vec<u8> {
        identity::render(self).expect("renders")
    }

    fn read(bytes: &[u8]) -> Result<Self, String> {
        identity::parse(bytes).map_err(|error| error.to_string())
    }
}
impl Message for SlotIdentity {
    const NAME: &'static str = "slot_identity";

    fn bytes(&self) -> Vec<u8> {
        identity::render(self).expect("renders")
    }

    fn read(bytes: &[u8]) -> Result<Self, String> {
        identity::parse(bytes).map_err(|error| error.to_string())
    }
}

/// A message of one kind, in both forms, as bytes.
pub struct Sample {
    pub name: String,
    pub full: Vec<u8>,
    pub least: Vec<u8>,
    /// Reads bytes as such a message and writes it again.
    pub again: fn(&[u8]) -> Result<Vec<u8>, String>,
}

fn sample<M: Message>(kind: &str, full: &M, least: &M) -> Sample {
    let name = if kind.is_empty() { M::NAME.to_owned() } else { format!("{}/{kind}", M::NAME) };
    Sample { name, full: full.bytes(), least: least.bytes(), again: |bytes| M::read(bytes).map(|read| read.bytes()) }
}

pub fn all() -> Vec<Sample> {
    let mut samples = events();
    samples.extend(facts());
    samples.extend(leases());
    samples
        .extend([IntentKind::Seal, IntentKind::Rebuild].map(|kind| sample(kind.name(), &intent(kind), &intent(kind))));
    samples.push(sample("", &heartbeat_full(), &heartbeat_least()));
    samples.push(sample("", &orders_full(), &Orders::default()));
    samples.push(sample("", &store_identity("mainnet"), &store_identity("")));
    samples.push(sample("", &slot_identity(Some("0c")), &slot_identity(None)));
    samples
}

fn events() -> Vec<Sample> {
    let bodies: [(EventBody, EventBody); 12] = [
        same(CommonEvent::PhaseStarted { phase: Phase::Pc1, attempt: 2, processor: "pc1-0".into() }),
        same(CommonEvent::Finished {}),
        both(CommonEvent::Failed { error: error_full() }, CommonEvent::Failed { error: error_least() }),
        both(CommonEvent::Aborted { error: error_full() }, CommonEvent::Aborted { error: error_least() }),
        both(seal::Event::PiecesAdded { pieces: vec![piece()] }, seal::Event::PiecesAdded { pieces: Vec::new() }),
        same(seal::Event::TreeDBuilt { comm_d: commitment(1) }),
        same(seal::Event::TicketWanted { draw: 1 }),
        same(seal::Event::Pc1Done {}),
        same(seal::Event::Pc2Done { comm_r: commitment(2), comm_d: commitment(1) }),
        both(seal::Event::Persisted { stored: stored_full() }, seal::Event::Persisted { stored: stored_least() }),
        same(seal::Event::C1Done { seed_draw: 1 }),
        same(seal::Event::C2Done { seed_draw: 1, proof: ProofBytes(vec![7; 192]) }),
    ];
    let event = |body: EventBody| Event { token: Token(70_000), number: 3, body };
    bodies.map(|(full, least)| sample(full.kind(), &event(full.clone()), &event(least))).into()
}

fn facts() -> Vec<Sample> {
    let landed = |stores| seal::Fact::PrecommitLanded { precommit: precommit(), stores };
    let bodies: [(FactBody, FactBody); 7] = [
        both(CommonFact::Abandon { error: error_full() }, CommonFact::Abandon { error: error_least() }),
        both(CommonFact::Resubmit { from: Some(Phase::C1) }, CommonFact::Resubmit { from: None }),
        same(seal::Fact::Ticket { ticket: ticket() }),
        both(landed(vec![KnownStore { name: "main".into(), id: "0a".into() }]), landed(Vec::new())),
        same(seal::Fact::PersistChecked {}),
        same(seal::Fact::Seed { seed: Seed { draw: 1, randomness: Randomness([5; 32]), epoch: 1_200 } }),
        same(seal::Fact::ProveLanded { activation_epoch: 1_300 }),
    ];
    let fact = |body: FactBody| Fact { token: Token(70_000), serial: 1, body };
    let of = |(full, least): (FactBody, FactBody)| {
        sample(full.kind().expect("known").name(), &fact(full.clone()), &fact(least))
    };
    bodies.map(of).into()
}

fn leases() -> Vec<Sample> {
    let reinstate = |stream: Option<&str>| LeaseRecord::Reinstate {
        worker: worker(),
        token: Token(70_000),
        stream: stream.map(str::to_owned),
        last_event: 4,
        reason: "a claim without an offer".into(),
    };
    let claim = LeaseRecord::Claim { intent: intent(IntentKind::Seal), host: "h1".into() };
    let release = LeaseRecord::Release { reason: "its worker is gone".into() };
    vec![
        sample("claim", &claim, &claim),
        sample("release", &release, &release),
        sample("reinstate", &reinstate(Some("SEAL_SECTORS 1")), &reinstate(None)),
    ]
}

fn intent(kind: IntentKind) -> Intent {
    Intent { sector: sector(), kind, proof: SealProof::StackedDrg32GiBV1_1, lease_sequence: 69_000, attempt: 1 }
}

fn heartbeat_full() -> Heartbeat {
    let holding = Holding { sector: sector(), token: Token(70_000), step: "pc1".into(), resubmitted: Some(1) };
    let slot = SlotStatus {
        path: "/slot".into(),
        holding: Some(holding),
        blocked: Some(error_full()),
        unreadable: true,
        identity: Some("0b".into()),
        released: 2,
        checking: true,
    };
    let work = WorkStatus {
        sector: sector(),
        slot: 0,
        age_secs: 60,
        percent: Some(40),
        note: "layer 5".into(),
        left_secs: Some(90),
    };
    let processor = ProcessorStatus {
        id: "pc1-0".into(),
        pid: Some(4711),
        busy: true,
        stage: "pc1".into(),
        cpus: "0-3".into(),
        node: Some(0),
        gpus: "0".into(),
        bound: Some("cpus 0-3".into()),
        work: vec![work],
    };
    let broken = BrokenInvariant { invariant: "one_owner".into(), times: 1, seen: "two".into() };
    Heartbeat {
        worker: worker(),
        host: "h1".into(),
        version: "0.1.0".into(),
        incarnation: 9,
        draining: true,
        orders: 5,
        slots: vec![slot],
        processors: vec![processor],
        broken: vec![broken],
    }
}

fn heartbeat_least() -> Heartbeat {
    let slot = SlotStatus {
        path: "/slot".into(),
        holding: None,
        blocked: None,
        unreadable: false,
        identity: None,
        released: 0,
        checking: false,
    };
    Heartbeat {
        worker: worker(),
        host: "h1".into(),
        version: "0.1.0".into(),
        incarnation: 9,
        draining: false,
        orders: 0,
        slots: vec![slot],
        processors: vec![ProcessorStatus::default()],
        broken: Vec::new(),
    }
}

fn orders_full() -> Orders {
    Orders {
        revision: 5,
        drain: true,
        release: vec![SlotRelease { id: 2, slot: "/slot".into() }],
        slots: vec![KnownSlot { path: "/slot".into(), id: "0b".into() }],
        weights: Weights::from_iter([(MinerId(1000), 3)]),
    }
}

fn store_identity(network: &str) -> StoreIdentity {
    StoreIdentity {
        id: "0a".into(),
        name: "main".into(),
        network: network.into(),
        miners: vec![MinerId(1000)],
        made_at: "2026-11-28T12:00:00Z".into(),
    }
}

fn slot_identity(replaces: Option<&str>) -> SlotIdentity {
    SlotIdentity {
        id: "0b".into(),
        worker: worker(),
        path: "/slot".into(),
        replaces: replaces.map(str::to_owned),
        made_at_unix_secs: 1_790_000_000,
    }
}

fn error_full() -> ErrorReport {
    ErrorReport {
        class: ErrorClass::Crit,
        code: ErrorCode::DISK_FULL,
        causes: vec!["write".into(), "no space left".into()],
        phase: Some(Phase::Pc2),
        attempt: 2,
        host: "h1".into(),
        slot: "/slot".into(),
        processor: Some("pc2-0".into()),
        exit: Some(Exit::Status(3)),
        stderr_tail: "the end".into(),
    }
}

fn error_least() -> ErrorReport {
    ErrorReport::new(ErrorClass::Temp, ErrorCode::IO_FAILED, "read")
}

fn stored_full() -> StoredSector {
    StoredSector { identity: Some("0a".into()), ..stored_least() }
}

fn stored_least() -> StoredSector {
    let file = StoredFile { path: "sealed/s-t01000-1".into(), bytes: 2048, blake2b: commitment(4) };
    StoredSector { store: "main".into(), files: vec![file], identity: None }
}

fn ticket() -> Ticket {
    let randomness = Randomness([3; 32]);
    Ticket { draw: 1, randomness, epoch: 900, expires_epoch: 1_900, head_epoch: 1_000, epoch_millis: 30_000 }
}

fn precommit() -> PreCommitInfo {
    PreCommitInfo { epoch: 1_050, prove_by_epoch: 9_000, head_epoch: 1_060, epoch_millis: 30_000 }
}

fn piece() -> PieceInfo {
    PieceInfo { commitment: commitment(1), padded_bytes: 2048 }
}

fn commitment(byte: u8) -> Commitment {
    Commitment([byte; 32])
}

fn sector() -> SectorId {
    SectorId { miner: MinerId(1000), number: SectorNumber(1) }
}

fn worker() -> WorkerName {
    "w1".parse().expect("name")
}

fn same<Body: Into<To>, To: Clone>(body: Body) -> (To, To) {
    let body: To = body.into();
    (body.clone(), body)
}

fn both<Body: Into<To>, To>(full: Body, least: Body) -> (To, To) {
    (full.into(), least.into())
}
