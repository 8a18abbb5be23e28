//! A breadth-first search over all states, each reduced to its canonical order of workers and sectors. Then a search
//! backwards from the end, over the steps that are not faults.

use std::{collections::HashMap, fmt};

use sealbus_schema::Invariant;

use crate::{
    action::{Action, actions, apply},
    world::{Rules, World},
};

/// All reachable states.
pub struct Explored {
    states: Vec<World>,
    parents: Vec<u32>,
    /// The steps that are not faults, as pairs of states (from, to).
    fair: Vec<(u32, u32)>,
    steps: usize,
    broken: Option<(u32, Action, Invariant)>,
    rules: Rules,
}

/// A broken invariant, and the actions that lead there.
pub struct Finding {
    pub invariant: Invariant,
    trace: Vec<Action>,
    at: World,
}

pub fn explore(start: World, rules: &Rules) -> Explored {
    let mut index = HashMap::from([(start, 0u32)]);
    let mut explored =
        Explored { states: vec![start], parents: vec![0], fair: Vec::new(), steps: 0, broken: None, rules: *rules };
    let mut at = 0;
    while at < explored.states.len() {
        let world = explored.states[at];
        for action in actions(&world, rules) {
            let next = match apply(&world, action, rules) {
                Ok(next) => next.canonical(),
                Err(invariant) => {
                    explored.broken = Some((at as u32, action, invariant));
                    return explored;
                }
            };
            explored.steps += 1;
            let to = *index.entry(next).or_insert_with_key(|next| {
                explored.states.push(*next);
                explored.parents.push(at as u32);
                (explored.states.len() - 1) as u32
            });
            if !action.is_fault() {
                explored.fair.push((at as u32, to));
            }
        }
        at += 1;
    }
    explored
}

impl Explored {
    pub fn states(&self) -> usize {
        self.states.len()
    }

    pub fn steps(&self) -> usize {
        self.steps
    }

    /// The first broken invariant, or a state from which the end cannot be reached.
    pub fn finding(&self) -> Option<Finding> {
        if let Some((at, action, invariant)) = self.broken {
            let mut trace = self.trace(at);
            trace.push(action);
            return Some(Finding { invariant, trace, at: self.states[at as usize] });
        }
        let lost = self.first_without_an_end()?;
        Some(Finding { invariant: Invariant::NothingLost, trace: self.trace(lost), at: self.states[lost as usize] })
    }

    fn first_without_an_end(&self) -> Option<u32> {
        let mut into: Vec<Vec<u32>> = vec![Vec::new(); self.states.len()];
        for (from, to) in &self.fair {
            into[*to as usize].push(*from);
        }
        let mut ends = vec![false; self.states.len()];
        let mut open: Vec<u32> = (0..self.states.len() as u32).filter(|s| self.states[*s as usize].is_done()).collect();
        for state in &open {
            ends[*state as usize] = true;
        }
        while let Some(state) = open.pop() {
            for from in &into[state as usize] {
                if !std::mem::replace(&mut ends[*from as usize], true) {
                    open.push(*from);
                }
            }
        }
        ends.iter().position(|ends| !ends).map(|lost| lost as u32)
    }

    fn trace(&self, mut at: u32) -> Vec<Action> {
        let mut trace = Vec::new();
        while at != 0 {
            let from = self.parents[at as usize];
            let world = &self.states[from as usize];
            let to = &self.states[at as usize];
            let action = actions(world, &self.rules)
                .into_iter()
                .find(|action| apply(world, *action, &self.rules).map(World::canonical).as_ref() == Ok(to))
                .expect("the step that led here");
            trace.push(action);
            at = from;
        }
        trace.reverse();
        trace
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "invariant {} does not hold after", self.invariant)?;
        for action in &self.trace {
            writeln!(f, "    {action:?}")?;
        }
        write!(f, "before the last of these, or at the end of them: {:#?}", self.at)
    }
}
