//! A manager's driver, its database and the devnet in one process, with several sectors. Nothing happens by itself: the test
//! moves the chain, ticks the driver, and says what workers report.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{path::PathBuf, sync::Arc, time::Duration};

use fil_actor_miner_state::v19::{CompactCommD, PreCommitSectorBatchParams2, SectorPreCommitInfo};
use fvm_ipld_encoding::RawBytes;
use fvm_shared::{
    address::Address,
    commcid::replica_commitment_v1_to_cid,
    econ::TokenAmount,
    message::Message as Unsigned,
    sector::{PoStProof, RegisteredSealProof},
};
use sealbus_integration_tests::{
    devnet::{
        Config as ChainConfig, Devnet, Server,
        faults::Fault,
        messager::{self, Messager},
        proofs::{PostInfo, ProofError, ProofVerifier, SealInfo},
    },
    scripted::verifier::is_scripted_post,
};
use sealbus_manager::{
    chain::{Endpoint, NodeClient, RpcClient, Transport, message::SignedMessage},
    child::Program,
    config::{Config, Database},
    drive::{DriveError, Driver},
    life,
    proofs::{Porep, Verifier},
    store::{Happening, Job, Message, MessageKind, MessageState, Store},
    waits::{Cause, Subject},
    wake::Wake,
};
use sealbus_schema::{
    Commitment, ErrorCode, ErrorReport, ProofBytes, Randomness, SealProof, SectorId, SectorNumber, Token,
    lease::Ownership,
    machine::manager::AttemptPolicy,
    message::EventBody,
    parts::{StoredSector, Ticket},
    workflows::{
        Input,
        seal::{
            self,
            manager::{Answer, State},
        },
    },
};
use serde_json::json;

pub const POLICY: AttemptPolicy = AttemptPolicy { max_attempts: 3, max_issues: 5 };
/// The only single proof and the only aggregate that the chain takes.
pub const RIGHT: &[u8] = b"right";

/// The chain's side of the proofs.
struct Proofs;

impl ProofVerifier for Proofs {
    fn verify_seal(&self, _: &SealInfo, proof: &[u8]) -> Result<bool, ProofError> {
        Ok(proof == RIGHT)
    }

    fn verify_aggregate(&self, _: &[SealInfo], aggregate: &[u8]) -> Result<bool, ProofError> {
        Ok(aggregate == RIGHT)
    }

    fn verify_window_post(&self, info: &PostInfo, proofs: &[PoStProof]) -> Result<bool, ProofError> {
        is_scripted_post("window", info, proofs)
    }

    fn verify_winning_post(&self, info: &PostInfo, proofs: &[PoStProof]) -> Result<bool, ProofError> {
        is_scripted_post("winning", info, proofs)
    }
}

/// The manager's side. It takes every proof, so that the chain is what refuses a wrong one.
pub struct Trusting {
    /// What its program answers that aggregates; `None` if it cannot aggregate.
    pub aggregate: Option<Result<ProofBytes, ErrorReport>>,
}

impl Verifier for Trusting {
    fn verify_seal(&self, _: SectorId, _: SealProof, _: &Porep) -> Result<(), ErrorReport> {
        Ok(())
    }

    fn aggregates_ready(&self) -> Result<(), ErrorReport> {
        let cannot = || ErrorReport::new(sealbus_schema::ErrorClass::Crit, ErrorCode::PARAMS_MISSING, "no SRS");
        self.aggregate.as_ref().map(drop).ok_or_else(cannot)
    }

    fn aggregator(&self) -> Program {
        let answer = serde_json::to_string(&self.aggregate).expect("JSON");
        let arguments = ["-c".to_owned(), "cat > /dev/null; printf '%s\\n' \"$0\"".to_owned(), answer];
        Program { program: "/bin/sh".into(), arguments: arguments.map(Into::into).to_vec() }
    }

    fn challenge_files(
        &self,
        _: SectorId,
        _: SealProof,
        _: Commitment,
        _: PathBuf,
        _: PathBuf,
        _: [u8; 32],
    ) -> Result<(), ErrorReport> {
        Ok(())
    }
}

pub struct World {
    pub devnet: Devnet,
    server: Server,
    pub store: Store,
    pub epoch: i64,
    directory: tempfile::TempDir,
    pub sectors: u64,
    /// The sectors whose proofs are wrong.
    pub wrong: Vec<u64>,
    /// Sends the messages, if there is one.
    pub messager: Option<Messager>,
}

pub fn id(number: u64) -> SectorId {
    SectorId { number: SectorNumber(number), ..("f01000/1".parse().expect("a sector")) }
}

impl World {
    /// Sectors from number 1 on, whose PreCommits are wanted but not signed yet.
    pub async fn new(sectors: u64) -> World {
        World::with_chain(sectors, ChainConfig::default()).await
    }

    pub async fn with_chain(sectors: u64, chain: ChainConfig) -> World {
        World::with_chain_and_tickets(&vec![2900; sectors as usize], chain).await
    }

    /// Sectors whose tickets expire at these epochs.
    pub async fn with_tickets(expire: &[i64]) -> World {
        World::with_chain_and_tickets(expire, ChainConfig::default()).await
    }

    async fn with_chain_and_tickets(expire: &[i64], chain: ChainConfig) -> World {
        let sectors = expire.len() as u64;
        let _ = rustls::crypto::ring::default_provider().install_default();
        let devnet = Devnet::new(chain, Arc::new(Proofs)).expect("a devnet");
        let server = Server::start(&devnet, "127.0.0.1:0".parse().expect("an address")).await.expect("starts");
        // In memory if possible: these tests wait for nothing but the database's disk.
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory");
        let path = directory.path().join("manager.db");
        let store = Store::open(&Database::Sqlite { path }).await.expect("opens");
        let mut tx = store.begin().await.expect("begins");
        tx.start_fold("SEAL_SECTORS@1").await.expect("starts");
        let epoch = tx.take_over().await.expect("takes over");
        for number in 1..=sectors {
            tx.insert_sector(id(number), SealProof::StackedDrg2KiBV1_1).await.expect("inserts");
        }
        tx.commit().await.expect("commits");
        let world = World { devnet, server, store, epoch, directory, sectors, wrong: Vec::new(), messager: None };
        world.advance(20);
        for (number, expires_epoch) in (1..).zip(expire) {
            let ticket = Ticket {
                draw: 1,
                randomness: Randomness([3; 32]),
                epoch: -880,
                expires_epoch: *expires_epoch,
                head_epoch: 20,
                epoch_millis: 1,
            };
            for input in [
                Input::Claimed,
                Input::Event(EventBody::Seal(seal::Event::TicketWanted { draw: 1 })),
                Input::from(Answer::TicketDrawn(ticket)),
                Input::Event(EventBody::Seal(seal::Event::Pc2Done {
                    comm_r: comm_r(number),
                    comm_d: Commitment([2; 32]),
                })),
            ] {
                world.apply(number, input).await;
            }
        }
        world
    }

    /// The same with a messager that sends the messages.
    pub async fn with_messager(sectors: u64) -> World {
        let mut world = World::new(sectors).await;
        world.messager = Some(Messager::start(&world.devnet).await.expect("serves"));
        world
    }

    pub fn messager(&self) -> &Messager {
        self.messager.as_ref().expect("a messager")
    }

    pub async fn apply(&self, number: u64, input: Input) {
        let mut tx = self.store.begin().await.expect("begins");
        let mut sector = tx.sector(id(number)).await.expect("reads").expect("exists");
        if input == Input::Claimed {
            let worker = "w1".parse().expect("a worker");
            sector.ownership = Ownership::claimed(worker, Token(9 + number));
        }
        life::apply(&mut tx, sector, input, Happening::of_manager("test", json!({})), POLICY).await.expect("applies");
        tx.commit().await.expect("commits");
    }

    /// A configuration with these lines of `[chain]` and of its `[[miner]]`.
    pub fn config(&self, chain: &str, miner: &str) -> Config {
        let path = self.config_file();
        let messager = self.messager.as_ref().map_or_else(String::new, |messager| {
            let token_file = self.directory.path().join("messager-token");
            std::fs::write(&token_file, messager::TOKEN).expect("writes");
            format!("[chain.messager]\nurl = \"{}\"\ntoken_file = {token_file:?}\n", messager.url())
        });
        let text = format!(
            "[database]\npath = \"{database}\"\n[nats]\nurl = \"nats://127.0.0.1:4222\"\n[chain]\nurl = \"{url}\"\n\
             confidence_epochs = 1\n{chain}\n{messager}[[miner]]\nid = \"f01000\"\nsector_size = \"2KiB\"\n{miner}\n",
            database = self.directory.path().join("manager.db").display(),
            url = self.server.url(),
        );
        std::fs::write(&path, text).expect("writes");
        Config::load(&path).expect("a configuration")
    }

    /// The file of the last configuration.
    pub fn config_file(&self) -> PathBuf {
        self.directory.path().join("manager.toml")
    }

    pub fn client(&self) -> RpcClient {
        let token_file = self.directory.path().join("token");
        let tokens = self.devnet.tokens();
        // With a messager nothing is pushed or signed by the node.
        let token = if self.messager.is_some() { tokens.read } else { tokens.sign };
        std::fs::write(&token_file, token).expect("writes");
        RpcClient::new(Endpoint::new(self.server.url(), Some(token_file))).expect("a client")
    }

    pub fn messager_client(&self) -> RpcClient {
        let endpoint = self.config("", "").chain.messager_endpoint().expect("a messager");
        RpcClient::new(endpoint).expect("a client")
    }

    pub async fn driver(&self, chain: &str) -> Driver<RpcClient> {
        self.driver_that(chain, Trusting { aggregate: None }).await
    }

    pub async fn driver_that(&self, chain: &str, verifier: Trusting) -> Driver<RpcClient> {
        self.driver_over(chain, self.client(), self.epoch, verifier).await
    }

    pub async fn driver_over<T: Transport + 'static>(
        &self,
        chain: &str,
        transport: T,
        epoch: i64,
        verifier: Trusting,
    ) -> Driver<T> {
        self.driver_that_has(self.config(chain, ""), transport, epoch, verifier).await
    }

    /// A driver with these lines of `[chain]` and of its `[[miner]]`.
    pub async fn driver_of(&self, chain: &str, miner: &str) -> Driver<RpcClient> {
        let config = self.config(chain, miner);
        self.driver_with(config, self.client(), self.epoch).await
    }

    pub async fn driver_with<T: Transport + 'static>(&self, config: Config, transport: T, epoch: i64) -> Driver<T> {
        self.driver_that_has(config, transport, epoch, Trusting { aggregate: None }).await
    }

    async fn driver_that_has<T: Transport + 'static>(
        &self,
        config: Config,
        transport: T,
        epoch: i64,
        verifier: Trusting,
    ) -> Driver<T> {
        let node = Arc::new(NodeClient::new(transport));
        let config = Arc::new(config);
        Driver::new(node, self.store.clone(), config, epoch, Wake::default(), Arc::new(verifier))
            .await
            .expect("a driver")
    }

    pub fn advance(&self, epochs: u64) {
        self.devnet.with_node(|node| {
            for _ in 0..epochs {
                node.advance_epoch().expect("an epoch passes");
            }
        });
        if let Some(messager) = &self.messager {
            messager.look();
        }
    }

    pub fn fault(&self, fault: Fault) {
        self.devnet.with_node(|node| node.inject(fault));
    }

    pub fn worker(&self) -> Address {
        self.devnet.with_node(|node| node.miners[0].worker_key)
    }

    pub fn owner(&self) -> Address {
        self.devnet.with_node(|node| node.miners[0].owner_key)
    }

    pub async fn balance(&self, of: &Address) -> TokenAmount {
        let node = NodeClient::new(self.client());
        let head = node.chain_head().await.expect("a head");
        node.get_actor(of, &head.key).await.expect("answers").expect("exists").balance
    }

    /// Another tool moves funds.
    pub fn transfer(&self, from: &Address, to: &Address, value: TokenAmount) {
        self.other_tool_sends(from, to, 0, RawBytes::default(), value);
    }

    pub fn other_tool_sends(&self, from: &Address, to: &Address, method: u64, params: RawBytes, value: TokenAmount) {
        self.devnet.with_node(|node| {
            let (from, to) = (*from, *to);
            let message = Unsigned {
                version: 0,
                from,
                to,
                sequence: node.next_nonce(&from).expect("a nonce"),
                value,
                method_num: method,
                params,
                gas_limit: if method == 0 { 1_000_000 } else { 1_000_000_000 },
                // More than ours, so a block has it first.
                gas_fee_cap: TokenAmount::from_atto(400_000),
                gas_premium: TokenAmount::from_atto(300_000),
            };
            let signed = node.wallet.sign_message(&from, message).expect("signs");
            node.push(signed).expect("is taken");
        });
    }

    /// Another tool uses a sector's number for another replica.
    pub fn other_tool_precommits(&self, number: u64) {
        let (now, deposit) = self
            .devnet
            .with_node(|node| (node.chain.head().height(), node.economics.pre_commit_deposit(node.config.sector_size)));
        let info = SectorPreCommitInfo {
            seal_proof: RegisteredSealProof::StackedDRG2KiBV1P1,
            sector_number: number,
            sealed_cid: replica_commitment_v1_to_cid(&[77; 32]).expect("a commitment"),
            seal_rand_epoch: now - 900,
            deal_ids: vec![],
            expiration: now + 700_000,
            unsealed_cid: CompactCommD::empty(),
        };
        let params = RawBytes::serialize(PreCommitSectorBatchParams2 { sectors: vec![info] }).expect("encodes");
        self.other_tool_sends(&self.owner(), &Address::new_id(1000), 28, params, deposit);
    }

    pub async fn job(&self, number: u64) -> Job {
        self.store.sector(id(number)).await.expect("reads").expect("exists")
    }

    pub async fn state(&self, number: u64) -> State {
        self.job(number).await.state.seal().expect("a seal").clone()
    }

    pub async fn open(&self, kind: MessageKind) -> Vec<Message> {
        let open = self.store.open_messages().await.expect("reads");
        open.into_iter().filter(|message| message.kind == kind).collect()
    }

    /// The signed messages of this kind that are open, each once, with the sectors that are open in each.
    pub async fn calls(&self, kind: MessageKind) -> Vec<(Unsigned, Vec<u64>)> {
        let mut calls: Vec<(Unsigned, Vec<u64>)> = Vec::new();
        for message in self.open(kind).await {
            let Some(signed) = message.state.signed() else { continue };
            let unsigned = SignedMessage::from_bytes(&signed.bytes).expect("a message").message().clone();
            let number = message.sector.map_or(0, |sector| sector.number.0);
            match calls.iter_mut().find(|(known, _)| *known == unsigned) {
                Some((_, numbers)) => numbers.push(number),
                None => calls.push((unsigned, vec![number])),
            }
        }
        calls
    }

    /// Says what the sectors' workers would report by now, up to their ends.
    pub async fn work(&self) {
        for number in 1..=self.sectors {
            let event = |event| Input::Event(EventBody::Seal(event));
            match self.state(number).await {
                State::Persisting(_) => {
                    let stored = StoredSector { store: "main".into(), files: vec![], identity: None };
                    self.apply(number, event(seal::Event::Persisted { stored })).await;
                    self.apply(number, Input::from(Answer::FilesChecked)).await;
                }
                State::Committing(seeded) => {
                    let seed_draw = seeded.seed.draw;
                    self.apply(number, event(seal::Event::C1Done { seed_draw })).await;
                    let is_wrong = self.wrong.contains(&number);
                    let proof = ProofBytes(if is_wrong { b"wrong".to_vec() } else { RIGHT.to_vec() });
                    self.apply(number, event(seal::Event::C2Done { seed_draw, proof })).await;
                }
                State::Cleaning(_) => {
                    let released = life::released(&self.job(number).await);
                    self.apply(number, Input::Released(released)).await;
                }
                _ => {}
            }
        }
    }

    /// Ticks. What waits is tried at once: only the chain's time passes in these tests.
    pub async fn tick<T: Transport + 'static>(&self, driver: &Driver<T>) {
        self.try_tick(driver).await.expect("ticks");
    }

    pub async fn try_tick<T: Transport + 'static>(&self, driver: &Driver<T>) -> Result<(), DriveError> {
        driver.waits().waits(&Subject::Node, Cause::passing(ErrorCode::NODE_UNAVAILABLE, ""), Duration::ZERO);
        driver.waits().goes_on(&Subject::Node);
        driver.tick().await
    }

    /// Advances the chain epoch by epoch, with a tick and the workers' reports after each, until a condition holds.
    pub async fn until<T: Transport + 'static>(
        &self,
        driver: &Driver<T>,
        what: &str,
        is_so: impl AsyncFn(&World) -> bool,
    ) {
        for _ in 0..150 {
            self.tick(driver).await;
            if is_so(self).await {
                return;
            }
            self.work().await;
            self.advance(1);
        }
        driver.waits().flush().await.expect("stores");
        panic!("not {what}\n{}", self.described().await);
    }

    /// The sectors with their histories, what waits, and the open messages.
    pub async fn described(&self) -> String {
        let mut told = Vec::new();
        for number in 1..=self.sectors {
            let history = self.store.history(id(number)).await.expect("reads");
            let history: Vec<_> =
                history.iter().map(|entry| format!("{} {}", entry.happening.kind, entry.happening.detail)).collect();
            let job = self.job(number).await;
            let blocked = job.blocked.map(|report| report.message()).unwrap_or_default();
            told.push(format!("{number}: {} {blocked}\n  {}", job.state.name(), history.join("\n  ")));
        }
        let (waits, open) = (self.store.waits().await, self.store.open_messages().await);
        format!("{}\n{:?}\n{:?}", told.join("\n"), waits.expect("reads"), open.expect("reads"))
    }

    /// The sectors whose states have this name.
    pub async fn in_state(&self, name: &str) -> Vec<u64> {
        let mut found = Vec::new();
        for number in 1..=self.sectors {
            let job = self.job(number).await;
            if job.state.name() == name && job.blocked.is_none() {
                found.push(number);
            }
        }
        found
    }

    /// The codes for which sectors are blocked, by number.
    pub async fn blocked(&self) -> Vec<(u64, String)> {
        let mut found = Vec::new();
        for number in 1..=self.sectors {
            if let Some(blocked) = self.job(number).await.blocked {
                found.push((number, blocked.code.to_string()));
            }
        }
        found
    }

    /// How many PreCommits and ProveCommits of each sector took effect.
    pub fn effects(&self) -> Vec<(u64, u64)> {
        self.devnet.with_node(|node| {
            let miner = node.stats.miners.get(&1000);
            (1..=self.sectors)
                .map(|number| {
                    let sector = miner.and_then(|miner| miner.sectors.get(&number));
                    sector.map_or((0, 0), |sector| (sector.pre_commits, sector.prove_commits))
                })
                .collect()
        })
    }

    /// The exit codes of the miner's failed messages.
    pub fn failed(&self) -> Vec<u32> {
        self.devnet.with_node(|node| {
            let miner = node.stats.miners.get(&1000);
            miner.map_or_else(Vec::new, |miner| miner.failed.iter().map(|failed| failed.exit_code).collect())
        })
    }
}

pub fn comm_r(number: u64) -> Commitment {
    let mut bytes = [1; 32];
    bytes[1] = number as u8;
    Commitment(bytes)
}

pub fn is_pushed(message: &Message) -> bool {
    matches!(message.state, MessageState::Pushed { .. })
}
