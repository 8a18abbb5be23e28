//! A driver with two nodes. They are two devnets with the same seed, which make the same chain as long as they have the
//! same messages and the same empty epochs.

use sealbus_integration_tests::devnet::faults::Answer;
use sealbus_manager::chain::{
    Memo, Nodes,
    nodes::{Member, Standing},
};

use super::*;

type Several = Driver<Memo<Arc<Nodes<RpcClient>>>>;

struct Pair {
    /// Node `a`, and the sector.
    world: World,
    /// Node `b`.
    other: Devnet,
    _server: Server,
    nodes: Arc<Nodes<RpcClient>>,
    driver: Several,
}

impl Pair {
    async fn new() -> Pair {
        let world = World::new().await;
        let other = Devnet::new(Config::default(), Arc::new(ScriptedVerifier::default())).expect("a devnet");
        let server = Server::start(&other, "127.0.0.1:0".parse().expect("an address")).await.expect("starts");
        other.with_node(|node| (0..20).for_each(|_| node.advance_epoch().expect("an epoch passes")));
        let member = |name: &str, devnet: &Devnet, url: String| {
            let token_file = world.directory.path().join(format!("token-{name}"));
            std::fs::write(&token_file, devnet.tokens().sign).expect("writes");
            let transport = RpcClient::new(Endpoint::new(url, Some(token_file))).expect("a client");
            Member { name: name.to_owned(), transport }
        };
        let members = vec![member("a", &world.devnet, world.server.url()), member("b", &other, server.url())];
        let nodes = Arc::new(Nodes::new(members, 1, None));
        let path = world.directory.path().join("manager.toml");
        let text = format!(
            "[database]\npath = \"{}\"\n[nats]\nurl = \"nats://127.0.0.1:4222\"\n[chain]\nconfidence_epochs = 1\n\
             [[chain.node]]\nurl = \"{}\"\n[[chain.node]]\nurl = \"{}\"\n[[miner]]\nid = \"f01000\"\nsector_size = \"2KiB\"\n",
            world.directory.path().join("manager.db").display(),
            world.server.url(),
            server.url(),
        );
        std::fs::write(&path, text).expect("writes");
        let config = Arc::new(sealbus_manager::config::Config::load(&path).expect("a configuration"));
        let node = Arc::new(NodeClient::new(Memo::new(Arc::clone(&nodes))));
        let (store, verifier) = (world.store.clone(), Arc::new(NoVerifier));
        let driver = Driver::new(node, store, config, world.epoch, Wake::default(), verifier).await.expect("a driver");
        Pair { world, other, _server: server, nodes, driver }
    }

    fn advance(&self, epochs: u64) {
        self.world.advance(epochs);
        self.advance_b(epochs);
    }

    fn advance_b(&self, epochs: u64) {
        self.other.with_node(|node| (0..epochs).for_each(|_| node.advance_epoch().expect("an epoch passes")));
    }

    fn calls_at_a_fail(&self, method: &str, when: When, count: u64) {
        let method = format!("Filecoin.{method}");
        self.world.fault(Fault::FailCalls { method, when, count, answer: Answer::Http503 });
    }

    fn standings(&self) -> Vec<&'static str> {
        self.nodes.standings().iter().map(|(_, standing)| standing.name()).collect()
    }

    /// How many PreCommits of the sector took effect at each node.
    fn precommits(&self) -> (u64, u64) {
        let at_b = self.other.with_node(|node| {
            let sector = node.stats.miners.get(&1000).and_then(|miner| miner.sectors.get(&1));
            sector.map_or(0, |sector| sector.pre_commits)
        });
        (self.world.precommits().0, at_b)
    }

    /// Ticks and advances until the PreCommit has landed.
    async fn land(&self, advance: impl Fn(&Pair)) {
        for _ in 0..40 {
            self.driver.waits().waits(&Subject::Node, Cause::passing(ErrorCode::NODE_UNAVAILABLE, ""), Duration::ZERO);
            self.driver.waits().goes_on(&Subject::Node);
            self.driver.tick().await.expect("ticks");
            if self.world.has_landed().await {
                return;
            }
            advance(self);
            self.nodes.look().await;
        }
        panic!("not landed: {:?}, {:?}", self.world.state().await, self.nodes.standings());
    }

    async fn is_in_both_pools(&self) -> bool {
        for _ in 0..1000 {
            let has = |devnet: &Devnet| devnet.with_node(|node| !node.mempool.pending().is_empty());
            if has(&self.world.devnet) && has(&self.other) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    }
}

#[tokio::test]
async fn a_message_reaches_both_nodes_and_lands_on_the_one_chain_that_they_make() {
    let pair = Pair::new().await;
    pair.driver.tick().await.expect("ticks");
    assert!(pair.is_in_both_pools().await);
    pair.land(|pair| pair.advance(1)).await;
    assert_eq!((pair.nodes.reading().as_deref(), pair.precommits()), (Some("a"), (1, 1)));
    pair.nodes.look().await;
    assert_eq!(pair.standings(), ["well", "well"], "also to the last bit");
}

#[tokio::test]
async fn a_push_that_fails_at_one_node_before_or_after_its_effect_has_one_effect() {
    for when in [When::Before, When::After] {
        let pair = Pair::new().await;
        pair.calls_at_a_fail("MpoolPush", when, 1);
        pair.land(|pair| pair.advance_b(1)).await;
        assert_eq!(pair.precommits().1, 1, "{when:?}");
        assert_eq!(pair.nodes.reading().as_deref(), Some("b"), "node a stands still meanwhile");
    }
}

#[tokio::test]
async fn a_life_goes_on_while_the_node_that_was_read_is_away_and_it_counts_again_when_it_is_back() {
    let pair = Pair::new().await;
    pair.driver.tick().await.expect("ticks");
    assert!(pair.is_in_both_pools().await);
    assert_eq!(pair.nodes.reading().as_deref(), Some("a"));
    pair.calls_at_a_fail("ChainHead", When::Before, 1000);
    pair.driver.tick().await.expect("ticks, with the other node");
    pair.land(|pair| pair.advance(1)).await;
    assert_eq!((pair.nodes.reading().as_deref(), pair.standings()), (Some("b"), vec!["away", "well"]));
    pair.world.fault(Fault::Clear {});
    pair.nodes.look().await;
    assert_eq!((pair.nodes.reading().as_deref(), pair.standings()), (Some("b"), vec!["well", "well"]));
    assert_eq!(pair.precommits(), (1, 1));
}

#[tokio::test]
async fn a_node_that_stands_still_is_left_out_until_it_has_caught_up() {
    let pair = Pair::new().await;
    pair.driver.tick().await.expect("ticks");
    assert!(pair.is_in_both_pools().await);
    pair.advance_b(4);
    pair.nodes.look().await;
    assert_eq!((pair.nodes.reading().as_deref(), pair.standings()), (Some("b"), vec!["behind", "well"]));
    pair.land(|pair| pair.advance_b(1)).await;
    let height = |devnet: &Devnet| devnet.with_node(|node| node.epoch());
    pair.world.advance((height(&pair.other) - height(&pair.world.devnet)) as u64);
    pair.nodes.look().await;
    assert_eq!(pair.standings(), ["well", "well"]);
}

#[tokio::test]
async fn a_node_on_a_lighter_fork_is_left_out_and_the_life_goes_on_on_the_heavier_chain() {
    let pair = Pair::new().await;
    pair.driver.tick().await.expect("ticks");
    assert!(pair.is_in_both_pools().await);
    pair.world.devnet.with_node(|node| node.add_null_rounds(1));
    pair.advance(4);
    pair.nodes.look().await;
    let (_, standing) = pair.nodes.standings().swap_remove(0);
    assert!(matches!(standing, Standing::Forked { .. }), "{standing}");
    assert_eq!(pair.nodes.reading().as_deref(), Some("b"));
    pair.land(|pair| pair.advance(1)).await;
    assert_eq!(pair.precommits(), (1, 1), "the same bytes, on two chains");
}
