//! A stranger with a worker's credential that does not follow the protocol. It claims sectors that were not offered to
//! it, reports under others' tokens, uses up the ids of others' messages, and takes intents out of the queue.
//!
//! It writes about any sector, but only under its own name, because the bus's accounts allow nothing else.

use sealbus_nats::log::Record;
use sealbus_schema::{
    Commitment, ErrorClass, ErrorCode, ErrorReport, ProofBytes, SealProof, SectorId, Token, WorkerName,
    lease::Ownership,
    message::{CommonEvent, Event, EventBody, Intent, LeaseRecord},
    parts::StoredSector,
    workflows::seal,
};

use super::{
    bus::{MessageId, Publish},
    faults::{Incident, Trick},
    world::World,
};

/// How many of the next ids of each kind it uses up at once.
const IDS: u64 = 6;

impl World {
    /// Whether this world has a stranger.
    pub fn has_stranger(&self) -> bool {
        self.faults.incidents.iter().any(|(_, incident)| matches!(incident, Incident::Stranger { .. }))
    }

    /// Claims a sector that was not offered, without a fence.
    pub fn forge_claim(&mut self, sector: SectorId) {
        let record = Record::Lease { sector, owner: Some(stranger()), record: LeaseRecord::Unknown };
        let id = (5, sector, self.now, self.bus.last_sequence(), 0);
        self.publish(Publish { id, fence: None, record, origin: None });
    }

    /// Carries out one of the stranger's tricks.
    pub fn play_trick(&mut self, sector: SectorId, trick: Trick) {
        match trick {
            Trick::Claim => self.claim_in_form(sector),
            Trick::Report => self.report_for_another(sector),
            Trick::UseUpIds => self.use_up_ids(sector),
            Trick::TakeIntent => self.bus.queue.retain(|queued| queued.intent.sector != sector),
        }
    }

    /// Claims a sector in the right form. This is granted only if the sector is offered, as for any worker.
    fn claim_in_form(&mut self, sector: SectorId) {
        let last = self.bus.last_lease(sector).map_or(0, |lease| lease.sequence);
        let (kind, proof) = (self.options.intent(), SealProof::StackedDrg2KiBV1_1);
        let intent = Intent { sector, kind, proof, lease_sequence: last, attempt: 1 };
        let record = LeaseRecord::Claim { intent, host: "elsewhere".to_owned() };
        let record = Record::Lease { sector, owner: Some(stranger()), record };
        let id = (7, sector, self.now, self.bus.last_sequence(), 0);
        self.publish(Publish { id, fence: Some(last), record, origin: None });
    }

    fn report_for_another(&mut self, sector: SectorId) {
        let Some((token, number)) = self.owner_of(sector) else { return };
        let number = number + self.stranger.range(0, 3);
        let body = self.some_body();
        self.write(sector, (7, sector, self.now, number, 1), Event { token, number, body });
    }

    fn use_up_ids(&mut self, sector: SectorId) {
        let Some((token, next)) = self.owner_of(sector) else { return };
        let (row, last) = (self.db.next_row(), self.bus.last_lease(sector).map_or(0, |lease| lease.sequence));
        let of_worker = (next..next + IDS).map(|number| (2, sector, token.0, number, 0));
        let of_manager = (row..row + IDS).map(|row| (3, sector, token.0, row, 0));
        let of_leases = [(4, sector, last, 0, 0), (4, sector, token.0, 0, 0), (6, sector, last, 0, 0)];
        let ids: Vec<MessageId> = of_worker.chain(of_manager).chain(of_leases).collect();
        for id in ids {
            let body = self.some_body();
            self.write(sector, id, Event { token, number: next, body });
        }
    }

    fn write(&mut self, sector: SectorId, id: MessageId, event: Event) {
        let record = Record::Event { sector, worker: stranger(), event };
        self.publish(Publish { id, fence: None, record, origin: None });
    }

    /// The token of a sector's owner, and the number of its next report.
    fn owner_of(&self, sector: SectorId) -> Option<(Token, u64)> {
        match &self.db.sectors.get(&sector)?.ownership {
            Ownership::Held { worker, token, last_event, .. } if *worker != stranger() => {
                Some((*token, last_event + 1))
            }
            _ => None,
        }
    }

    fn some_body(&mut self) -> EventBody {
        let aborted = || ErrorReport::new(ErrorClass::Abort, ErrorCode::ABANDONED, "a stranger's");
        match self.stranger.range(0, 5) {
            0 => CommonEvent::Finished {}.into(),
            1 => seal::Event::Pc1Done {}.into(),
            2 => seal::Event::Pc2Done { comm_r: Commitment([9; 32]), comm_d: Commitment([8; 32]) }.into(),
            3 => {
                let stored = StoredSector { store: "store".to_owned(), files: Vec::new(), identity: None };
                seal::Event::Persisted { stored }.into()
            }
            4 => seal::Event::C2Done { seed_draw: 1, proof: ProofBytes(vec![7; 192]) }.into(),
            _ => CommonEvent::Aborted { error: aborted() }.into(),
        }
    }
}

/// The name of its credential.
pub fn stranger() -> WorkerName {
    "stranger".parse().expect("a worker's name")
}
