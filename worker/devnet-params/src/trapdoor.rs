//! Trapdoors from a seed.

use blstrs::Scalar;
use ff::Field;

/// Parts the scalars of this purpose from all others that a seed might serve. A change changes
/// every parameter.
const DOMAIN: &str = "sealbus devnet parameters v1";

/// The secret behind a set of Groth16 parameters. Whoever knows it can prove what is not so.
#[derive(Clone, Debug)]
pub struct Trapdoor {
    /// Binds the A query.
    pub alpha: Scalar,
    /// Binds the B query.
    pub beta: Scalar,
    /// Divides what belongs to public inputs.
    pub gamma: Scalar,
    /// Divides what belongs to private variables.
    pub delta: Scalar,
    /// The point at which the circuit's polynomials are evaluated.
    pub tau: Scalar,
}

impl Trapdoor {
    /// The trapdoor of a seed for the circuit of this cache identifier: always the same for both,
    /// and unrelated between circuits.
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

/// A scalar other than zero, drawn evenly from what the arguments' hash gives.
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
            // The field has 255 bits.
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
