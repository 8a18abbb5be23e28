//! What a person gets wrong is named, with the field and the way out.

use fvm_ipld_encoding::RawBytes;
use fvm_shared::{address::Address, econ::TokenAmount};
use sealbus_integration_tests::devnet::Config;
use sealbus_manager::chain::nodes::NetworkId;

use super::Site;

#[test]
fn unknown_miners_sectors_and_addresses_are_named() {
    let site = Site::new();
    for arguments in [&["miners", "withdraw", "f07777", "--all"][..], &["sectors", "compact", "f07777"]] {
        site.refused(arguments, &["miner f07777", "no [[miner]] table", "f01000"]);
    }
    site.refused(&["sectors", "extend", "f01000/7", "--days", "600"], &["f01000/7", "not proven on chain"]);
    site.refused(&["sectors", "extend", "f01000/7", "f01001/7", "--days", "600"], &["one miner at a time"]);
    site.refused(
        &["sectors", "extend", "--miner", "f01000", "--days", "600"],
        &["--numbers, --expiring-days or --all"],
    );
    site.refused(&["sectors", "terminate"], &["name sectors"]);
    site.refused(&["miners", "owner", "change", "f01000", "f3x"], &["owner: `f3x` is not an address"]);
    let nobody = Address::new_secp256k1(&[4; 65]).expect("an address").to_string();
    site.refused(&["miners", "control", "set", "f01000", &nobody], &["control address", "is not on chain yet"]);
    site.refused(&["miners", "worker", "change", "f01000", "f01000"], &["worker: f01000 is not an account"]);
    site.refused(&["miners", "peer-id", "f01000", "Qm"], &["is not a peer id"]);
    site.refused(&["miners", "multiaddrs", "f01000", "1.2.3.4:5"], &["is not a multiaddress"]);
    site.refused(&["miners", "withdraw", "f01000", "--amount", "1,5"], &["--amount", "is not an amount in FIL"]);
}

#[test]
fn expirations_out_of_range_name_the_range() {
    let site = Site::new();
    site.chain.active(&[3]);
    site.refused(&["sectors", "extend", "f01000/3", "--epoch", "5"], &["--epoch: epoch 5 is not between"]);
    site.refused(&["sectors", "extend", "f01000/3", "--epoch", "99999999"], &["--epoch", "1278 days from now"]);
    site.refused(&["sectors", "extend", "f01000/3", "--days", "1279"], &["--days", "1..=1278"]);
    site.refused(&["sectors", "extend", "f01000/3"], &["--days"]);
    site.refused(&["sectors", "compact", "f01000", "--deadline", "48"], &["--deadline 48", "0 to 47"]);
}

#[test]
fn a_sender_without_funds_and_a_key_that_nobody_has_are_named_with_what_to_do() {
    let site = Site::new();
    let peer = "12D3KooWQ4sjXAfYNKKuAwrNRpTMHjjJyGnbWvvzvyFwUCXdQUJ3";
    let poor = site.chain.node(|node| node.wallet.derive_bls(7, "poor")).expect("a key");
    let mut message = site.chain.message(site.chain.owner(), 0, RawBytes::default(), TokenAmount::from_atto(1));
    message.to = poor;
    site.chain.push(message).expect("the mempool takes it");
    site.chain.advance(2);
    site.sends(&site.only(&["miners", "control", "set", "f01000", &poor.to_string()]));
    let config = site.path("manager.toml");
    let text = std::fs::read_to_string(&config).expect("reads");
    let send_from = |sender: &str| {
        let sender = format!("[[miner]]\nsender = \"{sender}\"");
        std::fs::write(&config, text.replace("[[miner]]", &sender)).expect("writes");
    };
    send_from(&poor.to_string());
    let arguments = ["miners", "peer-id", "f01000", peer];
    site.refused(&arguments, &["has 0.000000000000000001 FIL", "send it 0.", "nothing was ordered"]);
    send_from("f02");
    site.refused(&arguments, &["sender f02 of miner f01000", "neither its owner nor its worker"]);

    // The owner goes to somebody whose key is nowhere here.
    let far = Address::new_secp256k1(&[9; 65]).expect("an address");
    let mut message = site.chain.message(site.chain.owner(), 0, RawBytes::default(), TokenAmount::from_whole(1));
    message.to = far;
    site.chain.push(message).expect("the mempool takes it");
    site.chain.advance(2);
    std::fs::write(&config, &text).expect("writes");
    site.sends(&site.only(&["miners", "owner", "change", "f01000", &far.to_string()]));
    let words = ["no file of chain.key_files has the key", "the node's wallet lacks it"];
    site.refused(&["miners", "owner", "confirm", "f01000"], &words);
}

#[test]
fn a_node_of_another_network_is_not_asked_for_anything() {
    let site = Site::with(Config { network_name: "another".to_owned(), ..Config::default() });
    let store = site.store();
    site.runtime.block_on(async {
        let mut tx = store.begin().await.expect("begins");
        tx.know_network(&NetworkId { name: "mainnet".to_owned(), genesis: None }).await.expect("knows");
        tx.commit().await.expect("commits");
    });
    site.refused(&["miners", "withdraw", "f01000", "--all"], &["another", "mainnet"]);
    site.refused(&["sectors", "compact", "f01000"], &["another", "mainnet"]);
}
