//! The sectors' log as the server stored it, read beside the manager and without its consumer.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context;
use async_nats::jetstream::{self, consumer::pull::OrderedConfig};
use futures::StreamExt;
use sealbus_nats::{log::Record, topology};
use sealbus_schema::{SectorId, message::Event};

use crate::scripted::world::World;

/// How long the next record may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A lease record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its sequence: the token, if it is a claim.
    pub sequence: u64,
    /// Who owns the sector from here on.
    pub owner: Option<String>,
}

/// What the log of one sector holds.
#[derive(Clone, Debug, Default)]
pub struct LogCount {
    /// Its lease records, in order.
    pub leases: Vec<Lease>,
    /// Its reports.
    pub events: u64,
    /// Reports whose writer did not own the sector when the server stored them: the fence refuses them.
    pub stale: u64,
    /// Reports whose number is not one more than the last one's under the same token.
    pub gaps: u64,
    last_number: u64,
}

impl LogCount {
    /// How often the sector was claimed.
    pub fn claims(&self) -> usize {
        self.leases.iter().filter(|lease| lease.owner.is_some()).count()
    }

    /// The last lease record before a sequence.
    pub fn in_force_at(&self, sequence: u64) -> Option<&Lease> {
        self.leases.iter().rev().find(|lease| lease.sequence < sequence)
    }

    /// Whether nobody owns the sector at the end.
    pub fn is_closed(&self) -> bool {
        self.leases.last().is_some_and(|lease| lease.owner.is_none())
    }

    fn event(&mut self, worker: &str, event: &Event) {
        self.events += 1;
        let owned = self
            .leases
            .last()
            .is_some_and(|lease| lease.sequence == event.token.0 && lease.owner.as_deref() == Some(worker));
        if !owned {
            self.stale += 1;
            return;
        }
        self.gaps += u64::from(event.number != self.last_number + 1);
        self.last_number = event.number;
    }
}

/// Reads the whole log.
pub fn read(world: &World) -> anyhow::Result<BTreeMap<SectorId, LogCount>> {
    world.with_client(async |client| {
        let stream = jetstream::new(client).get_stream(topology::SECTORS).await?;
        let last = stream.cached_info().state.last_sequence;
        let mut logs: BTreeMap<SectorId, LogCount> = BTreeMap::new();
        if last == 0 {
            return Ok(logs);
        }
        let consumer = stream.create_consumer(OrderedConfig::default()).await?;
        let mut messages = consumer.messages().await?;
        loop {
            let next = tokio::time::timeout(PATIENCE, messages.next()).await.context("the log does not come")?;
            let message = next.context("the log ended")??;
            let sequence = message.info().map_err(|error| anyhow::anyhow!(error))?.stream_sequence;
            match sealbus_nats::log::read(&message.subject, &message.payload) {
                Record::Lease { sector, owner, .. } => {
                    let log = logs.entry(sector).or_default();
                    log.leases.push(Lease { sequence, owner: owner.map(|owner| owner.to_string()) });
                    log.last_number = 0;
                }
                Record::Event { sector, worker, event } => {
                    logs.entry(sector).or_default().event(&worker.to_string(), &event);
                }
                Record::Fact { .. } => {}
                Record::Unreadable { subject, why } => anyhow::bail!("{subject} at {sequence}: {why}"),
            }
            if sequence >= last {
                return Ok(logs);
            }
        }
    })
}
