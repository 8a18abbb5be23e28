//! Publishing with a fence, and what a publisher must tell apart.

use std::{hash::BuildHasher, sync::LazyLock, time::Duration};

use async_nats::jetstream::{
    self, context::PublishErrorKind, message::PublishMessage, publish::PublishAck, stream::RawMessageErrorKind,
};
use sealbus_schema::{SectorId, codec};

use crate::{Bus, patience::Patience, subject};

/// The header that makes the server compare another subject's last sequence.
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
/// How often a message gets another id because somebody else has used up the one that it had.
const MAX_RENAMINGS: u32 = 5;

/// Shared by "maximum messages per subject exceeded" and "maximum bytes exceeded".
const STREAM_LIMIT: u64 = 10077;

/// A message that was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its sequence in the stream.
    pub sequence: u64,
    /// Whether it had been stored before, by an earlier attempt with the same id.
    pub duplicate: bool,
}

/// Why a message was not stored, or not known to be.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The lease has moved: whoever published does not own the sector any more, or lost an acknowledgement.
    #[error("{subject}: the lease has moved")]
    Fenced {
        /// Where it was published.
        subject: String,
    },
    /// Refused by the fence, and the log does not say whose the sector is; the manager will say it there.
    #[error("{subject}: the sector was claimed by {} without an offer of the manager", by.as_deref().unwrap_or("nobody"))]
    Open {
        /// Where it was published.
        subject: String,
        /// Who has claimed it; none where the log has no lease of it at all.
        by: Option<String>,
    },
    /// The same intent is in the queue already.
    #[error("{subject}: already outstanding")]
    Outstanding {
        /// Where it was published.
        subject: String,
    },
    /// The stream is full and keeps what it has. A person must raise its limit or archive.
    #[error("{subject}: the stream is full: {description}")]
    Full {
        /// Where it was published.
        subject: String,
        /// The server's words.
        description: String,
    },
    /// Unknown outcome: try again with the same id.
    #[error("{subject}: no acknowledgement")]
    Unknown {
        /// Where it was published.
        subject: String,
        /// Why.
        #[source]
        source: async_nats::Error,
    },
    /// The server refused it for good: a bug, or a server that is set up otherwise.
    #[error("{subject}: refused by the server ({code}): {description}")]
    Refused {
        /// Where it was published.
        subject: String,
        /// The server's error code.
        code: u64,
        /// The server's words.
        description: String,
    },
    /// The message cannot be packed.
    #[error(transparent)]
    Codec(#[from] codec::CodecError),
}

impl PublishError {
    /// Whether the same message may be stored by trying again.
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

    /// The next pause: between half of the present step and all of it, so that a fleet does not move in step.
    pub fn next_pause(&mut self) -> Duration {
        let full = self.next;
        self.next = (self.next * 2).min(self.max);
        // The hasher's keys differ a process and a call; that is all the randomness a pause needs.
        let random = std::hash::RandomState::new().hash_one(0u8) % 512;
        full / 2 + full.mul_f64(random as f64 / 1024.0)
    }
}

/// Something that only the publisher knows.
pub type Secret = [u64; 2];

/// What is about to be published.
pub(crate) struct Outgoing {
    pub subject: String,
    /// What tells the message from others, for people; see [`unforeseeable`].
    pub message_id: String,
    /// What makes the id unforeseeable, if it is to be the same after a restart.
    pub secret: Option<Secret>,
    pub kind: &'static str,
    pub payload: Vec<u8>,
    /// The sector and the sequence of its last lease record, for everything in a sector's log.
    pub fence: Option<(SectorId, u64)>,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
}

impl Bus {
    /// Publishes once. Contention within a cluster is resolved here; everything else is the caller's.
    pub(crate) async fn publish(&self, out: &Outgoing) -> Result<Stored, PublishError> {
        let mut backoff = Backoff::new(Duration::from_millis(10), Duration::from_millis(100));
        let mut renamings = 0;
        for _ in 0..50 {
            let message = out.message(&unforeseeable(&out.message_id, out.secret, renamings));
            let attempt = async { self.js.send_publish(out.subject.clone(), message).await?.await }.await;
            match attempt {
                Ok(ack) if ack.duplicate && renamings < MAX_RENAMINGS && !self.is_stored(out, &ack).await? => {
                    tracing::warn!(
                        subject = out.subject,
                        id = out.message_id,
                        stream = ack.stream,
                        sequence = ack.sequence,
                        "the server knows the message's id from another message, which is none of ours; published under \
                         another id"
                    );
                    renamings += 1;
                }
                Ok(ack) => return Ok(Stored { sequence: ack.sequence, duplicate: ack.duplicate }),
                Err(error) => match server_error(&error) {
                    Some(cause) if cause.error_code().0 == FENCE_CONTENDED => {
                        tokio::time::sleep(backoff.next_pause()).await;
                    }
                    _ => return Err(classify(&out.subject, error)),
                },
            }
        }
        Err(PublishError::Unknown { subject: out.subject.clone(), source: "the fence stays contended".into() })
    }

    /// Whether what the server takes for a copy of a message is one.
    async fn is_stored(&self, out: &Outgoing, ack: &PublishAck) -> Result<bool, PublishError> {
        let unknown = |source: async_nats::Error| PublishError::Unknown { subject: out.subject.clone(), source };
        let stream = self.js.get_stream_no_info(&ack.stream).await.map_err(|source| unknown(source.into()))?;
        match stream.get_raw_message(ack.sequence).await {
            Ok(stored) => Ok(stored.subject.as_str() == out.subject && stored.payload[..] == out.payload[..]),
            // Only we take something away: an intent that was acknowledged, what is purged of an ended sector.
            Err(error) if matches!(error.kind(), RawMessageErrorKind::NoMessageFound) => Ok(true),
            Err(error) => Err(unknown(error.into())),
        }
    }

    /// Publishes until the outcome is known: through outages of any length, with the same id.
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

/// The id of a message: the same for the same text and secret, and nobody else can tell it beforehand. The server drops
/// whatever comes under an id that it knows, whoever used it. Without a secret the ids are others after a restart, and a
/// message may be stored again: whoever reads it must know it by its content, as the fold does by an event's number.
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
        // One code for two meanings; only the words tell them apart.
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
