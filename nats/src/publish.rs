//! Publishing with a fence, and its outcomes.

use std::{hash::BuildHasher, sync::LazyLock, time::Duration};

use async_nats::jetstream::{
    self, context::PublishErrorKind, message::PublishMessage, publish::PublishAck, stream::RawMessageErrorKind,
};
use sealbus_schema::{SectorId, codec};

use crate::{Bus, patience::Patience, subject, topology};

/// The header with the subject whose last sequence the server compares, instead of the message's own subject.
const FENCE_SUBJECT: &str = "Nats-Expected-Last-Subject-Sequence-Subject";

/// The header with the schema version.
pub const VERSION_HEADER: &str = "Seal-V";
/// The header with the message's kind.
pub const KIND_HEADER: &str = "Seal-Kind";
/// The header with an error's class.
pub const CLASS_HEADER: &str = "Seal-Class";
/// The header with the lease's token.
pub const TOKEN_HEADER: &str = "Seal-Token";

/// `wrong last sequence: N`: the fence did not hold.
const WRONG_LAST_SEQUENCE: u64 = 10071;
/// `wrong last sequence` in a cluster: another write with the same fence is in flight.
const FENCE_CONTENDED: u64 = 10164;
/// How often a message gets a new id because another client has used its id.
const MAX_RENAMINGS: u32 = 5;

/// The code for both "maximum messages per subject exceeded" and "maximum bytes exceeded".
const STREAM_LIMIT: u64 = 10077;

/// A message that was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its sequence in the stream.
    pub sequence: u64,
    /// Whether an earlier attempt with the same id had already stored it.
    pub duplicate: bool,
}

/// Why a message was not stored, or not known to be.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The lease has moved: the publisher no longer owns the sector, or it lost an acknowledgement.
    #[error("{subject}: the lease has moved")]
    Fenced {
        /// The message's subject.
        subject: String,
    },
    /// Refused by the fence, and the log does not yet say who owns the sector; the manager will write that to it.
    #[error("{subject}: the sector was claimed by {} without an offer of the manager", by.as_deref().unwrap_or("nobody"))]
    Open {
        /// The message's subject.
        subject: String,
        /// The worker that claimed it; `None` if the log has no lease record of the sector.
        by: Option<String>,
    },
    /// The same intent is in the queue already.
    #[error("{subject}: already outstanding")]
    Outstanding {
        /// The message's subject.
        subject: String,
    },
    /// The stream is full and drops nothing. A person must raise its limit or purge records.
    #[error("{subject}: the stream is full: {description}")]
    Full {
        /// The message's subject.
        subject: String,
        /// The server's words.
        description: String,
    },
    /// The outcome is unknown: try again with the same id.
    #[error("{subject}: no acknowledgement")]
    Unknown {
        /// The message's subject.
        subject: String,
        /// The cause.
        #[source]
        source: async_nats::Error,
    },
    /// The server refused it for good: a bug, or a different server configuration.
    #[error("{subject}: refused by the server ({code}): {description}")]
    Refused {
        /// The message's subject.
        subject: String,
        /// The server's error code.
        code: u64,
        /// The server's words.
        description: String,
    },
    /// The message cannot be encoded.
    #[error(transparent)]
    Codec(#[from] codec::CodecError),
}

impl PublishError {
    /// Whether a retry of the same message may succeed.
    pub const fn is_transient(&self) -> bool {
        matches!(self, PublishError::Unknown { .. } | PublishError::Full { .. })
    }
}

/// A growing pause with jitter.
#[derive(Clone, Debug)]
pub struct Backoff {
    next: Duration,
    max: Duration,
}

impl Backoff {
    /// Starts at `first`, doubles up to `max`.
    pub const fn new(first: Duration, max: Duration) -> Backoff {
        Backoff { next: first, max }
    }

    /// The next pause: a random time between half of the current step and all of it, so that a fleet does not retry in
    /// step.
    pub fn next_pause(&mut self) -> Duration {
        let full = self.next;
        self.next = (self.next * 2).min(self.max);
        // The hasher's keys differ per process and per call, which is random enough for a pause.
        let random = std::hash::RandomState::new().hash_one(0u8) % 512;
        full / 2 + full.mul_f64(random as f64 / 1024.0)
    }
}

/// A random number that only the publisher knows.
pub type Secret = [u64; 2];

/// A message to publish.
pub(crate) struct Outgoing {
    pub subject: String,
    /// A readable text that identifies the message; [`unforeseeable`] derives the real id from it.
    pub message_id: String,
    /// Makes the id unpredictable for others and the same after a restart. `None`: the id changes at a restart.
    pub secret: Option<Secret>,
    pub kind: &'static str,
    pub payload: Vec<u8>,
    /// For records of a sector's log: the sector, and the expected sequence of its last lease record.
    pub fence: Option<(SectorId, u64)>,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
}

impl Bus {
    /// Publishes once. Retries only on contention within a cluster; all other errors are left to the caller.
    pub(crate) async fn publish(&self, out: &Outgoing) -> Result<Stored, PublishError> {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(100));
        let mut renamings = 0;
        for _ in 0..50 {
            let message = out.message(&unforeseeable(&out.message_id, out.secret, renamings));
            let attempt = async { self.js.send_publish(out.subject.clone(), message).await?.await }.await;
            match attempt {
                // The server has dropped our message, because another client used its id for something else.
                Ok(ack) if ack.duplicate && renamings < MAX_RENAMINGS && !self.is_stored(out, &ack).await? => {
                    tracing::warn!(
                        subject = out.subject,
                        id = out.message_id,
                        stream = ack.stream,
                        sequence = ack.sequence,
                        "the server knows the message's id from another message, which is not ours; published under \
                         another id"
                    );
                    renamings += 1;
                }
                Ok(ack) => return Ok(Stored { sequence: ack.sequence, duplicate: ack.duplicate }),
                Err(error) => match server_error(&error) {
                    // Another write with the same fence is in flight; its outcome decides about ours.
                    Some(cause) if cause.error_code().0 == FENCE_CONTENDED => {
                        tokio::time::sleep(backoff.next_pause()).await;
                    }
                    _ => return Err(classify(&out.subject, error)),
                },
            }
        }
        Err(PublishError::Unknown {
            subject: out.subject.clone(),
            source: "the fence is contended all the time".into(),
        })
    }

    /// Whether the message that the server calls a duplicate really is a copy of this one.
    async fn is_stored(&self, out: &Outgoing, ack: &PublishAck) -> Result<bool, PublishError> {
        let unknown = |source: async_nats::Error| PublishError::Unknown { subject: out.subject.clone(), source };
        let stream = self.js.get_stream_no_info(&ack.stream).await.map_err(|source| unknown(source.into()))?;
        match stream.get_raw_message(ack.sequence).await {
            Ok(stored) => Ok(stored.subject.as_str() == out.subject && stored.payload[..] == out.payload[..]),
            // Only we take something away: an intent that was acknowledged, what is purged of an ended sector. But what the
            // recovery of a lost queue deleted is not there, and the server still knows its id.
            Err(error) if matches!(error.kind(), RawMessageErrorKind::NoMessageFound) => {
                if ack.stream != topology::SECTORS {
                    return Ok(true);
                }
                let (_, first_sequence) = self.sectors_origin().await.map_err(|source| unknown(source.into()))?;
                Ok(ack.sequence >= first_sequence)
            }
            Err(error) => Err(unknown(error.into())),
        }
    }

    /// Publishes until the outcome is known, through outages of any length, with the same id.
    pub(crate) async fn publish_patiently(&self, out: &Outgoing) -> Result<Stored, PublishError> {
        let mut patience = Patience::new(Duration::from_millis(100), Duration::from_secs(5));
        loop {
            match self.publish(out).await {
                Err(error) if error.is_transient() => {
                    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
                    let pause = patience.failed("a message is not stored yet", &format!("{error}{cause}"));
                    tokio::time::sleep(pause).await;
                }
                outcome => {
                    patience.mended(&format!("{}: the server has answered", out.subject));
                    return outcome;
                }
            }
        }
    }
}

impl Outgoing {
    fn message(&self, id: &str) -> PublishMessage {
        let mut message = PublishMessage::build()
            .payload(self.payload.clone().into())
            .message_id(id)
            .header(VERSION_HEADER, codec::VERSION.to_string().as_str())
            .header(KIND_HEADER, self.kind);
        for (name, value) in &self.headers {
            message = message.header(*name, value.as_str());
        }
        if let Some((sector, lease_sequence)) = self.fence {
            message = message
                .expected_last_subject_sequence(lease_sequence)
                .header(FENCE_SUBJECT, subject::leases_of(sector).as_str());
        }
        message
    }
}

/// A message's id. It is the same for the same text and secret, and nobody else can predict it: the server drops every
/// message whose id it already knows, so others could use up a predictable id. Without a secret the id changes at a
/// restart, and the message may be stored twice. Its reader must then recognise it by its content, as the fold does by
/// event number.
fn unforeseeable(text: &str, secret: Option<Secret>, renamings: u32) -> String {
    static KEY: LazyLock<std::hash::RandomState> = LazyLock::new(std::hash::RandomState::new);
    let hash = match secret {
        Some(secret) => {
            std::hash::BuildHasherDefault::<std::hash::DefaultHasher>::new().hash_one((secret, text, renamings))
        }
        None => KEY.hash_one((text, renamings)),
    };
    format!("{text}.{hash:016x}")
}

fn server_error(error: &jetstream::context::PublishError) -> Option<&jetstream::Error> {
    std::error::Error::source(error)?.downcast_ref()
}

pub(crate) fn classify(subject: &str, error: jetstream::context::PublishError) -> PublishError {
    let subject = subject.to_owned();
    let Some(cause) = server_error(&error) else {
        return match error.kind() {
            PublishErrorKind::WrongLastSequence => PublishError::Fenced { subject },
            PublishErrorKind::MaxPayloadExceeded => {
                PublishError::Refused { subject, code: 0, description: "larger than the server's max_payload".into() }
            }
            _ => PublishError::Unknown { subject, source: error.into() },
        };
    };
    let description = cause.to_string();
    match cause.error_code().0 {
        WRONG_LAST_SEQUENCE => PublishError::Fenced { subject },
        // The code has two meanings; only the text distinguishes them.
        STREAM_LIMIT if description.contains("per subject") => PublishError::Outstanding { subject },
        STREAM_LIMIT => PublishError::Full { subject, description },
        // 429: more than the server holds in memory for the stream. 503: no leader, no responders, shutting down.
        _ if matches!(cause.code(), 429 | 503) => PublishError::Unknown { subject, source: error.into() },
        code => PublishError::Refused { subject, code, description },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_has_no_room_for_now_is_published_again() {
        for (code, err_code, description) in [(429, 10167, "too many requests"), (503, 10039, "not enabled")] {
            let said = serde_json::json!({ "code": code, "err_code": err_code, "description": description });
            let said: jetstream::Error = serde_json::from_value(said).expect("as the server writes it");
            let error = jetstream::context::PublishError::with_source(PublishErrorKind::Other, said);
            assert!(classify("seal.hb.w1", error).is_transient(), "{description}");
        }
    }

    #[test]
    fn an_id_follows_from_its_text_for_whoever_knows_the_secret() {
        let secrets = [None, Some([1, 2]), Some([1, 3])];
        let ids: std::collections::BTreeSet<String> =
            secrets.into_iter().flat_map(|secret| [0, 1].map(|again| unforeseeable("a.1", secret, again))).collect();
        assert_eq!(ids.len(), 6, "{ids:?}");
        assert!(secrets.iter().all(|secret| ids.contains(&unforeseeable("a.1", *secret, 0))));
    }

    #[test]
    fn a_pause_grows_to_its_limit_and_never_past_it() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(800));
        let pauses: Vec<_> = (0..8).map(|_| backoff.next_pause()).collect();
        for (pause, step) in pauses.iter().zip([100u64, 200, 400, 800, 800, 800, 800, 800]) {
            let step = Duration::from_millis(step);
            assert!(*pause >= step / 2 && *pause <= step, "{pause:?} of {step:?}");
        }
    }
}
