//! Under which proof types the library looks a size's parameters up.

use filecoin_proofs_api::{RegisteredPoStProof, RegisteredSealProof};
use sealbus_schema::SectorSize;

use crate::stage::sector::registered;

/// The proof type under which such a sector is sealed; its parameters serve the types with other features too.
pub(super) fn seal(size: SectorSize) -> RegisteredSealProof {
    registered(size.seal_proof())
}

/// The proof type of its window PoSt.
pub(super) fn window_post(size: SectorSize) -> RegisteredPoStProof {
    match size {
        SectorSize::KiB2 => RegisteredPoStProof::StackedDrgWindow2KiBV1_2,
        SectorSize::MiB8 => RegisteredPoStProof::StackedDrgWindow8MiBV1_2,
        SectorSize::MiB512 => RegisteredPoStProof::StackedDrgWindow512MiBV1_2,
        SectorSize::GiB32 => RegisteredPoStProof::StackedDrgWindow32GiBV1_2,
        SectorSize::GiB64 => RegisteredPoStProof::StackedDrgWindow64GiBV1_2,
    }
}

/// The proof type of its winning PoSt.
pub(super) fn winning_post(size: SectorSize) -> RegisteredPoStProof {
    match size {
        SectorSize::KiB2 => RegisteredPoStProof::StackedDrgWinning2KiBV1,
        SectorSize::MiB8 => RegisteredPoStProof::StackedDrgWinning8MiBV1,
        SectorSize::MiB512 => RegisteredPoStProof::StackedDrgWinning512MiBV1,
        SectorSize::GiB32 => RegisteredPoStProof::StackedDrgWinning32GiBV1,
        SectorSize::GiB64 => RegisteredPoStProof::StackedDrgWinning64GiBV1,
    }
}
