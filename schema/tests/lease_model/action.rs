//! The actions of the model and their effects.

use sealbus_schema::{Invariant, lease::Standing};

use crate::world::{Claimer, Entry, Held, LAST_EVENT, Phase, Planted, Rules, SECTORS, Sector, WORKERS, Worker, World};

/// An action, which others can interleave with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The manager publishes an intent from its outbox; `noted` says whether it learns of the success.
    Offer { sector: u8, lease: u8, noted: bool },
    /// The manager offers a queued sector again.
    Reoffer { sector: u8 },
    /// The manager publishes a release from its outbox.
    Release { sector: u8, lease: u8 },
    /// The manager publishes a remedy from its outbox, after a record that did not count.
    Remedy { sector: u8, lease: u8 },
    /// A stranger claims a sector without an offer and without an expectation.
    Forge { sector: u8 },
    /// The manager folds the next record.
    Fold { sector: u8 },
    /// A person takes the sector from the owner that the manager knows.
    Revoke { sector: u8 },
    /// The manager finds that the owner is alive but does not hold the sector.
    RevokeOrphan { sector: u8 },
    /// An intent is delivered, for the first time or again.
    Pull { worker: u8, sector: u8, lease: u8 },
    /// The worker publishes its claim, or its next event.
    Send { worker: u8 },
    /// A claim, or a late copy, reaches the server.
    ClaimArrives { sector: u8, worker: u8 },
    /// An event of the owner, or a late copy, reaches the server.
    EventArrives { sector: u8, number: u8 },
    /// An event of a former owner reaches the server.
    StrayArrives { sector: u8 },
    /// The worker learns the outcome of its publish, by the acknowledgement or by asking.
    Learn { worker: u8 },
    /// The worker writes its journal.
    Persist { worker: u8 },
    /// The worker acknowledges the intent, which removes it from the queue.
    Accept { worker: u8 },
    /// The worker reads the lease without publishing.
    Look { worker: u8 },
    /// The worker is killed (`kill -9`).
    Crash { worker: u8 },
    /// The worker starts again and compares its journal with the lease.
    Restart { worker: u8 },
}

impl Action {
    /// Whether the action is a fault, which eventually stops occurring.
    pub fn is_fault(self) -> bool {
        matches!(self, Action::Revoke { .. } | Action::Crash { .. } | Action::Forge { .. })
            || matches!(self, Action::Offer { noted: false, .. })
    }
}

/// All actions that are possible in this state.
pub fn actions(world: &World, rules: &Rules) -> Vec<Action> {
    let mut found = Vec::new();
    for sector in 0..SECTORS {
        of_manager(world, sector, rules, &mut found);
    }
    for worker in 0..WORKERS {
        of_worker(world, worker, rules, &mut found);
    }
    found
}

fn of_manager(world: &World, sector: u8, rules: &Rules, found: &mut Vec<Action>) {
    let side = &world.sectors[sector as usize];
    for noted in [true, false] {
        found.extend(side.intents_due.iter().map(|lease| Action::Offer { sector, lease, noted }));
    }
    if rules.reoffered && side.phase == Phase::Queued {
        found.push(Action::Reoffer { sector });
    }
    if side.tail[0].is_some() {
        found.push(Action::Fold { sector });
    }
    if side.has_room() {
        found.extend(side.releases_due.iter().map(|lease| Action::Release { sector, lease }));
        found.extend(side.remedies_due.iter().map(|lease| Action::Remedy { sector, lease }));
        if world.forgeries_left > 0 {
            found.push(Action::Forge { sector });
        }
        found.extend(side.claims.iter().map(|worker| Action::ClaimArrives { sector, worker }));
        found.extend(side.events.iter().map(|number| Action::EventArrives { sector, number }));
        found.extend(side.stray.map(|_| Action::StrayArrives { sector }));
    }
    if side.phase == Phase::Working && !side.releases_due.contains(side.view.names()) {
        if world.revokes_left > 0 {
            found.push(Action::Revoke { sector });
        }
        if rules.orphans_are_revoked && side.view.owner.is_some_and(|owner| lacks(world, owner, sector)) {
            found.push(Action::RevokeOrphan { sector });
        }
    }
}

fn of_worker(world: &World, worker: u8, rules: &Rules, found: &mut Vec<Action>) {
    match world.workers[worker as usize] {
        Worker::Free => {
            for (sector, side) in (0..).zip(&world.sectors) {
                found.extend(side.queue.iter().map(|lease| Action::Pull { worker, sector, lease }));
            }
        }
        Worker::Claiming { sent, .. } => {
            found.push(if sent { Action::Learn { worker } } else { Action::Send { worker } })
        }
        Worker::Won { .. } => {
            found.push(Action::Persist { worker });
            if rules.planted == Some(Planted::AcceptBeforeJournal) {
                found.push(Action::Accept { worker });
            }
        }
        Worker::Holding { accepted: false, .. } => found.push(Action::Accept { worker }),
        Worker::Holding { held, accepted: true, sent } => {
            if held.next <= LAST_EVENT {
                found.push(if sent { Action::Learn { worker } } else { Action::Send { worker } });
            }
            found.push(Action::Look { worker });
        }
        Worker::Down { .. } => found.push(Action::Restart { worker }),
    }
    if world.crashes_left > 0 && !matches!(world.workers[worker as usize], Worker::Down { .. } | Worker::Free) {
        found.push(Action::Crash { worker });
    }
}

/// Whether a living worker neither holds the sector nor is about to, as its heartbeats would show.
fn lacks(world: &World, worker: u8, wanted: u8) -> bool {
    match world.workers[worker as usize] {
        Worker::Free => true,
        Worker::Claiming { sector, .. } | Worker::Won { sector, .. } => sector != wanted,
        Worker::Holding { held, .. } => held.sector != wanted,
        Worker::Down { .. } => false,
    }
}

/// The state after an action, or the invariant that the action breaks.
pub fn apply(world: &World, action: Action, rules: &Rules) -> Result<World, Invariant> {
    let mut next = *world;
    match action {
        Action::Offer { sector, lease, noted } => {
            let side = &mut next.sectors[sector as usize];
            offer(side, lease, rules)?;
            if noted {
                side.intents_due.remove(lease);
            }
        }
        Action::Reoffer { sector } => {
            let side = &mut next.sectors[sector as usize];
            offer(side, side.view.lease, rules)?;
        }
        Action::Release { sector, lease } => {
            let side = &mut next.sectors[sector as usize];
            // A release names a lease. The record that it expects follows the fold's knowledge of that lease, and the
            // row stays as long as the lease is in force according to the fold.
            let stands = side.view.owner.is_some() && side.view.token == lease;
            if side.lease == lease || (stands && side.lease == side.view.lease) {
                side.releases_due.remove(lease);
                side.release(keeps_strays(rules));
            } else if !stands {
                side.releases_due.remove(lease);
            }
        }
        Action::Remedy { sector, lease } => {
            let side = &mut next.sectors[sector as usize];
            side.remedies_due.remove(lease);
            if side.lease == lease {
                match side.view.owner {
                    Some(worker) => side.reinstate(worker, side.view.token),
                    None => side.release(false),
                }
            }
        }
        Action::Forge { sector } => {
            next.forgeries_left -= 1;
            let side = &mut next.sectors[sector as usize];
            side.move_lease(Claimer::Stranger, false);
            side.append(Entry::Forged { sequence: side.lease });
        }
        Action::Fold { sector } => fold(&mut next.sectors[sector as usize], rules)?,
        Action::Revoke { sector } => {
            next.revokes_left -= 1;
            let side = &mut next.sectors[sector as usize];
            if rules.planted == Some(Planted::IntentBesideTheFold) {
                side.intents_due.insert(side.view.lease + 1);
            }
            side.releases_due.insert(side.view.names());
        }
        Action::RevokeOrphan { sector } => {
            let side = &mut next.sectors[sector as usize];
            side.releases_due.insert(side.view.names());
        }
        Action::Pull { worker, sector, lease } => {
            next.workers[worker as usize] = Worker::Claiming { sector, lease, sent: false };
        }
        Action::ClaimArrives { sector, worker } => {
            let side = &mut next.sectors[sector as usize];
            side.move_lease(Claimer::Worker(worker), keeps_strays(rules));
            side.append(Entry::Claim { worker, sequence: side.lease });
        }
        Action::EventArrives { sector, number } => {
            let side = &mut next.sectors[sector as usize];
            // The server recognises a copy of a stored message by its id. After the server's memory of ids has ended,
            // the fold ignores the copy by its number, which `sealbus_schema::lease` tests.
            side.events.remove(number);
            if let Some((worker, token)) = side.writer
                && side.stored_under(token) < number
            {
                side.stored = (token, number);
                side.append(Entry::Event { worker, token, number });
            }
        }
        Action::StrayArrives { sector } => {
            let side = &mut next.sectors[sector as usize];
            if rules.planted == Some(Planted::EventsWithoutFence) {
                return Err(Invariant::WritersAreFenced);
            }
            if let Some((worker, token, number)) = side.stray.take() {
                side.append(Entry::Event { worker, token, number });
            }
        }
        Action::Send { worker } => send(&mut next, worker, rules),
        Action::Learn { worker } => learn(&mut next, worker),
        Action::Persist { worker } => {
            if let Worker::Won { sector, lease } = next.workers[worker as usize] {
                let held = Held { sector, token: lease + 1, next: 1 };
                next.workers[worker as usize] = Worker::Holding { held, accepted: false, sent: false };
            }
        }
        Action::Accept { worker } => match next.workers[worker as usize] {
            Worker::Holding { held, sent, .. } => {
                next.sectors[held.sector as usize].queue.remove(held.token - 1);
                next.workers[worker as usize] = Worker::Holding { held, accepted: true, sent };
            }
            _ => return Err(Invariant::JournalBeforeAccept),
        },
        Action::Look { worker } => {
            if let Worker::Holding { held, .. } = next.workers[worker as usize]
                && next.sectors[held.sector as usize].standing(worker, held.token) == Standing::Gone
            {
                next.workers[worker as usize] = Worker::Free;
            }
        }
        Action::Crash { worker } => {
            next.crashes_left -= 1;
            let journal = match next.workers[worker as usize] {
                Worker::Holding { held, .. } => Some(held),
                _ => None,
            };
            next.workers[worker as usize] = Worker::Down { journal };
        }
        Action::Restart { worker } => restart(&mut next, worker, rules)?,
    }
    Ok(next)
}

fn offer(side: &mut Sector, lease: u8, rules: &Rules) -> Result<(), Invariant> {
    if lease > side.view.lease || (lease == side.view.lease && side.view.owner.is_some()) {
        return Err(Invariant::IntentsComeFromTheFold);
    }
    let taken = rules.planted == Some(Planted::IntentSubjectWithoutLease) && !side.queue.is_empty();
    if !taken {
        side.queue.insert(lease);
    }
    Ok(())
}

fn fold(side: &mut Sector, rules: &Rules) -> Result<(), Invariant> {
    let Some(entry) = side.tail[0].take() else { return Ok(()) };
    side.tail.rotate_left(1);
    let Some((view, owed)) = side.view.fold(entry, side.phase, rules.planted) else { return Ok(()) };
    let before = std::mem::replace(&mut side.view, view);
    if owed {
        side.remedies_due.insert(view.lease);
    }
    match entry {
        Entry::Claim { .. } | Entry::Forged { .. } if view.owner != before.owner || view.token != before.token => {
            if side.phase != Phase::Queued || matches!(entry, Entry::Forged { .. }) {
                return Err(Invariant::ClaimsNeedAGrant);
            }
            side.phase = Phase::Working;
        }
        Entry::Claim { .. } | Entry::Forged { .. } | Entry::Reinstated { .. } => {}
        Entry::Release { sequence } => {
            side.releases_due = side.releases_due.iter().filter(|lease| *lease > sequence).collect();
            if matches!(side.phase, Phase::Closing | Phase::Done) {
                side.phase = Phase::Done;
            } else {
                side.phase = Phase::Queued;
                side.intents_due.insert(sequence);
            }
        }
        Entry::Event { worker, token, number } => {
            let rightful = before.owner == Some(worker) && before.token == token;
            let sole = side.accepted.is_none_or(|(last, by)| token > last || (token == last && by == worker));
            if !rightful || !sole {
                return Err(Invariant::OneOwnerAToken);
            }
            side.accepted = Some((token, worker));
            if number == LAST_EVENT {
                side.phase = Phase::Closing;
                side.releases_due.insert(token);
            }
        }
    }
    Ok(())
}

/// Whether to keep track of former owners' events: only if nothing except the fold would stop them.
fn keeps_strays(rules: &Rules) -> bool {
    matches!(rules.planted, Some(Planted::EventsWithoutFence | Planted::FoldWithoutOwner))
}

fn send(world: &mut World, worker: u8, rules: &Rules) {
    match &mut world.workers[worker as usize] {
        Worker::Claiming { sector, lease, sent } => {
            *sent = true;
            let side = &mut world.sectors[*sector as usize];
            if side.lease == *lease {
                side.claims.insert(worker);
            }
        }
        Worker::Holding { held, sent, .. } => {
            *sent = true;
            let side = &mut world.sectors[held.sector as usize];
            if owns(side, worker, held.token) {
                side.events.insert(held.next);
                side.writer = Some((worker, held.token));
            } else if keeps_strays(rules) {
                side.stray = Some((worker, held.token, held.next));
            }
        }
        _ => {}
    }
}

fn learn(world: &mut World, worker: u8) {
    let slot = &mut world.workers[worker as usize];
    match *slot {
        Worker::Claiming { sector, lease, .. } => {
            let side = &mut world.sectors[sector as usize];
            if owns(side, worker, lease + 1) {
                *slot = Worker::Won { sector, lease };
            } else if side.lease != lease {
                // The intent is stale: another worker has taken the sector.
                side.queue.remove(lease);
                *slot = Worker::Free;
            }
        }
        Worker::Holding { held, .. } => {
            let side = &world.sectors[held.sector as usize];
            match side.standing(worker, held.token) {
                Standing::Gone => *slot = Worker::Free,
                // Refused, and the manager has not answered yet.
                Standing::Open { .. } | Standing::Anothers { .. } => {}
                Standing::Ours { .. } if side.stored_under(held.token) >= held.next => {
                    let held = Held { next: held.next + 1, ..held };
                    *slot = Worker::Holding { held, accepted: true, sent: false };
                }
                // Refused by a fence that has moved since, so it is published again.
                Standing::Ours { .. } if !side.events.contains(held.next) => {
                    *slot = Worker::Holding { held, accepted: true, sent: false };
                }
                Standing::Ours { .. } => {}
            }
        }
        _ => {}
    }
}

fn restart(world: &mut World, worker: u8, rules: &Rules) -> Result<(), Invariant> {
    let Worker::Down { journal } = world.workers[worker as usize] else { return Ok(()) };
    world.workers[worker as usize] = match journal {
        None => Worker::Free,
        Some(held) => match world.sectors[held.sector as usize].standing(worker, held.token) {
            // The worker forgets whether the intent was acknowledged. If it comes back, it is recognised.
            Standing::Ours { .. } => Worker::Holding { held, accepted: true, sent: false },
            _ if rules.planted == Some(Planted::ResumeWithoutAsking) => return Err(Invariant::LeaseAskedBeforeWork),
            // The worker asks again later.
            Standing::Open { .. } | Standing::Anothers { .. } => Worker::Down { journal },
            Standing::Gone => Worker::Free,
        },
    };
    Ok(())
}

fn owns(side: &Sector, worker: u8, token: u8) -> bool {
    matches!(side.standing(worker, token), Standing::Ours { .. })
}
