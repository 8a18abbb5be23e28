//! A machine of which less may be used.

use super::{CpuSet, Machine};

/// Why a machine cannot be restricted so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotRestrict {
    /// Units that are not there were asked for.
    #[error("{machine} has no units {missing} that may be used; it has {units}")]
    NotThere {
        /// Which machine.
        machine: String,
        /// What it lacks.
        missing: CpuSet,
        /// What it has.
        units: CpuSet,
    },
    /// No unit would be left.
    #[error("{machine} has no processing unit that may be used: give the worker some by its cpuset")]
    NoUnits {
        /// Which machine.
        machine: String,
    },
}

impl Machine {
    /// The same machine for a worker that may use only these processing units.
    ///
    /// Cores and groups that lose all units are left out. Nodes, cards and disks stay.
    ///
    /// # Errors
    /// [`CannotRestrict::NotThere`] for units that it lacks, [`CannotRestrict::NoUnits`] for none.
    pub fn restricted_to(&self, units: &CpuSet) -> Result<Self, CannotRestrict> {
        let machine = self.source.clone();
        let missing = units.difference(&self.units());
        if !missing.is_empty() {
            return Err(CannotRestrict::NotThere { machine, missing, units: self.units() });
        }
        if units.is_empty() {
            return Err(CannotRestrict::NoUnits { machine });
        }
        let mut restricted = self.clone();
        for core in &mut restricted.cores {
            core.units = core.units.intersection(units);
        }
        restricted.cores.retain(|core| !core.units.is_empty());
        let mut kept: Vec<usize> = restricted.cores.iter().map(|core| core.cache).collect();
        kept.sort_unstable();
        kept.dedup();
        restricted.caches = kept.iter().map(|&cache| self.caches[cache].clone()).collect();
        for core in &mut restricted.cores {
            core.cache = kept.iter().position(|cache| *cache == core.cache).unwrap_or_default();
        }
        Ok(restricted)
    }
}
