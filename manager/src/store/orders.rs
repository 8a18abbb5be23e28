//! A person's orders to whole machines, until they are published and carried out.

use std::collections::{BTreeMap, BTreeSet};

use sealbus_schema::{
    SectorId, WorkerName,
    message::{Orders, SlotRelease},
};
use sqlx::{Row, any::AnyRow};

use super::{Store, StoreError, Tx, now_text, sql};

/// A worker's standing orders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerOrders {
    /// The worker.
    pub worker: WorkerName,
    /// The last revision that is on the bus; 0 if there is none.
    pub published: u64,
    /// The present orders.
    pub orders: Orders,
}

impl WorkerOrders {
    /// Whether the bus has the present orders.
    pub const fn is_published(&self) -> bool {
        self.published >= self.orders.revision
    }
}

impl Store {
    /// Every worker's standing orders, ordered by name.
    pub async fn worker_orders(&self) -> Result<Vec<WorkerOrders>, StoreError> {
        let rows = sqlx::query("SELECT worker, revision, published, drain, weights FROM worker_orders ORDER BY worker")
            .fetch_all(&self.pool)
            .await
            .map_err(sql("read the workers' orders"))?;
        let releases = sqlx::query(
            "SELECT COALESCE(order_number, id) AS id, worker, slot FROM slot_releases WHERE done_at IS NULL ORDER BY 1",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(sql("read the slots to release"))?;
        let mut slots = self.known_slots().await?;
        let bad = |worker: &str, error: &dyn std::fmt::Display| StoreError::BadRow {
            what: format!("the orders of worker {worker}"),
            problem: error.to_string(),
        };
        rows.iter()
            .map(|row| {
                let worker: String = row.get("worker");
                let release = releases.iter().filter(|row| row.get::<String, _>("worker") == worker).map(release);
                Ok(WorkerOrders {
                    published: row.get::<i64, _>("published") as u64,
                    orders: Orders {
                        revision: row.get::<i64, _>("revision") as u64,
                        drain: row.get::<i64, _>("drain") != 0,
                        release: release.collect(),
                        slots: slots.remove(&worker).unwrap_or_default(),
                        weights: serde_json::from_str(row.get("weights")).map_err(|e| bad(&worker, &e))?,
                    },
                    worker: worker.parse().map_err(|e| bad(&worker, &e))?,
                })
            })
            .collect()
    }

    /// One worker's standing orders. `None` if it was never given any.
    pub async fn orders_of(&self, worker: &WorkerName) -> Result<Option<WorkerOrders>, StoreError> {
        Ok(self.worker_orders().await?.into_iter().find(|orders| orders.worker == *worker))
    }

    /// Records that a revision of a worker's orders is on the bus.
    pub async fn mark_orders_published(&self, worker: &WorkerName, revision: u64) -> Result<(), StoreError> {
        sqlx::query("UPDATE worker_orders SET published = $2 WHERE worker = $1 AND published < $2")
            .bind(worker.as_str())
            .bind(revision as i64)
            .execute(&self.pool)
            .await
            .map_err(sql("record that orders are published"))?;
        Ok(())
    }

    /// Every worker that ever had a sector or an order.
    pub async fn known_workers(&self) -> Result<BTreeSet<String>, StoreError> {
        let rows = sqlx::query(
            "SELECT owner AS name FROM jobs WHERE owner IS NOT NULL \
             UNION SELECT worker FROM worker_orders UNION SELECT name FROM workers",
        )
        .fetch_all(&self.pool)
        .await
        .map_err(sql("read the workers' names"))?;
        Ok(rows.iter().map(|row| row.get("name")).collect())
    }

    /// Every worker that ever had a sector.
    pub async fn workers_with_history(&self) -> Result<BTreeSet<String>, StoreError> {
        let rows = sqlx::query("SELECT owner AS name FROM jobs WHERE owner IS NOT NULL UNION SELECT name FROM workers")
            .fetch_all(&self.pool)
            .await
            .map_err(sql("read the workers' names"))?;
        Ok(rows.iter().map(|row| row.get("name")).collect())
    }

    /// Every miner that ever had a sector or a pledge.
    pub async fn known_miners(&self) -> Result<BTreeSet<String>, StoreError> {
        let rows = sqlx::query("SELECT miner FROM sectors UNION SELECT miner FROM pledges")
            .fetch_all(&self.pool)
            .await
            .map_err(sql("read the miners' names"))?;
        Ok(rows.iter().map(|row| row.get("miner")).collect())
    }

    /// When each pending order to release a slot was given, by the order's number.
    pub async fn release_times(&self) -> Result<BTreeMap<u64, String>, StoreError> {
        let rows = sqlx::query("SELECT COALESCE(order_number, id) AS id, at FROM slot_releases WHERE done_at IS NULL")
            .fetch_all(&self.pool)
            .await
            .map_err(sql("read the slots to release"))?;
        Ok(rows.iter().map(|row| (row.get::<i64, _>("id") as u64, row.get("at"))).collect())
    }

    /// Whether the outbox still has rows of one of these sectors.
    pub async fn waits_in_outbox(&self, sectors: &[SectorId]) -> Result<bool, StoreError> {
        for sector in sectors {
            let row = sqlx::query("SELECT COUNT(*) AS n FROM outbox WHERE miner = $1 AND number = $2")
                .bind(sector.miner.to_string())
                .bind(sector.number.0 as i64)
                .fetch_one(&self.pool)
                .await
                .map_err(sql("read the outbox"))?;
            if row.get::<i64, _>("n") > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Tx {
    /// Orders a worker to drain, or to take sectors again. Returns the revision, and whether this changed anything.
    pub async fn order_drain(&mut self, worker: &WorkerName, drain: bool) -> Result<(u64, bool), StoreError> {
        let present = sqlx::query("SELECT revision, drain FROM worker_orders WHERE worker = $1")
            .bind(worker.as_str())
            .fetch_optional(&mut *self.inner)
            .await
            .map_err(sql("read a worker's orders"))?;
        let (revision, drains) =
            present.map_or((0, false), |row| (row.get::<i64, _>("revision") as u64, row.get::<i64, _>("drain") != 0));
        if drains == drain {
            return Ok((revision, false));
        }
        let row = sqlx::query(
            "INSERT INTO worker_orders (worker, revision, published, drain) VALUES ($1, 1, 0, $2) \
             ON CONFLICT (worker) DO UPDATE SET revision = worker_orders.revision + 1, drain = excluded.drain \
             RETURNING revision",
        )
        .bind(worker.as_str())
        .bind(i64::from(drain))
        .fetch_one(&mut *self.inner)
        .await
        .map_err(sql("order a worker"))?;
        Ok((row.get::<i64, _>("revision") as u64, true))
    }

    /// Has the worker's orders published again, under a new revision.
    pub async fn order_again(&mut self, worker: &WorkerName) -> Result<(), StoreError> {
        self.next_revision(worker).await
    }

    /// Orders a worker to release a slot. The slot reports `carried_out` as its last order, so the new order gets a
    /// higher number. Returns that number, and whether the order is new: an order that is still pending stays as it is.
    pub async fn order_release_after(
        &mut self,
        worker: &WorkerName,
        slot: &str,
        carried_out: u64,
    ) -> Result<(u64, bool), StoreError> {
        let (id, is_new) = self.order_release(worker, slot).await?;
        if SlotRelease::comes_after(id, carried_out) {
            return Ok((id, is_new));
        }
        let number = carried_out.wrapping_add(1);
        sqlx::query("UPDATE slot_releases SET order_number = $2 WHERE COALESCE(order_number, id) = $1 AND worker = $3")
            .bind(id as i64)
            .bind(number as i64)
            .bind(worker.as_str())
            .execute(&mut *self.inner)
            .await
            .map_err(sql("number a slot's release"))?;
        self.next_revision(worker).await?;
        Ok((number, is_new))
    }

    /// Orders a worker to release a slot. Returns the order's number, and whether it is new: an order that is still
    /// pending stays as it is.
    pub async fn order_release(&mut self, worker: &WorkerName, slot: &str) -> Result<(u64, bool), StoreError> {
        let open = sqlx::query("SELECT COALESCE(order_number, id) AS id FROM slot_releases WHERE worker = $1 AND slot = $2 AND done_at IS NULL")
            .bind(worker.as_str())
            .bind(slot)
            .fetch_optional(&mut *self.inner)
            .await
            .map_err(sql("read the slots to release"))?;
        if let Some(row) = open {
            return Ok((row.get::<i64, _>("id") as u64, false));
        }
        let row = sqlx::query("INSERT INTO slot_releases (worker, slot, at) VALUES ($1, $2, $3) RETURNING id")
            .bind(worker.as_str())
            .bind(slot)
            .bind(now_text())
            .fetch_one(&mut *self.inner)
            .await
            .map_err(sql("order a slot's release"))?;
        self.next_revision(worker).await?;
        Ok((row.get::<i64, _>("id") as u64, true))
    }

    /// Takes back a pending order to release a slot. Returns its number, if there was one.
    pub async fn withdraw_release(&mut self, worker: &WorkerName, slot: &str) -> Result<Option<u64>, StoreError> {
        let row = sqlx::query(
            "UPDATE slot_releases SET done_at = $3 WHERE worker = $1 AND slot = $2 AND done_at IS NULL RETURNING id",
        )
        .bind(worker.as_str())
        .bind(slot)
        .bind(now_text())
        .fetch_optional(&mut *self.inner)
        .await
        .map_err(sql("take back an order to free a slot"))?;
        let Some(row) = row else { return Ok(None) };
        self.next_revision(worker).await?;
        Ok(Some(row.get::<i64, _>("id") as u64))
    }

    /// Removes the orders for slots that a worker has released from its next revision, so that they cannot be carried out
    /// again.
    pub async fn mark_released(&mut self, worker: &WorkerName, ids: &[u64]) -> Result<(), StoreError> {
        for id in ids {
            sqlx::query(
                "UPDATE slot_releases SET done_at = $2 \
                 WHERE COALESCE(order_number, id) = $1 AND worker = $3 AND done_at IS NULL",
            )
            .bind(*id as i64)
            .bind(now_text())
            .bind(worker.as_str())
            .execute(&mut *self.inner)
            .await
            .map_err(sql("record a slot's release"))?;
        }
        self.next_revision(worker).await
    }

    pub(super) async fn next_revision(&mut self, worker: &WorkerName) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO worker_orders (worker, revision, published, drain) VALUES ($1, 1, 0, 0) \
             ON CONFLICT (worker) DO UPDATE SET revision = worker_orders.revision + 1",
        )
        .bind(worker.as_str())
        .execute(&mut *self.inner)
        .await
        .map_err(sql("order a worker"))?;
        Ok(())
    }
}

fn release(row: &AnyRow) -> SlotRelease {
    SlotRelease { id: row.get::<i64, _>("id") as u64, slot: row.get("slot") }
}
