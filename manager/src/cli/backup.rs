//! `backup` and `restore`: copies of the database.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::{
    ConfigArg,
    person::{By, confirm},
    print_json,
};
use crate::backup;

/// Where the backup goes.
#[derive(Debug, Args)]
pub struct Backup {
    #[command(flatten)]
    config: ConfigArg,
    /// The directory in which the backup is made, under a name with the time. It should be on another machine's disk.
    directory: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What to restore.
#[derive(Debug, Args)]
pub struct Restore {
    #[command(flatten)]
    config: ConfigArg,
    #[command(flatten)]
    by: By,
    /// The backup: a directory that `backup` has made.
    #[arg(required_unless_present = "in_place", conflicts_with = "in_place")]
    backup: Option<PathBuf>,
    /// Put it in the place of a database that is there, which is kept under another name.
    #[arg(long, requires = "backup")]
    replace: bool,
    /// Copy nothing: the configured database was restored by other means, such as pg_restore, and is only marked so.
    #[arg(long)]
    in_place: bool,
    /// Do not ask for confirmation.
    #[arg(long, short)]
    yes: bool,
}

impl Backup {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let config = self.config.load()?;
        let (path, manifest) = backup::back_up(&config.database, &self.directory).await?;
        if self.json {
            return print_json(&json!({ "backup": path, "manifest": manifest }));
        }
        let (path, sectors, bytes) = (path.display(), manifest.sectors, manifest.bytes);
        outln!("{path}: {sectors} sectors, read up to record {} of the log, {bytes} bytes", manifest.last_sequence);
        Ok(())
    }
}

impl Restore {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        let (config, person) = (self.config.load()?, self.by.person());
        let Some(path) = &self.backup else {
            let question =
                "Was this database restored from a backup? The manager then catches up before it sends anything.";
            if confirm(question, self.yes)? {
                backup::mark(&self.config.store().await?, None, &person).await?;
                outln!("marked: the manager catches up with the log and the chain when it starts");
            }
            return Ok(());
        };
        let manifest = backup::manifest(path)?;
        err!(
            "the backup of {}: {} sectors of {}, read up to record {} of the log",
            manifest.taken_at,
            manifest.sectors,
            manifest.miners.join(", "),
            manifest.last_sequence
        );
        if !confirm("Restore it? The old manager must be off for good.", self.yes)? {
            return Ok(());
        }
        let miners: Vec<_> = config.miners.iter().map(|miner| miner.id).collect();
        if let Some(kept) = backup::restore(path, &config.database, &miners, self.replace, &person).await? {
            outln!("the database that was there is kept as {}", kept.display());
        }
        outln!("restored: the manager catches up with the log and the chain when it starts");
        Ok(())
    }
}
