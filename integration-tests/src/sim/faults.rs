//! The faults of a world, drawn from its seed. Each kind occurs in some worlds and not in others, so that no kind hides
//! another.

use super::rng::Rng;

/// A minute in milliseconds.
pub const MINUTE: u64 = 60_000;

/// How long the line to a site is cut.
pub const CUT: u64 = 60 * MINUTE;

/// The probabilities of faults, in millionths, until all faults stop.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// When all faults stop, in milliseconds.
    pub end: u64,
    /// A message on the network is lost.
    pub loss: u64,
    /// A message on the network arrives twice, the second time much later.
    pub duplicate: u64,
    /// A message on the network is slow.
    pub slow: u64,
    /// A process dies before its next action.
    pub crash: u64,
    /// A file operation fails.
    pub disk: u64,
    /// A phase fails.
    pub work: u64,
    /// The node does not answer.
    pub node: u64,
    /// A message disappears from the mempool, per epoch.
    pub mempool: u64,
    /// A journal becomes unreadable in a crash.
    pub torn: u64,
    /// The incidents, each with its time.
    pub incidents: Vec<(u64, Incident)>,
}

/// A fault that happens once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incident {
    /// Kill -9 of a worker, which comes back after a time.
    KillWorker { worker: usize, back_after: u64 },
    /// SIGSTOP of a worker for a time.
    PauseWorker { worker: usize, millis: u64 },
    /// A worker's network is cut for a time.
    CutWorker { worker: usize, millis: u64 },
    /// Kill -9 of a manager, which comes back after a time.
    KillManager { manager: usize, back_after: u64 },
    /// SIGSTOP of a manager for a time.
    PauseManager { manager: usize, millis: u64 },
    /// The line to a site with the first workers is cut for an hour.
    CutSite { workers: usize },
    /// A manager's network is cut for a time.
    CutManager { manager: usize, millis: u64 },
    /// A manager starts, whatever the other one does.
    StartManager { manager: usize },
    /// The bus is away for a time.
    Outage { millis: u64 },
    /// The last tipsets are replaced.
    Reorg { depth: i64 },
    /// A person gives an order about a sector.
    Order { sector: usize },
    /// A person gives up a sector.
    GiveUp { sector: usize },
    /// A person takes a sector from its owner.
    Revoke { sector: usize },
    /// A sector is claimed without an offer.
    Forge { sector: usize },
    /// A stranger with a worker's credential plays a trick.
    Stranger { sector: usize, trick: Trick },
    /// The queue is lost and created again, and a person recovers it after a time.
    LoseQueue { recovered_after: u64 },
    /// The same, while the next claim is on its way.
    LoseQueueUnderClaim,
    /// The database is backed up.
    Backup,
    /// The manager's host is lost, and its last backup restored elsewhere after a time.
    LoseManager { back_after: u64 },
}

/// What a stranger tries with a sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trick {
    /// A claim in the right form, after the last lease record, whoever owns the sector.
    Claim,
    /// Reports under the owner's token.
    Report,
    /// Publishes records under the ids that others will use next.
    UseUpIds,
    /// Takes the sector's intent out of the queue.
    TakeIntent,
}

impl Faults {
    /// Adds claims without an offer, in every second world.
    pub fn forge(&mut self, rng: &mut Rng, sectors: usize) {
        let count = if rng.chance(500_000) { rng.range(1, 6) } else { 0 };
        for _ in 0..count {
            let at = rng.range(0, self.end);
            self.incidents.push((at, Incident::Forge { sector: rng.range(0, sectors as u64 - 1) as usize }));
        }
    }

    /// Adds a stranger with a worker's credential, in every third world.
    pub fn add_stranger(&mut self, rng: &mut Rng, sectors: usize) {
        let count = if rng.chance(333_333) { rng.range(1, 12) } else { 0 };
        for _ in 0..count {
            let (at, sector) = (rng.range(0, self.end), rng.range(0, sectors as u64 - 1) as usize);
            let trick = match rng.range(0, 3) {
                0 => Trick::Claim,
                1 => Trick::Report,
                2 => Trick::UseUpIds,
                _ => Trick::TakeIntent,
            };
            self.incidents.push((at, Incident::Stranger { sector, trick }));
        }
    }

    /// Adds the loss of the queue in every fourth world, in some of them twice. In a few other worlds the queue is lost
    /// during an early claim. This moment is so short that it would hardly be drawn at random. The claim is early because
    /// a sector's first claim fits any log.
    pub fn lose_queue(&mut self, rng: &mut Rng) {
        let count = if rng.chance(250_000) { rng.range(1, 5).saturating_sub(3).max(1) } else { 0 };
        for _ in 0..count {
            let at = rng.range(0, self.end);
            let recovered_after =
                if rng.chance(300_000) { rng.range(1_000, 20_000) } else { rng.range(20_000, 15 * MINUTE) };
            self.incidents.push((at, Incident::LoseQueue { recovered_after }));
        }
        if count == 0 && rng.chance(50_000) {
            self.incidents.push((rng.range(0, 2 * MINUTE), Incident::LoseQueueUnderClaim));
        }
    }

    /// Cuts the line to a site for an hour, in every tenth world.
    pub fn cut_site(&mut self, rng: &mut Rng, workers: usize) {
        if rng.chance(100_000) {
            let (at, workers) = (rng.range(0, self.end), rng.range(1, workers as u64) as usize);
            self.incidents.push((at, Incident::CutSite { workers }));
            self.end += CUT;
        }
    }

    /// Draws a world's faults.
    pub fn draw(rng: &mut Rng, workers: usize, sectors: usize) -> Faults {
        let end = rng.range(30, 70) * MINUTE;
        // Each kind of fault is absent from at least half of the worlds, so that no kind hides another.
        let mut some = |high: u64| if rng.chance(500_000) { rng.range(0, high) } else { 0 };
        let mut faults = Faults {
            end,
            loss: some(80_000),
            duplicate: some(40_000),
            slow: some(80_000),
            crash: some(3_000),
            disk: some(50_000),
            work: some(80_000),
            node: some(150_000),
            mempool: some(100_000),
            torn: some(60_000),
            incidents: Vec::new(),
        };
        let times = [some(4), some(3), some(3), some(4), some(2), some(2), some(2), some(2), some(3), some(3), some(3)];
        for (kind, count) in times.into_iter().enumerate() {
            for _ in 0..count {
                let at = rng.range(0, end);
                let (worker, sector, manager) = (
                    rng.range(0, workers as u64 - 1) as usize,
                    rng.range(0, sectors as u64 - 1) as usize,
                    rng.range(0, 1) as usize,
                );
                let millis = if rng.chance(200_000) { rng.range(10, 25) * MINUTE } else { rng.range(200, 3 * MINUTE) };
                let incident = match kind {
                    0 => Incident::KillWorker { worker, back_after: millis },
                    1 => Incident::PauseWorker { worker, millis },
                    2 => Incident::CutWorker { worker, millis },
                    3 => Incident::KillManager { manager, back_after: millis },
                    4 => Incident::PauseManager { manager, millis },
                    5 => Incident::CutManager { manager, millis },
                    6 => Incident::StartManager { manager },
                    7 => Incident::Outage { millis: millis.min(3 * MINUTE) },
                    8 => Incident::Reorg {
                        depth: if rng.chance(300_000) { rng.range(5, 20) } else { rng.range(1, 4) } as i64,
                    },
                    9 => Incident::Order { sector },
                    _ => Incident::Revoke { sector },
                };
                faults.incidents.push((at, incident));
            }
        }
        faults
    }
}
