//! Generates Groth16 parameters for a devnet, in about a minute, from a trapdoor that need not be secret.
//!
//! Whoever has the seed can forge proofs. So the worker contains nothing of this crate, and sector sizes of real
//! networks are refused.
//!
//! Reading order: `circuits` lists the proofs library's circuits, and `devnet` derives the files from them. `generator`
//! writes the parameters of one circuit, `assembly` evaluates its polynomials at the trapdoor, and `fixed_base` and
//! `affine` compute the points. `srs` serves aggregates. `finisher` renames complete files. `forge` shows what the
//! trapdoor is good for: tests get valid proofs in milliseconds.

mod affine;
mod assembly;
mod circuits;
mod devnet;
mod finisher;
mod fixed_base;
mod forge;
mod generator;
mod proof_types;
mod srs;
mod trapdoor;

pub use assembly::CircuitSource;
pub use circuits::{CircuitError, Kind, ProofCircuit};
pub use devnet::{DEFAULT_SEED, DevnetError, DevnetReport, DevnetRequest, make};
pub use finisher::MadeFile;
pub use forge::{ForgeError, Forger, Statement};
pub use generator::{GenerateError, Tables, generate};
pub use sealbus_schema::SectorSize;
pub use srs::{MAX_PROOFS, SrsTrapdoor, write as write_srs};
pub use trapdoor::Trapdoor;
