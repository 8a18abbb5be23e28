//! The network that the manager's sectors are on.

use sqlx::{AnyConnection, Row};

use super::{Store, StoreError, Tx, now_text, open, sql};
use crate::{chain::nodes::NetworkId, config::Database};

const READ: &str = "SELECT name, genesis FROM network";

impl Store {
    /// The network, once a manager has worked.
    pub async fn network(&self) -> Result<Option<NetworkId>, StoreError> {
        let mut connection = self.pool.acquire().await.map_err(sql("read the network"))?;
        read(&mut connection).await
    }

    /// The network in a database that is only read, and whose schema may be an older one.
    pub async fn network_in(database: &Database) -> Result<Option<NetworkId>, StoreError> {
        sqlx::any::install_default_drivers();
        read(&mut open::connect(database).await?).await
    }
}

impl Tx {
    /// Remembers the network, unless it is known already; adds its genesis, unless that is known. Returns what is known.
    pub async fn know_network(&mut self, network: &NetworkId) -> Result<NetworkId, StoreError> {
        sqlx::query(
            "INSERT INTO network (\"only\", name, genesis, seen_at) VALUES (1, $1, $2, $3) \
             ON CONFLICT (\"only\") DO UPDATE SET genesis = COALESCE(network.genesis, excluded.genesis)",
        )
        .bind(&network.name)
        .bind(&network.genesis)
        .bind(now_text())
        .execute(&mut *self.inner)
        .await
        .map_err(sql("record the network"))?;
        Ok(read(&mut self.inner).await?.unwrap_or_else(|| network.clone()))
    }
}

async fn read(connection: &mut AnyConnection) -> Result<Option<NetworkId>, StoreError> {
    let row = sqlx::query(READ).fetch_optional(connection).await.map_err(sql("read the network"))?;
    Ok(row.map(|row| NetworkId { name: row.get("name"), genesis: row.get("genesis") }))
}
