//! The connection to NATS, from its configuration.

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_nats::{ConnectErrorKind, ConnectOptions, Event, ServerAddr, jetstream};
use serde::Deserialize;

use crate::{
    identity::{Identity, IdentityError},
    patience::Patience,
    secret,
};

/// How long one request to the server may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a published message may wait for its acknowledgement.
const ACK_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one attempt to connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest pause between two attempts to connect.
const MAX_RECONNECT_DELAY: Duration = Duration::from_secs(5);

/// The prefix under which the server itself offers its JetStream API.
const API_PREFIX: &str = "$JS.API";
/// How many of the troubles that were told are remembered; of more the oldest is told again.
const REMEMBERED: usize = 32;

/// The `[nats]` table of both configurations: the server's address and our identity.
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
    /// The prefix under which our account imports the server's JetStream API; by default `$JS.API`, for an account that
    /// has the streams itself.
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
    /// The prefix of the server's JetStream API in our account.
    pub(crate) api_prefix: Arc<str>,
}

/// Something that the configuration names and that is missing or unusable at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotThere {
    /// The configuration's field.
    pub field: String,
    /// What is wrong, and what to do.
    pub problem: String,
}

/// Why a connection failed.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Our identity cannot be read.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Both kinds of identity are configured.
    #[error("nats.nkey_seed_file and nats.credentials_file exclude each other: keep one")]
    TwoIdentities,
    /// The address is malformed.
    #[error("nats.url{shown}: {problem}; expected nats://host:port, several separated by commas")]
    BadUrl {
        /// The configured value with ` = ` before it; empty if the value may contain a secret.
        shown: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The prefix is not a valid subject prefix.
    #[error(
        "nats.api_prefix = {0:?}: expected words joined by dots, such as SEALBUS.API; remove it if the account is the streams' own"
    )]
    BadApiPrefix(String),
    /// The server does not let us in.
    #[error("NATS at {url} refused our identity: check nats.nkey_seed_file or nats.credentials_file")]
    Refused {
        /// The server.
        url: String,
        /// The cause.
        #[source]
        source: async_nats::ConnectError,
    },
    /// The server is too old for the log's reader.
    #[error("NATS at {url} is version {version}; Sealbus needs 2.14 or newer (it rewinds a consumer)")]
    TooOld {
        /// The server.
        url: String,
        /// Its version.
        version: String,
    },
    /// The server does not answer (yet).
    #[error("NATS at {url} is unreachable")]
    Unreachable {
        /// The server.
        url: String,
        /// The cause.
        #[source]
        source: async_nats::ConnectError,
    },
}

impl ConnectError {
    /// Whether only a change of the configuration helps. Everything else may recover: the server may come back or be
    /// upgraded, and an identity may be renewed or registered with it.
    pub const fn is_misconfigured(&self) -> bool {
        matches!(self, ConnectError::BadUrl { .. } | ConnectError::BadApiPrefix(_) | ConnectError::TwoIdentities)
    }
}

impl fmt::Display for NotThere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.problem)
    }
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus").field("state", &self.client.connection_state()).finish_non_exhaustive()
    }
}

impl Connection {
    /// Whether the table is valid. Looks at nothing outside it.
    pub fn check(&self) -> Result<(), ConnectError> {
        if self.nkey_seed_file.is_some() && self.credentials_file.is_some() {
            return Err(ConnectError::TwoIdentities);
        }
        let is_word =
            |word: &str| !word.is_empty() && !word.contains(|c: char| c.is_whitespace() || matches!(c, '*' | '>'));
        if let Some(prefix) = self.api_prefix.as_ref().filter(|prefix| !prefix.split('.').all(is_word)) {
            return Err(ConnectError::BadApiPrefix(prefix.clone()));
        }
        self.servers().map(drop)
    }

    /// The files that the table names and that are missing, unusable, or readable by everybody. Does not connect.
    pub fn not_there(&self) -> Vec<NotThere> {
        let mut found = Vec::new();
        let mut add = |field: &str, problem: String| found.push(NotThere { field: field.to_owned(), problem });
        if let Err(error) = Identity::of(self).check() {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            add("nats", format!("{error}{cause}"));
        }
        for (field, path) in
            [("nats.nkey_seed_file", &self.nkey_seed_file), ("nats.credentials_file", &self.credentials_file)]
        {
            if let Some(problem) = path.as_deref().and_then(secret::exposed) {
                add(field, problem);
            }
        }
        if let Some(path) = &self.ca_file {
            match std::fs::read_to_string(path) {
                Ok(text) if !text.contains("-----BEGIN CERTIFICATE-----") => {
                    add("nats.ca_file", format!("{} holds no certificate in PEM form", path.display()));
                }
                Ok(_) => {}
                Err(error) => add("nats.ca_file", format!("cannot read {}: {error}", path.display())),
            }
        }
        found
    }

    /// Makes one attempt to connect. `name` identifies us in the server's list of connections, and our inboxes begin
    /// with `_INBOX_<name>`, which a worker's permissions allow it to read.
    pub async fn connect(&self, name: &str) -> Result<Bus, ConnectError> {
        self.check()?;
        // Each connection reads the identity again, but only here a failure gets its own error variant.
        Identity::of(self).check()?;
        let url = self.url.clone();
        let client = self.options(name).connect(self.servers()?).await.map_err(|source| match source.kind() {
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

    /// Connects, however long it takes until the server answers and accepts us. Fails only if the configuration must be
    /// changed.
    pub async fn connect_patiently(&self, name: &str) -> Result<Bus, ConnectError> {
        let mut patience = Patience::new(Duration::from_millis(250), MAX_RECONNECT_DELAY);
        loop {
            match self.connect(name).await {
                Ok(bus) => {
                    patience.mended("NATS has accepted the connection");
                    return Ok(bus);
                }
                Err(error) if error.is_misconfigured() => return Err(error),
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
                    let pause = patience.failed(&error.to_string(), &format!("{error}{}", cause.unwrap_or_default()));
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    fn servers(&self) -> Result<Vec<ServerAddr>, ConnectError> {
        self.url.split(',').map(|url| self.server(url.trim())).collect()
    }

    fn server(&self, url: &str) -> Result<ServerAddr, ConnectError> {
        let bad = |shown: bool, problem: String| ConnectError::BadUrl {
            shown: if shown { format!(" = \"{}\"", self.url) } else { String::new() },
            problem,
        };
        if self.url.contains('@') {
            let problem = "must not hold a name or a password, which would be shown and have no effect; name the file of \
                           our identity in nats.nkey_seed_file or nats.credentials_file";
            return Err(bad(false, problem.to_owned()));
        }
        if url.is_empty() || url.contains(char::is_whitespace) {
            return Err(bad(true, "holds an address that is empty or has spaces".to_owned()));
        }
        let server: ServerAddr = url.parse().map_err(|error: std::io::Error| bad(true, error.to_string()))?;
        if server.is_websocket() {
            return Err(bad(true, "names a WebSocket, which Sealbus does not speak".to_owned()));
        }
        if server.host().is_empty() {
            return Err(bad(true, "names no host".to_owned()));
        }
        Ok(server)
    }

    fn options(&self, name: &str) -> ConnectOptions {
        let trouble = Arc::new(Trouble::default());
        let (identity, told) = (Identity::of(self), trouble.clone());
        let mut options = ConnectOptions::with_auth_callback(move |nonce| {
            let answer = identity.answer(&nonce);
            // The client itself says only that it could not sign.
            if let Err(error) = &answer
                && told.is_news(error.to_string())
            {
                tracing::warn!(%error, "no identity to show to NATS; read again at the next try");
            }
            async move { answer }
        });
        if let Some(ca) = &self.ca_file {
            // The client reads the file again at each connection.
            options = options.add_root_certificates(ca.clone()).require_tls(true);
        }
        options
            .name(name)
            .custom_inbox_prefix(format!("_INBOX_{name}"))
            .connection_timeout(CONNECT_TIMEOUT)
            .reconnect_delay_callback(|attempts| Duration::from_millis(100 << attempts.min(6)).min(MAX_RECONNECT_DELAY))
            .event_callback(move |event| {
                trouble.log(&event);
                async {}
            })
    }
}

/// What was said of a connection that is refused something or broken, so that it is not said at each try.
#[derive(Debug, Default)]
struct Trouble(Mutex<Vec<String>>);

impl Trouble {
    fn log(&self, event: &Event) {
        match event {
            Event::Connected => {
                self.said().clear();
                tracing::info!("connected to NATS");
            }
            Event::Disconnected => tracing::warn!("lost the connection to NATS; reconnecting"),
            // A permission violation does not make a publish fail; it shows up only here.
            Event::ServerError(error) if self.is_news(error.to_string()) => {
                tracing::error!(%error, "NATS refused something");
            }
            Event::SlowConsumer(id) => tracing::warn!(id, "a subscription is too slow"),
            Event::ClientError(error) if self.is_news(error.to_string()) => {
                tracing::warn!(%error, "no connection to NATS yet; trying again, and reading the identity from its file each time");
            }
            other => tracing::debug!(event = %other, "NATS"),
        }
    }

    fn is_news(&self, words: String) -> bool {
        let mut said = self.said();
        let is_news = !said.contains(&words);
        if is_news {
            if said.len() == REMEMBERED {
                said.remove(0);
            }
            said.push(words);
        }
        is_news
    }

    fn said(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a server can rewind a consumer, which needs 2.14. A version that cannot be parsed is accepted.
fn is_new_enough(version: &str) -> bool {
    let mut parts = version.split('.').map(|part| part.parse::<u64>().ok());
    match (parts.next().flatten(), parts.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor) >= (2, 14),
        _ => true,
    }
}

impl Bus {
    fn new(client: async_nats::Client, api_prefix: Option<&str>) -> Bus {
        let api_prefix = api_prefix.unwrap_or(API_PREFIX);
        let js = jetstream::context::ContextBuilder::new()
            .timeout(REQUEST_TIMEOUT)
            .ack_timeout(ACK_TIMEOUT)
            .max_ack_inflight(20_000)
            .backpressure_on_inflight(true)
            .api_prefix(api_prefix)
            .build(client.clone());
        Bus { client, js, api_prefix: api_prefix.into() }
    }

    /// How often we have connected. If the number is unchanged, the connection never broke in between.
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
    fn what_is_refused_at_each_try_is_told_once_until_there_is_another_connection() {
        let trouble = Trouble::default();
        let is_news = |words: &str| trouble.is_news(words.to_owned());
        assert!(is_news("refused") && !is_news("refused"));
        for other in 0..REMEMBERED {
            assert!(is_news(&other.to_string()));
        }
        assert!(is_news("refused"), "only so many are remembered");
        trouble.log(&Event::Connected);
        assert!(is_news("refused"));
    }

    fn at(url: &str) -> Connection {
        Connection {
            url: url.to_owned(),
            nkey_seed_file: None,
            credentials_file: None,
            ca_file: None,
            api_prefix: None,
        }
    }

    #[test]
    fn an_address_that_cannot_work_is_refused_without_showing_a_secret() {
        for url in ["nats://127.0.0.1:4222", "one:4222, tls://two", "nats://[::1]:4222", "localhost"] {
            at(url).check().unwrap_or_else(|error| panic!("{url}: {error}"));
        }
        for url in
            ["", "nats://one, ,two", "nats://a b", "http://one:4222", "ws://one", "nats://u:SECRET@one", "nats://"]
        {
            let error = at(url).check().expect_err(url);
            assert!(error.is_misconfigured() && error.to_string().contains("nats.url"), "{url}: {error}");
            assert!(!format!("{error} {error:?}").contains("SECRET"), "{url}");
        }
    }

    #[test]
    fn a_prefix_that_is_no_subject_is_refused() {
        let with = |prefix: &str| Connection { api_prefix: Some(prefix.to_owned()), ..at("nats://one") };
        with("SEALBUS.API").check().expect("good");
        for prefix in ["", "A B", "A..B", "SEALBUS.API.", "SEALBUS.>"] {
            assert!(with(prefix).check().expect_err(prefix).is_misconfigured(), "{prefix}");
        }
    }

    #[test]
    fn what_is_not_there_is_no_mistake_of_the_configuration() {
        let connection = Connection {
            nkey_seed_file: Some("/no/such/seed".into()),
            ca_file: Some("/no/such/ca".into()),
            ..at("nats://one")
        };
        connection.check().expect("makes sense");
        let found: Vec<String> = connection.not_there().iter().map(ToString::to_string).collect();
        assert!(
            found.len() == 2 && found[0].contains("/no/such/seed") && found[1].contains("/no/such/ca"),
            "{found:?}"
        );
    }

    #[test]
    fn each_cause_of_a_broken_connection_is_said_once() {
        let trouble = Trouble::default();
        assert!(trouble.is_news("authorization violation".to_owned()));
        assert!(!trouble.is_news("authorization violation".to_owned()));
        trouble.log(&Event::Connected);
        assert!(trouble.is_news("authorization violation".to_owned()));
    }

    #[test]
    fn a_server_that_cannot_rewind_a_consumer_is_too_old() {
        for (version, good) in
            [("2.9.10", false), ("2.13.9", false), ("2.14.0", true), ("2.15.1-RC.1", true), ("3.0", true)]
        {
            assert_eq!(is_new_enough(version), good, "{version}");
        }
    }
}
