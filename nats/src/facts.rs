//! Facts: the manager's answers, and how a worker learns of them.
//!
//! A subscription only wakes the worker; the fact itself is read from the stream. So a reconnection loses nothing, and
//! no worker needs a consumer of its own.

use std::{collections::HashMap, time::Duration};

use futures::{StreamExt, stream::BoxStream};
use sealbus_schema::{
    SectorId, WorkerName, codec,
    message::{CommonFact, Fact, FactBody, FactKind},
};

use crate::{
    Bus,
    lease::ReadError,
    publish::{CLASS_HEADER, Outgoing, PublishError, Stored, TOKEN_HEADER},
    subject::{self, Subject},
    topology,
};

/// How long all answers to one request may take.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Sectors per request. The server returns at most 1024 messages, and a sector has up to a dozen.
const SECTORS_AT_ONCE: usize = 64;

/// A fact that was published. Subscribers hear it before it is stored, and even if the server then refuses it.
#[derive(Clone, Debug, PartialEq)]
pub struct Heard {
    /// The sector that it is about.
    pub sector: SectorId,
    /// The fact, if it can be read.
    pub fact: Option<Fact>,
}

impl Bus {
    /// Publishes a fact, fenced by the lease that it is meant for. `id` makes repetitions recognisable. A fact of a
    /// newer version is refused: this release does not know what it says.
    pub async fn tell(
        &self,
        sector: SectorId,
        worker: &WorkerName,
        fact: &Fact,
        id: &str,
    ) -> Result<Stored, PublishError> {
        self.tell_behind(sector, worker, fact, id, fact.token.0).await
    }

    /// The same for an owner that was reinstated by the lease record at `fence`.
    pub async fn tell_behind(
        &self,
        sector: SectorId,
        worker: &WorkerName,
        fact: &Fact,
        id: &str,
        fence: u64,
    ) -> Result<Stored, PublishError> {
        let subject_of = |kind| subject::fact(sector, worker, kind);
        let Some(kind) = fact.kind() else {
            return Err(PublishError::Refused {
                subject: subject::facts_for(worker),
                code: 0,
                description: "a fact of a newer version".to_owned(),
            });
        };
        let mut headers = vec![(TOKEN_HEADER, fact.token.to_string())];
        if let FactBody::Common(CommonFact::Abandon { error }) = &fact.body {
            headers.push((CLASS_HEADER, error.class.name().to_owned()));
        }
        let out = Outgoing {
            subject: subject_of(kind),
            message_id: format!("{}.{}.{}.fact.{id}", sector.miner, sector.number, fact.token),
            secret: None,
            kind: kind.name(),
            payload: codec::encode(fact)?,
            fence: Some((sector, fence)),
            headers,
        };
        self.publish(&out).await
    }

    /// The last fact of a kind for a worker about a sector, with its sequence.
    pub async fn last_fact(
        &self,
        sector: SectorId,
        worker: &WorkerName,
        kind: FactKind,
    ) -> Result<Option<Fact>, ReadError> {
        let subject = subject::fact(sector, worker, kind);
        let Some((subject, sequence, payload)) = self.last_record(&subject).await? else { return Ok(None) };
        let fact: Fact = codec::decode(&payload).map_err(|source| ReadError::Unreadable {
            subject: subject.clone(),
            sequence,
            source,
        })?;
        if fact.kind().is_some_and(|said| said != kind) {
            tracing::error!(subject, sequence, "a fact whose kind differs from its subject's; ignored");
            return Ok(None);
        }
        Ok(Some(fact))
    }

    /// For each of these sectors, the sequence of the last lease record or fact for the worker in its log. One request
    /// covers many sectors. Any replica of the stream may answer, so records of the last moments may be missing.
    pub async fn last_sequences(
        &self,
        sectors: &[SectorId],
        worker: &WorkerName,
    ) -> Result<HashMap<SectorId, u64>, ReadError> {
        let mut last = HashMap::new();
        for sectors in sectors.chunks(SECTORS_AT_ONCE) {
            let of_sector = |sector: &SectorId| [subject::leases_of(*sector), subject::facts_about(*sector, worker)];
            let subjects: Vec<String> = sectors.iter().flat_map(of_sector).collect();
            for (subject, sequence, _) in self.records_of_subjects(topology::SECTORS, &subjects, READ_TIMEOUT).await? {
                if let Ok(Subject::Lease { sector, .. } | Subject::Fact { sector, .. }) = subject.parse() {
                    let newest = last.entry(sector).or_insert(sequence);
                    *newest = sequence.max(*newest);
                }
            }
        }
        Ok(last)
    }

    /// Subject, sequence and content of the last message of each subject that these subjects or wildcards match. Uses the
    /// server's request for many subjects at once (`multi_last` of its ADR 31), which async-nats does not support.
    pub(crate) async fn records_of_subjects(
        &self,
        stream: &str,
        subjects: &[String],
        limit: Duration,
    ) -> Result<Vec<(String, u64, Vec<u8>)>, ReadError> {
        let failed = |source: async_nats::Error| ReadError::Server { what: stream.to_owned(), source };
        let reading = async {
            let inbox = self.client.new_inbox();
            let mut answers = self.client.subscribe(inbox.clone()).await?;
            let request = serde_json::to_vec(&serde_json::json!({ "multi_last": subjects }))?;
            let to = format!("{}.DIRECT.GET.{stream}", self.api_prefix);
            self.client.publish_with_reply(to, inbox, request.into()).await?;
            let mut found = Vec::new();
            while let Some(message) = answers.next().await {
                match message.status {
                    // 204 ends the answers; 404 means that there are none.
                    Some(status) if matches!(status.as_u16(), 204 | 404) => return Ok(found),
                    Some(status) => {
                        let said = message.description.unwrap_or_default();
                        return Err(format!("the server answers {status}: {said}").into());
                    }
                    None => {}
                }
                let header = |name: &str| message.headers.as_ref()?.get(name).map(ToString::to_string);
                if let (Some(subject), Some(Ok(sequence))) =
                    (header("Nats-Subject"), header("Nats-Sequence").map(|text| text.parse()))
                {
                    found.push((subject, sequence, message.payload.to_vec()));
                }
            }
            Err("the connection is gone".into())
        };
        match tokio::time::timeout(limit, reading).await {
            Ok(outcome) => outcome.map_err(failed),
            Err(_) => Err(failed(format!("no answer within {} s", limit.as_secs()).into())),
        }
    }

    /// A wake-up for each fact that is published for a worker while we are connected.
    pub async fn fact_wakeups(&self, worker: &WorkerName) -> Result<BoxStream<'static, Heard>, ReadError> {
        let what = subject::facts_for(worker);
        let subscription = self
            .client
            .subscribe(what.clone())
            .await
            .map_err(|source| ReadError::Server { what, source: source.into() })?;
        let heard = subscription.filter_map(|message| async move {
            match message.subject.parse() {
                Ok(Subject::Fact { sector, .. }) => Some(Heard { sector, fact: codec::decode(&message.payload).ok() }),
                _ => None,
            }
        });
        Ok(heard.boxed())
    }
}
