//! The inner-product SRS that aggregates and verifies aggregates, from a known trapdoor.
//!
//! The format (`bellperson::groth16::aggregate::GenericSRS::write`): the powers of `alpha` and then
//! of `beta` in G1, then both in G2, each with its length as four bytes, big-endian, and compressed
//! points.

use std::io::{self, Write};

use blstrs::Scalar;
use ff::Field;
use group::GroupEncoding;
use indicatif::ProgressBar;
use storage_proofs_core::parameter_cache::{SRS_KEY_EXT, SRS_SHARED_KEY_NAME, VERSION};

use crate::fixed_base::FixedBase;
use crate::generator::{Tables, write_vector};
use crate::trapdoor::scalar_from_seed;

/// The most proofs that the devnet's SRS aggregates: a network's messages take at most 819, which
/// are padded to this.
pub const MAX_PROOFS: usize = 1024;

/// The name under which the library looks for the SRS, one for all sector sizes.
pub(crate) fn name() -> String {
    format!("v{VERSION}-{SRS_SHARED_KEY_NAME}.{SRS_KEY_EXT}")
}

/// The two secrets of an SRS.
pub struct SrsTrapdoor {
    /// The first one.
    pub alpha: Scalar,
    /// The second one.
    pub beta: Scalar,
}

impl SrsTrapdoor {
    /// The secrets that belong to a seed.
    pub fn from_seed(seed: u64) -> Self {
        let scalar = |name| scalar_from_seed(seed, SRS_SHARED_KEY_NAME, name);
        Self { alpha: scalar("alpha"), beta: scalar("beta") }
    }
}

/// Writes an SRS for up to `proofs` proofs, as `setup_fake_srs` of bellperson would make it from
/// these secrets.
pub fn write(trapdoor: &SrsTrapdoor, proofs: usize, tables: &Tables, out: &mut impl Write) -> io::Result<()> {
    write_powers(out, tables.g1(), trapdoor.alpha, 2 * proofs)?;
    write_powers(out, tables.g1(), trapdoor.beta, 2 * proofs)?;
    write_powers(out, tables.g2(), trapdoor.alpha, 2 * proofs)?;
    write_powers(out, tables.g2(), trapdoor.beta, 2 * proofs)?;
    out.flush()
}

fn write_powers<P: GroupEncoding + Sync>(
    out: &mut impl Write,
    base: &dyn FixedBase<P>,
    secret: Scalar,
    count: usize,
) -> io::Result<()> {
    let powers: Vec<Scalar> =
        std::iter::successors(Some(Scalar::ONE), |power| Some(*power * secret)).take(count).collect();
    let encode = |point: &P, bytes: &mut Vec<u8>| bytes.extend_from_slice(point.to_bytes().as_ref());
    write_vector(out, base, count, &ProgressBar::hidden(), |range| powers[range].to_vec(), encode)
}
