//! The bus, as far as proofs need it.

use std::time::Duration;

use futures::stream::BoxStream;
use sealbus_nats::{
    Bus,
    post::{PostQueue, PostSaid, PostTakers},
};
use sealbus_schema::{
    MinerId,
    post::{PostJob, PostTask},
};

use super::Error;
use crate::config::Config;

/// Offers tasks to workers, and hears what becomes of them.
pub trait Tasks: Sync {
    /// Makes a queue, unless it is there.
    fn ensure(&self, queue: &PostQueue) -> impl Future<Output = Result<(), Error>> + Send;

    /// Offers a task, unless it is in the queue.
    fn offer(&self, task: &PostTask) -> impl Future<Output = Result<(), Error>> + Send;

    /// Takes a job's tasks out of the queues.
    fn withdraw(&self, miner: MinerId, job: &PostJob) -> impl Future<Output = Result<(), Error>> + Send;

    /// Says that window PoSts of a miner are due soon, or are being made.
    fn tell_due(&self, _: MinerId) -> impl Future<Output = Result<(), Error>> + Send {
        std::future::ready(Ok(()))
    }

    /// Who takes from a queue. Where that cannot be known, one worker is there.
    fn takers(&self, _: &PostQueue) -> impl Future<Output = Result<Option<PostTakers>, Error>> + Send {
        std::future::ready(Ok(Some(PostTakers { waiting: 1, working: 0, queued: 0 })))
    }

    /// What workers have said within the last two hours, and what they say.
    fn reports(&self) -> impl Future<Output = Result<BoxStream<'static, Result<PostSaid, Error>>, Error>> + Send;
}

/// The queues on the bus.
pub struct Queues {
    bus: Bus,
    /// After how long without a sign of life of its worker a task goes to another one.
    silence: Duration,
}

impl Queues {
    /// The queues as the configuration has them.
    pub fn new(bus: &Bus, config: &Config) -> Queues {
        Queues { bus: bus.clone(), silence: Duration::from_secs(config.proving.silence_secs) }
    }
}

impl Tasks for Queues {
    async fn ensure(&self, queue: &PostQueue) -> Result<(), Error> {
        self.bus.ensure_post_queue(queue, self.silence).await.map_err(bus)
    }

    async fn offer(&self, task: &PostTask) -> Result<(), Error> {
        self.bus.offer_post(task).await.map(drop).map_err(bus)
    }

    async fn withdraw(&self, miner: MinerId, job: &PostJob) -> Result<(), Error> {
        self.bus.withdraw_post(miner, job).await.map_err(bus)
    }

    async fn tell_due(&self, miner: MinerId) -> Result<(), Error> {
        self.bus.tell_post_due(miner).await.map(drop).map_err(bus)
    }

    async fn takers(&self, queue: &PostQueue) -> Result<Option<PostTakers>, Error> {
        self.bus.post_takers(queue).await.map_err(bus)
    }

    async fn reports(&self) -> Result<BoxStream<'static, Result<PostSaid, Error>>, Error> {
        use futures::StreamExt;
        let reports = self.bus.post_reports().await.map_err(bus)?;
        Ok(reports.map(|said| said.map_err(bus)).boxed())
    }
}

fn bus(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Bus(Box::new(error))
}
