//! Sector sizes as people write them.

use std::fmt;
use std::str::FromStr;

use filecoin_proofs_api::{RegisteredPoStProof, RegisteredSealProof};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// A sector size for which the network has proof types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SectorSize {
    /// 2 KiB: devnets and tests.
    KiB2,
    /// 8 MiB: devnets and tests.
    MiB8,
    /// 512 MiB: devnets and tests.
    MiB512,
    /// 32 GiB: real networks.
    GiB32,
    /// 64 GiB: real networks.
    GiB64,
}

/// The text is not a sector size.
#[derive(Debug, thiserror::Error)]
#[error("'{0}' is no sector size: it is one of 2KiB, 8MiB, 512MiB, 32GiB, 64GiB")]
pub struct ParseSectorSizeError(String);

impl SectorSize {
    /// All sizes, ascending.
    pub const ALL: [Self; 5] = [Self::KiB2, Self::MiB8, Self::MiB512, Self::GiB32, Self::GiB64];

    /// The size in bytes.
    pub fn bytes(self) -> u64 {
        match self {
            Self::KiB2 => 2 * KIB,
            Self::MiB8 => 8 * MIB,
            Self::MiB512 => 512 * MIB,
            Self::GiB32 => 32 * GIB,
            Self::GiB64 => 64 * GIB,
        }
    }

    /// Whether sectors of this size are worth money somewhere.
    pub fn is_of_real_networks(self) -> bool {
        matches!(self, Self::GiB32 | Self::GiB64)
    }

    /// The proof type under which such a sector is sealed; its parameters serve the types with
    /// other features too.
    pub(super) fn seal_proof(self) -> RegisteredSealProof {
        match self {
            Self::KiB2 => RegisteredSealProof::StackedDrg2KiBV1_1,
            Self::MiB8 => RegisteredSealProof::StackedDrg8MiBV1_1,
            Self::MiB512 => RegisteredSealProof::StackedDrg512MiBV1_1,
            Self::GiB32 => RegisteredSealProof::StackedDrg32GiBV1_1,
            Self::GiB64 => RegisteredSealProof::StackedDrg64GiBV1_1,
        }
    }

    /// The proof type of its window PoSt.
    pub(super) fn window_post_proof(self) -> RegisteredPoStProof {
        match self {
            Self::KiB2 => RegisteredPoStProof::StackedDrgWindow2KiBV1_2,
            Self::MiB8 => RegisteredPoStProof::StackedDrgWindow8MiBV1_2,
            Self::MiB512 => RegisteredPoStProof::StackedDrgWindow512MiBV1_2,
            Self::GiB32 => RegisteredPoStProof::StackedDrgWindow32GiBV1_2,
            Self::GiB64 => RegisteredPoStProof::StackedDrgWindow64GiBV1_2,
        }
    }

    /// The proof type of its winning PoSt.
    pub(super) fn winning_post_proof(self) -> RegisteredPoStProof {
        match self {
            Self::KiB2 => RegisteredPoStProof::StackedDrgWinning2KiBV1,
            Self::MiB8 => RegisteredPoStProof::StackedDrgWinning8MiBV1,
            Self::MiB512 => RegisteredPoStProof::StackedDrgWinning512MiBV1,
            Self::GiB32 => RegisteredPoStProof::StackedDrgWinning32GiBV1,
            Self::GiB64 => RegisteredPoStProof::StackedDrgWinning64GiBV1,
        }
    }
}

impl FromStr for SectorSize {
    type Err = ParseSectorSizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|size| size.to_string().eq_ignore_ascii_case(text) || size.bytes().to_string() == text)
            .ok_or_else(|| ParseSectorSizeError(text.to_owned()))
    }
}

impl fmt::Display for SectorSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KiB2 => "2KiB",
            Self::MiB8 => "8MiB",
            Self::MiB512 => "512MiB",
            Self::GiB32 => "32GiB",
            Self::GiB64 => "64GiB",
        })
    }
}
