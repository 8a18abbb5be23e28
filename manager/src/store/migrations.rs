//! The migrations of both databases, embedded from `manager/migrations`.
//!
//! `sqlx::migrate!` embeds them too, but its macro makes Cargo compile sqlx, both drivers and tokio a second time, for
//! use inside the compiler.

use futures::future::BoxFuture;
use include_dir::{Dir, include_dir};
use sqlx::{
    AnyPool,
    error::BoxDynError,
    migrate::{MigrateError, Migration, MigrationSource, MigrationType, Migrator},
};

use crate::config::Database;

/// One directory for each database. `toy-workflow` has the migrations of the workflow that exists only in tests.
static MIGRATIONS: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/migrations");

/// Migrations in the form that sqlx expects.
#[derive(Debug)]
struct Embedded(Vec<Migration>);

impl MigrationSource<'static> for Embedded {
    fn resolve(self) -> BoxFuture<'static, Result<Vec<Migration>, BoxDynError>> {
        Box::pin(async { Ok(self.0) })
    }
}

/// A database's migrations, in order. Files are named `NNNN_words_with_underscores.sql`, as `sqlx::migrate!` expects.
pub(super) fn of(database: &Database) -> Vec<Migration> {
    let name = match database {
        Database::Sqlite { .. } => "sqlite",
        Database::Postgres { .. } => "postgres",
    };
    let directories = [
        MIGRATIONS.get_dir(name),
        #[cfg(feature = "toy-workflow")]
        MIGRATIONS.get_dir(std::path::Path::new("toy-workflow").join(name)),
    ];
    let mut migrations: Vec<Migration> = directories
        .into_iter()
        .flatten()
        .flat_map(Dir::files)
        .filter_map(|file| {
            let (version, words) = file.path().file_stem()?.to_str()?.split_once('_')?;
            let description = words.replace('_', " ").into();
            let sql = file.contents_utf8()?.into();
            Some(Migration::new(version.parse().ok()?, description, MigrationType::Simple, sql, false))
        })
        .collect();
    migrations.sort_by_key(|migration| migration.version);
    migrations
}

/// Migrates a database to the present schema.
pub(super) async fn run(database: &Database, pool: &AnyPool) -> Result<(), MigrateError> {
    Migrator::new(Embedded(of(database))).await?.run(pool).await
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[tokio::test]
    async fn the_embedded_migrations_are_those_that_sqlx_finds_in_the_directory() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
        let sqlite = Database::Sqlite { path: "manager.db".into() };
        let postgres =
            Database::Postgres { url: "postgres://localhost/x".parse().expect("a URL"), password_file: None };
        for (database, name) in [(sqlite, "sqlite"), (postgres, "postgres")] {
            let found = Migrator::new(root.join(name)).await.expect("reads the directory");
            let about = |migration: &Migration| {
                (migration.version, migration.description.to_string(), migration.checksum.to_vec(), migration.no_tx)
            };
            let found: Vec<_> = found.iter().map(about).collect();
            // The toy workflow's migrations come after all others.
            let embedded = of(&database);
            assert_eq!(embedded.iter().map(about).take(found.len()).collect::<Vec<_>>(), found, "{name}");
            assert!(embedded[found.len()..].iter().all(|migration| migration.version > 9000), "{name}");
        }
    }
}
