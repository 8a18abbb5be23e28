//! A worker's standing orders: one subject per worker, of which the server keeps the last message.
//!
//! They are in a stream, so that a worker that was away finds them, and so that a person can see them with the stock
//! command line. The subscription is only a wake-up.

use async_nats::{
    StatusCode,
    jetstream::{self, context::GetStreamErrorKind, stream::DirectGetErrorKind},
};
use futures::{StreamExt, stream::BoxStream};
use sealbus_schema::{WorkerName, codec, message::Orders};

use crate::{
    Bus,
    lease::ReadError,
    publish::{Outgoing, PublishError, Stored},
    subject::{self, Subject},
    topology,
};

impl Bus {
    /// Replaces a worker's standing orders.
    pub async fn order(&self, worker: &WorkerName, orders: &Orders) -> Result<Stored, PublishError> {
        let out = Outgoing {
            subject: subject::orders(worker),
            message_id: format!("{worker}.orders.{}", orders.revision),
            secret: None,
            kind: "orders",
            payload: codec::encode(orders)?,
            fence: None,
            headers: Vec::new(),
        };
        self.publish(&out).await
    }

    /// A worker's standing orders, if there are any. A manager that gives no orders has no stream for them.
    pub async fn orders(&self, worker: &WorkerName) -> Result<Option<Orders>, ReadError> {
        let subject = subject::orders(worker);
        let failed = |source: async_nats::Error| ReadError::Server { what: subject.clone(), source };
        let stream = self.js.get_stream_no_info(topology::COMMANDS).await.map_err(|source| failed(source.into()))?;
        // A direct get, because that can be permitted for a single subject. A follower may answer with slightly older
        // orders, which does no harm: they are read regularly.
        match stream.direct_get_last_for_subject(subject.clone()).await {
            Ok(message) => {
                let sequence = message.sequence;
                codec::decode(&message.payload).map(Some).map_err(|source| ReadError::Unreadable {
                    subject,
                    sequence,
                    source,
                })
            }
            Err(error) if matches!(error.kind(), DirectGetErrorKind::NotFound) => Ok(None),
            // Nobody answers for a stream that does not exist, or has no leader at the moment.
            Err(error)
                if matches!(error.kind(), DirectGetErrorKind::ErrorResponse(StatusCode::NO_RESPONDERS, _))
                    && self.has_no_orders_stream().await =>
            {
                Ok(None)
            }
            Err(error) => Err(failed(error.into())),
        }
    }

    /// Every worker's standing orders on the bus; `None` for orders that cannot be read.
    pub async fn all_orders(&self) -> Result<Vec<(WorkerName, Option<Orders>)>, ReadError> {
        let (messages, _) = self.last_of_each(topology::COMMANDS, "seal.cmd.*").await?;
        let orders = messages.into_iter().filter_map(|(subject, payload, _)| match subject.parse() {
            Ok(Subject::Orders { worker }) => Some((worker, codec::decode(&payload).ok())),
            _ => None,
        });
        Ok(orders.collect())
    }

    async fn has_no_orders_stream(&self) -> bool {
        let Err(error) = self.js.get_stream(topology::COMMANDS).await else { return false };
        matches!(error.kind(), GetStreamErrorKind::JetStream(cause)
            if cause.error_code() == jetstream::ErrorCode::STREAM_NOT_FOUND)
    }

    /// A wake-up each time a worker's orders change while we are connected.
    pub async fn orders_wakeups(&self, worker: &WorkerName) -> Result<BoxStream<'static, ()>, ReadError> {
        let what = subject::orders(worker);
        let subscription = self
            .client
            .subscribe(what.clone())
            .await
            .map_err(|source| ReadError::Server { what, source: source.into() })?;
        Ok(subscription.map(drop).boxed())
    }
}
