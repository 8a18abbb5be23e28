//! Restricts a machine to a part of it.

use super::{CpuSet, Machine};

/// Why a machine cannot be restricted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotRestrict {
    /// Some requested units do not exist or may not be used.
    #[error("{machine} has no units {missing} that may be used; it has {units}")]
    NotThere {
        /// The machine.
        machine: String,
        /// The units that are missing.
        missing: CpuSet,
        /// The units that it has.
        units: CpuSet,
    },
    /// No unit would be left.
    #[error("{machine} has no processing unit that may be used: give the worker some by its cpuset")]
    NoUnits {
        /// The machine.
        machine: String,
    },
}

impl Machine {
    /// The same machine, for a worker that may use only these processing units.
    ///
    /// Cores and groups without any remaining unit are left out. Nodes, GPUs and disks stay.
    ///
    /// # Errors
    /// [`CannotRestrict::NotThere`] if units are missing; [`CannotRestrict::NoUnits`] if none would be left.
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
