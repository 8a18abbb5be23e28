//! The cores and caches that the proofs library sees when it looks for cores.
//!
//! `storage-proofs-porep` (`stacked/vanilla/cores.rs`) queries hwloc by itself, with default options. So it sees what
//! the cgroup of its process allows, even where the process's affinity is narrower. It takes the first level above the
//! cores that has fewer objects than there are cores, and divides the cores by the number of these objects. They may be
//! L2 caches, groups, L3 caches, dies or packages. The machine object itself is not considered; without any other level
//! the divisor is 1.

use serde::{Deserialize, Serialize};

use super::{Cache, Core, CpuSet};

/// The cores, and the levels above them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sight {
    /// Each core's processing units, in hwloc's (logical) order. Empty if hwloc shows no cores; the library panics
    /// then.
    pub cores: Vec<CpuSet>,
    /// The levels above the cores, innermost first, without the machine object.
    pub levels: Vec<Level>,
}

/// The objects of one kind at one depth of the tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Level {
    /// The kind in the plural, such as `L2 caches`.
    pub name: String,
    /// The processing units of each object.
    pub parts: Vec<CpuSet>,
}

impl Sight {
    /// The number and kind of the objects by which the cores are divided.
    #[must_use]
    pub fn groups(&self) -> (usize, &str) {
        let shared = self.levels.iter().find(|level| level.parts.len() < self.cores.len());
        shared.map_or((1, "machine"), |level| (level.parts.len(), level.name.as_str()))
    }

    /// Whether the cores divide evenly. If they do not, the library panics.
    #[must_use]
    pub fn is_even(&self) -> bool {
        !self.cores.is_empty() && self.cores.len().is_multiple_of(self.groups().0.max(1))
    }

    /// What the library sees inside a cgroup that allows only these units.
    #[must_use]
    pub fn within(&self, units: &CpuSet) -> Self {
        let kept = |sets: &[CpuSet]| -> Vec<CpuSet> {
            sets.iter().map(|set| set.intersection(units)).filter(|set| !set.is_empty()).collect()
        };
        let level = |level: &Level| Level { name: level.name.clone(), parts: kept(&level.parts) };
        Self { cores: kept(&self.cores), levels: self.levels.iter().map(level).collect() }
    }

    /// What the library sees on a machine whose only levels are L3 caches and packages.
    #[must_use]
    pub fn of_l3s(cores: &[Core], caches: &[Cache]) -> Self {
        let level = |name: &str, key: &dyn Fn(&Core) -> Option<usize>| {
            let mut parts: Vec<(usize, CpuSet)> = Vec::new();
            for core in cores {
                let Some(key) = key(core) else { continue };
                match parts.iter_mut().find(|(known, _)| *known == key) {
                    Some((_, units)) => *units = units.union(&core.units),
                    None => parts.push((key, core.units.clone())),
                }
            }
            Level { name: name.to_owned(), parts: parts.into_iter().map(|(_, units)| units).collect() }
        };
        let levels = [
            level("L3 caches", &|core| caches.get(core.cache).filter(|cache| cache.bytes > 0).map(|_| core.cache)),
            level("packages", &|core| caches.get(core.cache).map(|cache| cache.package)),
        ];
        Self {
            cores: cores.iter().map(|core| core.units.clone()).collect(),
            levels: levels.into_iter().filter(|level| !level.parts.is_empty()).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sets(lists: &[&str]) -> Vec<CpuSet> {
        lists.iter().map(|list| list.parse().expect(list)).collect()
    }

    /// Two cores with an L2 cache each, and four that share one, as efficiency cores do.
    fn hybrid() -> Sight {
        let level = |name: &str, parts: &[&str]| Level { name: name.to_owned(), parts: sets(parts) };
        Sight {
            cores: sets(&["0-1", "2-3", "4", "5", "6", "7"]),
            levels: vec![level("L2 caches", &["0-1", "2-3", "4-7"]), level("L3 caches", &["0-7"])],
        }
    }

    #[test]
    fn the_first_level_with_fewer_parts_than_cores_divides_them() {
        assert_eq!((hybrid().groups(), hybrid().is_even()), ((3, "L2 caches"), true));
        let seven = Sight { cores: sets(&["0-1", "2-3", "4", "5", "6", "7", "8"]), ..hybrid() };
        assert!(!seven.is_even());
        let alone = Sight { levels: Vec::new(), ..hybrid() };
        assert_eq!((alone.groups(), alone.is_even()), ((1, "machine"), true));
        assert!(!Sight::default().is_even(), "without cores the library panics");
    }

    #[test]
    fn a_cgroup_changes_what_divides_the_cores() {
        let within = |units: &str| hybrid().within(&units.parse().expect(units));
        assert_eq!(within("0-3").groups(), (1, "L3 caches"), "each L2 cache has one core");
        assert_eq!((within("0-6").groups(), within("0-6").is_even()), ((3, "L2 caches"), false));
        assert_eq!(within("4-7").groups(), (1, "L2 caches"));
    }
}
