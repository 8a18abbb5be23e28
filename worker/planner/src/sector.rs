//! The disk space that a sector takes while it is sealed.

use sealbus_schema::SealProof;

/// Spare bytes for records, openings and the file system's own use.
const SPARE_BYTES: u64 = 64 << 20;

/// The number of layers of labels that PC1 makes.
#[must_use]
pub const fn layers(proof: SealProof) -> usize {
    match proof {
        SealProof::StackedDrg2KiBV1_1 | SealProof::StackedDrg8MiBV1_1 | SealProof::StackedDrg512MiBV1_1 => 2,
        SealProof::StackedDrg32GiBV1_1 | SealProof::StackedDrg64GiBV1_1 => 11,
    }
}

/// The most bytes that a sector takes in its slot: the data, tree D (twice the sector size), the labels, the replica
/// with PC2's copy of it, and trees C and R.
#[must_use]
pub fn needed_bytes(proof: SealProof) -> u64 {
    let sizes = layers(proof) as u64 + 6;
    proof.sector_size().bytes() * sizes + SPARE_BYTES
}
