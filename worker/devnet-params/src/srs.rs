//! Generates the inner-product SRS, for creating and verifying aggregates, from a known trapdoor.
//!
//! The format is that of `bellperson::groth16::aggregate::GenericSRS::write`. It has the powers of `alpha` in G1, those
//! of `beta` in G1, and then both in G2. Each has its length as four bytes, big-endian, and compressed points.

use std::io::{self, Write};

use blstrs::Scalar;
use ff::Field;
use group::GroupEncoding;
use indicatif::ProgressBar;
use storage_proofs_core::parameter_cache::{SRS_KEY_EXT, SRS_SHARED_KEY_NAME, VERSION};

use crate::fixed_base::FixedBase;
use crate::generator::{Tables, write_vector};
use crate::trapdoor::scalar_from_seed;

/// The highest number of proofs in an aggregate. A message contains at most 819 proofs, which are padded to this power
/// of two.
pub const MAX_PROOFS: usize = 1024;

/// The file name under which the library looks for the SRS, for all sector sizes.
pub(crate) fn name() -> String {
    format!("v{VERSION}-{SRS_SHARED_KEY_NAME}.{SRS_KEY_EXT}")
}

/// The two secrets of an SRS.
pub struct SrsTrapdoor {
    /// The secret of the first sequence of powers.
    pub alpha: Scalar,
    /// The secret of the second sequence of powers.
    pub beta: Scalar,
}

impl SrsTrapdoor {
    /// The secrets derived from a seed.
    pub fn from_seed(seed: u64) -> Self {
        let scalar = |name| scalar_from_seed(seed, SRS_SHARED_KEY_NAME, name);
        Self { alpha: scalar("alpha"), beta: scalar("beta") }
    }
}

/// Writes an SRS for up to `proofs` proofs, with the same bytes as bellperson's `setup_fake_srs` for these secrets.
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
