//! Who is alive and what it holds. Advice for people and policies, never authority over a sector.

use serde::{Deserialize, Serialize};

use crate::{
    error::ErrorReport,
    id::{SectorId, Token, WorkerName},
};

/// A worker's sign of life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Who.
    pub worker: WorkerName,
    /// The machine's host name.
    pub host: String,
    /// The worker's version.
    pub version: String,
    /// A number drawn at the process's start, to tell two processes of one name apart.
    pub incarnation: u64,
    /// Whether it takes nothing new.
    #[serde(default)]
    pub draining: bool,
    /// The revision of the orders that it follows, 0 if it knows of none.
    #[serde(default)]
    pub orders: u64,
    /// Its slots.
    pub slots: Vec<SlotStatus>,
    /// Its processors.
    #[serde(default)]
    pub processors: Vec<ProcessorStatus>,
}

/// A slot's state, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotStatus {
    /// The slot's directory.
    pub path: String,
    /// What it holds, if anything.
    #[serde(default)]
    pub holding: Option<Holding>,
    /// Why it is blocked, if it is.
    #[serde(default)]
    pub blocked: Option<ErrorReport>,
    /// Whether it may hold a sector that nobody can name, because its journal cannot be read.
    #[serde(default)]
    pub unreadable: bool,
    /// The number of the last order to release it that was carried out, 0 if none was.
    #[serde(default)]
    pub released: u64,
}

/// A sector in a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holding {
    /// The sector.
    pub sector: SectorId,
    /// The lease's number.
    pub token: Token,
    /// The step it is at, for people.
    pub step: String,
}

/// A processor's state, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessorStatus {
    /// Its name, such as `pc1-0`.
    pub id: String,
    /// Its process, if it runs.
    #[serde(default)]
    pub pid: Option<u32>,
    /// Whether it works on a request.
    pub busy: bool,
}
