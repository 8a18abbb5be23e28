//! The databases that the store supports: each test gets a real one of its own.

#[allow(dead_code, reason = "the integration tests use the rest")]
#[path = "../../../integration-tests/src/cluster/postgres.rs"]
mod postgres;

// Some test files use it for their NATS servers too.
#[allow(clippy::duplicate_mod, reason = "each test file is a crate of its own")]
#[path = "../../../nats/tests/support/ports.rs"]
mod ports;

use sealbus_manager::{config::Database, store::Store};

pub use postgres::Postgres;

/// A new database. It is removed when this is dropped.
pub struct TestDatabase {
    /// How to connect to it.
    pub database: Database,
    /// The server, if it is PostgreSQL.
    #[allow(dead_code, reason = "not every test file stops it")]
    pub postgres: Option<Postgres>,
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
        // A test's data need not survive a power failure.
        TestDatabase::on(Postgres::start(&["fsync=off"]).expect("a PostgreSQL server"))
    }

    /// PostgreSQL with its default settings.
    #[allow(dead_code, reason = "for the benchmark")]
    pub fn durable_postgres() -> TestDatabase {
        TestDatabase::on(Postgres::start(&[]).expect("a PostgreSQL server"))
    }

    fn on(postgres: Postgres) -> TestDatabase {
        let url = postgres.url().parse().expect("an address");
        let database = Database::Postgres { url, password_file: Some(postgres.password_file()) };
        TestDatabase { database, postgres: Some(postgres), _directory: None }
    }

    pub async fn open(&self) -> Store {
        Store::open(&self.database).await.expect("opens")
    }

    /// A pool for statements that bypass the store.
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

/// Runs the same tests on every database. Each name is an async function that takes a [`TestDatabase`].
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
