//! The proofs library's circuits, and the file names of their parameters.

use std::fmt;

use bellperson::{Circuit, ConstraintSystem, SynthesisError};
use blstrs::Scalar;
use filecoin_proofs::constants::{DefaultPieceHasher, SectorShapeBase};
use filecoin_proofs::parameters::{public_params, window_post_public_params, winning_post_public_params};
use storage_proofs_core::compound_proof::CompoundProof;
use storage_proofs_core::parameter_cache::{CacheableParameters, metadata_id, parameter_id, verifying_key_id};
use storage_proofs_porep::stacked::{self, StackedCircuit, StackedCompound, StackedDrg};
use storage_proofs_post::fallback::{self, FallbackPoSt, FallbackPoStCircuit, FallbackPoStCompound};
use storage_proofs_update::{self as update, EmptySectorUpdate, EmptySectorUpdateCircuit, EmptySectorUpdateCompound};

use crate::assembly::CircuitSource;
use sealbus_schema::SectorSize;

use crate::proof_types;

/// The tree over a sector of a test network. Sizes of real networks use other shapes.
type Tree = SectorShapeBase;
type PoRepCircuit = StackedCircuit<Tree, DefaultPieceHasher>;
type PoRepCompound = StackedCompound<Tree, DefaultPieceHasher>;
type PoRepScheme<'a> = StackedDrg<'a, Tree, DefaultPieceHasher>;

/// The kinds of proofs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Proof of replication: a sector is sealed.
    PoRep,
    /// An elected miner stores a sector.
    WinningPoSt,
    /// A replica update: a sealed empty sector has taken in data.
    EmptySectorUpdate,
    /// A partition's sectors are still stored.
    WindowPoSt,
}

/// A circuit of the proofs library, without assigned values.
pub struct ProofCircuit {
    kind: Kind,
    identifier: String,
    setup: Setup,
}

/// Why a circuit is not available.
#[derive(Debug, thiserror::Error)]
pub enum CircuitError {
    /// Real networks use this sector size, so forgeable proofs would endanger money.
    #[error(
        "cannot make parameters for {sector_size} sectors: real networks use them; fetch the official ones with `sealbus-worker params fetch`"
    )]
    RealSectorSize {
        /// The sector size.
        sector_size: SectorSize,
    },
    /// The proofs library could not set up the circuit.
    #[error("cannot set up the {kind} circuit for {sector_size} sectors")]
    Library {
        /// The circuit.
        kind: Kind,
        /// The sector size.
        sector_size: SectorSize,
        /// The library's error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The public parameters from which the library derives a circuit.
enum Setup {
    PoRep(stacked::PublicParams<Tree>),
    PoSt(fallback::PublicParams),
    Update(update::PublicParams),
}

impl Kind {
    /// All kinds: first those for sealing and proving, then the one for snap deals.
    pub const ALL: [Self; 4] = [Self::PoRep, Self::WinningPoSt, Self::WindowPoSt, Self::EmptySectorUpdate];
}

impl ProofCircuit {
    /// The library's circuit of this kind, for a test network's sector size.
    pub fn new(kind: Kind, sector_size: SectorSize) -> Result<Self, CircuitError> {
        if sector_size.is_of_real_networks() {
            return Err(CircuitError::RealSectorSize { sector_size });
        }
        let unknown = |source: anyhow::Error| CircuitError::Library { kind, sector_size, source: source.into() };
        let (identifier, setup) = match kind {
            Kind::PoRep => {
                let setup = public_params::<Tree>(&proof_types::seal(sector_size).as_v1_config()).map_err(unknown)?;
                (<PoRepCompound as CacheableParameters<PoRepCircuit, _>>::cache_identifier(&setup), Setup::PoRep(setup))
            }
            Kind::WindowPoSt => post(
                window_post_public_params::<Tree>(&proof_types::window_post(sector_size).as_v1_config())
                    .map_err(unknown)?,
            ),
            Kind::WinningPoSt => post(
                winning_post_public_params::<Tree>(&proof_types::winning_post(sector_size).as_v1_config())
                    .map_err(unknown)?,
            ),
            Kind::EmptySectorUpdate => {
                let setup = update::PublicParams::from_sector_size(sector_size.bytes());
                let identifier = <EmptySectorUpdateCompound<Tree> as CacheableParameters<
                    EmptySectorUpdateCircuit<Tree>,
                    _,
                >>::cache_identifier(&setup);
                (identifier, Setup::Update(setup))
            }
        };
        Ok(Self { kind, identifier, setup })
    }

    /// The kind of proof.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The library's cache identifier, from which the file names are derived.
    pub fn identifier(&self) -> &str {
        &self.identifier
    }

    /// The name of the parameter file.
    pub fn parameters_name(&self) -> String {
        parameter_id(&self.identifier)
    }

    /// The name of the verifying key file.
    pub fn verifying_key_name(&self) -> String {
        verifying_key_id(&self.identifier)
    }

    /// The name of the metadata file, which contains the sector size.
    pub fn metadata_name(&self) -> String {
        metadata_id(&self.identifier)
    }
}

fn post(setup: fallback::PublicParams) -> (String, Setup) {
    let identifier =
        <FallbackPoStCompound<Tree> as CacheableParameters<FallbackPoStCircuit<Tree>, _>>::cache_identifier(&setup);
    (identifier, Setup::PoSt(setup))
}

impl CircuitSource for ProofCircuit {
    fn synthesize<CS: ConstraintSystem<Scalar>>(&self, cs: &mut CS) -> Result<(), SynthesisError> {
        match &self.setup {
            Setup::PoRep(setup) => {
                <PoRepCompound as CompoundProof<'_, PoRepScheme<'_>, _>>::blank_circuit(setup).synthesize(cs)
            }
            Setup::PoSt(setup) => {
                <FallbackPoStCompound<Tree> as CompoundProof<'_, FallbackPoSt<'_, Tree>, _>>::blank_circuit(setup)
                    .synthesize(cs)
            }
            Setup::Update(setup) => {
                <EmptySectorUpdateCompound<Tree> as CompoundProof<'_, EmptySectorUpdate<Tree>, _>>::blank_circuit(setup)
                    .synthesize(cs)
            }
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PoRep => "PoRep",
            Self::WindowPoSt => "window PoSt",
            Self::WinningPoSt => "winning PoSt",
            Self::EmptySectorUpdate => "empty-sector update",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_the_library_looks_up() {
        let size = SectorSize::KiB2;
        let seal = ProofCircuit::new(Kind::PoRep, size).expect("2 KiB has a PoRep");
        assert_eq!(seal.identifier(), proof_types::seal(size).circuit_identifier().expect("an identifier"));
        let window = ProofCircuit::new(Kind::WindowPoSt, size).expect("2 KiB has a window PoSt");
        assert_eq!(window.identifier(), proof_types::window_post(size).circuit_identifier().expect("an identifier"));
        let winning = ProofCircuit::new(Kind::WinningPoSt, size).expect("2 KiB has a winning PoSt");
        assert_eq!(winning.identifier(), proof_types::winning_post(size).circuit_identifier().expect("an identifier"));
        let manifest = storage_proofs_core::parameter_cache::PARAMETERS_DATA;
        for kind in Kind::ALL {
            // Official parameters exist for test sectors too, so the official manifest contains all names.
            for size in [SectorSize::KiB2, SectorSize::MiB8, SectorSize::MiB512] {
                let circuit = ProofCircuit::new(kind, size).expect("a test size");
                assert!(manifest.contains(&circuit.parameters_name()), "{kind} of {size}");
                assert!(manifest.contains(&circuit.verifying_key_name()), "{kind} of {size}");
            }
        }
    }

    #[test]
    fn sizes_of_real_networks_are_refused() {
        for size in [SectorSize::GiB32, SectorSize::GiB64] {
            assert!(matches!(ProofCircuit::new(Kind::PoRep, size), Err(CircuitError::RealSectorSize { .. })));
        }
    }
}
