//! A worker's standing orders: one subject a worker, of which the server keeps the last.
//!
//! They stand in a stream, so that a worker that was away finds them, and so that a person sees them with the stock
//! command line. The subscription is only a wake-up.

use async_nats::jetstream::stream::DirectGetErrorKind;
use futures::{StreamExt, stream::BoxStream};
use sealbus_schema::{WorkerName, codec, message::Orders};

use crate::{
    Bus,
    lease::ReadError,
    publish::{Outgoing, PublishError, Stored},
    subject, topology,
};

impl Bus {
    /// Replaces a worker's standing orders.
    pub async fn order(&self, worker: &WorkerName, orders: &Orders) -> Result<Stored, PublishError> {
        let out = Outgoing {
            subject: subject::orders(worker),
            message_id: format!("{worker}.orders.{}", orders.revision),
            kind: "orders",
            payload: codec::encode(orders)?,
            fence: None,
            headers: Vec::new(),
        };
        self.publish(&out).await
    }

    /// A worker's standing orders, if there were any.
    pub async fn orders(&self, worker: &WorkerName) -> Result<Option<Orders>, ReadError> {
        let subject = subject::orders(worker);
        let failed = |source: async_nats::Error| ReadError::Server { what: subject.clone(), source };
        let stream = self.js.get_stream_no_info(topology::COMMANDS).await.map_err(|source| failed(source.into()))?;
        // A direct get, because that permission can be given for one subject alone. A follower may answer with the orders
        // of a moment ago; they are read again and again.
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
            Err(error) => Err(failed(error.into())),
        }
    }

    /// A wake-up each time a worker's orders change while the connection stands.
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
