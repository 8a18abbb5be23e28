//! Sector sizes and seal proof types.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Why a sector size or proof type was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Not a sector size of the proofs.
    #[error("`{0}` is not a sector size: expected one of 2KiB, 8MiB, 512MiB, 32GiB, 64GiB")]
    Size(String),
    /// Not a seal proof type that this version supports.
    #[error("`{0}` is not a seal proof that this version seals")]
    Proof(String),
}

/// A sector's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SectorSize {
    /// 2 KiB, devnets only.
    KiB2,
    /// 8 MiB, devnets only.
    MiB8,
    /// 512 MiB, test networks only.
    MiB512,
    /// 32 GiB.
    GiB32,
    /// 64 GiB.
    GiB64,
}

/// A seal proof type, named as on chain and in the proofs library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(non_camel_case_types, missing_docs, reason = "the names are the chain's")]
pub enum SealProof {
    StackedDrg2KiBV1_1,
    StackedDrg8MiBV1_1,
    StackedDrg512MiBV1_1,
    StackedDrg32GiBV1_1,
    StackedDrg64GiBV1_1,
}

impl SectorSize {
    /// Every size, smallest first.
    pub const ALL: [SectorSize; 5] =
        [SectorSize::KiB2, SectorSize::MiB8, SectorSize::MiB512, SectorSize::GiB32, SectorSize::GiB64];

    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        match self {
            SectorSize::KiB2 => 2 << 10,
            SectorSize::MiB8 => 8 << 20,
            SectorSize::MiB512 => 512 << 20,
            SectorSize::GiB32 => 32 << 30,
            SectorSize::GiB64 => 64 << 30,
        }
    }

    /// The sector size with this number of bytes, if there is one.
    pub fn from_bytes(bytes: u64) -> Option<SectorSize> {
        Self::ALL.into_iter().find(|size| size.bytes() == bytes)
    }

    /// Whether real networks use this size, so that its sectors have value.
    pub const fn is_of_real_networks(self) -> bool {
        matches!(self, SectorSize::GiB32 | SectorSize::GiB64)
    }

    /// The proof type of interactive PoRep for this size.
    pub const fn seal_proof(self) -> SealProof {
        match self {
            SectorSize::KiB2 => SealProof::StackedDrg2KiBV1_1,
            SectorSize::MiB8 => SealProof::StackedDrg8MiBV1_1,
            SectorSize::MiB512 => SealProof::StackedDrg512MiBV1_1,
            SectorSize::GiB32 => SealProof::StackedDrg32GiBV1_1,
            SectorSize::GiB64 => SealProof::StackedDrg64GiBV1_1,
        }
    }

    /// The usual spelling, `32GiB`.
    pub const fn name(self) -> &'static str {
        match self {
            SectorSize::KiB2 => "2KiB",
            SectorSize::MiB8 => "8MiB",
            SectorSize::MiB512 => "512MiB",
            SectorSize::GiB32 => "32GiB",
            SectorSize::GiB64 => "64GiB",
        }
    }
}

impl fmt::Display for SectorSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for SectorSize {
    type Err = ProofError;

    fn from_str(text: &str) -> Result<Self, ProofError> {
        Self::ALL.into_iter().find(|size| size.name() == text).ok_or_else(|| ProofError::Size(text.to_owned()))
    }
}

impl TryFrom<String> for SectorSize {
    type Error = ProofError;

    fn try_from(text: String) -> Result<Self, ProofError> {
        text.parse()
    }
}

impl From<SectorSize> for String {
    fn from(size: SectorSize) -> String {
        size.name().to_owned()
    }
}

impl SealProof {
    /// The number on chain (go-state-types `RegisteredSealProof`).
    pub const fn number(self) -> i64 {
        match self {
            SealProof::StackedDrg2KiBV1_1 => 5,
            SealProof::StackedDrg8MiBV1_1 => 6,
            SealProof::StackedDrg512MiBV1_1 => 7,
            SealProof::StackedDrg32GiBV1_1 => 8,
            SealProof::StackedDrg64GiBV1_1 => 9,
        }
    }

    /// The sector size that this proof seals.
    pub const fn sector_size(self) -> SectorSize {
        match self {
            SealProof::StackedDrg2KiBV1_1 => SectorSize::KiB2,
            SealProof::StackedDrg8MiBV1_1 => SectorSize::MiB8,
            SealProof::StackedDrg512MiBV1_1 => SectorSize::MiB512,
            SealProof::StackedDrg32GiBV1_1 => SectorSize::GiB32,
            SealProof::StackedDrg64GiBV1_1 => SectorSize::GiB64,
        }
    }

    /// The name on chain and in subjects.
    pub const fn name(self) -> &'static str {
        match self {
            SealProof::StackedDrg2KiBV1_1 => "StackedDrg2KiBV1_1",
            SealProof::StackedDrg8MiBV1_1 => "StackedDrg8MiBV1_1",
            SealProof::StackedDrg512MiBV1_1 => "StackedDrg512MiBV1_1",
            SealProof::StackedDrg32GiBV1_1 => "StackedDrg32GiBV1_1",
            SealProof::StackedDrg64GiBV1_1 => "StackedDrg64GiBV1_1",
        }
    }
}

impl fmt::Display for SealProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for SealProof {
    type Err = ProofError;

    fn from_str(text: &str) -> Result<Self, ProofError> {
        SectorSize::ALL
            .into_iter()
            .map(SectorSize::seal_proof)
            .find(|proof| proof.name() == text)
            .ok_or_else(|| ProofError::Proof(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_proofs_name_each_other() {
        for size in SectorSize::ALL {
            assert_eq!(size.name().parse(), Ok(size));
            assert_eq!(SectorSize::from_bytes(size.bytes()), Some(size));
            assert_eq!(size.seal_proof().sector_size(), size);
            assert_eq!(size.seal_proof().name().parse(), Ok(size.seal_proof()));
        }
        assert_eq!(SectorSize::KiB2.bytes(), 2048);
        assert_eq!(SectorSize::GiB64.bytes(), 68_719_476_736);
    }

    #[test]
    fn a_wrong_size_is_refused_with_the_sizes_that_exist() {
        let error = "3KiB".parse::<SectorSize>().expect_err("no such size");
        assert!(error.to_string().contains("2KiB, 8MiB, 512MiB, 32GiB, 64GiB"));
    }
}
