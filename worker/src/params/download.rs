//! Downloads one file from a gateway. It resumes where it stopped, and renames the file only when it is verified.

use std::path::Path;
use std::time::Duration;

use indicatif::ProgressBar;
use reqwest::header::{CONTENT_RANGE, HeaderMap, RANGE};
use reqwest::{Client, Response, StatusCode};
use sealbus_params_dir::files::{self, FileError, PartialFile};
use tokio::fs::File;
use tokio::io::{AsyncSeekExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use super::structure;

/// The limits and pauses of a download.
#[derive(Clone, Debug)]
pub struct FetchPolicy {
    /// How many downloads run at once.
    pub parallel: usize,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// How long a server may stay silent before the request is repeated.
    pub stall_timeout: Duration,
    /// How many attempts in a row may bring no new byte before the download is given up.
    pub fruitless_attempts: u32,
    /// How many complete downloads may have the wrong digest before the gateway is given up.
    pub wrong_downloads: u32,
    /// The pause after a failed attempt. It doubles with each attempt that brings nothing.
    pub pause: Duration,
    /// The longest pause.
    pub max_pause: Duration,
}

/// Why a download was given up.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// Too many attempts in a row brought nothing.
    #[error("{attempts} attempts in a row brought nothing, the last one because {last}")]
    Fruitless {
        /// How many attempts.
        attempts: u32,
        /// Why the last one failed.
        last: AttemptError,
    },
    /// The gateway serves other content.
    #[error("the gateway served {downloads} times something whose digest is not {expected}")]
    Wrong {
        /// How many complete downloads.
        downloads: u32,
        /// The expected digest.
        expected: String,
    },
    /// The file cannot be stored locally. The gateway is not to blame.
    #[error(transparent)]
    Local(#[from] FileError),
}

/// Why an attempt ended before the file was complete.
#[derive(Debug, thiserror::Error)]
pub enum AttemptError {
    /// The request failed, or its answer was cut off.
    #[error("the connection failed: {0}")]
    Http(String),
    /// The server sent nothing for this long.
    #[error("the server was silent for {0:?}")]
    Stalled(Duration),
    /// The server refused the request.
    #[error("the server answered {0}")]
    Status(StatusCode),
    /// The answer holds another range than was requested.
    #[error("the server answered with another range than was asked for")]
    WrongRange,
    /// The server ended the answer too early.
    #[error("the answer ended at {size} bytes, of {expected}")]
    Short {
        /// The bytes received so far.
        size: u64,
        /// The bytes expected.
        expected: u64,
    },
}

/// What to download, and its expected digest.
pub(super) struct Wanted<'a> {
    pub(super) url: String,
    pub(super) name: &'a str,
    /// The digest in hexadecimal, or its published prefix.
    pub(super) digest: &'a str,
}

/// How a successful answer ended.
#[derive(PartialEq)]
enum End {
    /// The server sent everything it had announced.
    Sent,
    /// The server has nothing beyond what is already here.
    NothingMore,
}

/// How an attempt failed. A local failure ends the download; others are retried.
enum Failure {
    Attempt(AttemptError),
    Local(FileError),
}

/// Downloads a file into a directory, verifies it, and returns its digest.
pub(super) async fn download(
    client: &Client,
    wanted: &Wanted<'_>,
    dir: &Path,
    policy: &FetchPolicy,
    bar: &ProgressBar,
) -> Result<String, DownloadError> {
    let partial = PartialFile::resume(dir.join(wanted.name))?;
    let downloaded = complete(client, wanted, &partial, policy, bar).await;
    tokio::task::block_in_place(|| match downloaded {
        Ok(digest) => {
            partial.persist()?;
            Ok(digest)
        }
        Err(error) => {
            partial.remove_if_empty()?;
            Err(error)
        }
    })
}

/// Repeats attempts until the file is right or there is no point in trying again.
async fn complete(
    client: &Client,
    wanted: &Wanted<'_>,
    partial: &PartialFile,
    policy: &FetchPolicy,
    bar: &ProgressBar,
) -> Result<String, DownloadError> {
    let mut fruitless = 0;
    let mut wrong = 0;
    loop {
        let before = partial.size()?;
        let ended = attempt(client, wanted, partial, policy, bar).await;
        let after = partial.size()?;
        let failure = match ended {
            Err(Failure::Local(error)) => return Err(error.into()),
            Err(Failure::Attempt(failure)) => failure,
            Ok(end) => match verify(wanted, partial, after, end).await? {
                Verdict::Whole(digest) => return Ok(digest),
                Verdict::Short { expected } => AttemptError::Short { size: after, expected },
                Verdict::Wrong => {
                    wrong += 1;
                    tracing::warn!(file = wanted.name, url = wanted.url, "the downloaded file has the wrong digest");
                    // Nothing shows which part is wrong, so the next attempt starts from the beginning.
                    partial.clear()?;
                    if wrong >= policy.wrong_downloads {
                        let expected = wanted.digest.to_owned();
                        return Err(DownloadError::Wrong { downloads: wrong, expected });
                    }
                    continue;
                }
            },
        };
        // Progress resets the count: a slow line that breaks often still gets there.
        fruitless = if after > before { 1 } else { fruitless + 1 };
        tracing::debug!(file = wanted.name, %failure, fruitless, "a download attempt failed");
        if fruitless > policy.fruitless_attempts {
            return Err(DownloadError::Fruitless { attempts: fruitless, last: failure });
        }
        let doubled = policy.pause.saturating_mul(1 << (fruitless - 1).min(16));
        sleep(doubled.min(policy.max_pause)).await;
    }
}

/// Requests the missing part and writes it as it arrives.
async fn attempt(
    client: &Client,
    wanted: &Wanted<'_>,
    partial: &PartialFile,
    policy: &FetchPolicy,
    bar: &ProgressBar,
) -> Result<End, Failure> {
    let have = partial.size().map_err(Failure::Local)?;
    bar.set_position(have);
    let mut request = client.get(&wanted.url);
    if have > 0 {
        request = request.header(RANGE, format!("bytes={have}-"));
    }
    let mut response = in_time(policy, request.send()).await?;
    let offset = match response.status() {
        StatusCode::RANGE_NOT_SATISFIABLE if have > 0 => return Ok(End::NothingMore),
        StatusCode::PARTIAL_CONTENT if range_start(response.headers()) == Some(have) => have,
        StatusCode::PARTIAL_CONTENT => {
            partial.clear().map_err(Failure::Local)?;
            return Err(Failure::Attempt(AttemptError::WrongRange));
        }
        // The server does not support ranges, so the answer starts at the beginning.
        StatusCode::OK => 0,
        status => return Err(Failure::Attempt(AttemptError::Status(status))),
    };
    if let Some(length) = response.content_length() {
        bar.set_length(offset + length);
    }
    write_body(&mut response, partial, offset, policy, bar).await
}

async fn write_body(
    response: &mut Response,
    partial: &PartialFile,
    offset: u64,
    policy: &FetchPolicy,
    bar: &ProgressBar,
) -> Result<End, Failure> {
    let local = |source| Failure::Local(FileError::of("write", partial.path())(source));
    let mut file = File::from_std(partial.file.try_clone().map_err(local)?);
    file.set_len(offset).await.map_err(local)?;
    file.seek(std::io::SeekFrom::Start(offset)).await.map_err(local)?;
    bar.set_position(offset);
    let ended = loop {
        match in_time(policy, response.chunk()).await {
            Ok(Some(bytes)) => {
                file.write_all(&bytes).await.map_err(local)?;
                bar.inc(bytes.len() as u64);
            }
            Ok(None) => break Ok(End::Sent),
            Err(failure) => break Err(failure),
        }
    };
    // What arrived before a failure is kept: the next attempt resumes there.
    file.flush().await.map_err(local)?;
    ended
}

async fn in_time<T>(policy: &FetchPolicy, step: impl Future<Output = reqwest::Result<T>>) -> Result<T, Failure> {
    match timeout(policy.stall_timeout, step).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => {
            let error = error.without_url();
            let reasons = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
            let reasons: Vec<_> = reasons.map(ToString::to_string).collect();
            Err(Failure::Attempt(AttemptError::Http(reasons.join(": "))))
        }
        Err(_) => Err(Failure::Attempt(AttemptError::Stalled(policy.stall_timeout))),
    }
}

/// The offset of the first byte in an answer: `bytes 5-9/10` gives 5.
fn range_start(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

enum Verdict {
    /// The file is right, and has this digest.
    Whole(String),
    /// The end is missing.
    Short { expected: u64 },
    /// The content is wrong.
    Wrong,
}

async fn verify(wanted: &Wanted<'_>, partial: &PartialFile, size: u64, end: End) -> Result<Verdict, FileError> {
    tokio::task::block_in_place(|| {
        let path = partial.path();
        let expected = structure::expected_size(path, wanted.name).map_err(FileError::of("read", path))?;
        match expected {
            // Another request helps only if the server may have more. If it has not, the file is hashed as it is and
            // found wrong.
            Some(expected) if size < expected && end == End::Sent => {
                return Ok(Verdict::Short { expected });
            }
            _ => {}
        }
        let digest = files::digest(path, |_| ()).map_err(FileError::of("read", path))?;
        let whole = !wanted.digest.is_empty() && digest.starts_with(wanted.digest);
        Ok(if whole { Verdict::Whole(digest) } else { Verdict::Wrong })
    })
}
