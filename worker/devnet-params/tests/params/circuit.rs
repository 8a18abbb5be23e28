//! A small random circuit that covers all cases of a constraint system.

use bellperson::{Circuit, ConstraintSystem, LinearCombination, SynthesisError, Variable};
use blstrs::Scalar;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use sealbus_devnet_params::CircuitSource;

/// Variables and constraints drawn from a seed. Every variable occurs in a constraint, as the format requires.
#[derive(Clone)]
pub struct RandomCircuit {
    pub seed: u64,
    pub inputs: usize,
    pub aux: usize,
    pub constraints: usize,
}

impl CircuitSource for RandomCircuit {
    fn synthesize<CS: ConstraintSystem<Scalar>>(&self, cs: &mut CS) -> Result<(), SynthesisError> {
        let mut rng = StdRng::seed_from_u64(self.seed);
        let mut variables = vec![CS::one()];
        let unassigned = || Err(SynthesisError::AssignmentMissing);
        for input in 0..self.inputs {
            variables.push(cs.alloc_input(|| format!("input {input}"), unassigned)?);
        }
        let mut aux = Vec::new();
        for index in 0..self.aux {
            aux.push(cs.namespace(|| "aux").alloc(|| format!("{index}"), unassigned)?);
        }
        variables.extend(&aux);
        for (index, variable) in aux.into_iter().enumerate() {
            // Some variables occur in A only, some in B, some in C.
            let holds = |part| {
                if index % 3 == part { Some(variable) } else { None }
            };
            let (a, b, c) = (holds(0), holds(1), holds(2));
            let one = CS::one();
            cs.enforce(
                || "",
                |lc| a.map_or(lc.clone(), |variable| lc + variable),
                |lc| b.map_or(lc.clone(), |variable| lc + variable + one),
                |lc| c.map_or(lc.clone(), |variable| lc + variable),
            );
        }
        for constraint in 0..self.constraints {
            let mut random = |lc| combination(lc, &variables, &mut rng);
            let (a, b, c) = (
                random(LinearCombination::zero()),
                random(LinearCombination::zero()),
                random(LinearCombination::zero()),
            );
            cs.enforce(|| format!("constraint {constraint}"), |_| a, |_| b, |_| c);
        }
        Ok(())
    }
}

impl Circuit<Scalar> for RandomCircuit {
    fn synthesize<CS: ConstraintSystem<Scalar>>(self, cs: &mut CS) -> Result<(), SynthesisError> {
        CircuitSource::synthesize(&self, cs)
    }
}

/// Up to four terms: ones, small and negative coefficients, or the same variable twice. It may also be empty.
fn combination(
    mut lc: LinearCombination<Scalar>,
    variables: &[Variable],
    rng: &mut StdRng,
) -> LinearCombination<Scalar> {
    for _ in 0..rng.gen_range(0..5) {
        let variable = variables[rng.gen_range(0..variables.len())];
        lc = match rng.gen_range(0..4) {
            0 => lc + variable,
            1 => lc - variable,
            2 => lc + (Scalar::from(rng.r#gen::<u64>()), variable) + variable,
            _ => lc - (Scalar::from(rng.r#gen::<u64>()), variable),
        };
    }
    lc
}
