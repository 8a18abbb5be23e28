//! Groth16 parameters for a devnet, made in a minute from a trapdoor that everybody may know.
//!
//! Whoever has the seed can forge proofs, so nothing here is part of the worker, and sizes of real networks are refused.
//!
//! Read in this order. `circuits` says which circuits the proofs library has, and `devnet` which files follow from
//! them. `generator` writes the parameters of one circuit, `assembly` evaluates its polynomials at the trapdoor, `fixed_base`
//! and `affine` make the points, and `srs` is for aggregates. `finisher` gives whole files their names.

mod affine;
mod assembly;
mod circuits;
mod devnet;
mod finisher;
mod fixed_base;
mod generator;
mod proof_types;
mod srs;
mod trapdoor;

pub use assembly::CircuitSource;
pub use circuits::{CircuitError, Kind, ProofCircuit};
pub use devnet::{DEFAULT_SEED, DevnetError, DevnetReport, DevnetRequest, make};
pub use finisher::MadeFile;
pub use generator::{GenerateError, Tables, generate};
pub use sealbus_schema::SectorSize;
pub use srs::{MAX_PROOFS, SrsTrapdoor, write as write_srs};
pub use trapdoor::Trapdoor;
