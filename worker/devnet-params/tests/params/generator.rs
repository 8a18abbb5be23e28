//! The generator's bytes equal those of the library.

use std::io::Cursor;

use bellperson::groth16;
use blstrs::{Bls12, G1Projective, G2Projective, Scalar};
use ff::Field;
use group::Group;
use rand::SeedableRng;
use rand::rngs::StdRng;
use sealbus_devnet_params::{self as params, GenerateError, SrsTrapdoor, Tables, Trapdoor};

use super::circuit::RandomCircuit;

fn ours(circuit: &RandomCircuit, trapdoor: &Trapdoor, tables: &Tables) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    params::generate(circuit, trapdoor, tables, &mut out).unwrap();
    out.into_inner()
}

fn librarys(circuit: &RandomCircuit, trapdoor: &Trapdoor) -> Vec<u8> {
    let Trapdoor { alpha, beta, gamma, delta, tau } = trapdoor.clone();
    let (g1, g2) = (G1Projective::generator(), G2Projective::generator());
    let circuit = circuit.clone();
    let parameters = groth16::generate_parameters::<Bls12, _>(circuit, g1, g2, alpha, beta, gamma, delta, tau);
    let mut out = Vec::new();
    parameters.unwrap().write(&mut out).unwrap();
    out
}

#[test]
fn parameters_equal_bellpersons_for_the_same_trapdoor() {
    let tables = Tables::new();
    // Domains that are exactly full and just not full, and more points than a batch holds.
    for (seed, inputs, aux, constraints) in
        [(1, 1, 2, 1), (2, 3, 10, 2), (3, 3, 10, 3), (4, 5, 100, 151), (5, 40, 2500, 1700)]
    {
        let circuit = RandomCircuit { seed, inputs, aux, constraints };
        let trapdoor = Trapdoor::from_seed(seed, "a test's circuit");
        let (ours, librarys) = (ours(&circuit, &trapdoor, &tables), librarys(&circuit, &trapdoor));
        assert!(ours == librarys, "circuit {seed}: {} and {} bytes", ours.len(), librarys.len());
    }
}

#[test]
fn an_unconstrained_variable_is_refused_as_by_bellperson() {
    struct Unconstrained;
    impl params::CircuitSource for Unconstrained {
        fn synthesize<CS: bellperson::ConstraintSystem<Scalar>>(
            &self,
            cs: &mut CS,
        ) -> Result<(), bellperson::SynthesisError> {
            cs.alloc(|| "", || Ok(Scalar::ONE)).map(drop)
        }
    }
    let trapdoor = Trapdoor::from_seed(1, "a test's circuit");
    let mut out = Cursor::new(Vec::new());
    let refused = params::generate(&Unconstrained, &trapdoor, &Tables::new(), &mut out);
    assert!(matches!(refused, Err(GenerateError::Synthesis(bellperson::SynthesisError::UnconstrainedVariable))));
}

#[test]
fn the_srs_equals_bellpersons_for_the_same_secrets() {
    // The library draws alpha first, then beta.
    let mut rng = StdRng::seed_from_u64(8);
    let secrets = SrsTrapdoor { alpha: Scalar::random(&mut rng), beta: Scalar::random(&mut rng) };
    let mut rng = StdRng::seed_from_u64(8);
    let librarys = groth16::aggregate::setup_fake_srs::<Bls12, _>(&mut rng, 8);
    let (mut expected, mut written) = (Vec::new(), Vec::new());
    librarys.write(&mut expected).unwrap();
    params::write_srs(&secrets, 8, &Tables::new(), &mut written).unwrap();
    assert!(written == expected);
}
