//! Whether this machine can make SNARKs, before it takes the first task: not at the first deadline.
//!
//! The files of both proofs are compared with their digests, and each prover makes a real proof of a made-up sector
//! ([`post_trial`]). For the sizes of real networks that is a winning PoSt, which takes seconds; a window PoSt would take
//! as long as that of a full partition.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use futures::future::try_join_all;
use sealbus_nats::Patience;
use sealbus_schema::{SectorSize, post::PostKind};
use tokio::time::Instant;

use super::{FIRST_LEAVE, LONGEST_LEAVE, Post, phases, proves};
use crate::{
    causes::in_words,
    params::{self, CheckRequest},
    params_watch::directory,
    stage::{
        StageError, post as names,
        post_prove::{Request, Response, Sector},
        post_trial,
    },
};

/// How long a trial may take, with the loading of the parameters and without a GPU.
const LIMIT: Duration = Duration::from_secs(30 * 60);

/// Returns when the `provers` processors for a kind of proof have passed.
pub(super) async fn passed(post: &Post, provers: usize) {
    let kind = post.kind;
    let mut patience = Patience::new(FIRST_LEAVE, LONGEST_LEAVE);
    let began = Instant::now();
    tracing::info!(?kind, provers, "trying whether this machine can prove");
    while let Err(problem) = tried(post, provers).await {
        tokio::time::sleep(patience.failed("this machine cannot prove, and takes no such tasks", &problem)).await;
    }
    patience.mended("this machine can prove");
    tracing::info!(?kind, secs = began.elapsed().as_secs(), "this machine can prove");
}

async fn tried(post: &Post, provers: usize) -> Result<(), String> {
    let Post { context, kind, .. } = post;
    let ([_, phase], size) = (phases(*kind), context.config.sector_size);
    // Third-party executables may keep their parameters elsewhere. What they make is tried all the same.
    let built_in = context.config.processors.iter().filter(|group| group.stage == phase && group.bin.is_none());
    for dir in built_in.map(directory).collect::<BTreeSet<PathBuf>>() {
        let checked = tokio::task::spawn_blocking(move || files_problem(dir, size)).await;
        checked.unwrap_or_else(|error| Err(format!("the check crashed: {error}")))?;
    }
    let kinds: &[PostKind] = match *kind == PostKind::Winning || size.is_of_real_networks() {
        true => &[PostKind::Winning],
        false => &[PostKind::Winning, PostKind::Window],
    };
    // At the same time, so that each gets another processor.
    try_join_all((0..provers).map(|_| prove(post, kinds))).await.map(drop)
}

/// Makes a proof of each kind.
async fn prove(post: &Post, kinds: &[PostKind]) -> Result<(), String> {
    let context = &post.context;
    let mut guard = post.prover(Instant::now() + LIMIT).await.ok_or("no prover was free")?;
    for &kind in kinds {
        let proof = context.config.sector_size.seal_proof();
        let dirs = context.config.tmp_dirs();
        let made = tokio::task::spawn_blocking(move || {
            let (comm_r, vanilla) = post_trial::vanilla(proof, kind).map_err(|error| error.to_string())?;
            let bytes = vanilla.0.len();
            let file = proves::write(&dirs, &[vanilla.0]).map_err(|error| error.to_string())?;
            Ok::<_, String>((Sector { number: post_trial::NUMBER, comm_r, bytes }, file))
        });
        let (sector, file) = made.await.map_err(|error| error.to_string())??;
        let (miner, randomness) = (post_trial::MINER, post_trial::RANDOMNESS);
        let request =
            Request { vanillas: file.path().to_owned(), miner, proof, post: kind, randomness, sectors: vec![sector] };
        match tokio::time::timeout(LIMIT, guard.run(&request)).await {
            Ok(Ok(Response::Proved { .. })) => {}
            Ok(Ok(Response::Unfit { problem, .. })) => return Err(problem),
            Ok(Err(error)) => return Err(in_words(&error)),
            Err(_) => return Err(format!("a trial took longer than {} s", LIMIT.as_secs())),
        }
    }
    post.kept.put(guard);
    Ok(())
}

/// What is wrong with the files of proofs of spacetime in a directory.
fn files_problem(dir: PathBuf, size: SectorSize) -> Result<(), String> {
    let wanted = file_names(size).map_err(|error| error.to_string())?;
    let checked = CheckRequest::for_worker(dir, vec![size])
        .and_then(|request| params::check_some(&request, |name| wanted.contains(name)));
    let report = checked.map_err(|error| error.to_string())?;
    let mut bad: Vec<String> = report.bad().map(|file| format!("{} {}", file.name, file.finding)).collect();
    let known = |name: &&String| report.files.iter().any(|file| file.name == **name);
    bad.extend(wanted.iter().filter(|name| !known(name)).map(|name| format!("{name} is in no list of parameters")));
    match bad.is_empty() {
        true => Ok(()),
        false => Err(format!("{}: {}", report.dir.display(), bad.join("; "))),
    }
}

/// The names of the parameters and verifying keys of both proofs.
fn file_names(size: SectorSize) -> Result<BTreeSet<String>, StageError> {
    let mut found = BTreeSet::new();
    for kind in [PostKind::Window, PostKind::Winning] {
        let kind = names::registered(size.seal_proof(), kind)?;
        for path in [kind.cache_params_path(), kind.cache_verifying_key_path()] {
            let path = path.map_err(|error| StageError::library("name the parameters", &error))?;
            found.extend(path.file_name().map(|name| name.to_string_lossy().into_owned()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_official_list_has_the_files_of_both_proofs_for_every_size() {
        let manifest = params::Manifest::official().expect("the library's");
        for size in SectorSize::ALL {
            let names = file_names(size).expect("named");
            assert_eq!(names.len(), 4, "{size}");
            let files = manifest.files_for(&[size]);
            assert!(names.iter().all(|name| files.iter().any(|(other, _)| other == name)), "{size}: {names:?}");
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let dir = tempfile::tempdir().expect("directory");
        let problem = files_problem(dir.path().to_owned(), SectorSize::KiB2).expect_err("nothing is there");
        assert_eq!(problem.matches("is missing").count(), 4, "{problem}");
        assert!(!problem.contains("stacked"), "{problem}");
    }
}
