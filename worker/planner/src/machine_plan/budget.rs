//! Divides the memory before anything is placed.

use sealbus_schema::Phase;

use super::{
    request::{CannotPlan, MemoryShare, Request, WINDOW_POST, WINNING_POST},
    times::parent_cache_bytes,
};
use crate::{
    machine::{Machine, Node},
    units,
};

/// The system gets one part in this many of the memory, within bounds.
const RESERVE_PART: u64 = 32;
const RESERVE_BYTES: (u64, u64) = (1 << 30, 16 << 30);
/// The assumed number of small requests (add_pieces, tree_d, transfer, c1) at the same time.
const SMALL_REQUESTS: u64 = 8;

/// The memory of a machine, in bytes.
#[derive(Clone, Debug)]
pub struct Budget {
    /// All that the worker may use.
    pub total: u64,
    /// The part left to the system.
    pub reserve: u64,
    /// The part in reserved huge pages.
    pub huge: u64,
    /// The ordinary memory that can be divided.
    pub usable: u64,
    /// What PC1 may take on each node.
    pub pc1_on_node: Vec<u64>,
    /// Whether PC1 uses huge pages.
    pub from_huge: bool,
}

/// How PC1 and proofs share memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// All of them fit at the same time, and so does the parent cache.
    Roomy,
    /// All of them fit at the same time, but the parent cache is read from disk again and again.
    WithoutParents,
    /// Only one fits at a time: PC1, PC2 and C2 hold one lock.
    Turns,
}

impl Budget {
    /// The budget of a machine.
    #[must_use]
    pub fn new(machine: &Machine, request: &Request) -> Self {
        // Memory without cores next to it belongs to a GPU, or is far away.
        let near = || machine.nodes.iter().filter(|node| node.has_cores);
        let all = machine.memory_of_cores_bytes();
        let total = machine.memory_max_bytes.map_or(all, |most| most.min(all));
        let reserve = (total / RESERVE_PART).clamp(RESERVE_BYTES.0, RESERVE_BYTES.1);
        let huge = near().fold(0_u64, |sum, node| sum.saturating_add(node.huge_bytes()));
        // The reserve is taken from the nodes in proportion to their memory.
        let of_node = |node: &Node| {
            let share = (u128::from(reserve) * u128::from(node.memory_bytes) / u128::from(all.max(1))) as u64;
            let ordinary = node.memory_bytes.saturating_sub(node.huge_bytes()).saturating_sub(share);
            match request.huge_pages {
                _ if !node.has_cores => 0,
                true => node.huge_bytes(),
                false => ordinary,
            }
        };
        Self {
            total,
            reserve,
            huge,
            // A cgroup's limit does not cover huge pages, so these are subtracted before the limit applies.
            usable: all.saturating_sub(huge).min(total).saturating_sub(reserve),
            pc1_on_node: machine.nodes.iter().map(of_node).collect(),
            from_huge: request.huge_pages,
        }
    }

    /// The highest number of PC1s on each node.
    #[must_use]
    pub fn pc1s_on_node(&self, request: &Request) -> Vec<usize> {
        let need = request.memory_of(Phase::Pc1).max(1);
        self.pc1_on_node.iter().map(|&bytes| usize::try_from(bytes / need).unwrap_or(usize::MAX)).collect()
    }

    /// The highest number of PC1s beside `proofs` concurrent PC2s and C2s, at most `c2s` of them C2, and how they share
    /// memory.
    #[must_use]
    pub fn pc1s(&self, request: &Request, proofs: usize, c2s: usize) -> Option<(usize, Sharing)> {
        let (pc1, proof) = (request.memory_of(Phase::Pc1).max(1), proof_bytes(request));
        let fixed = small_bytes(request).saturating_add(proofs_bytes(request, proofs, c2s));
        if !request.does(Phase::Pc1) {
            return (self.usable >= fixed).then_some((0, Sharing::Roomy));
        }
        let with_parents = fixed.saturating_add(parent_cache_bytes(request.sector_size));
        let count = |left: Option<u64>| left.map_or(0, |left| usize::try_from(left / pc1).unwrap_or(usize::MAX));
        if self.from_huge {
            let sharing = if self.usable >= with_parents { Sharing::Roomy } else { Sharing::WithoutParents };
            let huge = self.pc1s_on_node(request).iter().fold(0_usize, |sum, &count| sum.saturating_add(count));
            return (self.usable >= fixed && huge > 0).then_some((huge, sharing));
        }
        let roomy = count(self.usable.checked_sub(with_parents));
        let tight = count(self.usable.checked_sub(fixed));
        let turns = proofs == 1 && self.usable >= small_bytes(request).saturating_add(pc1.max(proof));
        match () {
            () if roomy > 0 => Some((roomy, Sharing::Roomy)),
            () if tight > 0 => Some((tight, Sharing::WithoutParents)),
            () if turns => Some((1, Sharing::Turns)),
            () => None,
        }
    }

    /// What a plan's memory is used for, for people.
    #[must_use]
    pub fn shares(
        &self,
        request: &Request,
        pc1s: usize,
        [proofs, c2s]: [usize; 2],
        sharing: Sharing,
    ) -> Vec<MemoryShare> {
        let share = |name: &str, bytes| MemoryShare { name: name.to_owned(), bytes };
        let pc1 = request.memory_of(Phase::Pc1).saturating_mul(pc1s as u64);
        let proof = proofs_bytes(request, proofs, c2s);
        let has_parents = sharing == Sharing::Roomy && pc1s > 0;
        let parents = if has_parents { parent_cache_bytes(request.sector_size) } else { 0 };
        // A cgroup's memory limit does not include huge pages.
        let given = self.usable.saturating_add(self.reserve);
        let huge = if self.from_huge { 0 } else { self.total.saturating_sub(given) };
        let small = if request.does(WINNING_POST) { "small phases, a winning PoSt" } else { "small phases" };
        let mut shares = vec![share("the system", self.reserve), share(small, small_bytes(request))];
        match sharing {
            Sharing::Turns => shares.push(share("pc1, pc2 or c2", pc1.max(proof))),
            Sharing::Roomy | Sharing::WithoutParents => {
                shares.push(share(&format!("{pc1s} x pc1"), pc1));
                let c2 = if request.does(WINDOW_POST) { "c2 or a window PoSt" } else { "c2" };
                let c2s_only = if c2s < proofs { format!(", at most {c2s} of them {c2}") } else { String::new() };
                let which = match (request.does(Phase::Pc2), request.does(Phase::C2)) {
                    (true, false) => "pc2".to_owned(),
                    (false, true) => c2.to_owned(),
                    _ => format!("pc2 or {c2}"),
                };
                shares.push(share(&format!("{proofs} x {which}{c2s_only}"), proof));
            }
        }
        shares.push(share("parent cache", parents));
        shares.push(share("huge pages that nobody uses", huge));
        shares.retain(|share| share.bytes > 0);
        let taken = shares.iter().fold(0_u64, |sum, share| sum.saturating_add(share.bytes));
        shares.push(share("left for files in memory", self.total.saturating_sub(taken)));
        shares
    }

    /// Why not even one sector fits.
    #[must_use]
    pub fn refusal(&self, machine: String, request: &Request) -> CannotPlan {
        let size = request.sector_size;
        let phases = [Phase::Pc1, Phase::Pc2, Phase::C2].into_iter().filter(|&phase| request.does(phase));
        let phase = phases.max_by_key(|&phase| request.memory_of(phase)).unwrap_or(Phase::Pc1);
        let needed = request.memory_of(phase);
        let largest = self.pc1_on_node.iter().copied().max().unwrap_or(0);
        if self.total == 0 {
            return CannotPlan::MemoryUnknown { machine };
        }
        let small = small_bytes(request);
        if request.does(Phase::Pc1)
            && needed.saturating_add(small) <= self.usable
            && largest < request.memory_of(Phase::Pc1)
        {
            let needed = units::bytes(request.memory_of(Phase::Pc1));
            return CannotPlan::NodeMemory { machine, size, needed, largest: units::bytes(largest) };
        }
        CannotPlan::Memory {
            machine,
            size,
            phase,
            needed: units::bytes(needed),
            usable: units::bytes(self.usable.saturating_sub(small)),
            total: units::bytes(self.total),
            reserve: units::bytes(self.reserve.saturating_add(small)),
        }
    }
}

/// The memory of a PC2, C2 or window PoSt, whichever is largest. A GPU runs one of them at a time.
#[must_use]
pub fn proof_bytes(request: &Request) -> u64 {
    [Phase::Pc2, Phase::C2, WINDOW_POST].into_iter().map(|phase| bytes_here(request, phase)).max().unwrap_or_default()
}

/// The memory of `proofs` concurrent PC2s and C2s, at most `c2s` of them C2.
fn proofs_bytes(request: &Request, proofs: usize, c2s: usize) -> u64 {
    let (c2s, pc2s) = (c2s.min(proofs) as u64, proofs.saturating_sub(c2s) as u64);
    let pc2 = bytes_here(request, Phase::Pc2);
    proof_bytes(request).saturating_mul(c2s).saturating_add(pc2.saturating_mul(pc2s))
}

/// The memory of a phase; 0 if it runs elsewhere.
fn bytes_here(request: &Request, phase: Phase) -> u64 {
    if request.does(phase) { request.memory_of(phase) } else { 0 }
}

/// What is never in anybody's way: the small phases, and a winning PoSt, which waits for nothing.
fn small_bytes(request: &Request) -> u64 {
    bytes_here(request, Phase::C1).saturating_mul(SMALL_REQUESTS).saturating_add(bytes_here(request, WINNING_POST))
}
