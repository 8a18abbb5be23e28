//! Decides a person's orders about a sector. Pure, like [`life`]: the command line tries an order on a copy for the
//! preview, and stores the outcome of the same function after the confirmation.

use sealbus_schema::{
    ErrorClass, ErrorCode, ErrorReport, Phase, Transition,
    lease::Ownership,
    machine::manager::{AtStake, AttemptPolicy},
    workflows::Input,
};
use serde_json::json;

use crate::{
    life,
    store::{Happening, Job, Outcome, Outgoing, Verdict},
};

/// An order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// The cause is resolved: continue.
    Resubmit {
        /// The phase to go back to; `None`: continue where the sector is.
        from: Option<Phase>,
    },
    /// Take the sector from its worker, so that another one gets it.
    Elsewhere,
    /// Give the sector up.
    Abandon {
        /// Whether the loss of the PreCommit's deposit is accepted.
        lose_deposit: bool,
    },
    /// The sector's slot is released: the lease ends, whatever the sector waits for.
    SlotReleased {
        /// The slot's directory.
        slot: String,
    },
}

/// The person who gives the order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// The person's user name.
    pub name: String,
    /// The person's reason; may be empty.
    pub why: String,
}

/// Why an order is not possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refusal(&'static str);

/// What happens to a sector after an order has ended its lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterRelease {
    /// It starts over, as a new attempt with a new ticket.
    NewAttempt,
    /// It is sealed again from the start, with the same ticket and to the same CommR.
    Rebuilt,
    /// It continues without a worker.
    GoesOn,
    /// It is active or given up, and the lease was its last remainder.
    Ends,
}

impl Command {
    /// The order's verb, as in the audit.
    pub const fn verb(&self) -> &'static str {
        match self {
            Command::Resubmit { .. } | Command::Elsewhere => "sectors resubmit",
            Command::Abandon { .. } => "sectors abandon",
            Command::SlotReleased { .. } => "slots release",
        }
    }

    /// The order's details, for the audit and the history.
    pub fn detail(&self) -> serde_json::Value {
        match self {
            Command::Resubmit { from } => json!({ "from": from }),
            Command::Elsewhere => json!({ "elsewhere": true }),
            Command::Abandon { lose_deposit } => json!({ "lose_deposit": lose_deposit }),
            Command::SlotReleased { slot } => json!({ "slot": slot }),
        }
    }
}

/// The effect of an order on a sector.
pub fn carry_out(sector: Job, command: &Command, person: &Person, policy: AttemptPolicy) -> Result<Outcome, Refusal> {
    match command {
        Command::Resubmit { from } => {
            decide(sector, Input::Resubmitted { from: *from }, happening("resubmitted", command, person), policy)
        }
        Command::Abandon { lose_deposit } => {
            let why = if person.why.is_empty() { "no reason was given" } else { &person.why };
            let cause = ErrorReport::new(
                ErrorClass::Abort,
                ErrorCode::ABANDONED,
                format!("given up by {}: {why}", person.name),
            );
            let input = Input::Abandoned { cause, lose_deposit: *lose_deposit };
            decide(sector, input, happening("abandoned", command, person), policy)
        }
        Command::Elsewhere => elsewhere(sector, command, person, policy),
        Command::SlotReleased { slot } => match sector.ownership {
            Ownership::Free { .. } => Err(Refusal("nobody has it")),
            Ownership::Held { .. } => {
                let reason = format!("slot {slot} released by {}", person.name);
                Ok(revoke(Outcome::unchanged(sector), reason).told(happening("slot_released", command, person)))
            }
        },
    }
}

fn elsewhere(sector: Job, command: &Command, person: &Person, policy: AttemptPolicy) -> Result<Outcome, Refusal> {
    let (at, blocked) = (&sector.state, sector.blocked.is_some());
    let needed_again = at.needed_again();
    let needs_no_worker = needed_again.is_some();
    let held = matches!(sector.ownership, Ownership::Held { .. });
    if at.is_terminal() {
        return Err(Refusal("it has come to its end already"));
    }
    if sector.blocked.as_ref().is_some_and(|cause| cause.code == ErrorCode::NUMBER_TAKEN) {
        return Err(Refusal("its number is taken on chain: sealed again it would be refused again; give it up"));
    }
    if needs_no_worker && !blocked {
        return Err(Refusal("its proof is here and no worker is needed any more; wait for its ProveCommit"));
    }
    if !held && !blocked {
        return Err(Refusal("nobody has it: it is in the queue, for the next free slot"));
    }
    let order = happening("resubmitted", command, person);
    if !needs_no_worker && held {
        let reason = format!("given to another worker by {}", person.name);
        return Ok(revoke(Outcome::unchanged(sector), reason).told(order));
    }
    // It goes back to a state in which it needs a worker.
    let mut outcome = decide(sector, Input::Resubmitted { from: needed_again }, order, policy)?;
    // The owner loses the sector, so there is nothing to tell it.
    outcome.outbox.retain(|outgoing| !matches!(outgoing, Outgoing::Fact { .. }));
    if matches!(outcome.sector.ownership, Ownership::Held { .. }) {
        let reason = format!("given to another worker by {}", person.name);
        outcome = revoke(outcome, reason);
    }
    Ok(outcome)
}

/// Ends the lease. The consequences are decided when the fold reads the release in the log: only then has the lease
/// ended.
fn revoke(mut outcome: Outcome, reason: String) -> Outcome {
    let lease_sequence = outcome.sector.ownership.lease();
    // A person has decided, so the count of offers starts again.
    outcome.sector.issues = 0;
    outcome.outbox.push(Outgoing::Release { lease_sequence, reason });
    outcome
}

fn decide(sector: Job, input: Input, happening: Happening, policy: AttemptPolicy) -> Result<Outcome, Refusal> {
    match sector.apply(input.clone(), policy) {
        Transition::Illegal(why) | Transition::Ignore(why) => Err(Refusal(why)),
        Transition::Advance { .. } => Ok(life::decide(sector, input, happening, policy)),
    }
}

fn happening(kind: &str, command: &Command, person: &Person) -> Happening {
    let mut detail = command.detail();
    detail["why"] = json!(person.why);
    Happening { actor: person.name.clone(), ..Happening::of_manager(kind, detail) }
}

/// What will happen to the sector after the lease that this outcome ends.
pub fn after_release(outcome: &Outcome, policy: AttemptPolicy) -> AfterRelease {
    let sector = &outcome.sector;
    let next = match sector.ownership {
        Ownership::Free { .. } => sector.standing(),
        Ownership::Held { .. } => match sector.apply(Input::Released(life::released(sector)), policy) {
            Transition::Advance { next, .. } => next,
            Transition::Ignore(_) | Transition::Illegal(_) => sector.standing(),
        },
    };
    let traits = next.at.traits();
    match traits.offered.filter(|_| next.blocked.is_none()) {
        Some(_) if next.at.at_stake() == AtStake::Nothing => AfterRelease::NewAttempt,
        Some(_) => AfterRelease::Rebuilt,
        None if traits.is_terminal() => AfterRelease::Ends,
        None => AfterRelease::GoesOn,
    }
}

impl Outcome {
    /// Adds a line of history.
    fn told(mut self, happening: Happening) -> Outcome {
        self.sector.changed_at.clone_from(&happening.at);
        self.history.push((happening, Verdict::Applied));
        self
    }
}

#[cfg(test)]
mod tests {
    use sealbus_schema::{
        Commitment, ProofBytes, Randomness, SealProof, Token, Workflow,
        message::EventBody,
        parts::{PreCommitInfo, Seed, StoredSector, Ticket},
        workflows::{
            State,
            seal::{self, manager::Answer},
        },
    };

    use super::*;
    use crate::store::MessageKind;

    const POLICY: AttemptPolicy = AttemptPolicy { max_attempts: 3, max_issues: 2 };

    fn person() -> Person {
        Person { name: "alice".into(), why: "a new disk".into() }
    }

    fn queued() -> Job {
        Job {
            id: "f01000/1".parse().expect("sector"),
            proof: SealProof::StackedDrg2KiBV1_1,
            attempt: 1,
            issues: 2,
            resubmits: 0,
            signed: false,
            created_at: String::new(),
            changed_at: String::new(),
            ownership: Ownership::Free { last_lease: 0 },
            leased_at: None,
            state: State::start(Workflow::Seal),
            blocked: None,
        }
    }

    fn step(mut sector: Job, input: Input) -> Job {
        if input == Input::Claimed {
            let worker = "w1".parse().expect("worker");
            sector.ownership = Ownership::claimed(worker, Token(9));
        }
        let outcome = life::decide(sector, input, Happening::of_manager("test", json!({})), POLICY);
        let signed = outcome.messages.iter().any(|message| message.kind == MessageKind::PreCommit);
        let mut sector = outcome.sector;
        sector.signed |= signed;
        sector
    }

    /// A sector in each state of a life that goes well, in order, each with its worker.
    fn life() -> Vec<Job> {
        let ticket = Ticket {
            draw: 1,
            randomness: Randomness([3; 32]),
            epoch: 0,
            expires_epoch: 100,
            head_epoch: 20,
            epoch_millis: 1,
        };
        let precommit = PreCommitInfo { epoch: 30, prove_by_epoch: 400, head_epoch: 31, epoch_millis: 1 };
        let inputs = [
            Input::Claimed,
            Input::Event(EventBody::Seal(seal::Event::TicketWanted { draw: 1 })),
            Input::from(Answer::TicketDrawn(ticket)),
            Input::Event(EventBody::Seal(seal::Event::Pc2Done {
                comm_r: Commitment([1; 32]),
                comm_d: Commitment([2; 32]),
            })),
            Input::from(Answer::PreCommitLanded(precommit)),
            Input::Event(EventBody::Seal(seal::Event::Persisted {
                stored: StoredSector { store: "main".into(), files: vec![], identity: None },
            })),
            Input::from(Answer::FilesChecked),
            Input::from(Answer::SeedDrawn(Seed { draw: 1, randomness: Randomness([4; 32]), epoch: 40 })),
            Input::Event(EventBody::Seal(seal::Event::C2Done { seed_draw: 1, proof: ProofBytes(vec![7; 192]) })),
            Input::from(Answer::ProofVerified),
            Input::from(Answer::ProveLanded { activation_epoch: 50 }),
        ];
        let mut states = vec![queued()];
        for input in inputs {
            states.push(step(states[states.len() - 1].clone(), input));
        }
        states
    }

    fn at(name: &str) -> Job {
        life().into_iter().find(|sector| sector.state.name() == name).expect("a state of the happy path")
    }

    fn blocked(sector: Job) -> Job {
        step(sector, Input::Refused(ErrorReport::new(ErrorClass::Perm, ErrorCode::PROOFS_FAILED, "a test")))
    }

    #[test]
    fn a_sector_that_goes_elsewhere_leaves_by_a_release_and_never_by_an_intent() {
        for sector in life().into_iter().flat_map(|sector| [sector.clone(), blocked(sector)]) {
            let name = sector.state.name();
            let held = matches!(sector.ownership, Ownership::Held { .. });
            match carry_out(sector, &Command::Elsewhere, &person(), POLICY) {
                Ok(outcome) if held => {
                    assert!(matches!(outcome.outbox[..], [Outgoing::Release { lease_sequence: 9, .. }]), "{name}");
                    assert_eq!(outcome.sector.issues, 0, "{name}: a person has looked");
                    assert!(matches!(&outcome.history[..], [(entry, _)] if entry.actor == "alice"), "{name}");
                }
                Ok(outcome) => assert!(matches!(outcome.outbox[..], [Outgoing::Intent(_)]), "{name}"),
                Err(_) => assert!(["queued", "verifying_proof", "prove_committing"].contains(&name), "{name}"),
            }
        }
    }

    #[test]
    fn the_cost_of_going_elsewhere_is_told_before_it_is_paid() {
        for (name, block, cost) in [
            ("packing", false, AfterRelease::NewAttempt),
            ("sealing", true, AfterRelease::NewAttempt),
            ("pre_committing", false, AfterRelease::Rebuilt),
            ("committing", true, AfterRelease::Rebuilt),
            ("prove_committing", true, AfterRelease::Rebuilt),
            ("cleaning", true, AfterRelease::Ends),
        ] {
            let sector = if block { blocked(at(name)) } else { at(name) };
            let outcome = carry_out(sector, &Command::Elsewhere, &person(), POLICY).expect(name);
            assert_eq!(after_release(&outcome, POLICY), cost, "{name}");
        }
    }

    #[test]
    fn a_released_slot_ends_the_lease_in_every_state() {
        for sector in life() {
            let (name, held) = (sector.state.name(), matches!(sector.ownership, Ownership::Held { .. }));
            let command = Command::SlotReleased { slot: "/nvme0".into() };
            let state = sector.state.clone();
            match carry_out(sector, &command, &person(), POLICY) {
                Ok(outcome) => {
                    assert!(held && matches!(outcome.outbox[..], [Outgoing::Release { .. }]), "{name}");
                    assert_eq!(outcome.sector.state, state, "{name}: what follows is the log's to say");
                }
                Err(_) => assert!(!held, "{name}"),
            }
        }
    }

    #[test]
    fn a_sector_whose_number_is_taken_is_not_sealed_again_elsewhere() {
        for name in ["sealing", "pre_committing", "committing"] {
            let taken = ErrorReport::new(ErrorClass::Perm, ErrorCode::NUMBER_TAKEN, "a test");
            let sector = step(at(name), Input::Refused(taken));
            let refusal = carry_out(sector.clone(), &Command::Elsewhere, &person(), POLICY).expect_err(name);
            assert!(refusal.to_string().contains("taken"), "{refusal}");
            assert!(carry_out(sector, &Command::Abandon { lose_deposit: true }, &person(), POLICY).is_ok(), "{name}");
        }
    }

    #[test]
    fn an_order_that_the_machine_refuses_has_no_outcome() {
        let resubmit = Command::Resubmit { from: None };
        assert!(carry_out(at("sealing"), &resubmit, &person(), POLICY).is_err());
        assert!(carry_out(blocked(at("sealing")), &resubmit, &person(), POLICY).is_ok());
        let keep = Command::Abandon { lose_deposit: false };
        let refusal = carry_out(at("committing"), &keep, &person(), POLICY).expect_err("a deposit is at stake");
        assert!(refusal.to_string().contains("deposit"), "{refusal}");
        let outcome = carry_out(at("sealing"), &keep, &person(), POLICY).expect("nothing is at stake");
        let cause = outcome.sector.state.cause().expect("abandoning");
        assert_eq!(cause.message(), "given up by alice: a new disk");
    }
}
