//! The messages on the bus.
//!
//! An *intent* is the manager's offer of work. An *event* is a worker's report, and a *fact* is the manager's answer. A
//! *lease record* changes who owns a sector. A *heartbeat* says that a worker is alive and what it holds. *Orders* are
//! a person's instructions to a whole machine.

mod event;
mod fact;
mod heartbeat;
mod intent;
mod orders;

pub use event::{CommonEvent, Event, EventBody, NewerEvent, WorkflowEvent};
pub use fact::{CommonFact, Fact, FactBody, FactKind, NewerFact, WorkflowFact};
pub use heartbeat::{BrokenInvariant, Heartbeat, Holding, ProcessorStatus, SlotStatus, WorkStatus};
pub use intent::{Intent, LeaseRecord};
pub use orders::{KnownSlot, MAX_WEIGHT, Orders, SlotRelease, Weights};

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::{Commitment, ProofBytes, Token, codec, workflows::seal};

    #[test]
    fn an_event_survives_the_bus_and_reads_well_as_json() {
        let event = Event {
            token: Token(7),
            number: 3,
            body: seal::Event::Pc2Done { comm_r: Commitment([1; 32]), comm_d: Commitment([2; 32]) }.into(),
        };
        let back: Event = codec::decode(&codec::encode(&event).expect("packs")).expect("unpacks");
        assert_eq!(back, event);
        let json = serde_json::to_value(&event).expect("json");
        assert_eq!(json["body"]["kind"], "pc2_done");
        assert_eq!(json["body"]["comm_r"], "01".repeat(32));
        assert_eq!(serde_json::from_value::<Event>(json).expect("json"), event);
    }

    #[test]
    fn a_proof_takes_one_byte_a_byte() {
        let body = seal::Event::C2Done { seed_draw: 1, proof: ProofBytes(vec![0xff; 1920]) }.into();
        let bytes = codec::encode(&Event { token: Token(1), number: 1, body }).expect("packs");
        assert!(bytes.len() < 2000, "{}", bytes.len());
    }

    #[test]
    fn an_older_reader_takes_a_newer_event_as_unknown_and_skips_new_fields() {
        #[derive(Serialize)]
        struct Newer {
            token: u64,
            number: u64,
            added_later: &'static str,
            body: NewerBody,
        }
        #[derive(Serialize)]
        #[serde(tag = "kind", rename_all = "snake_case")]
        enum NewerBody {
            TeleportDone { to: &'static str },
        }
        let newer = Newer { token: 1, number: 2, added_later: "x", body: NewerBody::TeleportDone { to: "mars" } };
        let bytes = rmp_serde::to_vec_named(&newer).expect("packs");
        let event: Event = codec::decode(&bytes).expect("unpacks");
        assert!(matches!(event.body, EventBody::Newer(newer) if newer.kind == "teleport_done"));
    }

    #[test]
    fn a_newer_reader_fills_in_what_an_older_event_lacks() {
        #[derive(Serialize, Deserialize)]
        struct Older {
            class: crate::ErrorClass,
            code: String,
            causes: Vec<String>,
        }
        let older = Older { class: crate::ErrorClass::Temp, code: "IO_FAILED".into(), causes: vec!["x".into()] };
        let bytes = rmp_serde::to_vec_named(&older).expect("packs");
        let report: crate::ErrorReport = codec::decode(&bytes).expect("unpacks");
        assert_eq!(report.attempt, 0);
    }
}
