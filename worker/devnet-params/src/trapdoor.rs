//! Derives trapdoors from a seed.

use blstrs::Scalar;
use ff::Field;

/// The domain separator: scalars derived for other purposes from the same seed differ. Changing it changes all
/// parameters.
const DOMAIN: &str = "sealbus devnet parameters v1";

/// The secret behind a set of Groth16 parameters. Whoever knows it can forge proofs.
#[derive(Clone, Debug)]
pub struct Trapdoor {
    /// Binds the A query of Groth16.
    pub alpha: Scalar,
    /// Binds the B query of Groth16.
    pub beta: Scalar,
    /// The divisor for public inputs.
    pub gamma: Scalar,
    /// The divisor for private variables.
    pub delta: Scalar,
    /// The point at which the circuit's polynomials are evaluated.
    pub tau: Scalar,
}

impl Trapdoor {
    /// The trapdoor for a seed and a circuit's cache identifier. The same arguments always give the same trapdoor, and
    /// trapdoors of different circuits are unrelated.
    pub fn from_seed(seed: u64, identifier: &str) -> Self {
        let scalar = |name| scalar_from_seed(seed, identifier, name);
        Self {
            alpha: scalar("alpha"),
            beta: scalar("beta"),
            gamma: scalar("gamma"),
            delta: scalar("delta"),
            tau: scalar("tau"),
        }
    }
}

/// A uniformly distributed nonzero scalar, derived from a hash of the arguments.
pub(crate) fn scalar_from_seed(seed: u64, identifier: &str, name: &str) -> Scalar {
    (0u64..)
        .find_map(|attempt| {
            let mut hash = blake2b_simd::Params::new().hash_length(32).to_state();
            for part in
                [DOMAIN.as_bytes(), &seed.to_le_bytes(), identifier.as_bytes(), name.as_bytes(), &attempt.to_le_bytes()]
            {
                hash.update(&(part.len() as u64).to_le_bytes()).update(part);
            }
            let mut bytes = [0; 32];
            bytes.copy_from_slice(hash.finalize().as_bytes());
            // The field has 255 bits, so the top bit is cleared.
            bytes[31] &= 0x7f;
            Option::from(Scalar::from_bytes_le(&bytes)).filter(|scalar| *scalar != Scalar::ZERO)
        })
        .unwrap_or(Scalar::ONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_differ_by_seed_and_circuit_and_name() {
        let scalar = scalar_from_seed(1, "circuit", "tau");
        assert_eq!(scalar, scalar_from_seed(1, "circuit", "tau"));
        assert_ne!(scalar, scalar_from_seed(2, "circuit", "tau"));
        assert_ne!(scalar, scalar_from_seed(1, "circui", "ttau"));
        assert_ne!(scalar, scalar_from_seed(1, "circuit", "alpha"));
    }
}
