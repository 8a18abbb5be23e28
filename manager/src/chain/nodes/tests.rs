use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};

use bls_signatures::Serialize;
use futures::FutureExt;
use fvm_shared::address::Address;
use fvm_shared::crypto::signature::Signature;
use fvm_shared::econ::TokenAmount;
use serde_json::json;

use super::*;
use crate::chain::commitment::sealed_cid;
use crate::chain::message::{self, SignedMessage};
use crate::chain::params::{ProveCommitSectors3Params, SectorActivationManifest};
use crate::chain::{NodeClient, json::address_text};

/// How a double fails.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    Fine,
    /// No connection: nothing takes effect.
    Unreachable,
    /// The connection breaks after the effect.
    LosesAnswers,
    /// It never answers.
    Hangs,
    /// The answers are no tipsets, names or numbers.
    Nonsense,
    /// It states its head, and can say nothing about its chain.
    WithoutChain,
    /// It refuses what depends on a token.
    WithoutToken,
}

#[derive(Clone)]
struct Fake {
    mood: Mood,
    height: Epoch,
    /// From this epoch on its chain is another one.
    fork: Option<Epoch>,
    weight: u64,
    network: &'static str,
    genesis: Option<u8>,
    keys: Vec<String>,
    pushed: usize,
    calls: Vec<&'static str>,
    refuses_pushes: Option<&'static str>,
}

#[derive(Clone)]
struct Double(Arc<Mutex<Fake>>);

impl Double {
    fn new() -> Double {
        Double(Arc::new(Mutex::new(Fake {
            mood: Mood::Fine,
            height: 100,
            fork: None,
            weight: 1000,
            network: "test",
            genesis: Some(1),
            keys: Vec::new(),
            pushed: 0,
            calls: Vec::new(),
            refuses_pushes: None,
        })))
    }

    fn set(&self, change: impl FnOnce(&mut Fake)) {
        change(&mut self.0.lock().unwrap());
    }

    fn mood(&self, mood: Mood) {
        self.set(|fake| fake.mood = mood);
    }

    fn height(&self, height: Epoch) {
        self.set(|fake| fake.height = height);
    }

    fn pushed(&self) -> usize {
        self.0.lock().unwrap().pushed
    }

    fn calls(&self, method: &str) -> usize {
        self.0.lock().unwrap().calls.iter().filter(|called| **called == method).count()
    }
}

fn url() -> String {
    "http://double".to_owned()
}

fn tipset(fake: &Fake, height: Epoch) -> Value {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&height.to_le_bytes());
    bytes[8] = u8::from(fake.fork.is_some_and(|fork| height >= fork));
    bytes[9] = fake.genesis.filter(|_| height == 0).unwrap_or_default();
    json!({
        "Cids": [{ "/": sealed_cid(&bytes).unwrap().to_string() }], "Height": height,
        "Blocks": [{ "Miner": "t01000", "Parents": null, "ParentWeight": fake.weight.to_string(),
                     "Timestamp": 1_700_000_000, "ParentBaseFee": "100" }],
    })
}

impl Transport for Double {
    async fn call(&self, method: &'static str, params: Value) -> Result<Value, Error> {
        self.set(|fake| fake.calls.push(method));
        let mood = self.0.lock().unwrap().mood;
        match mood {
            Mood::Hangs => std::future::pending().await,
            Mood::Unreachable => return Err(Error::Unreachable { url: url(), source: "refused".into() }),
            Mood::Nonsense => return Ok(json!({ "Cids": [], "Height": "high" })),
            Mood::WithoutChain if method == "ChainGetTipSetByHeight" => {
                return Err(Error::refused(method, 1, "load tipset: block not found"));
            }
            Mood::WithoutToken if method.starts_with("Wallet") => {
                let message = "missing permission".to_owned();
                return Err(Error::Unauthorized { url: url(), method, token_file: None, message });
            }
            _ => {}
        }
        let mut fake = self.0.lock().unwrap();
        let has_key = params[0].as_str().is_some_and(|key| fake.keys.iter().any(|known| known == key));
        let answer = match method {
            "ChainHead" => tipset(&fake, fake.height),
            "ChainGetTipSetByHeight" => tipset(&fake, params[0].as_i64().unwrap()),
            "ChainGetGenesis" if fake.genesis.is_none() => return Err(Error::MethodNotFound { url: url(), method }),
            "ChainGetGenesis" => tipset(&fake, 0),
            "StateNetworkName" => json!(fake.network),
            "WalletHas" => json!(has_key),
            "WalletSignMessage" if !has_key => return Err(Error::refused(method, 1, "key not found")),
            "WalletSignMessage" => json!("signed"),
            "MpoolPush" => match fake.refuses_pushes {
                Some(text) => return Err(Error::refused(method, 1, text)),
                None => {
                    fake.pushed += 1;
                    json!({ "/": signed().cid().unwrap().to_string() })
                }
            },
            _ => Value::Null,
        };
        if mood == Mood::LosesAnswers {
            return Err(Error::ConnectionLost { url: url(), method, source: "reset".into() });
        }
        Ok(answer)
    }

    async fn permissions(&self) -> Result<Option<Vec<String>>, Error> {
        Ok((!self.0.lock().unwrap().keys.is_empty()).then(|| vec!["sign".to_owned()]))
    }
}

const CONFIDENCE: Epoch = 5;

/// Nodes `a`, `b`, and so on.
fn nodes<const N: usize>() -> ([Double; N], Nodes<Double>) {
    let doubles: [Double; N] = std::array::from_fn(|_| Double::new());
    let members =
        doubles.iter().zip('a'..).map(|(double, name)| Member { name: name.into(), transport: double.clone() });
    let nodes = Nodes::new(members.collect(), CONFIDENCE, None);
    (doubles, nodes)
}

async fn read(nodes: &Nodes<Double>) -> Result<Value, Error> {
    nodes.call("StateMinerInfo", json!(["t01000", []])).await
}

fn names(nodes: &Nodes<Double>) -> Vec<&'static str> {
    nodes.standings().iter().map(|(_, standing)| standing.name()).collect()
}

fn key() -> bls_signatures::PrivateKey {
    bls_signatures::PrivateKey::new([3; 32])
}

fn signed() -> SignedMessage {
    let sender = Address::new_bls(&key().public_key().as_bytes()).unwrap();
    let params = ProveCommitSectors3Params::single(SectorActivationManifest::committed_capacity(7), vec![1; 192]);
    let message = message::prove_commit(sender, Address::new_id(1000), &params, TokenAmount::default()).unwrap();
    let signature = key().sign(message::signing_bytes(&message).unwrap()).as_bytes();
    SignedMessage::new(message, Signature::new_bls(signature)).unwrap()
}

fn key_text() -> String {
    address_text(&Address::new_bls(&key().public_key().as_bytes()).unwrap(), fvm_shared::address::Network::Testnet)
}

#[tokio::test]
async fn reads_stay_with_a_node_that_is_well_although_another_one_is_a_little_ahead() {
    let ([a, b], nodes) = nodes();
    read(&nodes).await.unwrap();
    assert_eq!((nodes.reading(), names(&nodes)), (Some("a".to_owned()), vec!["well", "well"]));
    b.set(|fake| (fake.height, fake.weight) = (103, 1100));
    nodes.look().await;
    read(&nodes).await.unwrap();
    assert_eq!((a.calls("StateMinerInfo"), b.calls("StateMinerInfo")), (2, 0));
}

#[tokio::test]
async fn the_heaviest_head_is_read_first_and_of_equal_ones_the_one_named_first() {
    let ([_, b, _], nodes) = nodes();
    b.set(|fake| fake.weight = 1001);
    read(&nodes).await.unwrap();
    assert_eq!(nodes.reading().as_deref(), Some("b"));
    b.mood(Mood::Unreachable);
    read(&nodes).await.unwrap();
    assert_eq!(nodes.reading().as_deref(), Some("a"));
}

#[tokio::test]
async fn a_node_that_goes_away_is_replaced_within_the_same_call_and_counts_again_when_it_is_back() {
    for mood in [Mood::Unreachable, Mood::LosesAnswers] {
        let ([a, b], nodes) = nodes();
        read(&nodes).await.unwrap();
        a.mood(mood);
        read(&nodes).await.unwrap();
        assert_eq!((nodes.reading(), names(&nodes)), (Some("b".to_owned()), vec!["away", "well"]));
        a.mood(Mood::Fine);
        nodes.look().await;
        assert_eq!((nodes.reading(), names(&nodes)), (Some("b".to_owned()), vec!["well", "well"]), "it stays");
        b.mood(mood);
        read(&nodes).await.unwrap();
        assert_eq!(nodes.reading().as_deref(), Some("a"));
    }
}

#[tokio::test]
async fn a_node_that_lags_is_left_out_until_it_has_caught_up() {
    let ([a, b], nodes) = nodes();
    read(&nodes).await.unwrap();
    for (behind, standing) in [(3, "well"), (4, "behind"), (3, "behind"), (2, "behind"), (1, "well"), (3, "well")] {
        b.height(200);
        a.height(200 - behind);
        nodes.look().await;
        assert_eq!(names(&nodes), [standing, "well"], "{behind} epochs");
    }
    assert_eq!(nodes.reading().as_deref(), Some("b"));
    let (_, standing) = nodes.standings().swap_remove(0);
    assert!(matches!(standing, Standing::Well { head: 197 }), "{standing}");
}

#[tokio::test]
async fn a_node_on_a_fork_below_confidence_is_left_out_and_one_that_differs_above_it_is_not() {
    let ([a, b], nodes) = nodes();
    b.set(|fake| (fake.weight, fake.fork) = (999, Some(96)));
    nodes.look().await;
    assert_eq!(names(&nodes), ["well", "well"], "the last epochs may differ");
    b.set(|fake| fake.fork = Some(95));
    nodes.look().await;
    assert_eq!(names(&nodes), ["well", "forked"]);
    // The heavier chain is the right one, also if it is not the one that was read.
    b.set(|fake| fake.weight = 1001);
    nodes.look().await;
    assert_eq!((nodes.reading(), names(&nodes)), (Some("b".to_owned()), vec!["forked", "well"]));
    a.set(|fake| fake.fork = Some(95));
    nodes.look().await;
    assert_eq!(names(&nodes), ["well", "well"]);
}

#[tokio::test]
async fn a_node_that_answers_nonsense_is_left_out() {
    let ([a, _], nodes) = nodes();
    read(&nodes).await.unwrap();
    a.mood(Mood::Nonsense);
    nodes.call("ChainHead", json!([])).await.unwrap();
    assert_eq!((nodes.reading(), names(&nodes)), (Some("b".to_owned()), vec!["nonsense", "well"]));
    nodes.look().await;
    assert_eq!(names(&nodes), ["nonsense", "well"]);
    a.mood(Mood::Fine);
    nodes.look().await;
    assert_eq!(names(&nodes), ["well", "well"]);
}

#[tokio::test]
async fn the_best_head_is_worth_nothing_if_its_node_cannot_say_what_it_stands_on() {
    let ([a, _, _], nodes) = nodes();
    a.set(|fake| (fake.weight, fake.mood) = (9999, Mood::WithoutChain));
    nodes.look().await;
    assert_eq!((nodes.reading(), names(&nodes)), (Some("b".to_owned()), vec!["away", "well", "well"]));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_does_not_answer_is_left_out_and_holds_up_nobody_who_reads_elsewhere() {
    let ([a, b], nodes) = nodes();
    read(&nodes).await.unwrap();
    b.mood(Mood::Hangs);
    let looking = nodes.look();
    let mut looking = pin!(looking);
    assert!((&mut looking).now_or_never().is_none());
    read(&nodes).await.unwrap();
    looking.await;
    assert_eq!(names(&nodes), ["well", "away"]);
    assert_eq!(a.calls("StateMinerInfo"), 2);
}

#[tokio::test]
async fn a_node_of_another_network_is_neither_read_nor_pushed_to_nor_asked_to_sign() {
    for change in [|fake: &mut Fake| fake.network = "other", |fake: &mut Fake| fake.genesis = Some(2)] {
        let ([a, b], nodes) = nodes();
        a.set(change);
        a.set(|fake| (fake.weight, fake.keys) = (5000, vec![key_text()]));
        nodes.expect(NetworkId { name: "test".to_owned(), genesis: genesis_of(&b) });
        read(&nodes).await.unwrap();
        assert_eq!((nodes.reading(), names(&nodes)), (Some("b".to_owned()), vec!["other_network", "well"]));
        let node = NodeClient::new(nodes);
        node.mpool_push(&signed()).await.unwrap();
        let refused = node.transport().call("WalletSignMessage", json!([key_text(), {}])).await.unwrap_err();
        assert!(refused.is_key_missing(), "{refused}");
        assert_eq!((a.pushed(), a.calls("WalletSignMessage"), b.pushed()), (0, 0, 1));
    }
}

fn genesis_of(double: &Double) -> Option<String> {
    let fake = double.0.lock().unwrap();
    let tipset: crate::chain::types::TipSet = serde_json::from_value(tipset(&fake, 0)).unwrap();
    Some(tipset.key.to_string())
}

#[tokio::test]
async fn without_a_known_network_the_first_node_that_answers_decides() {
    let ([a, b, c], nodes) = nodes();
    a.mood(Mood::Unreachable);
    c.set(|fake| fake.genesis = Some(2));
    nodes.look().await;
    assert_eq!(names(&nodes), ["away", "well", "other_network"]);
    assert_eq!(nodes.network_id(), Some(NetworkId { name: "test".to_owned(), genesis: genesis_of(&b) }));
    c.set(|fake| fake.genesis = None);
    nodes.look().await;
    assert_eq!(names(&nodes), ["away", "well", "well"], "a gateway that does not tell its genesis");
}

#[tokio::test]
async fn if_no_node_can_be_used_each_is_named_and_the_first_one_back_is_read() {
    let ([a, b], nodes) = nodes();
    a.mood(Mood::Unreachable);
    b.mood(Mood::Nonsense);
    let error = read(&nodes).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("a cannot be used: cannot reach") && text.contains("b cannot be used"), "{text}");
    assert!(error.is_transient() && !error.needs_person() && !error.outcome_unknown());
    b.mood(Mood::Fine);
    read(&nodes).await.unwrap();
    assert_eq!(nodes.reading().as_deref(), Some("b"));
}

#[tokio::test]
async fn if_all_nodes_are_of_another_network_a_person_must_act() {
    for error in [
        {
            let (_, nodes) = nodes::<1>();
            nodes.expect(NetworkId { name: "mainnet".to_owned(), genesis: None });
            read(&nodes).await.unwrap_err()
        },
        {
            let (_, nodes) = nodes::<2>();
            nodes.expect(NetworkId { name: "mainnet".to_owned(), genesis: None });
            read(&nodes).await.unwrap_err()
        },
    ] {
        assert!(error.needs_person() && !error.is_transient(), "{error}");
        assert!(
            error.to_string().contains("is on the network test (genesis b") && error.to_string().contains("mainnet")
        );
    }
}

#[tokio::test]
async fn a_single_nodes_errors_are_passed_on_and_another_network_in_its_place_is_noticed_before_it_is_read() {
    let ([a], nodes) = nodes();
    read(&nodes).await.unwrap();
    a.mood(Mood::Unreachable);
    for _ in 0..2 {
        assert!(matches!(read(&nodes).await, Err(Error::Unreachable { .. })));
    }
    a.set(|fake| (fake.mood, fake.network) = (Mood::Fine, "other"));
    let before = a.calls("StateMinerInfo");
    assert!(matches!(read(&nodes).await, Err(Error::NoNodeWell { is_other_network: true, .. })));
    assert_eq!(a.calls("StateMinerInfo"), before);
    a.set(|fake| fake.network = "test");
    read(&nodes).await.unwrap();
}

#[tokio::test]
async fn a_message_goes_to_all_nodes_and_one_that_takes_it_is_enough() {
    for (at_a, taken_by_a) in [(Mood::Fine, 1), (Mood::Unreachable, 0), (Mood::LosesAnswers, 1), (Mood::Hangs, 0)] {
        let ([a, b, c], nodes) = nodes();
        let node = NodeClient::new(nodes);
        node.network().await.unwrap();
        a.mood(at_a);
        c.set(|fake| fake.refuses_pushes = Some("gas fee cap too low"));
        assert_eq!(node.mpool_push(&signed()).await.unwrap(), signed().cid().unwrap(), "{at_a:?}");
        // The other calls go on although the first answer was enough.
        while a.calls("MpoolPush") + b.calls("MpoolPush") + c.calls("MpoolPush") < 3 {
            tokio::task::yield_now().await;
        }
        assert_eq!((a.pushed(), b.pushed()), (taken_by_a, 1), "{at_a:?}");
    }
}

#[tokio::test]
async fn of_pushes_that_failed_everywhere_the_one_that_may_have_taken_effect_counts_and_then_a_refusal() {
    let ([a, b], nodes) = nodes();
    let node = NodeClient::new(nodes);
    node.network().await.unwrap();
    b.set(|fake| fake.refuses_pushes = Some("mpool push: not enough funds: 1 < 2"));
    a.mood(Mood::Unreachable);
    let error = node.mpool_push(&signed()).await.unwrap_err();
    assert!(error.is_not_enough_funds() && !error.outcome_unknown(), "{error}");
    a.mood(Mood::LosesAnswers);
    let error = node.mpool_push(&signed()).await.unwrap_err();
    assert!(error.outcome_unknown(), "{error}");
    b.set(|fake| fake.refuses_pushes = Some("already in mpool: message with nonce already exists"));
    node.mpool_push(&signed()).await.unwrap();
}

#[tokio::test]
async fn a_message_is_signed_by_the_node_that_has_the_key_also_while_another_one_is_read() {
    let ([a, b, c], nodes) = nodes();
    c.set(|fake| fake.keys = vec![key_text()]);
    let sign = async || nodes.call("WalletSignMessage", json!([key_text(), {}])).await;
    assert_eq!(sign().await.unwrap(), json!("signed"));
    assert_eq!(nodes.call("WalletHas", json!([key_text()])).await.unwrap(), json!(true));
    assert_eq!((a.calls("WalletSignMessage"), b.calls("WalletSignMessage")), (1, 1));
    sign().await.unwrap();
    assert_eq!((a.calls("WalletSignMessage"), b.calls("WalletSignMessage")), (1, 1), "it is known now");

    // While that node is away the key is not missing.
    c.mood(Mood::Unreachable);
    assert!(matches!(sign().await, Err(Error::Unreachable { .. })));
    assert!(matches!(nodes.call("WalletHas", json!([key_text()])).await, Err(Error::Unreachable { .. })));
    c.mood(Mood::Fine);
    sign().await.unwrap();
}

#[tokio::test]
async fn a_key_is_missing_only_if_every_node_that_may_sign_says_so() {
    let ([a, b, _], nodes) = nodes();
    a.mood(Mood::WithoutToken);
    let has = async || nodes.call("WalletHas", json!([key_text()])).await;
    let sign = async || nodes.call("WalletSignMessage", json!([key_text(), {}])).await;
    assert_eq!(has().await.unwrap(), json!(false), "the first one may only be read");
    assert!(sign().await.unwrap_err().is_key_missing());
    b.mood(Mood::Unreachable);
    assert!(has().await.unwrap_err().is_transient());
    assert!(sign().await.unwrap_err().is_transient());
}

#[tokio::test]
async fn a_token_that_may_sign_at_one_of_the_nodes_is_enough() {
    let ([_, b], nodes) = nodes();
    assert_eq!(nodes.permissions().await.unwrap(), None);
    b.set(|fake| fake.keys = vec![key_text()]);
    assert_eq!(nodes.permissions().await.unwrap(), Some(vec!["sign".to_owned()]));
}

#[tokio::test]
async fn every_nodes_announcements_ring() {
    /// Rings once.
    struct Announcing(AtomicBool);
    impl Transport for Announcing {
        async fn call(&self, _: &'static str, _: Value) -> Result<Value, Error> {
            Ok(Value::Null)
        }
        async fn follow_heads(&self, _: Duration, noticed: &Wake) -> Infallible {
            if self.0.load(Ordering::SeqCst) {
                noticed.ring();
            }
            std::future::pending().await
        }
    }
    let member = |name: &str, rings| Member { name: name.to_owned(), transport: Announcing(AtomicBool::new(rings)) };
    let (nodes, noticed) = (Nodes::new(vec![member("a", false), member("b", true)], 5, None), Wake::default());
    let mut listener = noticed.listen();
    tokio::select! {
        never = nodes.follow_heads(Duration::from_secs(1), &noticed) => match never {},
        () = listener.woken() => {}
    }
}
