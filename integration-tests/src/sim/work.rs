//! Simulates what a slot's states need: processors, phases, pauses, and cleaning.

use std::path::PathBuf;

use sealbus_schema::{
    ErrorClass, ErrorCode, ErrorReport, Invariant, Phase,
    machine::worker::{Input, Need, State},
    workflows::Step,
};
use sealbus_worker::{
    config::Store,
    driver::core::Happened,
    journal::Journal,
    workflows::{self, Workplace},
};

use super::{
    bug::Bug,
    faults::MINUTE,
    loss,
    slot::SlotState,
    world::{Event, World},
};
use crate::workflows as stand_ins;

impl World {
    /// Stops a slot's work. The end of the worker's process frees the processors in any case.
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

    /// Begins what a state needs. This replaces earlier work.
    pub fn begin_work(&mut self, w: usize, s: usize, state: &State) {
        self.drop_work(w, s, false);
        match state.need() {
            Need::Run(phase) => self.acquire(w, s, phase),
            Need::Room(phase) => self.look_for_room(w, s, phase, state),
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

    fn look_for_room(&mut self, w: usize, s: usize, phase: Phase, state: &State) {
        let work = self.work_of(w, s);
        let worker = &mut self.workers[w];
        worker.waiting.retain(|(_, waiting, _)| *waiting != s);
        if worker.holders.iter().any(|(held, _)| *held == phase) {
            worker.waiting.push((phase, s, work));
        } else if let Some(seen) = state.step().and_then(workflows::room_seen) {
            self.push_inbox(w, s, work, Happened::Worked(seen));
        }
    }

    /// Handles a result of work, or tries again to get a processor.
    pub fn slot_worked(&mut self, w: usize, s: usize, generation: u64, work: u64, happened: Option<Happened>) {
        let slot = &self.workers[w].slots[s];
        let SlotState::Living(living) = &slot.state else { return };
        if slot.generation != generation || living.work != work {
            return;
        }
        let state = living.core.journal().state.clone();
        match (happened, state.need()) {
            (Some(happened), _) => {
                // The processor is free before the result is reported.
                if self.options.bug != Some(Bug::KeepProcessor) {
                    self.give_back(w, s);
                }
                self.push_inbox(w, s, work, happened);
            }
            (None, Need::Run(phase)) => self.acquire(w, s, phase),
            (None, Need::Room(phase)) => self.look_for_room(w, s, phase, &state),
            (None, _) => {}
        }
    }

    /// Runs a phase on the processor that the slot has.
    pub fn run_phase(&mut self, w: usize, s: usize, state: &State) {
        let (SlotState::Living(living), Some(step)) = (&self.workers[w].slots[s].state, state.step()) else { return };
        let (journal, phase) = (living.core.journal().clone(), step.phase());
        self.check_seed(w, s, step);
        if let Some(phase) = phase {
            self.check_phase(&journal, phase);
        }
        let millis = match phase {
            Some(Phase::AddPieces | Phase::TreeD | Phase::C1) => self.rng.range(5_000, 30_000),
            Some(Phase::Pc1) => self.rng.range(3 * MINUTE, 12 * MINUTE),
            _ => self.rng.range(20_000, 4 * MINUTE),
        };
        let input = match self.failure() {
            Some(error) => Input::Failed { error },
            None => self.outcome(&journal, step).unwrap_or_else(|| {
                let what = format!("step {} was run", step.name());
                Input::Failed { error: ErrorReport::new(ErrorClass::Perm, ErrorCode::PROTOCOL_VIOLATED, what) }
            }),
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

    /// The result of a phase. The request is the one that production makes, and production's code reads the answer.
    fn outcome(&mut self, journal: &Journal, step: &Step) -> Option<Input> {
        let at = Workplace {
            work_dir: PathBuf::new(),
            intent: journal.intent.clone(),
            token: journal.token,
            store: Store { name: "store".to_owned(), path: PathBuf::new() },
            store_id: None,
            static_dirs: Vec::new(),
        };
        let task = workflows::request(step, &at)?.ok()?;
        let answer = stand_ins::simulate(step.phase()?, &task, journal.intent.sector, &mut self.checks.store)?;
        workflows::output(step, answer, &at, None).ok().map(Input::Progress)
    }

    fn check_seed(&mut self, w: usize, s: usize, step: &Step) {
        let Some(draw) = stand_ins::draw_used(step) else { return };
        let SlotState::Living(living) = &self.workers[w].slots[s].state else { return };
        let key = (self.workers[w].name.clone(), loss::right_of(living.core.journal()));
        let read = self.checks.seeds.get(&key).copied().unwrap_or_default();
        if draw < read {
            let what = format!("{} begins {} with seed {draw} and has read seed {read}", key.0, step.name());
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
