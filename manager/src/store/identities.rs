//! The known permanent stores and slots, by their ids.

use std::collections::{BTreeMap, BTreeSet};

use sealbus_schema::{WorkerName, identity::KnownStore, message::KnownSlot};
use sqlx::Row;

use super::{Store, StoreError, Tx, now_text, sql};

impl Store {
    /// The permanent stores that have an id, by name.
    pub async fn known_stores(&self) -> Result<Vec<KnownStore>, StoreError> {
        let rows = sqlx::query("SELECT name, id FROM stores ORDER BY name")
            .fetch_all(&self.pool)
            .await
            .map_err(sql("read the stores"))?;
        Ok(rows.iter().map(|row| KnownStore { name: row.get("name"), id: row.get("id") }).collect())
    }

    /// The slots that each worker is known to have.
    pub async fn known_slots(&self) -> Result<BTreeMap<String, Vec<KnownSlot>>, StoreError> {
        let rows = sqlx::query("SELECT worker, path, id FROM slots ORDER BY worker, path")
            .fetch_all(&self.pool)
            .await
            .map_err(sql("read the slots"))?;
        let mut slots: BTreeMap<String, Vec<KnownSlot>> = BTreeMap::new();
        for row in rows {
            slots.entry(row.get("worker")).or_default().push(KnownSlot { path: row.get("path"), id: row.get("id") });
        }
        Ok(slots)
    }
}

impl Tx {
    /// Remembers a store's id. It replaces an earlier one.
    pub async fn know_store(&mut self, store: &KnownStore, by: &str) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO stores (name, id, made_at, made_by) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (name) DO UPDATE SET id = excluded.id, made_at = excluded.made_at, made_by = excluded.made_by",
        )
        .bind(&store.name)
        .bind(&store.id)
        .bind(now_text())
        .bind(by)
        .execute(&mut *self.inner)
        .await
        .map_err(sql("record a store's id"))?;
        Ok(())
    }

    /// Remembers a worker's slots, and sends them to the worker with its orders.
    pub async fn know_slots(&mut self, worker: &WorkerName, slots: &[KnownSlot]) -> Result<(), StoreError> {
        for KnownSlot { path, id } in slots {
            sqlx::query(
                "INSERT INTO slots (worker, path, id, seen_at) VALUES ($1, $2, $3, $4) \
                 ON CONFLICT (worker, path) DO UPDATE SET id = excluded.id, seen_at = excluded.seen_at",
            )
            .bind(worker.as_str())
            .bind(path)
            .bind(id)
            .bind(now_text())
            .execute(&mut *self.inner)
            .await
            .map_err(sql("record a slot's id"))?;
        }
        self.next_revision(worker).await
    }

    /// Forgets slots that a worker no longer has, and sends it the remaining ones.
    pub async fn forget_slots(&mut self, worker: &WorkerName, paths: &BTreeSet<String>) -> Result<(), StoreError> {
        for path in paths {
            sqlx::query("DELETE FROM slots WHERE worker = $1 AND path = $2")
                .bind(worker.as_str())
                .bind(path)
                .execute(&mut *self.inner)
                .await
                .map_err(sql("forget a slot"))?;
        }
        self.next_revision(worker).await
    }
}
