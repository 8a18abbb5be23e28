//! The databases that the store runs on, each a real one, made for one test.

#[allow(dead_code, reason = "the integration tests use the rest")]
#[path = "../../../integration-tests/src/cluster/postgres.rs"]
mod postgres;

// Some test files have it for their NATS servers as well.
#[allow(clippy::duplicate_mod, reason = "each test file is a crate of its own")]
#[path = "../../../nats/tests/support/ports.rs"]
mod ports;

use sealbus_manager::{config::Database, store::Store};

use postgres::PostgresDatabase;

/// A new database, gone with its value.
pub struct TestDatabase {
    /// Where it is.
    pub database: Database,
    /// For PostgreSQL.
    #[allow(dead_code, reason = "not every test file asks")]
    pub postgres: Option<PostgresDatabase>,
    _directory: Option<tempfile::TempDir>,
}

impl TestDatabase {
    pub fn sqlite() -> TestDatabase {
        let directory = tempfile::tempdir().expect("directory");
        let database = Database::Sqlite { path: directory.path().join("manager.db") };
        TestDatabase { database, postgres: None, _directory: Some(directory) }
    }

    #[allow(dead_code, reason = "the benchmark wants a durable one")]
    pub fn postgres() -> TestDatabase {
        TestDatabase::on(PostgresDatabase::make().expect("a PostgreSQL database"))
    }

    /// On a server with its own settings: what is acknowledged survives a power failure.
    #[allow(dead_code, reason = "for the benchmarks")]
    pub fn durable_postgres() -> TestDatabase {
        TestDatabase::on(PostgresDatabase::with_server(&[]).expect("a PostgreSQL server"))
    }

    fn on(postgres: PostgresDatabase) -> TestDatabase {
        let url = postgres.url().parse().expect("an address");
        let database = Database::Postgres { url, password_file: Some(postgres.password_file()) };
        TestDatabase { database, postgres: Some(postgres), _directory: None }
    }

    pub async fn open(&self) -> Store {
        Store::open(&self.database).await.expect("opens")
    }

    /// For statements past the store.
    #[allow(dead_code, reason = "not every test file goes past it")]
    pub async fn raw(&self) -> sqlx::AnyPool {
        let url = match (&self.database, &self.postgres) {
            (Database::Sqlite { path }, _) => format!("sqlite://{}?mode=rwc", path.display()),
            (Database::Postgres { url, .. }, Some(postgres)) => {
                let mut url = url.clone();
                url.set_password(Some(postgres.password())).expect("a place for it");
                url.to_string()
            }
            (Database::Postgres { .. }, None) => unreachable!("a server comes with its address"),
        };
        sqlx::AnyPool::connect(&url).await.expect("connects")
    }
}

/// The same tests on every database: each name is an async function of a [`TestDatabase`].
#[macro_export]
macro_rules! on_every_database {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test] async fn $name() { super::$name($crate::databases::TestDatabase::sqlite()).await; })*
        }
        mod postgres {
            $(#[tokio::test] async fn $name() { super::$name($crate::databases::TestDatabase::postgres()).await; })*
        }
    };
}
