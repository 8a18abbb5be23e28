//! What the manager answers, and how a worker learns of it.
//!
//! The subscription is only a wake-up; what counts is read back from the stream. So nothing is lost over a
//! reconnection, and no worker needs a consumer of its own.

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
};

impl Bus {
    /// Publishes a fact, fenced by the lease that it is meant for. `id` makes repetitions recognisable. A fact of a
    /// newer version is not ours to publish.
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
            tracing::error!(subject, sequence, "a fact of another kind than its subject says; not followed");
            return Ok(None);
        }
        Ok(Some(fact))
    }

    /// A wake-up for each fact that is published for a worker while the connection stands.
    pub async fn fact_wakeups(&self, worker: &WorkerName) -> Result<BoxStream<'static, SectorId>, ReadError> {
        let what = subject::facts_for(worker);
        let subscription = self
            .client
            .subscribe(what.clone())
            .await
            .map_err(|source| ReadError::Server { what, source: source.into() })?;
        let sectors = subscription.filter_map(|message| async move {
            match message.subject.parse() {
                Ok(Subject::Fact { sector, .. }) => Some(sector),
                _ => None,
            }
        });
        Ok(sectors.boxed())
    }
}
