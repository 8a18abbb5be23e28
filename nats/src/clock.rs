//! Ages by the server's clock alone: the difference of two of its own times. No other host's clock comes into it.

use std::time::Duration;

use sealbus_schema::{SectorId, WorkerName, message::FactKind};
use serde::Deserialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{Bus, lease::ReadError, subject, topology};

/// What the server says of a stream: what it calls now, and when it stored the last record.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Told {
    Info {
        #[serde(default)]
        ts: Option<String>,
        state: StreamState,
    },
    Refused {
        error: Refusal,
    },
}

#[derive(Debug, Deserialize)]
struct StreamState {
    #[serde(default)]
    last_ts: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    #[serde(default)]
    description: String,
}

/// The server's answer is none.
#[derive(Debug, thiserror::Error)]
#[error("the server says: {0}")]
struct NoAnswer(String);

impl Bus {
    /// How long ago the last fact of a kind about a sector was stored; none if there is no such fact. Of a server that
    /// does not tell its time it is the least that the age can be, by what was stored since.
    pub async fn fact_age(
        &self,
        sector: SectorId,
        worker: &WorkerName,
        kind: FactKind,
    ) -> Result<Option<Duration>, ReadError> {
        use async_nats::jetstream::stream::LastRawMessageErrorKind;
        let what = subject::fact(sector, worker, kind);
        let failed = |source: async_nats::Error| ReadError::Server { what: what.clone(), source };
        let stream = self.js.get_stream_no_info(topology::SECTORS).await.map_err(|source| failed(source.into()))?;
        let stored = match stream.get_last_raw_message_by_subject(&what).await {
            Ok(message) => message.time,
            Err(error) if matches!(error.kind(), LastRawMessageErrorKind::NoMessageFound) => return Ok(None),
            Err(error) => return Err(failed(error.into())),
        };
        // Of the same stream, so that the same server answers that gave the record its time.
        let told: Told = self
            .js
            .request(format!("STREAM.INFO.{}", topology::SECTORS), &())
            .await
            .map_err(|source| failed(source.into()))?;
        let now = match told {
            Told::Info { ts, state } => ts.or(state.last_ts).and_then(|text| parse(&text)),
            Told::Refused { error } => return Err(failed(Box::new(NoAnswer(error.description)))),
        };
        // A clock that was set back between the two is no time passed.
        Ok(now.map(|now| (now - stored).try_into().unwrap_or_default()))
    }
}

fn parse(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}
