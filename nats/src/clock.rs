//! Ages by the server's clock alone, as the difference of two of its own timestamps. No other host's clock is involved.

use std::time::Duration;

use sealbus_schema::{SectorId, WorkerName, message::FactKind};
use serde::Deserialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{Bus, lease::ReadError, subject, topology};

/// The server's answer to a question about a stream: its present time (`ts`), and when it stored the last record.
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

/// The server answered with an error.
#[derive(Debug, thiserror::Error)]
#[error("the server says: {0}")]
struct NoAnswer(String);

impl Bus {
    /// How long ago the last fact of a kind about a sector was stored. `None` if there is no such fact. If the server
    /// does not report its time, the result is a lower bound: the time until the stream's last record.
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
        // About the same stream: its leader gave the record its timestamp, and answers this request too.
        let (ts, state) = self.told().await.map_err(failed)?;
        let now = ts.or(state.last_ts).and_then(|text| parse(&text));
        // If the clock was set back in between, the age counts as zero.
        Ok(now.map(|now| (now - stored).try_into().unwrap_or_default()))
    }

    /// By how many seconds this host's clock is ahead of the server's; for people, and exact to half the time that the
    /// server takes to answer. `None` if the server does not report its time.
    pub async fn clock_offset(&self) -> Result<Option<f64>, ReadError> {
        let before = OffsetDateTime::now_utc();
        let failed = |source| ReadError::Server { what: topology::SECTORS.to_owned(), source };
        let (ts, _) = self.told().await.map_err(failed)?;
        let took: time::Duration = OffsetDateTime::now_utc() - before;
        let ahead = |server: OffsetDateTime| -> time::Duration { before + took / 2_i32 - server };
        Ok(ts.and_then(|text| parse(&text)).map(|server| ahead(server).as_seconds_f64()))
    }

    async fn told(&self) -> Result<(Option<String>, StreamState), async_nats::Error> {
        let told: Told = self.js.request(format!("STREAM.INFO.{}", topology::SECTORS), &()).await?;
        match told {
            Told::Info { ts, state } => Ok((ts, state)),
            Told::Refused { error } => Err(Box::new(NoAnswer(error.description))),
        }
    }
}

fn parse(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}
