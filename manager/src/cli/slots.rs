//! `slots`: orders to release a slot whose contents cannot be continued, and taking such orders back.

mod standing;

use std::collections::BTreeSet;

use anyhow::bail;
use clap::{Args, Subcommand};
use sealbus_schema::{SectorId, WorkerName};
use serde_json::json;

use super::{
    ConfigArg,
    fleet::Fleet,
    known::{insist_on_workers, listed, nearest},
    person::{By, confirm},
    print_json,
    sectors::{
        order::{wait_until_published, will},
        select::slot_of,
    },
    workers::{sectors_of, when},
};
use crate::{
    commands::{self, Command},
    drive::attempt_policy,
    store::{AuditEntry, Job},
};

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Slots {
    /// Release a slot: its contents are quarantined on its disk, and a sector in it is taken from the worker.
    Release(Release),
    /// Take back an order to release a slot that is not carried out yet.
    Withdraw(standing::Withdraw),
    /// List the pending orders to release a slot, and what they wait for.
    Orders(standing::Orders),
}

/// The slot to release.
#[derive(Debug, Args)]
pub struct Release {
    #[command(flatten)]
    config: ConfigArg,
    /// The worker's name.
    worker: WorkerName,
    /// The slot's directory, as shown by `workers show`.
    slot: String,
    #[command(flatten)]
    by: By,
    /// Do not ask for confirmation.
    #[arg(long, short)]
    yes: bool,
    /// Also accept an unknown slot of a worker that is away: the order is kept until the worker is back.
    #[arg(long)]
    force: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A slot's contents, as far as they are known.
struct Content {
    /// The sectors whose leases must end.
    sectors: Vec<Job>,
    /// Further remarks, in words.
    notes: Vec<String>,
}

impl Slots {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Slots::Release(release) => release.run().await,
            Slots::Withdraw(withdraw) => withdraw.run().await,
            Slots::Orders(orders) => orders.run().await,
        }
    }
}

impl Release {
    async fn run(self) -> anyhow::Result<()> {
        let config = self.config.load()?;
        let (store, policy) = (self.config.store().await?, attempt_policy(&config));
        let fleet = Fleet::look(&config).await;
        fleet.warn();
        if !self.force {
            insist_on_workers(std::slice::from_ref(&self.worker), &store, &fleet).await?;
        }
        let owned = sectors_of(&store, &self.worker).await?;
        self.insist_on_slot(&owned, &fleet)?;
        let content = self.content(owned, &fleet);
        let person = self.by.person();
        let command = Command::SlotReleased { slot: self.slot.clone() };
        errln!("slot {} of worker {} is freed; its files are quarantined on its disk", self.slot, self.worker);
        for sector in &content.sectors {
            if let Ok(outcome) = commands::carry_out(sector.clone(), &command, &person, policy) {
                errln!("  {} ({}): {}", sector.id, sector.state.name(), will(&command, &outcome, policy));
            }
        }
        for note in &content.notes {
            errln!("  {note}");
        }
        if !confirm("Free the slot?", self.yes)? {
            return Ok(());
        }

        let mut tx = store.begin_order().await?;
        let slot =
            fleet.worker(&self.worker).and_then(|seen| seen.heartbeat.slots.iter().find(|slot| slot.path == self.slot));
        // The new order's number must come after the last one that the slot carried out, or the slot would ignore it.
        let carried_out = slot.map_or(0, |slot| slot.released);
        let (id, is_new) = tx.order_release_after(&self.worker, &self.slot, carried_out).await?;
        let mut revoked: Vec<SectorId> = Vec::new();
        for sector in &content.sectors {
            // In its present state. If its lease has changed meanwhile, it is no longer in this slot.
            let Some(now) = tx.sector(sector.id).await? else { continue };
            if now.ownership.lease() != sector.ownership.lease() {
                continue;
            }
            if let Ok(outcome) = commands::carry_out(now, &command, &person, policy) {
                tx.store_outcomes(vec![outcome]).await?;
                revoked.push(sector.id);
            }
        }
        let names: Vec<String> = revoked.iter().map(SectorId::to_string).collect();
        let detail = json!({ "id": id, "sectors": names });
        let target = format!("{} {}", self.worker, self.slot);
        tx.add_audit(&AuditEntry::new(&person.name, command.verb(), target, &person.why, detail)).await?;
        tx.commit().await?;

        wait_until_published(&store, &revoked).await?;
        let fleet = Fleet::look(&config).await;
        let when = when(&self.worker, store.orders_of(&self.worker).await?.as_ref(), &fleet);
        let what = if is_new { "is to be freed" } else { "was to be freed already" };
        if self.json {
            return print_json(
                &json!({ "worker": self.worker, "slot": self.slot, "order": id, "new": is_new, "taken": names, "notes": content.notes, "when": when }),
            );
        }
        outln!("slot {} of worker {} {what} (order {id})\n  {when}", self.slot, self.worker);
        for name in &names {
            outln!("{name}: taken from worker {}", self.worker);
        }
        Ok(())
    }

    /// Refuses a slot that the worker does not have, because the order would be pending forever. If the worker is away,
    /// its slots are known only from its sectors' last errors.
    fn insist_on_slot(&self, owned: &[Job], fleet: &Fleet) -> anyhow::Result<()> {
        let Release { worker, slot, .. } = self;
        if let Some(seen) = fleet.worker(worker) {
            let slots: BTreeSet<String> = seen.heartbeat.slots.iter().map(|slot| slot.path.clone()).collect();
            if !slots.contains(slot) {
                let hint = nearest(slot, &slots).map(|slot| format!(" (is {slot} meant?)")).unwrap_or_default();
                bail!("worker {worker} has no slot {slot}{hint}; it has {}", listed(&slots));
            }
            return Ok(());
        }
        let told: BTreeSet<String> = owned.iter().filter_map(|sector| slot_of(sector, fleet)).collect();
        if self.force || told.contains(slot) {
            return Ok(());
        }
        bail!(
            "worker {worker}: {}, so nobody can say whether it has a slot {slot} (its sectors' last errors tell of: {}). Add \
             --force to have it freed when the worker is back; `sealbus-manager slots withdraw` takes that back",
            fleet.presence(worker).words(),
            listed(&told)
        );
    }

    /// What the worker and the database say about the slot. `owned` has all sectors of the worker.
    fn content(&self, owned: Vec<Job>, fleet: &Fleet) -> Content {
        let here = |sector: &Job| slot_of(sector, fleet).as_ref() == Some(&self.slot);
        let (mut sectors, others): (Vec<Job>, Vec<Job>) = owned.into_iter().partition(here);
        let mut notes = Vec::new();
        let Some(seen) = fleet.worker(&self.worker) else {
            notes.push(format!(
                "worker {}: {}; what lies in the slot is known from the last errors only",
                self.worker,
                fleet.presence(&self.worker).words()
            ));
            return Content { sectors, notes };
        };
        let slots = &seen.heartbeat.slots;
        if slots.iter().any(|slot| slot.path == self.slot && slot.unreadable) {
            // The worker's sectors that no slot reports must be in its unreadable slots.
            let lost: Vec<Job> = others.into_iter().filter(|sector| fleet.slot_of(sector).is_none()).collect();
            if slots.iter().filter(|slot| slot.unreadable).count() == 1 {
                sectors.extend(lost);
            } else if !lost.is_empty() {
                let names: Vec<String> = lost.iter().map(|sector| sector.id.to_string()).collect();
                notes.push(format!(
                    "the worker has several unreadable slots; {} may lie here or there, and stay the worker's until \
                     `sectors resubmit --elsewhere`",
                    names.join(", ")
                ));
            }
        }
        if sectors.is_empty() && notes.is_empty() {
            notes.push("no unfinished sector is known to lie there".to_owned());
        }
        Content { sectors, notes }
    }
}
