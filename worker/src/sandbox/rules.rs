//! What each stage's processors need, from the configuration.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use sealbus_nats::Connection;
use sealbus_schema::identity::SLOT_FILE;
use storage_proofs_core::settings::SETTINGS;

use super::{Common, INCOMING, Mode, Sandbox};
use crate::{
    params::{DEFAULT_DIR, DIR_VARIABLE},
    processor::{GroupConfig, own_environment},
    slot::STATIC_DIR,
    stage::{self, Stage},
};

/// The variable that names the directory of the parent cache.
pub const PARENTS_VARIABLE: &str = "FIL_PROOFS_PARENT_CACHE";

/// The stages of proofs of spacetime.
const READ: [Stage; 2] = [Stage::POST[0], Stage::WINNING[0]];
const PROVE: [Stage; 2] = [Stage::POST[1], Stage::WINNING[1]];

/// What any program reads: programs and libraries, what the kernel tells, and how names and time zones are looked up.
/// Not `/etc` as a whole, which holds keys. Other processes' memory and environment, which are in `/proc` too, are closed
/// to a confined process by the kernel.
pub const SYSTEM_READ: [&str; 26] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/opt",
    "/proc",
    "/sys",
    "/etc/OpenCL",
    "/etc/alternatives",
    "/etc/ca-certificates",
    "/etc/gai.conf",
    "/etc/group",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ld.so.preload",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/nvidia",
    "/etc/passwd",
    "/etc/resolv.conf",
    "/etc/ssl",
];

/// Devices that any program uses. Those of graphics cards are [found](devices) by name.
const SYSTEM_DEVICES: [&str; 8] =
    ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/shm", "/dev/dri", "/dev/kfd"];

/// The devices that a processor may use: those of any program, and all graphics cards.
#[must_use]
pub fn devices() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/dev").into_iter().flatten().flatten().map(|entry| entry.path());
    let is_card =
        |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("nvidia"));
    SYSTEM_DEVICES.into_iter().map(PathBuf::from).chain(entries.filter(is_card)).collect()
}

/// The sandbox of a group. `None` if processors are not confined. `own_exe` is the worker's executable.
#[must_use]
pub fn of(mode: Mode, group: &GroupConfig, slots: &[PathBuf], store: &Path, own_exe: Option<&Path>) -> Option<Sandbox> {
    // Readers for proofs are ours and not confined: what a process may touch is looked up by the worker before each request,
    // and on a store that hangs that would never return. Only they touch the store, so that nothing else hangs.
    if mode == Mode::Off || READ.contains(&group.stage) {
        return None;
    }
    let environment = group.environment(own_environment());
    let directory = |variable: &str, default: &str| environment.get(variable).map_or(default, String::as_str).into();
    let is_theirs = group.bin.is_some();
    let mut read: Vec<PathBuf> = own_exe.map(Path::to_owned).into_iter().collect();
    read.extend(group.bin.as_ref().map(|bin| found(bin, &environment)));
    read.extend(group.readable.iter().cloned());
    let common = match group.stage {
        Stage::Pc1 => vec![Common { dir: directory(PARENTS_VARIABLE, &SETTINGS.parent_cache), beside: None }],
        Stage::TreeD if !is_theirs => {
            let common = slots.iter().map(|slot| Common { dir: slot.join(STATIC_DIR), beside: Some(SLOT_FILE) });
            common.collect()
        }
        stage if stage::writes_to_store(stage) => {
            // Whether this is the right store was checked before a processor was asked for.
            vec![Common { dir: store.join(INCOMING), beside: None }]
        }
        _ => Vec::new(),
    };
    let is_post = PROVE.contains(&group.stage);
    // Parameters are often links to another disk.
    let uses_parameters = group.stage == Stage::C2 || is_post;
    let follow = uses_parameters.then(|| directory(DIR_VARIABLE, DEFAULT_DIR)).into_iter().collect();
    if is_post {
        // Where the worker puts the vanilla proofs.
        read.extend(slots.iter().map(|slot| slot.join("tmp")));
    }
    let is_shared = group.stage == Stage::C2 || group.concurrent > 1 || group.keep_process;
    Some(Sandbox {
        required: mode == Mode::Required,
        read,
        follow,
        write: group.writable.clone(),
        common,
        store: stage::writes_to_store(group.stage).then(|| store.to_owned()),
        shared_slots: match is_post {
            // It works for no sector of a slot.
            true => Some(Vec::new()),
            false => is_shared.then(|| slots.to_vec()),
        },
        changes_sector: !matches!(group.stage, Stage::C2 | Stage::Transfer),
        network: is_theirs,
    })
}

/// The path of an executable; one without a directory is looked up as at its start.
fn found(bin: &Path, environment: &BTreeMap<String, String>) -> PathBuf {
    if bin.components().count() > 1 {
        return bin.to_owned();
    }
    let search = environment.get("PATH").map(String::as_str).unwrap_or_default();
    let found = std::env::split_paths(search).map(|dir| dir.join(bin)).find(|path| path.is_file());
    found.unwrap_or_else(|| bin.to_owned())
}

/// The secrets of the configuration that lie where a group's processors may read, each with the path that allows it.
#[must_use]
pub fn exposed(sandbox: &Sandbox, nats: &Connection) -> Vec<(PathBuf, PathBuf)> {
    let secrets = [&nats.nkey_seed_file, &nats.credentials_file].into_iter().flatten();
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let own = sandbox
        .read
        .iter()
        .chain(&sandbox.follow)
        .chain(&sandbox.write)
        .chain(sandbox.common.iter().map(|common| &common.dir));
    let own = own.chain(&sandbox.store).chain(sandbox.shared_slots.iter().flatten()).cloned();
    let allowed: Vec<PathBuf> = own.chain(SYSTEM_READ.map(PathBuf::from)).collect();
    let of = |secret: &PathBuf| {
        let by = allowed.iter().find(|allowed| real(secret).starts_with(real(allowed)))?;
        Some((secret.clone(), by.clone()))
    };
    secrets.filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sandbox(stage: Stage, change: impl FnOnce(&mut GroupConfig)) -> Sandbox {
        let mut group = GroupConfig::built_in(stage, 1);
        change(&mut group);
        let slots = [PathBuf::from("/slot/a"), PathBuf::from("/slot/b")];
        of(Mode::Required, &group, &slots, Path::new("/store"), Some(Path::new("/usr/bin/own"))).expect("confined")
    }

    #[test]
    fn only_the_transfer_reaches_the_store_and_only_c2_reaches_all_slots() {
        for stage in Stage::SEALING {
            let sandbox = sandbox(stage, |_| {});
            assert_eq!(sandbox.store.is_some(), stage == Stage::Transfer, "{stage}");
            assert_eq!(sandbox.is_shared(), stage == Stage::C2, "{stage}");
            assert_eq!(sandbox.changes_sector, !matches!(stage, Stage::C2 | Stage::Transfer), "{stage}");
            assert!(sandbox.write.is_empty() && !sandbox.network, "{stage}");
        }
        let shared = sandbox(Stage::Pc2, |group| group.concurrent = 2);
        assert_eq!(shared.shared_slots.map(|slots| slots.len()), Some(2));
        assert!(sandbox(Stage::Pc2, |group| group.keep_process = true).is_shared());
    }

    #[test]
    fn a_prover_of_spacetime_reads_vanilla_proofs_and_no_sector_and_a_reader_is_not_confined() {
        let prover = sandbox(PROVE[0], |_| {});
        assert!(prover.read.contains(&"/slot/a/tmp".into()) && !prover.read.contains(&"/slot/a".into()));
        assert_eq!((prover.shared_slots, prover.store, prover.write.len()), (Some(Vec::new()), None, 0));
        let reader = GroupConfig::built_in(READ[0], 1);
        assert_eq!(of(Mode::Required, &reader, &[], Path::new("/store"), None), None);
    }

    #[test]
    fn somebody_elses_executable_reads_itself_and_what_its_group_names() {
        let theirs = sandbox(Stage::Pc2, |group| {
            group.bin = Some("sh".into());
            group.env.insert("PATH".into(), "/no/such/place:/bin".into());
            (group.readable, group.writable) = (vec!["/data/libs".into()], vec!["/data/scratch".into()]);
        });
        assert_eq!(theirs.read, ["/usr/bin/own", "/bin/sh", "/data/libs"].map(PathBuf::from));
        assert_eq!((theirs.write, theirs.network), (vec![PathBuf::from("/data/scratch")], true));
    }

    #[test]
    fn parameters_and_parents_are_those_of_the_groups_environment() {
        let at = |stage, variable: &str| {
            sandbox(stage, |group| {
                group.env.insert(variable.to_owned(), "/mine".to_owned());
            })
        };
        assert_eq!(at(Stage::C2, DIR_VARIABLE).follow, [PathBuf::from("/mine")]);
        assert_eq!(at(Stage::Pc1, PARENTS_VARIABLE).common, [Common { dir: "/mine".into(), beside: None }]);
        assert!(at(Stage::Pc2, PARENTS_VARIABLE).common.is_empty());
    }

    #[test]
    fn a_seed_below_a_directory_that_processors_read_is_told() {
        let nats = |seed: &str| -> Connection {
            toml::from_str(&format!("url = \"nats://one\"\nnkey_seed_file = {seed:?}")).expect("table")
        };
        let c2 = sandbox(Stage::C2, |_| {});
        assert_eq!(exposed(&c2, &nats("/etc/sealbus/worker.nk")), []);
        let seed = "/opt/sealbus/worker.nk";
        assert_eq!(exposed(&c2, &nats(seed)), [(PathBuf::from(seed), PathBuf::from("/opt"))]);
    }
}
