//! What a slot's states need, simulated: processors, phases, pauses, an empty slot.

use sealbus_schema::{
    Commitment, ErrorClass, ErrorCode, ErrorReport, Invariant, Phase, ProofBytes,
    machine::worker::{Input, Need, State},
    parts::{PieceInfo, StoredSector},
    workflows::seal::worker::{Progress, Step},
};
use sealbus_worker::driver::core::Happened;

use super::{
    bug::Bug,
    chain,
    faults::MINUTE,
    loss,
    rng::{bytes, words},
    slot::SlotState,
    world::{Event, World},
};

impl World {
    /// Ends what a slot works on. The process's end frees its processors in any case.
    pub fn drop_work(&mut self, w: usize, s: usize, for_good: bool) {
        if let SlotState::Living(living) = &mut self.workers[w].slots[s].state {
            living.work += 1;
        }
        self.workers[w].waiting.retain(|(_, waiting, _)| *waiting != s);
        if for_good || self.options.bug != Some(Bug::KeepProcessor) {
            self.give_back(w, s);
        }
    }

    fn give_back(&mut self, w: usize, s: usize) {
        let freed: Vec<Phase> =
            self.workers[w].holders.iter().filter(|(_, holder)| *holder == s).map(|(phase, _)| *phase).collect();
        self.workers[w].holders.retain(|(_, holder)| *holder != s);
        for (phase, slot, work) in self.workers[w].waiting.clone() {
            if freed.contains(&phase) {
                let generation = self.workers[w].slots[slot].generation;
                self.schedule(1, Event::Work { worker: w, slot, generation, work, happened: Box::new(None) });
            }
        }
    }

    /// Begins what a state needs, instead of what was done before.
    pub fn begin_work(&mut self, w: usize, s: usize, state: &State) {
        self.drop_work(w, s, false);
        match state.need() {
            Need::Run(phase) => self.acquire(w, s, phase),
            Need::Room(_) => self.look_for_room(w, s),
            Need::Retry => {
                let pause = 30_000 * u64::from(state.attempt());
                self.work_in(w, s, pause, Some(Happened::Worked(Input::RetryDue)));
            }
            Need::Clean => {
                let failed = self.faulty(self.faults.disk);
                let error = ErrorReport::new(ErrorClass::Temp, ErrorCode::IO_FAILED, "as drawn");
                let input = if failed { Input::Failed { error } } else { Input::Cleaned };
                self.work_in(w, s, 50, Some(Happened::Worked(input)));
            }
            Need::Fact | Need::Person | Need::Nothing => {}
        }
    }

    fn acquire(&mut self, w: usize, s: usize, phase: Phase) {
        let work = self.work_of(w, s);
        let worker = &mut self.workers[w];
        worker.waiting.retain(|(_, waiting, _)| *waiting != s);
        if worker.holders.iter().any(|(held, by)| *held == phase && *by != s) {
            worker.waiting.push((phase, s, work));
            return;
        }
        worker.holders.push((phase, s));
        self.push_inbox(w, s, work, Happened::Acquired { processor: phase.name().to_owned() });
    }

    fn look_for_room(&mut self, w: usize, s: usize) {
        let work = self.work_of(w, s);
        let worker = &mut self.workers[w];
        worker.waiting.retain(|(_, waiting, _)| *waiting != s);
        if worker.holders.iter().any(|(held, _)| *held == Phase::Pc1) {
            worker.waiting.push((Phase::Pc1, s, work));
        } else {
            self.push_inbox(w, s, work, Happened::Worked(Input::from(Progress::Pc1RoomSeen)));
        }
    }

    /// Work comes to something, or a processor may be free.
    pub fn slot_worked(&mut self, w: usize, s: usize, generation: u64, work: u64, happened: Option<Happened>) {
        let slot = &self.workers[w].slots[s];
        let SlotState::Living(living) = &slot.state else { return };
        if slot.generation != generation || living.work != work {
            return;
        }
        let need = living.core.journal().state.need();
        match (happened, need) {
            (Some(happened), _) => {
                // The processor is free before the result is told.
                if self.options.bug != Some(Bug::KeepProcessor) {
                    self.give_back(w, s);
                }
                self.push_inbox(w, s, work, happened);
            }
            (None, Need::Run(phase)) => self.acquire(w, s, phase),
            (None, Need::Room(_)) => self.look_for_room(w, s),
            (None, _) => {}
        }
    }

    /// Runs a phase on the processor that the slot has.
    pub fn run_phase(&mut self, w: usize, s: usize, state: &State) {
        let phase = state.step().and_then(|step| step.phase());
        let Some(step) = state.step().and_then(|step| step.seal()).cloned() else { return };
        self.check_seed(w, s, &step);
        if let (SlotState::Living(living), Some(phase)) = (&self.workers[w].slots[s].state, phase) {
            let journal = living.core.journal().clone();
            self.check_phase(&journal, phase);
        }
        let millis = match phase {
            Some(Phase::AddPieces | Phase::TreeD | Phase::C1) => self.rng.range(5_000, 30_000),
            Some(Phase::Pc1) => self.rng.range(3 * MINUTE, 12 * MINUTE),
            _ => self.rng.range(20_000, 4 * MINUTE),
        };
        let SlotState::Living(living) = &self.workers[w].slots[s].state else { return };
        let sector = living.core.journal().intent.sector;
        let input = match self.failure() {
            Some(error) => Input::Failed { error },
            None => self.outcome(sector, &step),
        };
        self.work_in(w, s, millis, Some(Happened::Worked(input)));
    }

    fn failure(&mut self) -> Option<ErrorReport> {
        if !self.faulty(self.faults.work) {
            return None;
        }
        let (class, code) = match self.rng.range(0, 99) {
            0..80 => (ErrorClass::Temp, ErrorCode::PROCESSOR_DIED),
            80..88 => (ErrorClass::Perm, ErrorCode::PROOFS_FAILED),
            88..94 => (ErrorClass::Crit, ErrorCode::DISK_FULL),
            _ => (ErrorClass::Abort, ErrorCode::PIECE_UNSUPPORTED),
        };
        Some(ErrorReport::new(class, code, "as drawn"))
    }

    /// What a phase yields: nothing but what went in decides.
    fn outcome(&mut self, sector: sealbus_schema::SectorId, step: &Step) -> Input {
        let comm_d = Commitment(bytes(&[1, sector.number.0]));
        match step {
            Step::AddingPieces { .. } => Input::from(Progress::PiecesAdded {
                pieces: vec![PieceInfo { commitment: comm_d, padded_bytes: 2048 }],
            }),
            Step::BuildingTreeD { .. } => Input::from(Progress::TreeDBuilt { comm_d }),
            Step::Pc1 { .. } => Input::from(Progress::Pc1Done),
            Step::Pc2 { ticket, .. } => {
                let mut parts = vec![2, sector.number.0];
                parts.extend(words(&ticket.randomness.0));
                Input::from(Progress::Pc2Done { comm_r: Commitment(bytes(&parts)), comm_d })
            }
            Step::Transferring { replica, .. } => {
                self.checks.store.insert(sector, replica.comm_r.0);
                Input::from(Progress::Persisted {
                    stored: StoredSector { store: "store".to_owned(), files: Vec::new(), identity: None },
                })
            }
            Step::C1 { .. } => Input::from(Progress::C1Done),
            Step::C2 { replica, seed, .. } => Input::from(Progress::C2Done {
                proof: ProofBytes(chain::proof(sector, &replica.comm_r.0, &seed.randomness.0)),
            }),
            other => {
                let what = format!("step {} was run", other.name());
                Input::Failed { error: ErrorReport::new(ErrorClass::Perm, ErrorCode::PROTOCOL_VIOLATED, what) }
            }
        }
    }

    fn check_seed(&mut self, w: usize, s: usize, step: &Step) {
        let (Step::C1 { seed, .. } | Step::C2 { seed, .. }) = step else { return };
        let SlotState::Living(living) = &self.workers[w].slots[s].state else { return };
        let key = (self.workers[w].name.clone(), loss::right_of(living.core.journal()));
        let read = self.checks.seeds.get(&key).copied().unwrap_or_default();
        if seed.draw < read {
            let what = format!("{} begins {} with seed {} and has read seed {read}", key.0, step.name(), seed.draw);
            self.break_invariant(Invariant::NoWithdrawnFact, || what);
        }
    }

    fn work_of(&self, w: usize, s: usize) -> u64 {
        match &self.workers[w].slots[s].state {
            SlotState::Living(living) => living.work,
            _ => 0,
        }
    }

    fn work_in(&mut self, w: usize, s: usize, millis: u64, happened: Option<Happened>) {
        let (work, generation) = (self.work_of(w, s), self.workers[w].slots[s].generation);
        self.schedule(millis, Event::Work { worker: w, slot: s, generation, work, happened: Box::new(happened) });
    }
}
