//! A manager's driver, its database and the devnet in one process: the fate of messages that meet problems.
//!
//! The chain's clock is stopped unless a test advances it, and the driver ticks only when a test tells it to.

use std::{path::PathBuf, sync::Arc, time::Duration};

use fvm_ipld_encoding::RawBytes;
use fvm_shared::{address::Address, econ::TokenAmount, message::Message as Unsigned};
use sealbus_integration_tests::devnet::{
    Config, Devnet, Server,
    faults::{Fault, When},
};
use sealbus_manager::{
    chain::{Endpoint, NodeClient, RpcClient, message::SignedMessage},
    drive::Driver,
    life,
    proofs::{Porep, Verifier},
    store::{Happening, Job, MessageKind, MessageState, Store},
    waits::{Cause, Subject},
    wake::Wake,
};
use sealbus_schema::{
    Commitment, ErrorClass, ErrorCode, ErrorReport, Randomness, SealProof, SectorId, Token,
    lease::Ownership,
    machine::manager::AttemptPolicy,
    message::EventBody,
    parts::Ticket,
    workflows::{
        Input,
        seal::{
            self,
            manager::{Answer, State},
        },
    },
};
use serde_json::json;

use super::chain::ScriptedVerifier;

#[path = "announced.rs"]
mod announced;
#[path = "several.rs"]
mod several;

const POLICY: AttemptPolicy = AttemptPolicy { max_attempts: 3, max_issues: 5 };

/// No proof gets that far in these tests.
struct NoVerifier;

impl Verifier for NoVerifier {
    fn verify_seal(&self, _: SectorId, _: SealProof, _: &Porep) -> Result<(), ErrorReport> {
        Ok(())
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

struct World {
    devnet: Devnet,
    server: Server,
    store: Store,
    epoch: i64,
    directory: tempfile::TempDir,
}

fn id() -> SectorId {
    "f01000/1".parse().expect("a sector")
}

impl World {
    /// A sector whose PreCommit is wanted but not signed yet.
    async fn new() -> World {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let devnet = Devnet::new(Config::default(), Arc::new(ScriptedVerifier::default())).expect("a devnet");
        let server = Server::start(&devnet, "127.0.0.1:0".parse().expect("an address")).await.expect("starts");
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("manager.db");
        let store = Store::open(&sealbus_manager::config::Database::Sqlite { path }).await.expect("opens");
        let mut tx = store.begin().await.expect("begins");
        tx.start_fold("SEAL_SECTORS@1").await.expect("starts");
        let epoch = tx.take_over().await.expect("takes over");
        tx.insert_sector(id(), SealProof::StackedDrg2KiBV1_1).await.expect("inserts");
        tx.commit().await.expect("commits");
        let world = World { devnet, server, store, epoch, directory };
        world.advance(20);
        let ticket = Ticket {
            draw: 1,
            randomness: Randomness([3; 32]),
            epoch: -880,
            expires_epoch: 2900,
            head_epoch: 20,
            epoch_millis: 1,
        };
        for input in [
            Input::Claimed,
            Input::Event(EventBody::Seal(seal::Event::TicketWanted { draw: 1 })),
            Input::from(Answer::TicketDrawn(ticket)),
            Input::Event(EventBody::Seal(seal::Event::Pc2Done {
                comm_r: Commitment([1; 32]),
                comm_d: Commitment([2; 32]),
            })),
        ] {
            world.apply(input).await;
        }
        world
    }

    async fn apply(&self, input: Input) {
        let mut tx = self.store.begin().await.expect("begins");
        let mut sector = tx.sector(id()).await.expect("reads").expect("exists");
        if input == Input::Claimed {
            let worker = "w1".parse().expect("a worker");
            sector.ownership = Ownership::claimed(worker, Token(9));
        }
        life::apply(&mut tx, sector, input, Happening::of_manager("test", json!({})), POLICY).await.expect("applies");
        tx.commit().await.expect("commits");
    }

    async fn driver(&self, chain: &str) -> Driver<RpcClient> {
        let token_file = self.directory.path().join("token");
        std::fs::write(&token_file, self.devnet.tokens().sign).expect("writes");
        let path = self.directory.path().join("manager.toml");
        let text = format!(
            "[database]\npath = \"{database}\"\n[nats]\nurl = \"nats://127.0.0.1:4222\"\n[chain]\nurl = \"{url}\"\n\
             confidence_epochs = 1\n{chain}\n[[miner]]\nid = \"f01000\"\nsector_size = \"2KiB\"\n",
            database = self.directory.path().join("manager.db").display(),
            url = self.server.url(),
        );
        std::fs::write(&path, text).expect("writes");
        let config = sealbus_manager::config::Config::load(&path).expect("a configuration");
        let client = RpcClient::new(Endpoint::new(self.server.url(), Some(token_file))).expect("a client");
        let node = Arc::new(NodeClient::new(client));
        Driver::new(node, self.store.clone(), Arc::new(config), self.epoch, Wake::default(), Arc::new(NoVerifier))
            .await
            .expect("a driver")
    }

    fn advance(&self, epochs: u64) {
        self.devnet.with_node(|node| {
            for _ in 0..epochs {
                node.advance_epoch().expect("an epoch passes");
            }
        });
    }

    fn fault(&self, fault: Fault) {
        self.devnet.with_node(|node| node.inject(fault));
    }

    fn refuse_pushes(&self, count: u64) {
        let method = "Filecoin.MpoolPush".to_owned();
        self.fault(Fault::FailCalls { method, when: When::Before, count, answer: Default::default() });
    }

    fn sender(&self) -> Address {
        self.devnet.with_node(|node| node.miners[0].worker_key)
    }

    /// Another tool sends a message with the same key.
    fn other_tool(&self, nonce: u64) {
        let from = self.sender();
        let message = Unsigned {
            version: 0,
            from,
            to: Address::new_id(1000),
            sequence: nonce,
            value: TokenAmount::from_atto(1),
            method_num: 0,
            params: RawBytes::default(),
            gas_limit: 1_000_000,
            // A higher fee than ours, so it keeps its place.
            gas_fee_cap: TokenAmount::from_atto(10_000_000),
            gas_premium: TokenAmount::from_atto(1_000_000),
        };
        self.devnet.with_node(|node| {
            let signed = node.wallet.sign_message(&from, message).expect("signs");
            node.push(signed).expect("is taken");
        });
    }

    async fn job(&self) -> Job {
        self.store.sector(id()).await.expect("reads").expect("exists")
    }

    async fn state(&self) -> State {
        self.job().await.state.seal().expect("a seal").clone()
    }

    async fn message(&self, kind: MessageKind) -> Option<MessageState> {
        let open = self.store.open_messages().await.expect("reads");
        open.into_iter().find(|message| message.kind == kind).map(|message| message.state)
    }

    /// Advances the chain epoch by epoch, with a tick of the driver after each, until a condition holds.
    async fn until(&self, driver: &Driver<RpcClient>, what: &str, is_so: impl AsyncFn(&World) -> bool) {
        for _ in 0..40 {
            // Only the chain's time passes in these tests. So the pause before another attempt is ended by reporting
            // the node as available again.
            driver.waits().waits(&Subject::Node, Cause::passing(ErrorCode::NODE_UNAVAILABLE, ""), Duration::ZERO);
            driver.waits().goes_on(&Subject::Node);
            driver.tick().await.expect("ticks");
            if is_so(self).await {
                return;
            }
            self.advance(1);
        }
        let history = self.store.history(id()).await.expect("reads");
        let history: Vec<_> =
            history.iter().map(|entry| format!("{} {}", entry.happening.kind, entry.happening.detail)).collect();
        panic!("not {what}: {:?}, {:?}\n{}", self.state().await, self.store.open_messages().await, history.join("\n"));
    }

    async fn has_landed(&self) -> bool {
        matches!(self.state().await, State::Persisting(_))
    }

    /// How many PreCommits of the sector took effect, and the exit codes of failed messages.
    fn precommits(&self) -> (u64, Vec<u32>) {
        self.devnet.with_node(|node| {
            let Some(miner) = node.stats.miners.get(&1000) else { return (0, Vec::new()) };
            let took = miner.sectors.get(&1).map_or(0, |sector| sector.pre_commits);
            (took, miner.failed.iter().map(|failed| failed.exit_code).collect())
        })
    }

    async fn history(&self) -> Vec<String> {
        self.store.history(id()).await.expect("reads").into_iter().map(|entry| entry.happening.kind).collect()
    }
}

#[tokio::test]
async fn a_fee_limit_that_no_pool_takes_signs_nothing_and_all_goes_on_when_it_is_mended() {
    let world = World::new().await;
    let driver = world.driver("max_fee_atto = \"1000000000\"").await;
    driver.tick().await.expect("ticks");
    assert_eq!(world.message(MessageKind::PreCommit).await, Some(MessageState::Wanted));
    assert_eq!(world.store.next_nonce(&world.sender().to_string()).await.expect("reads"), 0);
    let driver = world.driver("").await;
    world.until(&driver, "landed", World::has_landed).await;
    assert_eq!(world.precommits(), (1, vec![]));
}

/// The signed message that a pool has for the sector's PreCommit.
async fn in_the_pool(world: &World) -> Unsigned {
    let Some(MessageState::Pushed { signed, .. }) = world.message(MessageKind::PreCommit).await else {
        panic!("not pushed: {:?}", world.message(MessageKind::PreCommit).await)
    };
    SignedMessage::from_bytes(&signed.bytes).expect("a message").message().clone()
}

#[tokio::test]
async fn a_message_waits_for_a_lower_base_fee_until_it_is_urgent_and_may_then_cost_more() {
    let fees = "max_fee_atto = \"10000000000000\"\n[chain.fees]\nbase_fee_wait_atto = \"1000\"\nurgent_epochs = 1000";
    let world = World::new().await;
    let driver = world.driver(fees).await;
    world.fault(Fault::BaseFee { atto: 10_000 });
    world.advance(2);
    driver.tick().await.expect("ticks");
    assert_eq!(world.message(MessageKind::PreCommit).await, Some(MessageState::Wanted));
    let subject = Subject::Message { key: MessageKind::PreCommit.key(id(), 1, 1), sector: Some(id()) };
    let cause = driver.waits().cause(&subject).expect("a wait");
    assert_eq!(cause.code, ErrorCode::BASE_FEE_TOO_HIGH);
    // The ticket expires at epoch 2900.
    assert!(cause.text.contains("it is 10000 attoFIL. It is sent from epoch 1900 on"), "{}", cause.text);

    world.advance(2400 - 22);
    world
        .until(&driver, "in the pool", async |world| {
            world.message(MessageKind::PreCommit).await != Some(MessageState::Wanted)
        })
        .await;
    let history = world.store.history(id()).await.expect("reads");
    let signed = history.iter().find(|entry| entry.happening.kind == "message_signed").expect("signed");
    // Half of the urgent epochs have passed, and at the end the limit is three times as high.
    let percent = signed.happening.detail["fee_limit_percent"].as_u64().expect("a raised limit");
    assert!((200..=205).contains(&percent), "{percent} %");
    world.until(&driver, "landed", World::has_landed).await;
    assert_eq!(world.precommits(), (1, vec![]));
}

#[tokio::test]
async fn a_message_that_waits_is_signed_as_soon_as_the_base_fee_falls() {
    let world = World::new().await;
    let driver = world.driver("[chain.fees]\nbase_fee_wait_atto = \"1000\"").await;
    world.fault(Fault::BaseFee { atto: 10_000 });
    world.advance(2);
    driver.tick().await.expect("ticks");
    assert_eq!(world.message(MessageKind::PreCommit).await, Some(MessageState::Wanted));
    world.fault(Fault::BaseFee { atto: 1000 });
    world.until(&driver, "landed", World::has_landed).await;
    assert_eq!(world.precommits(), (1, vec![]));
}

#[tokio::test]
async fn a_message_that_others_outbid_is_signed_for_more_at_the_same_nonce() {
    let world = World::new().await;
    let driver = world.driver("repush_epochs = 3").await;
    world.fault(Fault::StallInclusion { on: true });
    driver.tick().await.expect("ticks");
    let first = in_the_pool(&world).await;
    // Not a quarter more: the same bytes stay in the pool.
    world.fault(Fault::Premium { atto: 120_000 });
    world.advance(5);
    driver.tick().await.expect("ticks");
    assert_eq!(in_the_pool(&world).await, first);
    world.fault(Fault::Premium { atto: 200_000 });
    let outbids = async |world: &World| {
        let state = world.message(MessageKind::PreCommit).await;
        matches!(state, Some(MessageState::Pushed { .. })) && in_the_pool(world).await != first
    };
    world.until(&driver, "a dearer message in the pool", outbids).await;
    let second = in_the_pool(&world).await;
    let of_call = |message: &Unsigned| (message.sequence, message.params.clone(), message.value.clone());
    assert_eq!(of_call(&second), of_call(&first), "it is the same call");
    assert_eq!(second.gas_premium, TokenAmount::from_atto(200_000));
    world.fault(Fault::StallInclusion { on: false });
    world.until(&driver, "landed", World::has_landed).await;
    assert_eq!(world.precommits(), (1, vec![]));
}

#[tokio::test]
async fn a_message_that_others_outbid_beyond_its_limit_is_pushed_again_as_it_is() {
    let world = World::new().await;
    // Enough for what the devnet's PreCommit costs at first, and not for ten times the premium.
    let driver = world.driver("repush_epochs = 3\nmax_fee_atto = \"10000000000000\"").await;
    world.fault(Fault::StallInclusion { on: true });
    driver.tick().await.expect("ticks");
    let first = in_the_pool(&world).await;
    world.fault(Fault::ClearMempool {});
    world.fault(Fault::Premium { atto: 100_000_000_000 });
    world.fault(Fault::StallInclusion { on: false });
    world.until(&driver, "landed", World::has_landed).await;
    assert_eq!(world.precommits(), (1, vec![]));
    let landed = world.store.landed(MessageKind::PreCommit, id()).await.expect("reads");
    let landed: Vec<_> = landed.iter().map(|bytes| SignedMessage::from_bytes(bytes).expect("a message")).collect();
    assert!(landed.len() == 1 && *landed[0].message() == first, "{landed:?}");
}

#[tokio::test]
async fn a_nonce_that_another_tool_used_is_signed_anew_by_itself() {
    let world = World::new().await;
    let driver = world.driver("").await;
    world.refuse_pushes(1);
    driver.tick().await.expect("ticks");
    assert!(matches!(world.message(MessageKind::PreCommit).await, Some(MessageState::Signed(_))));
    world.other_tool(0);
    world.until(&driver, "landed", World::has_landed).await;
    assert_eq!(world.precommits(), (1, vec![]));
    assert!(world.history().await.contains(&"message_failed".to_owned()), "history says so");
}

#[tokio::test]
async fn a_message_that_ran_out_of_gas_is_signed_again_with_more() {
    let world = World::new().await;
    let driver = world.driver("").await;
    world.fault(Fault::LowGas { count: 1 });
    world.until(&driver, "landed", World::has_landed).await;
    assert_eq!(world.precommits(), (1, vec![7]));
}

#[tokio::test]
async fn out_of_gas_again_and_again_blocks_with_words() {
    let world = World::new().await;
    let driver = world.driver("").await;
    // Even a limit that grows by half each time stays too low.
    world.fault(Fault::LowGas { count: 100 });
    world.until(&driver, "blocked", async |world| world.job().await.blocked.is_some()).await;
    let cause = world.job().await.blocked.expect("blocked");
    assert_eq!((cause.class, cause.code), (ErrorClass::Perm, ErrorCode::MESSAGE_OUT_OF_GAS));
    // A person resubmits the sector, and by now the estimate is right.
    world.fault(Fault::Clear {});
    world.apply(Input::Resubmitted { from: None }).await;
    world.until(&driver, "landed", World::has_landed).await;
}

#[tokio::test]
async fn a_precommit_that_was_only_refused_spends_nothing_after_its_sector_was_given_up() {
    let world = World::new().await;
    let driver = world.driver("").await;
    world.refuse_pushes(3);
    driver.tick().await.expect("ticks");
    let cause = ErrorReport::new(ErrorClass::Abort, ErrorCode::ABANDONED, "a test");
    world.apply(Input::Abandoned { cause, lose_deposit: true }).await;
    world.until(&driver, "over", async |world| world.store.open_messages().await.expect("reads").is_empty()).await;
    assert_eq!(world.precommits(), (0, vec![]));
    let nonce = world.devnet.with_node(|node| node.next_nonce(&node.miners[0].worker_key)).expect("a nonce");
    assert_eq!(nonce, 1, "its nonce is used by something harmless");
    let history = world.history().await;
    for kind in ["message_withdrawn", "message_executed", "message_replaced"] {
        assert!(history.contains(&kind.to_owned()), "{kind} in {history:?}");
    }
}

#[tokio::test]
async fn a_withdrawn_precommit_in_the_pool_is_outbid() {
    let world = World::new().await;
    let driver = world.driver("").await;
    world.fault(Fault::StallInclusion { on: true });
    driver.tick().await.expect("ticks");
    assert!(matches!(world.message(MessageKind::PreCommit).await, Some(MessageState::Pushed { .. })));
    let cause = ErrorReport::new(ErrorClass::Abort, ErrorCode::ABANDONED, "a test");
    world.apply(Input::Abandoned { cause, lose_deposit: true }).await;
    let pushed =
        async |world: &World| matches!(world.message(MessageKind::Filler).await, Some(MessageState::Pushed { .. }));
    world.until(&driver, "a filler in the pool", pushed).await;
    world.fault(Fault::StallInclusion { on: false });
    world.until(&driver, "over", async |world| world.store.open_messages().await.expect("reads").is_empty()).await;
    assert_eq!(world.precommits(), (0, vec![]), "no deposit is spent");
}

#[tokio::test]
async fn a_ticket_that_expires_in_the_pool_leads_to_another_attempt() {
    let world = World::new().await;
    let driver = world.driver("").await;
    world.fault(Fault::StallInclusion { on: true });
    driver.tick().await.expect("ticks");
    world.advance(2900);
    world.until(&driver, "given up", async |world| matches!(world.state().await, State::Aborting { .. })).await;
    let State::Aborting { cause } = world.state().await else { panic!("aborting") };
    assert_eq!((cause.class, cause.code), (ErrorClass::Abort, ErrorCode::TICKET_EXPIRED));
    world.fault(Fault::StallInclusion { on: false });
    world.until(&driver, "over", async |world| world.store.open_messages().await.expect("reads").is_empty()).await;
    assert_eq!(world.precommits().0, 0);
}

#[tokio::test]
async fn a_nonce_that_another_tool_left_empty_is_filled() {
    let world = World::new().await;
    let driver = world.driver("repush_epochs = 3").await;
    world.fault(Fault::StallInclusion { on: true });
    world.other_tool(0);
    driver.tick().await.expect("ticks");
    // The other tool's message is lost from the mempool. Ours is pushed again, and waits for that nonce.
    world.fault(Fault::ClearMempool {});
    world.fault(Fault::StallInclusion { on: false });
    world.until(&driver, "landed", World::has_landed).await;
    assert_eq!(world.precommits(), (1, vec![]));
    assert!(world.history().await.contains(&"nonce_missing".to_owned()));
}
