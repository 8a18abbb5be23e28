//! The network that the sectors are on.

use sealbus_manager::{chain::nodes::NetworkId, store::Store};

use crate::{databases::TestDatabase, on_every_database, store};

on_every_database! {
    the_first_network_is_remembered_and_only_its_genesis_is_added_later,
}

fn network(name: &str, genesis: Option<&str>) -> NetworkId {
    NetworkId { name: name.to_owned(), genesis: genesis.map(str::to_owned) }
}

async fn the_first_network_is_remembered_and_only_its_genesis_is_added_later(database: TestDatabase) {
    let store = store(&database).await;
    assert_eq!(store.network().await.expect("reads"), None);
    for (told, known) in [
        (network("calibrationnet", None), network("calibrationnet", None)),
        (network("mainnet", Some("bafy1")), network("calibrationnet", Some("bafy1"))),
        (network("calibrationnet", Some("bafy2")), network("calibrationnet", Some("bafy1"))),
    ] {
        let mut tx = store.begin().await.expect("begins");
        assert_eq!(tx.know_network(&told).await.expect("stores"), known);
        tx.commit().await.expect("commits");
        assert_eq!(store.network().await.expect("reads"), Some(known.clone()));
        assert_eq!(Store::network_in(&database.database).await.expect("reads"), Some(known), "by a command");
    }
}
