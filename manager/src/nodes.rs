//! Keeps looking at the chain nodes, remembers their network, and reports those that are left out.

use std::{collections::BTreeSet, convert::Infallible, time::Duration};

use crate::{
    chain::{Nodes, Transport},
    store::{Store, StoreError},
    waits::{self, Subject, Waits},
};

/// How often the nodes are looked at.
const PERIOD: Duration = Duration::from_secs(10);

/// Looks at the nodes forever, for the manager that took over with this epoch.
pub async fn watch<T: Transport + 'static>(
    nodes: &Nodes<T>,
    store: &Store,
    epoch: i64,
    waits: &Waits,
) -> Result<Infallible, StoreError> {
    loop {
        remember(nodes, store, epoch).await?;
        report(nodes, waits);
        tokio::time::sleep(PERIOD).await;
        nodes.look().await;
    }
}

/// Stores which network the nodes are on, once that is known: later only its nodes are used.
async fn remember<T: Transport + 'static>(nodes: &Nodes<T>, store: &Store, epoch: i64) -> Result<(), StoreError> {
    let Some(found) = nodes.network_id() else { return Ok(()) };
    if store.network().await?.as_ref() == Some(&found) {
        return Ok(());
    }
    let mut tx = store.begin_as(epoch).await?;
    let network = tx.know_network(&found).await?;
    tx.commit().await?;
    nodes.expect(network);
    Ok(())
}

/// Reports each of several nodes that is left out. A single one is reported by whatever needs it.
fn report<T: Transport + 'static>(nodes: &Nodes<T>, waits: &Waits) {
    let mut left_out = BTreeSet::from([Subject::Node]);
    for (name, standing) in nodes.standings() {
        if let Some(cause) = waits::of_standing(&standing).filter(|_| nodes.are_several()) {
            let subject = Subject::OneNode(name);
            waits.waits(&subject, cause, PERIOD);
            left_out.insert(subject);
        }
    }
    waits.keep_only(&["node"], &left_out);
}
