//! Downloads from a misbehaving server.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sealbus_params_dir::marker::Marker;
use sealbus_worker::params::{self, DownloadError, FetchError, FetchPolicy, FetchReport, FetchRequest, SectorSize};
use tempfile::tempdir;

use super::check::{KEY, PARAMETERS, Published, cid};

/// The server's reaction to a request.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// Sends what was requested.
    Honest,
    /// Sends the whole file, whatever range was requested.
    NoRanges,
    /// Sends this many bytes and then nothing, but keeps the connection open.
    Stall(usize),
    /// Sends this many bytes and closes the connection.
    Break(usize),
    /// Sends this many bytes, stops, and starts again.
    Restart(usize),
    /// Announces this many bytes more than there are.
    ClaimMore(usize),
    /// Announces this many bytes fewer than there are, and sends only those.
    ClaimLess(usize),
    /// Sends the right number of bytes, with one of them wrong.
    Corrupt,
    /// Sends another range than was requested.
    OtherRange,
    /// Refuses the request.
    Unavailable,
}

/// A gateway that runs until it is dropped.
struct Server {
    address: SocketAddr,
    /// The first requested byte of each request for parameters.
    offsets: Arc<Mutex<Vec<usize>>>,
}

impl Server {
    /// Serves the files. Requests for parameters are answered by the script, and after its end honestly.
    fn start(files: &BTreeMap<String, Vec<u8>>, script: &[Answer]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let offsets = Arc::new(Mutex::new(Vec::new()));
        let (files, seen) = (files.clone(), offsets.clone());
        let mut script: VecDeque<_> = script.iter().copied().collect();
        std::thread::spawn(move || {
            let mut listener = Some(listener);
            let mut stalled = Vec::new();
            loop {
                let bound = listener.take().unwrap_or_else(|| TcpListener::bind(address).unwrap());
                let (stream, _) = bound.accept().unwrap();
                let (name, offset) = read_request(&stream);
                let answer = if name == PARAMETERS {
                    seen.lock().unwrap().push(offset);
                    script.pop_front().unwrap_or(Answer::Honest)
                } else {
                    Answer::Honest
                };
                match answer {
                    Answer::Restart(_) => drop(bound),
                    _ => listener = Some(bound),
                }
                send(&stream, &files[&name], offset, answer);
                if matches!(answer, Answer::Stall(_)) {
                    stalled.push(stream);
                }
            }
        });
        Self { address, offsets }
    }

    fn offsets(&self) -> Vec<usize> {
        self.offsets.lock().unwrap().clone()
    }
}

fn read_request(stream: &TcpStream) -> (String, usize) {
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    let path = lines.next().unwrap().split(' ').nth(1).unwrap().to_owned();
    let headers: Vec<_> = lines.take_while(|line| !line.is_empty()).map(|line| line.to_lowercase()).collect();
    let range = headers.iter().find_map(|line| line.strip_prefix("range: bytes="));
    let offset = range.map_or(0, |range| range.trim_end_matches('-').parse().unwrap());
    let name = [PARAMETERS, KEY].into_iter().find(|name| path == format!("/ipfs/{}", cid(name)));
    (name.unwrap().to_owned(), offset)
}

/// The client may have disconnected, so errors are ignored.
fn send(mut stream: &TcpStream, file: &[u8], offset: usize, answer: Answer) {
    let offset = if matches!(answer, Answer::NoRanges) { 0 } else { offset };
    if matches!(answer, Answer::Unavailable) {
        let _ = stream.write_all(b"HTTP/1.1 503 Sorry\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return;
    }
    if offset >= file.len() {
        let _ = stream.write_all(b"HTTP/1.1 416 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return;
    }
    let mut body = file[offset..].to_vec();
    let mut claimed = body.len();
    let mut first = offset;
    match answer {
        Answer::Stall(length) | Answer::Break(length) | Answer::Restart(length) => {
            body.truncate(length);
        }
        Answer::ClaimMore(more) => claimed += more,
        Answer::ClaimLess(less) => {
            claimed -= less;
            body.truncate(claimed);
        }
        Answer::Corrupt => *body.last_mut().unwrap() ^= 1,
        Answer::OtherRange => first += 1,
        Answer::Honest | Answer::NoRanges | Answer::Unavailable => {}
    }
    let status = if first == 0 {
        "200 OK".to_owned()
    } else {
        let (last, all) = (file.len() - 1, file.len());
        format!("206 Partial Content\r\nContent-Range: bytes {first}-{last}/{all}")
    };
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {claimed}\r\nConnection: close\r\n\r\n");
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
}

fn fetch(server: &Server, published: &Published, dir: &Path) -> Result<FetchReport, FetchError> {
    params::fetch(&FetchRequest {
        dir: dir.to_owned(),
        sector_sizes: vec![SectorSize::KiB2],
        manifest: published.manifest(),
        gateway: format!("http://{}/ipfs/", server.address),
        policy: FetchPolicy {
            // Longer than a busy machine may suspend a thread: a slow transfer must not count as stalled.
            stall_timeout: Duration::from_secs(2),
            fruitless_attempts: 3,
            pause: Duration::from_millis(10),
            max_pause: Duration::from_millis(50),
            ..FetchPolicy::default()
        },
        progress: false,
    })
}

fn assert_whole(published: &Published, dir: &Path) {
    for (name, bytes) in &published.files {
        assert!(fs::read(dir.join(name)).unwrap() == *bytes, "{name}");
    }
    let left = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name());
    let partial = left.filter(|name| name.to_string_lossy().ends_with(".partial")).count();
    assert_eq!(partial, 0);
}

/// Fetches into an empty directory while the server follows the script. Returns the offsets at which the requests
/// began.
fn survive(script: &[Answer]) -> Vec<usize> {
    let published = Published::new();
    let server = Server::start(&published.files, script);
    let dir = tempdir().unwrap();
    let report = fetch(&server, &published, dir.path()).unwrap();
    assert_eq!((report.fetched.len(), report.kept.len()), (2, 0));
    assert_whole(&published, dir.path());
    let again = fetch(&server, &published, dir.path()).unwrap();
    assert_eq!((again.fetched.len(), again.kept.len()), (0, 2));
    server.offsets()
}

#[test]
fn an_honest_server_is_asked_once() {
    assert_eq!(survive(&[]), [0]);
}

#[test]
fn a_stalled_broken_or_restarted_download_goes_on_where_it_stopped() {
    assert_eq!(survive(&[Answer::Stall(3000), Answer::Stall(0)]), [0, 3000, 3000]);
    assert_eq!(survive(&[Answer::Break(5000), Answer::Break(1)]), [0, 5000, 5001]);
    assert_eq!(survive(&[Answer::Restart(4000), Answer::Unavailable]), [0, 4000, 4000]);
}

#[test]
fn a_server_that_lies_about_length_is_seen_through() {
    let whole = Published::new().files[PARAMETERS].len();
    // Announces more than there is: the connection ends early, and a further request brings nothing.
    assert_eq!(survive(&[Answer::ClaimMore(10)]), [0, whole]);
    // Announces less than there is: the file's own headers show that more is missing.
    assert_eq!(survive(&[Answer::ClaimLess(700)]), [0, whole - 700]);
    assert_eq!(survive(&[Answer::Break(2000), Answer::ClaimLess(700)]), [0, 2000, whole - 700]);
}

#[test]
fn a_server_without_ranges_or_with_other_ones_costs_a_new_beginning() {
    assert_eq!(survive(&[Answer::Break(2000), Answer::NoRanges]), [0, 2000]);
    assert_eq!(survive(&[Answer::Break(2000), Answer::OtherRange]), [0, 2000, 0]);
}

#[test]
fn a_corrupted_download_never_gets_its_name() {
    assert_eq!(survive(&[Answer::Corrupt]), [0, 0]);

    let published = Published::new();
    let server = Server::start(&published.files, &[Answer::Corrupt; 2]);
    let dir = tempdir().unwrap();
    let failed = fetch(&server, &published, dir.path()).unwrap_err();
    let FetchError::Unfetched { failed, .. } = failed else { panic!("{failed}") };
    assert_eq!(failed.len(), 1, "the key comes through all the same");
    assert_eq!(failed[0].name, PARAMETERS);
    assert!(matches!(failed[0].source, DownloadError::Wrong { downloads: 2, .. }));
    assert!(!dir.path().join(PARAMETERS).exists());
    assert!(!dir.path().join(format!("{PARAMETERS}.partial")).exists());
    assert!(dir.path().join(KEY).exists());
}

#[test]
fn a_dead_server_is_given_up_and_what_came_is_kept_for_the_next_run() {
    let published = Published::new();
    let dead = [Answer::Break(6000), Answer::Unavailable, Answer::Stall(0), Answer::Break(0)];
    let server = Server::start(&published.files, &dead);
    let dir = tempdir().unwrap();
    let failed = fetch(&server, &published, dir.path()).unwrap_err();
    assert!(failed.to_string().contains("attempts in a row brought nothing"), "{failed}");
    let server = Server::start(&published.files, &[]);
    fetch(&server, &published, dir.path()).unwrap();
    assert_whole(&published, dir.path());
    assert_eq!(server.offsets(), [6000]);
}

#[test]
fn only_bad_files_are_fetched() {
    let published = Published::new();
    let server = Server::start(&published.files, &[]);
    let (_keep, dir) = published.install();
    fs::write(dir.join(KEY), "rubbish").unwrap();
    let report = fetch(&server, &published, &dir).unwrap();
    assert_eq!((report.fetched, report.kept), (vec![KEY.to_owned()], vec![PARAMETERS.to_owned()]));
    assert_whole(&published, &dir);
    assert!(server.offsets().is_empty());
}

#[test]
fn a_devnets_directory_is_refused() {
    let published = Published::new();
    let server = Server::start(&published.files, &[]);
    let dir = tempdir().unwrap();
    Marker::new(dir.path(), 0).save().unwrap();
    let refused = fetch(&server, &published, dir.path()).unwrap_err();
    assert!(matches!(refused, FetchError::DevnetDirectory { .. }));
}

#[test]
fn fetching_works_from_within_a_runtime() {
    let published = Published::new();
    let server = Server::start(&published.files, &[]);
    let dir = tempdir().unwrap();
    let (done, result) = channel();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        done.send(fetch(&server, &published, dir.path()).is_ok()).unwrap();
    });
    assert!(result.recv().unwrap());
}
