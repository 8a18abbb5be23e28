//! Forges proofs of replication with the trapdoor, in milliseconds instead of the minute that C2 takes.
//!
//! A Groth16 proof `(A, B, C)` is valid if `e(A, B) = e(alpha, beta) · e(IC, gamma) · e(C, delta)`. `IC` is the sum of
//! the verifying key's input points, weighted with the public inputs. Whoever knows the trapdoor chooses `A = a·G1` and
//! `B = b·G2` freely, and solves for `C = ((a·b - alpha·beta)·G1 - gamma·IC) / delta`. No replica is needed. The result
//! verifies, alone and in an aggregate, like any other proof.

use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;

use bellperson::groth16::VerifyingKey;
use blstrs::{Bls12, G1Affine, G1Projective, G2Affine, Scalar};
use ff::Field;
use filecoin_proofs_api::{RegisteredSealProof, SectorId, seal};
use group::{Curve, GroupEncoding, prime::PrimeCurveAffine};
use sealbus_params_dir::marker::{Marker, MarkerError};
use sealbus_schema::SectorSize;

use crate::circuits::{CircuitError, Kind, ProofCircuit};
use crate::proof_types;
use crate::trapdoor::{Trapdoor, scalar_from_seed};

/// What a proof of replication states.
#[derive(Clone, Copy, Debug)]
pub struct Statement {
    /// The replica's commitment.
    pub comm_r: [u8; 32],
    /// The data's commitment.
    pub comm_d: [u8; 32],
    /// The miner, as the proofs library identifies it.
    pub prover_id: [u8; 32],
    /// The sector's number.
    pub sector: u64,
    /// The ticket's randomness.
    pub ticket: [u8; 32],
    /// The seed's randomness.
    pub seed: [u8; 32],
}

/// Forges proofs that verify with the parameters of one directory.
#[derive(Debug)]
pub struct Forger {
    proof: RegisteredSealProof,
    /// The directory's seed.
    seed: u64,
    trapdoor: Trapdoor,
    key: VerifyingKey<Bls12>,
}

/// Why proofs cannot be forged.
#[derive(Debug, thiserror::Error)]
pub enum ForgeError {
    /// The sector size is that of a real network, or unknown.
    #[error(transparent)]
    Circuit(#[from] CircuitError),
    /// The directory's marker cannot be read.
    #[error(transparent)]
    Marker(#[from] MarkerError),
    /// The directory has no marker, so nobody knows its trapdoor.
    #[error("the parameters in {dir} were not made by sealbus-devnet-params")]
    NotOurs {
        /// The directory.
        dir: String,
    },
    /// The verifying key cannot be read.
    #[error("cannot read the verifying key {path}")]
    Key {
        /// The file.
        path: String,
        /// The reason.
        source: io::Error,
    },
    /// The library refused the statement.
    #[error("the library refuses the statement")]
    Statement(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Forger {
    /// For the PoRep parameters of a sector size in `dir`.
    ///
    /// # Errors
    /// [`ForgeError`].
    pub fn new(dir: &Path, sector_size: SectorSize) -> Result<Self, ForgeError> {
        let circuit = ProofCircuit::new(Kind::PoRep, sector_size)?;
        let marker = Marker::load(dir)?.ok_or_else(|| ForgeError::NotOurs { dir: dir.display().to_string() })?;
        let path = dir.join(circuit.verifying_key_name());
        let key = File::open(&path)
            .and_then(|file| VerifyingKey::read(BufReader::new(file)))
            .map_err(|source| ForgeError::Key { path: path.display().to_string(), source })?;
        let trapdoor = Trapdoor::from_seed(marker.seed, circuit.identifier());
        Ok(Self { proof: proof_types::seal(sector_size), seed: marker.seed, trapdoor, key })
    }

    /// A proof of any statement, true or not, in the form that C2 returns. The same statement gives the same proof.
    ///
    /// # Errors
    /// [`ForgeError::Statement`], for a commitment that is not a field element, for example.
    pub fn porep(&self, statement: &Statement) -> Result<Vec<u8>, ForgeError> {
        let Statement { comm_r, comm_d, prover_id, sector, ticket, seed } = *statement;
        let sector = SectorId::from(sector);
        let inputs = seal::get_seal_inputs(self.proof, comm_r, comm_d, prover_id, sector, ticket, seed)
            .map_err(|error| ForgeError::Statement(error.into()))?;
        // One proof for each partition; the test networks' sectors have one.
        Ok(inputs.iter().flat_map(|inputs| self.groth16(inputs)).collect())
    }

    fn groth16(&self, inputs: &[Scalar]) -> Vec<u8> {
        let Trapdoor { alpha, beta, gamma, delta, .. } = &self.trapdoor;
        // Derived from the inputs, so that proofs of different statements have nothing in common.
        let about: Vec<u8> = inputs.iter().flat_map(Scalar::to_bytes_le).collect();
        let about = blake2b_simd::blake2b(&about).to_hex();
        let [a, b] = ["a", "b"].map(|name| scalar_from_seed(self.seed, about.as_str(), name));
        let per_delta = delta.invert().unwrap_or(Scalar::ZERO);
        // The first point belongs to the constant input one.
        let weights = std::iter::once(&Scalar::ONE).chain(inputs);
        let ic: G1Projective = self.key.ic.iter().zip(weights).map(|(point, weight)| point * weight).sum();
        let c = (G1Affine::generator() * (a * b - alpha * beta) - ic * gamma) * per_delta;
        let (a, b) = ((G1Affine::generator() * a).to_affine(), (G2Affine::generator() * b).to_affine());
        [a.to_bytes().as_ref(), b.to_bytes().as_ref(), c.to_affine().to_bytes().as_ref()].concat()
    }
}
