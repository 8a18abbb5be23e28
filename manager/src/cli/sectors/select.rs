//! Selects sectors by filters.

use anyhow::bail;
use clap::{Args, builder::PossibleValuesParser};
use sealbus_schema::{ErrorCode, ErrorReport, MinerId, SectorId, WorkerName, lease::Ownership, workflows::State};

use super::super::{fleet::Fleet, known};
use crate::{
    config::Config,
    store::{Job, SectorFilter, Store},
    waits::{Subject, Wait},
};

/// Filters. A sector must match all of them.
#[derive(Clone, Debug, Default, Args)]
pub struct Filter {
    /// Only sectors of this miner.
    #[arg(long)]
    miner: Option<MinerId>,
    /// Only sectors in this state.
    #[arg(long, value_parser = PossibleValuesParser::new(State::names()))]
    state: Option<String>,
    /// Only blocked sectors whose error has this class.
    #[arg(long, value_parser = PossibleValuesParser::new(["temp", "perm", "crit", "abort"]))]
    class: Option<String>,
    /// Only blocked sectors whose error has this code, such as DISK_FULL.
    #[arg(long)]
    code: Option<String>,
    /// Only sectors of this worker.
    #[arg(long)]
    worker: Option<WorkerName>,
    /// Only sectors in the slot with this directory.
    #[arg(long)]
    slot: Option<String>,
}

impl Filter {
    pub(super) fn is_empty(&self) -> bool {
        self.miner.is_none()
            && self.state.is_none()
            && self.class.is_none()
            && self.code.is_none()
            && self.worker.is_none()
            && self.slot.is_none()
    }

    /// Refuses filters that cannot match any sector, which are typing errors.
    pub(super) async fn check(&self, config: &Config, store: &Store, fleet: &Fleet) -> anyhow::Result<()> {
        if let Some(miner) = self.miner {
            known::insist_on_miner(miner, config, store).await?;
        }
        if let Some(code) = &self.code {
            known::insist_on_code(code, store, fleet).await?;
        }
        if let Some(worker) = &self.worker {
            known::insist_on_workers(std::slice::from_ref(worker), store, fleet).await?;
        }
        match &self.slot {
            Some(slot) => known::insist_on_slot(slot, self.worker.as_ref(), store, fleet).await,
            None => Ok(()),
        }
    }

    /// Whether the filters select a wait. `sector` is the waiting sector, if the wait is about a single one.
    pub(super) fn selects(&self, wait: &Wait, sector: Option<&Job>, fleet: &Fleet) -> bool {
        let of_sector = Filter { class: None, code: None, ..self.clone() };
        let code = self.code.as_ref().map(|code| ErrorCode::from_text(code));
        self.class.as_ref().is_none_or(|class| wait.cause.class.name() == class)
            && code.is_none_or(|code| wait.cause.code == code)
            && match (sector, &wait.subject) {
                (Some(sector), _) => {
                    of_sector.state.as_ref().is_none_or(|state| sector.state.name() == state)
                        && of_sector.miner.is_none_or(|miner| sector.id.miner == miner)
                        && of_sector.matches(sector, fleet)
                }
                (None, Subject::Miner(miner)) => {
                    Filter { miner: None, ..of_sector.clone() }.is_empty()
                        && of_sector.miner.is_none_or(|wanted| wanted == *miner)
                }
                (None, _) => of_sector.is_empty(),
            }
    }

    /// Whether the filters can match only blocked sectors.
    pub(super) fn is_about_errors(&self) -> bool {
        self.class.is_some() || self.code.is_some()
    }

    /// The selected sectors, by miner and number.
    pub(super) async fn select(&self, store: &Store, fleet: &Fleet, blocked: bool) -> anyhow::Result<Vec<Job>> {
        let blocked = blocked || self.is_about_errors();
        let filter = SectorFilter { miner: self.miner, state: self.state.clone(), blocked };
        let mut sectors = store.sectors(&filter).await?;
        sectors.retain(|sector| self.matches(sector, fleet));
        Ok(sectors)
    }

    fn matches(&self, sector: &Job, fleet: &Fleet) -> bool {
        let cause = blocked_by(sector);
        let code = self.code.as_ref().map(|code| ErrorCode::from_text(code));
        let owner = match &sector.ownership {
            Ownership::Held { worker, .. } => Some(worker),
            Ownership::Free { .. } => None,
        };
        self.class.as_ref().is_none_or(|class| cause.is_some_and(|cause| cause.class.name() == class))
            && code.is_none_or(|code| cause.is_some_and(|cause| cause.code == code))
            && self.worker.as_ref().is_none_or(|worker| owner == Some(worker))
            && self.slot.as_ref().is_none_or(|slot| slot_of(sector, fleet).as_ref() == Some(slot))
    }
}

/// Why a sector is blocked, if it is.
pub const fn blocked_by(sector: &Job) -> Option<&ErrorReport> {
    sector.blocked.as_ref()
}

/// The sector's slot, from its worker's heartbeat, or from the error with which it failed.
pub fn slot_of(sector: &Job, fleet: &Fleet) -> Option<String> {
    let now = fleet.slot_of(sector).map(|(_, slot)| slot.path.clone());
    now.or_else(|| blocked_by(sector).map(|cause| cause.slot.clone()).filter(|slot| !slot.is_empty()))
}

/// The sectors with these ids, in this order.
pub(super) async fn named(store: &Store, ids: &[SectorId]) -> anyhow::Result<Vec<Job>> {
    let mut sectors: Vec<Job> = Vec::with_capacity(ids.len());
    for id in ids {
        match store.sector(*id).await? {
            Some(sector) if sectors.iter().any(|known| known.id == sector.id) => {}
            Some(sector) => sectors.push(sector),
            None => bail!("there is no sector {id} (see `sealbus-manager sectors list`)"),
        }
    }
    Ok(sectors)
}
