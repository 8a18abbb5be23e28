//! A node's endpoint, and the checks of its address and token.

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::header::HeaderValue;
use sealbus_nats::secret;

use crate::chain::error::Error;

const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
const SLOW_TIMEOUT_DEFAULT: Duration = Duration::from_secs(120);
const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);
/// The methods that execute a message or search the chain. The first estimate after a restart of Lotus took 61 s.
const SLOW_METHODS: [&str; 5] = [
    "GasEstimateMessageGas",
    "StateReplay",
    "StateSearchMsg",
    "StateMinerPreCommitDepositForPower",
    "StateMinerInitialPledgeForSector",
];
/// The default size limit of an answer, in bytes. The largest answers, a large miner's partitions, have some MB.
const ANSWER_BYTES_MAX_DEFAULT: usize = 64 << 20;

/// Whose methods an endpoint has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// A full node's.
    Node,
    /// Those of Venus' messager.
    Messager,
}

impl Api {
    /// The namespace of all methods.
    pub const fn prefix(self) -> &'static str {
        match self {
            Api::Node => "Filecoin.",
            Api::Messager => "Message.",
        }
    }

    /// The path of the API version that this client uses.
    const fn path(self) -> &'static str {
        match self {
            Api::Node => "/rpc/v1",
            Api::Messager => "/rpc/v0",
        }
    }

    /// The configuration's table.
    const fn table(self) -> &'static str {
        match self {
            Api::Node => "chain",
            Api::Messager => "chain.messager",
        }
    }
}

/// The address and token of a node, or of the messager, and the limits of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Whose methods it has.
    pub api: Api,
    /// `http://host:port`, with or without the path.
    pub url: String,
    /// The file with the API token (JWT), which needs the permission `sign`; `None` if the node requires no token.
    pub token_file: Option<PathBuf>,
    /// The time limit of a call, from its start to the last byte.
    pub timeout: Duration,
    /// The same for methods that execute a message or search the chain.
    pub slow_timeout: Duration,
    /// The time limit for connecting.
    pub connect_timeout: Duration,
    /// The size limit of an answer, in bytes.
    pub answer_bytes_max: usize,
}

impl Endpoint {
    /// An endpoint with the default limits: 30 s for a call, 120 s for a slow call, 10 s to connect, 64 MiB for an
    /// answer.
    pub fn new(url: impl Into<String>, token_file: Option<PathBuf>) -> Self {
        Self {
            api: Api::Node,
            url: url.into(),
            token_file,
            timeout: TIMEOUT_DEFAULT,
            slow_timeout: SLOW_TIMEOUT_DEFAULT,
            connect_timeout: CONNECT_TIMEOUT_DEFAULT,
            answer_bytes_max: ANSWER_BYTES_MAX_DEFAULT,
        }
    }

    /// The same for the messager.
    pub fn of_messager(url: impl Into<String>, token_file: Option<PathBuf>) -> Self {
        Self { api: Api::Messager, ..Self::new(url, token_file) }
    }
}

impl Endpoint {
    /// Checks the address. Reads no file and does not connect.
    pub fn check(&self) -> Result<(), Error> {
        checked_url(&self.url, self.api).map(drop)
    }

    /// The address for people. If it may contain a secret, nothing of it is shown.
    pub fn shown(&self) -> String {
        checked_url(&self.url, self.api).map_or_else(|_| format!("({}.url)", self.api.table()), |url| url.to_string())
    }

    /// Host and port of the address.
    pub fn host(&self) -> String {
        let url = checked_url(&self.url, self.api).ok();
        let port = url.as_ref().and_then(reqwest::Url::port_or_known_default);
        let host = url.as_ref().and_then(reqwest::Url::host_str).unwrap_or("?");
        port.map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// Checks that the token file, if one is configured, contains a token.
    pub fn check_token(&self) -> Result<(), Error> {
        match &self.token_file {
            Some(path) => checked_token(path, secret::locate(path).and_then(std::fs::read_to_string)).map(drop),
            None => Ok(()),
        }
    }

    /// The time limit of a method.
    pub fn limit(&self, method: &str) -> Duration {
        if SLOW_METHODS.contains(&method) { self.slow_timeout.max(self.timeout) } else { self.timeout }
    }
}

/// Completes and checks the address. Refuses addresses that could leak a secret or would fail in every call.
pub(super) fn checked_url(text: &str, api: Api) -> Result<reqwest::Url, Error> {
    let bad = |url: &str, reason: String| Error::BadUrl { url: url.to_owned(), reason };
    let (text, multiaddress) = (text.trim(), from_multiaddress(text.trim(), api));
    if multiaddress.is_none() && (text.contains(":/ip") || text.contains(":/dns")) {
        let reason = format!(
            "it holds a token, which belongs into a file of its own: name that in {}.token_file, and write here what \
             follows the token, /ip4/…/tcp/…/http",
            api.table()
        );
        return Err(bad("(not shown)", reason));
    }
    let mut url = match reqwest::Url::parse(multiaddress.as_deref().unwrap_or(text)) {
        Ok(url) => url,
        // Text that cannot be parsed may contain a token.
        Err(error) => {
            return Err(bad("(not shown)", format!("{error}; expected http://host:port or /ip4/…/tcp/…/http")));
        }
    };
    match url.scheme() {
        "http" | "https" => {}
        "ws" | "wss" => {
            let reason = "Sealbus speaks HTTP, which the node offers at the same port: write http:// for ws://, https:// for wss://";
            return Err(bad("(not shown)", reason.to_owned()));
        }
        _ => return Err(bad("(not shown)", "it must start with http:// or https://".to_owned())),
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(bad(
            url.host_str().unwrap_or_default(),
            "it must not hold credentials or parameters; use a token file".to_owned(),
        ));
    }
    match url.path().trim_end_matches('/') {
        "" => url.set_path(api.path()),
        path if api == Api::Node && path.ends_with("/rpc/v0") => {
            return Err(bad(url.as_str(), format!("the v0 API has other forms; use {}", api.path())));
        }
        path => {
            let path = path.to_owned();
            url.set_path(&path);
        }
    }
    Ok(url)
}

/// Converts a libp2p multiaddress, as other tools write it: `/ip4/127.0.0.1/tcp/1234/http`. Damocles' configuration has the
/// messager's without the protocol.
fn from_multiaddress(text: &str, api: Api) -> Option<String> {
    let mut parts: Vec<&str> = text.strip_prefix('/')?.trim_end_matches('/').split('/').collect();
    if api == Api::Messager && parts.len() == 4 {
        parts.push("http");
    }
    match parts.as_slice() {
        ["ip4" | "dns" | "dns4" | "dns6", host, "tcp", port, scheme @ ("http" | "https")] => {
            Some(format!("{scheme}://{host}:{port}"))
        }
        ["ip6", host, "tcp", port, scheme @ ("http" | "https")] => Some(format!("{scheme}://[{host}]:{port}")),
        _ => None,
    }
}

/// Extracts the token from a file's text. People copy it in several forms: as in an HTTP header, with an editor's byte
/// order mark, or with the node's address, as `lotus auth api-info` prints it (`FULLNODE_API_INFO=token:/ip4/…`).
fn token_in(text: &str) -> &str {
    let text = text.trim_start_matches('\u{feff}').trim();
    let text = text.strip_prefix("export ").unwrap_or(text);
    let text = text.strip_prefix("FULLNODE_API_INFO=").unwrap_or(text).trim_matches(['"', '\'']);
    let bare = text.strip_prefix("Bearer").filter(|rest| rest.is_empty() || rest.starts_with(' '));
    let text = bare.unwrap_or(text).trim();
    text.split_once(":/").map_or(text, |(token, _)| token)
}

pub(super) fn checked_token(path: &Path, read: std::io::Result<String>) -> Result<HeaderValue, Error> {
    let malformed = |reason| Error::TokenMalformed { path: path.to_owned(), reason };
    let text = read.map_err(|source| Error::TokenUnreadable { path: path.to_owned(), source })?;
    let token = token_in(&text);
    if token.is_empty() {
        return Err(malformed("the file is empty"));
    }
    if token.contains(|c: char| c.is_whitespace() || c == ':') {
        return Err(malformed("expected one token on one line"));
    }
    let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| malformed("it holds characters that no token has"))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_completed_and_kept() {
        assert_eq!(checked_url("http://127.0.0.1:1234", Api::Node).unwrap().as_str(), "http://127.0.0.1:1234/rpc/v1");
        assert_eq!(checked_url("http://node:1234/rpc/v1/", Api::Node).unwrap().as_str(), "http://node:1234/rpc/v1");
        assert_eq!(checked_url("https://gateway/filecoin", Api::Node).unwrap().as_str(), "https://gateway/filecoin");
        assert_eq!(
            checked_url("/ip4/127.0.0.1/tcp/1234/http", Api::Node).unwrap().as_str(),
            "http://127.0.0.1:1234/rpc/v1"
        );
        assert_eq!(checked_url("/ip6/::1/tcp/1234/http", Api::Node).unwrap().as_str(), "http://[::1]:1234/rpc/v1");
        assert_eq!(
            checked_url("/dns/node.example/tcp/443/https", Api::Node).unwrap().as_str(),
            "https://node.example/rpc/v1"
        );
    }

    #[test]
    fn the_messagers_address_is_taken_as_damocles_has_it() {
        for text in ["/ip4/10.0.0.9/tcp/39812", "/ip4/10.0.0.9/tcp/39812/http", "http://10.0.0.9:39812/rpc/v0"] {
            let url = checked_url(text, Api::Messager).unwrap();
            assert_eq!(url.as_str(), "http://10.0.0.9:39812/rpc/v0", "{text}");
        }
        let error = checked_url("SECRET:/ip4/10.0.0.9/tcp/39812", Api::Messager).unwrap_err().to_string();
        assert!(error.contains("chain.messager.token_file") && !error.contains("SECRET"), "{error}");
    }

    #[test]
    fn addresses_that_leak_or_cannot_work_are_refused_without_showing_secrets() {
        for text in [
            "",
            "node:1234",
            "SECRET:/ip4/127.0.0.1/tcp/1234/http",
            "SECRET:/dns/node/tcp/1234/http",
            "/ip4/127.0.0.1/udp/1234/http",
            "ws://node:1234/rpc/v1",
            "ws://node/SECRET",
            "http://u:SECRET@node",
            "http://node?token=SECRET",
            "http://n/rpc/v0",
        ] {
            let error = checked_url(text, Api::Node).unwrap_err();
            assert!(matches!(error, Error::BadUrl { .. }) && error.needs_person(), "{text}");
            assert!(!format!("{error} {error:?}").contains("SECRET"), "{text}");
        }
    }

    #[test]
    fn token_files_are_checked_without_showing_them() {
        let path = Path::new("/etc/sealbus/token");
        for text in [
            "abc.def\n",
            "\u{feff}abc.def\r\n\n",
            "Bearer abc.def",
            "abc.def:/ip4/1.2.3.4/tcp/1234/http\n",
            "export FULLNODE_API_INFO=\"abc.def:/ip4/1.2.3.4/tcp/1234/http\"",
        ] {
            assert_eq!(checked_token(path, Ok(text.to_owned())).unwrap(), "Bearer abc.def", "{text}");
        }
        for text in ["", " \n", "\u{feff}", "Bearer ", ":/ip4/1.2.3.4/tcp/1", "SECRET\nSECRET", "SECRET\u{7f}"] {
            let error = checked_token(path, Ok(text.to_owned())).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(shown.contains("/etc/sealbus/token") && !shown.contains("SECRET"), "{shown}");
        }
        assert!(!format!("{:?}", checked_token(path, Ok("SECRET".to_owned())).unwrap()).contains("SECRET"));
    }
}
