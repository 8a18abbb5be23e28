//! The connection to NATS, from its configuration.

use std::{fmt, path::PathBuf, time::Duration};

use async_nats::{ConnectErrorKind, ConnectOptions, Event, jetstream};
use serde::Deserialize;

/// How long one request to the server may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a published message may wait for its acknowledgement.
const ACK_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one attempt to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest pause between two attempts to connect.
const MAX_RECONNECT_DELAY: Duration = Duration::from_secs(5);

/// The server's own name of its interface.
const API_PREFIX: &str = "$JS.API";

/// Where NATS is and who we are there. The `[nats]` table of both configurations.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connection {
    /// One or several server addresses, separated by commas: `nats://127.0.0.1:4222` or `tls://…`.
    pub url: String,
    /// A file with the seed of our NKey (`SU…`), readable by nobody else.
    #[serde(default)]
    pub nkey_seed_file: Option<PathBuf>,
    /// A credentials file (JWT and seed) as `nsc` writes it.
    #[serde(default)]
    pub credentials_file: Option<PathBuf>,
    /// A file with the root certificates to trust, PEM.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Under which name our account has imported the server's interface; `$JS.API` if it is not imported.
    #[serde(default)]
    pub api_prefix: Option<String>,
}

/// A connection to the bus. Cheap to clone.
#[derive(Clone)]
pub struct Bus {
    /// For core NATS: wake-ups and advisories.
    pub(crate) client: async_nats::Client,
    /// For the streams.
    pub(crate) js: jetstream::Context,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// A file that the configuration names cannot be read.
    #[error("cannot read nats.{field} = {path}", path = path.display())]
    ReadFile {
        /// The configuration's field.
        field: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Both ways of saying who we are.
    #[error("nats.nkey_seed_file and nats.credentials_file exclude each other: keep one")]
    TwoIdentities,
    /// The address is malformed.
    #[error("nats.url = \"{url}\" is not a NATS address: expected nats://host:port")]
    BadUrl {
        /// As configured.
        url: String,
    },
    /// The server does not let us in. Waiting will not change that.
    #[error("NATS at {url} refused our identity: check nats.nkey_seed_file or nats.credentials_file")]
    Refused {
        /// The server.
        url: String,
        /// Why.
        #[source]
        source: async_nats::ConnectError,
    },
    /// The server lacks what the log's reader needs.
    #[error("NATS at {url} is version {version}; Sealbus needs 2.14 or newer (it rewinds a consumer)")]
    TooOld {
        /// The server.
        url: String,
        /// Its version.
        version: String,
    },
    /// The server is not there (yet).
    #[error("NATS at {url} is unreachable")]
    Unreachable {
        /// The server.
        url: String,
        /// Why.
        #[source]
        source: async_nats::ConnectError,
    },
}

impl ConnectError {
    /// Whether waiting may help.
    pub const fn is_transient(&self) -> bool {
        matches!(self, ConnectError::Unreachable { .. })
    }
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus").field("state", &self.client.connection_state()).finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects once. `name` is how the server lists us and the prefix of our inboxes (`_INBOX_<name>`), which is what
    /// the permissions of a worker allow it to read.
    pub async fn connect(&self, name: &str) -> Result<Bus, ConnectError> {
        let options = self.options(name)?;
        let servers: Vec<async_nats::ServerAddr> = self
            .url
            .split(',')
            .map(|url| url.trim().parse())
            .collect::<Result<_, _>>()
            .map_err(|_| ConnectError::BadUrl { url: self.url.clone() })?;
        let url = self.url.clone();
        let client = options.connect(servers).await.map_err(|source| match source.kind() {
            ConnectErrorKind::ServerParse => ConnectError::BadUrl { url },
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                ConnectError::Refused { url, source }
            }
            _ => ConnectError::Unreachable { url, source },
        })?;
        let version = client.server_info().version;
        if !is_new_enough(&version) {
            return Err(ConnectError::TooOld { url: self.url.clone(), version });
        }
        Ok(Bus::new(client, self.api_prefix.as_deref()))
    }

    /// Connects, and waits with back-off while the server is not there. Fails at once when waiting cannot help.
    pub async fn connect_patiently(&self, name: &str) -> Result<Bus, ConnectError> {
        let mut backoff = crate::publish::Backoff::new(Duration::from_millis(250), MAX_RECONNECT_DELAY);
        loop {
            match self.connect(name).await {
                Err(error) if error.is_transient() => {
                    let pause = backoff.next_pause();
                    tracing::warn!(
                        url = %self.url,
                        cause = %std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default(),
                        retry_in_ms = pause.as_millis() as u64,
                        "NATS is unreachable; trying again"
                    );
                    tokio::time::sleep(pause).await;
                }
                outcome => return outcome,
            }
        }
    }

    fn options(&self, name: &str) -> Result<ConnectOptions, ConnectError> {
        let read = |field: &'static str, path: &PathBuf| {
            std::fs::read_to_string(path).map_err(|source| ConnectError::ReadFile { field, path: path.clone(), source })
        };
        let mut options = match (&self.nkey_seed_file, &self.credentials_file) {
            (Some(_), Some(_)) => return Err(ConnectError::TwoIdentities),
            (Some(path), None) => ConnectOptions::with_nkey(read("nkey_seed_file", path)?.trim().to_owned()),
            (None, Some(path)) => ConnectOptions::with_credentials(&read("credentials_file", path)?)
                .map_err(|source| ConnectError::ReadFile { field: "credentials_file", path: path.clone(), source })?,
            (None, None) => ConnectOptions::new(),
        };
        if let Some(ca) = &self.ca_file {
            read("ca_file", ca)?;
            options = options.add_root_certificates(ca.clone()).require_tls(true);
        }
        Ok(options
            .name(name)
            .custom_inbox_prefix(format!("_INBOX_{name}"))
            .connection_timeout(CONNECT_TIMEOUT)
            .reconnect_delay_callback(|attempts| Duration::from_millis(100 << attempts.min(6)).min(MAX_RECONNECT_DELAY))
            .event_callback(|event| async move {
                match event {
                    Event::Connected => tracing::info!("connected to NATS"),
                    Event::Disconnected => tracing::warn!("lost the connection to NATS; reconnecting"),
                    // Permission violations do not fail a publish; this is the only place where they show.
                    Event::ServerError(error) => tracing::error!(%error, "NATS refused something"),
                    Event::SlowConsumer(id) => tracing::warn!(id, "a subscription is too slow"),
                    Event::ClientError(error) => tracing::warn!(%error, "NATS client error"),
                    other => tracing::debug!(event = %other, "NATS"),
                }
            }))
    }
}

/// Whether a server can rewind a consumer: 2.14 and later. A version that cannot be read is given the benefit.
fn is_new_enough(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u64>().ok());
    match (parts.next().flatten(), parts.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor) >= (2, 14),
        _ => true,
    }
}

impl Bus {
    fn new(client: async_nats::Client, api_prefix: Option<&str>) -> Bus {
        let js = jetstream::context::ContextBuilder::new()
            .timeout(REQUEST_TIMEOUT)
            .ack_timeout(ACK_TIMEOUT)
            .max_ack_inflight(20_000)
            .backpressure_on_inflight(true)
            .api_prefix(api_prefix.unwrap_or(API_PREFIX))
            .build(client.clone());
        Bus { client, js }
    }

    /// How often the connection was made. A number that has not changed means that it never broke in between.
    pub fn connections(&self) -> u64 {
        self.client.statistics().connects.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Whether the server is reachable at this moment.
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_cannot_rewind_a_consumer_is_too_old() {
        for (version, good) in
            [("2.9.10", false), ("2.13.9", false), ("2.14.0", true), ("2.15.1-RC.1", true), ("3.0", true)]
        {
            assert_eq!(is_new_enough(version), good, "{version}");
        }
    }
}
