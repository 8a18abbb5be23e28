//! The sectors' leases as the server stored them, read independently of the manager and its consumer. The reports about
//! a sector are purged some days after its end; its leases remain.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context;
use async_nats::jetstream::{self, consumer::pull::OrderedConfig};
use futures::StreamExt;
use sealbus_nats::{log::Record, topology};
use sealbus_schema::SectorId;

use sealbus_manager::errln;

use crate::scripted::world::World;

/// How long the next record may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);

/// How many times reading is tried. Each attempt itself waits some seconds.
const TRIES: u32 = 10;

/// A lease record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its sequence number, which is the token if it is a claim.
    pub sequence: u64,
    /// The owner from here on; `None` if there is none.
    pub owner: Option<String>,
}

/// The leases of one sector.
#[derive(Clone, Debug, Default)]
pub struct Leases {
    /// Its lease records, in order.
    pub records: Vec<Lease>,
}

impl Leases {
    /// How many times the sector was claimed.
    pub fn claims(&self) -> usize {
        self.records.iter().filter(|lease| lease.owner.is_some()).count()
    }

    /// The last lease record before a sequence number.
    pub fn in_force_at(&self, sequence: u64) -> Option<&Lease> {
        self.records.iter().rev().find(|lease| lease.sequence < sequence)
    }

    /// Whether nobody owns the sector in the end.
    pub fn is_closed(&self) -> bool {
        self.records.last().is_some_and(|lease| lease.owner.is_none())
    }
}

/// Reads the leases of all sectors. Retries while NATS has no leader, because the last fault may have hit it.
pub fn read(world: &World) -> anyhow::Result<BTreeMap<SectorId, Leases>> {
    for _ in 1..TRIES {
        match read_once(world) {
            Ok(leases) => return Ok(leases),
            Err(error) => errln!("the log cannot be read yet: {error:#}"),
        }
    }
    read_once(world)
}

fn read_once(world: &World) -> anyhow::Result<BTreeMap<SectorId, Leases>> {
    world.with_client(async |client| {
        let stream = jetstream::new(client).get_stream(topology::SECTORS).await?;
        let last = stream.cached_info().state.last_sequence;
        let mut logs: BTreeMap<SectorId, Leases> = BTreeMap::new();
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
                    let lease = Lease { sequence, owner: owner.map(|owner| owner.to_string()) };
                    logs.entry(sector).or_default().records.push(lease);
                }
                Record::Event { .. } | Record::Fact { .. } => {}
                Record::Unreadable { subject, why } => anyhow::bail!("{subject} at {sequence}: {why}"),
            }
            if sequence >= last {
                return Ok(logs);
            }
        }
    })
}
