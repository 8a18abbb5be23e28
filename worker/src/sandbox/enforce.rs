//! Confines the calling thread by Landlock, and tells what this kernel can confine.

use std::{fmt, path::PathBuf, thread};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, RestrictionStatus, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

use super::{Rules, rules};

/// The oldest version that is of use. Version 1 (before Linux 5.19) forbids every rename between two directories, which
/// sealing needs.
const LEAST: ABI = ABI::V2;
/// The newest version whose restrictions are used, and were tested.
const MOST: ABI = ABI::V6;

/// Why a process is not confined.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The kernel cannot.
    #[error("a processor cannot be confined: {0}")]
    Kernel(Kernel),
    /// The kernel refused a rule.
    #[error("Landlock")]
    Landlock(#[from] RulesetError),
}

/// What the running kernel can confine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// The kernel was built without Landlock.
    Missing,
    /// Landlock is built in, but not switched on at boot.
    Disabled,
    /// Landlock is too old: see [`LEAST`].
    TooOld,
    /// Landlock of this version.
    Confines(i32),
}

impl Kernel {
    /// Whether processors are confined.
    #[must_use]
    pub const fn confines(self) -> bool {
        matches!(self, Kernel::Confines(_))
    }

    /// What this version does not restrict, although we ask for it.
    #[must_use]
    pub fn gaps(self) -> Vec<&'static str> {
        let Kernel::Confines(version) = self else { return Vec::new() };
        let since = [(3, "truncating files"), (4, "TCP"), (5, "commands to devices"), (6, "signals")];
        since.into_iter().filter(|(since, _)| version < *since).map(|(_, what)| what).collect()
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kernel::Missing => write!(f, "this kernel is built without Landlock, or the service may not call it"),
            Kernel::Disabled => write!(f, "Landlock is switched off: add it to the kernel's parameter lsm="),
            Kernel::TooOld => write!(f, "this kernel has version 1 of Landlock; Linux 5.19 or later is needed"),
            Kernel::Confines(version) => {
                write!(f, "Landlock version {version}")?;
                match self.gaps().as_slice() {
                    [] => Ok(()),
                    gaps => write!(f, ", which does not restrict {}", gaps.join(", ")),
                }
            }
        }
    }
}

/// Confines this thread, and what it starts or becomes, to `rules` and the system's files. Paths that do not exist are
/// left out. If the kernel cannot, it does nothing, or fails if the rules say so.
///
/// # Errors
/// [`Refused`].
pub fn enforce(rules: &Rules) -> Result<Kernel, Refused> {
    let read = AccessFs::from_read(MOST);
    let write = AccessFs::from_write(MOST) & !(AccessFs::MakeChar | AccessFs::MakeBlock);
    let add = AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::MakeReg | AccessFs::MakeDir | AccessFs::Refer;
    let (system, devices) = (rules::SYSTEM_READ.map(PathBuf::from), rules::devices());
    let followed = with_links(&rules.follow);
    let allowed: [(&[PathBuf], _); 6] = [
        (&system, read),
        (&devices, read | write),
        (&rules.read, read),
        (&followed, read),
        (&rules.write, (read | write) & !AccessFs::Execute),
        (&rules.add, add),
    ];
    let status = restrict(&allowed, rules.network)?;
    match kernel_of(&status) {
        confined @ Kernel::Confines(_) => Ok(confined),
        unable if rules.required => Err(Refused::Kernel(unable)),
        unable => Ok(unable),
    }
}

/// Directories, and what links directly in them lead to. The kernel asks where a file is, not by which name it was opened.
fn with_links(dirs: &[PathBuf]) -> Vec<PathBuf> {
    let entries = dirs.iter().filter_map(|dir| std::fs::read_dir(dir).ok()).flatten().flatten();
    let links = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_symlink()));
    dirs.iter().cloned().chain(links.filter_map(|link| link.path().canonicalize().ok())).collect()
}

/// What this kernel can confine. Found by confining a thread that ends at once.
#[must_use]
pub fn kernel() -> Kernel {
    let tried = thread::spawn(|| restrict(&[], false).map(|status| kernel_of(&status)));
    tried.join().ok().and_then(Result::ok).unwrap_or(Kernel::Missing)
}

fn restrict(allowed: &[(&[PathBuf], BitFlags<AccessFs>)], network: bool) -> Result<RestrictionStatus, RulesetError> {
    let mut ruleset = Ruleset::default()
        // Without these, nothing at all is enforced.
        .set_compatibility(CompatLevel::SoftRequirement)
        .handle_access(AccessFs::from_all(LEAST))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(MOST))?
        .scope(Scope::Signal | Scope::AbstractUnixSocket)?;
    if !network {
        ruleset = ruleset.handle_access(AccessNet::BindTcp | AccessNet::ConnectTcp)?;
    }
    let mut created = ruleset.create()?;
    for (paths, access) in allowed {
        created = created.add_rules(path_beneath_rules(*paths, *access))?;
    }
    created.restrict_self()
}

fn kernel_of(status: &RestrictionStatus) -> Kernel {
    match (status.landlock, &status.ruleset) {
        (LandlockStatus::NotImplemented, _) => Kernel::Missing,
        (LandlockStatus::NotEnabled, _) => Kernel::Disabled,
        (LandlockStatus::Available { .. }, RulesetStatus::NotEnforced) => Kernel::TooOld,
        (LandlockStatus::Available { effective_abi, kernel_abi }, _) => {
            Kernel::Confines(kernel_abi.unwrap_or(effective_abi as i32))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::Mode;

    #[test]
    fn what_an_older_kernel_leaves_open_is_told() {
        assert_eq!(Kernel::Confines(6).to_string(), "Landlock version 6");
        let bookworm =
            "Landlock version 2, which does not restrict truncating files, TCP, commands to devices, signals";
        assert_eq!(Kernel::Confines(2).to_string(), bookworm);
        assert!(!Kernel::TooOld.confines() && Kernel::TooOld.gaps().is_empty());
    }

    #[test]
    fn a_worker_whose_processors_must_be_confined_does_not_start_where_they_cannot_be() {
        for unable in [Kernel::Missing, Kernel::Disabled, Kernel::TooOld] {
            let refused = Mode::Required.admit(unable).expect_err("refused").to_string();
            assert!(refused.contains("Landlock"), "{refused}");
            Mode::BestEffort.admit(unable).expect("without");
        }
        Mode::Required.admit(Kernel::Confines(2)).expect("confined");
    }
}
