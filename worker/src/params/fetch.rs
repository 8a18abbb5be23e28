//! `params fetch`: gets the official files, or those of a private network, from a gateway.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use futures::StreamExt;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use reqwest::Client;
use sealbus_params_dir::{
    files::{DirLock, FileError, Fingerprint},
    marker::{Marker, MarkerError},
    memory::Memory,
};
use sealbus_schema::SectorSize;
use serde::Serialize;

use super::check::{CheckError, CheckRequest, check};
use super::download::{self, DownloadError, FetchPolicy, Wanted};
use super::manifest::{Manifest, ManifestEntry};

/// What to fetch.
#[derive(Clone, Debug)]
pub struct FetchRequest {
    /// The target directory. It is created if it does not exist.
    pub dir: PathBuf,
    /// The sector sizes that the files must serve.
    pub sector_sizes: Vec<SectorSize>,
    /// The files that there are.
    pub manifest: Manifest,
    /// The gateway's URL. A slash and the file's content identifier (CID) are appended to it.
    pub gateway: String,
    /// The limits and pauses of each download.
    pub policy: FetchPolicy,
    /// Whether to draw progress bars on stderr, if that is a terminal.
    pub progress: bool,
}

/// What was already there, and what was fetched.
#[derive(Debug, Serialize)]
pub struct FetchReport {
    /// The directory.
    pub dir: PathBuf,
    /// Names of files that were already there and whole.
    pub kept: Vec<String>,
    /// Names of files that were fetched and verified.
    pub fetched: Vec<String>,
}

/// A file that could not be fetched.
#[derive(Debug)]
pub struct FailedDownload {
    /// The file's name.
    pub name: String,
    /// The reason.
    pub source: DownloadError,
}

/// Why a fetch failed.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Official files are not put into a devnet's directory.
    #[error("cannot fetch official parameters into {}: a devnet's lie there; give another --out", dir.display())]
    DevnetDirectory {
        /// The directory.
        dir: PathBuf,
    },
    /// Some files could not be fetched.
    #[error("cannot fetch {} files from {gateway}; what came is kept, so run this again, or with another --gateway:{}", failed.len(), reasons(failed))]
    Unfetched {
        /// The gateway.
        gateway: String,
        /// The files that are missing, with the reasons.
        failed: Vec<FailedDownload>,
    },
    /// The files that are there cannot be checked.
    #[error(transparent)]
    Check(#[from] CheckError),
    /// The directory's marker cannot be read.
    #[error(transparent)]
    Marker(#[from] MarkerError),
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The HTTP client could not be built.
    #[error("cannot set up an HTTP client; does the machine have CA certificates?")]
    Client(#[source] reqwest::Error),
    /// The async runtime for downloads could not be started.
    #[error("cannot start the threads that download")]
    Runtime(#[source] io::Error),
    /// A thread panicked. Its message is on stderr.
    #[error("cannot go on: a thread panicked while it downloaded; this is a bug, report it with the lines above")]
    Panicked,
}

impl Default for FetchPolicy {
    fn default() -> Self {
        Self {
            parallel: 4,
            connect_timeout: Duration::from_secs(15),
            stall_timeout: Duration::from_secs(60),
            fruitless_attempts: 10,
            wrong_downloads: 2,
            pause: Duration::from_secs(1),
            max_pause: Duration::from_secs(60),
        }
    }
}

/// Fetches what is missing or bad, several files at a time.
///
/// A file keeps a temporary name until its digest is verified. An interrupted download resumes where it stopped, even
/// in a later process. The failure of one file does not stop the others. Blocks until all are done.
pub fn fetch(request: &FetchRequest) -> Result<FetchReport, FetchError> {
    let _lock = DirLock::acquire(&request.dir)?;
    if Marker::load(&request.dir)?.is_some() {
        return Err(FetchError::DevnetDirectory { dir: request.dir.clone() });
    }
    let checked = check(&CheckRequest {
        dir: request.dir.clone(),
        sector_sizes: request.sector_sizes.clone(),
        manifest: request.manifest.clone(),
        again: false,
        progress: request.progress,
    })?;
    let bad: Vec<_> = checked.bad().map(|file| file.name.clone()).collect();
    let kept = checked.files.into_iter().map(|file| file.name);
    let kept: Vec<_> = kept.filter(|name| !bad.contains(name)).collect();
    let files = request.manifest.files_for(&request.sector_sizes);
    let missing: Vec<_> = files.into_iter().filter(|(name, _)| bad.iter().any(|bad| bad == name)).collect();

    // On a separate thread, because the caller may run inside a runtime, and no second one may be started there.
    let outcomes = std::thread::scope(|scope| {
        let downloading = scope.spawn(|| download_all(request, &missing));
        downloading.join().map_err(|_| FetchError::Panicked)
    })??;

    let mut memory = Memory::load(&request.dir);
    let mut fetched = Vec::new();
    let mut failed = Vec::new();
    for (name, outcome) in outcomes {
        match outcome {
            Ok(digest) => {
                let path = request.dir.join(&name);
                let fingerprint = Fingerprint::of(&path).map_err(FileError::of("look at", &path))?;
                if let Some(fingerprint) = fingerprint {
                    memory.remember(&name, fingerprint, digest);
                }
                fetched.push(name);
            }
            Err(source) => failed.push(FailedDownload { name, source }),
        }
    }
    memory.save();
    if failed.is_empty() {
        Ok(FetchReport { dir: request.dir.clone(), kept, fetched })
    } else {
        Err(FetchError::Unfetched { gateway: request.gateway.clone(), failed })
    }
}

type Outcomes = Vec<(String, Result<String, DownloadError>)>;

fn download_all(request: &FetchRequest, missing: &[(&str, &ManifestEntry)]) -> Result<Outcomes, FetchError> {
    // The embedding program may have installed a provider already. That one will do.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client =
        Client::builder().connect_timeout(request.policy.connect_timeout).build().map_err(FetchError::Client)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(request.policy.parallel.clamp(1, 8))
        .enable_all()
        .build()
        .map_err(FetchError::Runtime)?;
    let bars = Bars::new(request.progress);
    let downloads = missing.iter().map(|(name, entry)| {
        let (client, bars) = (client.clone(), &bars);
        async move {
            let url = format!("{}/{}", request.gateway.trim_end_matches('/'), entry.cid);
            let wanted = Wanted { url, name, digest: &entry.digest };
            let bar = bars.add(name);
            let downloaded = download::download(&client, &wanted, &request.dir, &request.policy, &bar).await;
            bar.finish_and_clear();
            ((*name).to_owned(), downloaded)
        }
    });
    let all = futures::stream::iter(downloads).buffer_unordered(request.policy.parallel.max(1));
    Ok(runtime.block_on(all.collect()))
}

fn reasons(failed: &[FailedDownload]) -> String {
    failed.iter().map(|file| format!("\n  {}: {}", file.name, file.source)).collect()
}

/// One bar for each file, on stderr if that is a terminal.
struct Bars {
    bars: Option<MultiProgress>,
    style: ProgressStyle,
}

impl Bars {
    fn new(draw: bool) -> Self {
        let style = ProgressStyle::with_template(
            "{prefix:.dim} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} (left: {eta})",
        );
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        Self { bars: draw.then(MultiProgress::new), style }
    }

    fn add(&self, name: &str) -> ProgressBar {
        let Some(bars) = &self.bars else {
            return ProgressBar::hidden();
        };
        // The names differ at their beginnings and ends, so the middle is cut out.
        let short: String = name.chars().take(32).chain("…".chars()).collect();
        let extension = name.rsplit('.').next().unwrap_or_default();
        bars.add(ProgressBar::no_length()).with_style(self.style.clone()).with_prefix(format!("{short}.{extension}"))
    }
}

impl fmt::Display for FetchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for name in &self.fetched {
            writeln!(f, "{name} fetched and verified")?;
        }
        let (fetched, kept) = (self.fetched.len(), self.kept.len());
        write!(f, "{}: {fetched} files fetched, {kept} whole already", self.dir.display())
    }
}
