//! The proof types under which the library looks up the parameters of a sector size.

use filecoin_proofs_api::{RegisteredPoStProof, RegisteredSealProof};
use sealbus_schema::SectorSize;

/// The proof type for sealing. Its parameters also serve the variants with other features.
pub(crate) fn seal(size: SectorSize) -> RegisteredSealProof {
    match size {
        SectorSize::KiB2 => RegisteredSealProof::StackedDrg2KiBV1_1,
        SectorSize::MiB8 => RegisteredSealProof::StackedDrg8MiBV1_1,
        SectorSize::MiB512 => RegisteredSealProof::StackedDrg512MiBV1_1,
        SectorSize::GiB32 => RegisteredSealProof::StackedDrg32GiBV1_1,
        SectorSize::GiB64 => RegisteredSealProof::StackedDrg64GiBV1_1,
    }
}

/// The proof type for window PoSt.
pub(crate) fn window_post(size: SectorSize) -> RegisteredPoStProof {
    match size {
        SectorSize::KiB2 => RegisteredPoStProof::StackedDrgWindow2KiBV1_2,
        SectorSize::MiB8 => RegisteredPoStProof::StackedDrgWindow8MiBV1_2,
        SectorSize::MiB512 => RegisteredPoStProof::StackedDrgWindow512MiBV1_2,
        SectorSize::GiB32 => RegisteredPoStProof::StackedDrgWindow32GiBV1_2,
        SectorSize::GiB64 => RegisteredPoStProof::StackedDrgWindow64GiBV1_2,
    }
}

/// The proof type for winning PoSt.
pub(crate) fn winning_post(size: SectorSize) -> RegisteredPoStProof {
    match size {
        SectorSize::KiB2 => RegisteredPoStProof::StackedDrgWinning2KiBV1,
        SectorSize::MiB8 => RegisteredPoStProof::StackedDrgWinning8MiBV1,
        SectorSize::MiB512 => RegisteredPoStProof::StackedDrgWinning512MiBV1,
        SectorSize::GiB32 => RegisteredPoStProof::StackedDrgWinning32GiBV1,
        SectorSize::GiB64 => RegisteredPoStProof::StackedDrgWinning64GiBV1,
    }
}
