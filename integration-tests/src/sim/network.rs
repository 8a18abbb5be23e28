//! The network between the processes and the bus. Requests may be lost, late or duplicated. Also the answers of the bus.

use sealbus_nats::log::Record;
use sealbus_schema::SectorId;

use super::{
    bus::{Answer, Publish},
    faults::MINUTE,
    world::{Client, Event, Reply, Request, World},
};

impl World {
    /// Sends a request to the bus, and returns its tag. The answer, or [`Reply::Timeout`], has the same tag.
    pub fn request(&mut self, client: Client, request: Request) -> u64 {
        self.tags += 1;
        let tag = self.tags;
        if self.faulty(self.faults.duplicate) {
            let late = self.rng.range(1_000, 20 * MINUTE);
            self.schedule(late, Event::ToServer { client, tag, request: request.clone() });
        }
        if !self.is_cut(client) && !self.faulty(self.faults.loss) {
            let delay = self.latency();
            self.schedule(delay, Event::ToServer { client, tag, request });
        }
        self.schedule(3_000, Event::ToClient { client, tag, reply: Box::new(Reply::Timeout) });
        tag
    }

    /// The bus carries out a request and answers.
    pub fn serve(&mut self, client: Client, tag: u64, request: Request) {
        let is_managers = !matches!(client, Client::Slot(..));
        if self.now < self.outage_until || is_managers && tag <= self.dead_tags {
            return;
        }
        let reply = match request {
            Request::Publish(out) => Reply::Published(self.publish(*out)),
            Request::Offer { intent, stream } => {
                // An offer from before the loss of the queue that arrives late must not claim anything.
                if stream == self.bus.stream {
                    self.check_offer(&intent);
                }
                let answer = self.bus.offer(intent, stream, self.now);
                self.trace(|| format!("queue: {answer:?}"));
                self.deliver_soon();
                Reply::Published(answer)
            }
            Request::Accept(sequence) => {
                if let (Some(queued), Client::Slot(worker, _)) = (self.bus.accept(sequence), client)
                    && queued.stream == self.bus.stream
                {
                    self.check_accept(&queued.intent, worker);
                }
                Reply::Done
            }
            Request::Stream => Reply::Stream(self.bus.stream),
            Request::Lease { sector, worker, stream: None } if self.loses_queue() => {
                // The stream's identity and its content are two requests, one after the other.
                let delay = if self.now < self.faults.end { self.latency() } else { 1 };
                let request = Request::Lease { sector, worker, stream: Some(self.present_stream()) };
                return self.schedule(delay, Event::ToServer { client, tag, request });
            }
            Request::Lease { sector, worker, stream } => {
                self.checks.asked.insert((worker.clone(), sector), self.now);
                let (lease, word) = (self.bus.last_lease(sector).cloned(), self.bus.last_word(sector).cloned());
                Reply::Lease { stream, lease, word, event: self.bus.last_event(sector, &worker).cloned() }
            }
            Request::Read { sector, worker, kinds, facts: None } => {
                // Facts and lease are read one after the other, and anything may happen in between.
                let facts =
                    kinds.iter().filter_map(|kind| self.bus.last_fact(sector, &worker, *kind).cloned()).collect();
                let delay = if self.now < self.faults.end { self.latency() } else { 1 };
                let request = Request::Read { sector, worker, kinds, facts: Some(facts) };
                return self.schedule(delay, Event::ToServer { client, tag, request });
            }
            Request::Read { sector, facts: Some(facts), .. } => {
                let (lease, word) = (self.bus.last_lease(sector).cloned(), self.bus.last_word(sector).cloned());
                Reply::Read { facts, lease, word }
            }
            Request::Log { after } => {
                let most = self.rng.range(1, 20) as usize;
                Reply::Log { stream: self.bus.stream, entries: self.bus.behind(after).take(most).cloned().collect() }
            }
            Request::Purge(sector) => {
                self.bus.purge(sector);
                Reply::Done
            }
        };
        if !self.is_cut(client) && !self.faulty(self.faults.loss) {
            let delay = self.latency();
            self.schedule(delay, Event::ToClient { client, tag, reply: Box::new(reply) });
        }
    }

    /// Publishes a record into the log.
    pub fn publish(&mut self, out: Publish) -> Answer {
        let (record, origin) = (out.record.clone(), out.origin);
        let before = self.bus.last_sequence();
        let answer = self.bus.publish(out, self.now);
        self.trace(|| format!("log: {} {answer:?}", describe(&record)));
        if self.bus.last_sequence() > before {
            if let Some(origin) = origin {
                self.check_stored(&record, origin);
            }
            for manager in 0..self.managers.len() {
                self.wake_fold(manager);
            }
            if let Record::Fact { sector, worker, .. } = record
                && let Some(worker) = self.workers.iter().position(|w| w.name == worker)
                && !self.is_cut(Client::Slot(worker, 0))
                && !self.faulty(self.faults.loss)
            {
                let delay = self.latency();
                self.schedule(delay, Event::Bell { worker, sector });
            }
        }
        answer
    }

    fn is_cut(&self, client: Client) -> bool {
        match client {
            Client::Slot(worker, _) => self.now < self.workers[worker].cut_until,
            Client::Fold(manager) | Client::Outbox(manager) => self.now < self.managers[manager].cut_until,
        }
    }
}

/// Describes a record in a few words.
fn describe(record: &Record) -> String {
    let of = |sector: &SectorId, what: String| format!("{sector} {what}");
    match record {
        Record::Lease { sector, owner: Some(owner), .. } => of(sector, format!("claimed by {owner}")),
        Record::Lease {
            sector,
            owner: None,
            record: sealbus_schema::message::LeaseRecord::Reinstate { worker, token, .. },
        } => of(sector, format!("still is of {worker} under {token}")),
        Record::Lease { sector, owner: None, .. } => of(sector, "released".to_owned()),
        Record::Event { sector, worker, event } => {
            of(sector, format!("{worker} token {} event {} {:?}", event.token, event.number, event.body.kind()))
        }
        Record::Fact { sector, worker, fact } => of(sector, format!("fact for {worker}: {fact:?}")),
        Record::Unreadable { subject, .. } => subject.clone(),
    }
}
