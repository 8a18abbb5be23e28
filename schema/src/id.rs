//! Identifiers: miners, sectors, workers and lease tokens.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Why an identifier was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// Not an ID address.
    #[error("`{0}` is not a miner: expected an ID address such as f01000")]
    Miner(String),
    /// Not `<miner>/<number>`.
    #[error("`{0}` is not a sector: expected <miner>/<number> such as f01000/42")]
    Sector(String),
    /// Not usable as a worker's name.
    #[error(
        "`{0}` is not a worker name: expected 1 to 64 of a-z, A-Z, 0-9, `-`, `_`, beginning with a letter or digit"
    )]
    Worker(String),
}

/// A storage provider, by its actor ID. Written `f01000`; `t01000` is accepted too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MinerId(pub u64);

/// A sector's number within its miner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SectorNumber(pub u64);

/// A sector: miner and number. Written `f01000/42`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SectorId {
    /// The storage provider.
    pub miner: MinerId,
    /// The number within it.
    pub number: SectorNumber,
}

/// The name of a worker process, of which each machine has one. Safe as a subject token and as a file name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct WorkerName(String);

/// The right to a sector: the stream sequence of the lease record that granted it. Later leases have higher tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Token(pub u64);

impl fmt::Display for MinerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "f0{}", self.0)
    }
}

impl FromStr for MinerId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        text.strip_prefix("f0")
            .or_else(|| text.strip_prefix("t0"))
            .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|digits| digits.parse().ok())
            .map(MinerId)
            .ok_or_else(|| IdError::Miner(text.to_owned()))
    }
}

impl TryFrom<String> for MinerId {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<MinerId> for String {
    fn from(miner: MinerId) -> String {
        miner.to_string()
    }
}

impl fmt::Display for SectorNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for SectorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.miner, self.number)
    }
}

impl FromStr for SectorId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let refused = || IdError::Sector(text.to_owned());
        let (miner, number) = text.split_once('/').ok_or_else(refused)?;
        Ok(SectorId {
            miner: miner.parse().map_err(|_| refused())?,
            number: SectorNumber(number.parse().map_err(|_| refused())?),
        })
    }
}

impl SectorId {
    /// The base name of a sector's files, as in Lotus and compatible software: `s-t01000-42`.
    pub fn file_name(&self) -> String {
        format!("s-t0{}-{}", self.miner.0, self.number)
    }
}

impl WorkerName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for WorkerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for WorkerName {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let well_formed = (1..=64).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if well_formed { Ok(WorkerName(text.to_owned())) } else { Err(IdError::Worker(text.to_owned())) }
    }
}

impl TryFrom<String> for WorkerName {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<WorkerName> for String {
    fn from(name: WorkerName) -> String {
        name.0
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_miner_is_read_with_either_network_prefix_and_written_with_f() {
        assert_eq!("t01000".parse::<MinerId>(), Ok(MinerId(1000)));
        assert_eq!("f01000".parse::<MinerId>().expect("miner").to_string(), "f01000");
        for bad in ["", "f0", "1000", "f01x", "f2abc", "f0-1", "f0+1", "f099999999999999999999"] {
            assert!(bad.parse::<MinerId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_sector_is_miner_slash_number() {
        let sector: SectorId = "t01000/42".parse().expect("sector");
        assert_eq!(sector.to_string(), "f01000/42");
        assert_eq!(sector.file_name(), "s-t01000-42");
        for bad in ["f01000", "f01000/", "/4", "f01000/-1", "f01000/4/5"] {
            assert!(bad.parse::<SectorId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_worker_name_is_one_safe_subject_token() {
        assert!("host-12_a".parse::<WorkerName>().is_ok());
        for bad in ["", "-", "-a", "a.b", "a*", "a>", "a b", "a/b", &"x".repeat(65)] {
            assert!(bad.parse::<WorkerName>().is_err(), "{bad}");
        }
    }
}
