//! Evaluates a circuit's polynomials at a point without storing its matrices.
//!
//! The library's generator stores all coefficients of the three constraint matrices before it evaluates them. If the
//! trapdoor is known beforehand, that is unnecessary. A first pass counts variables and constraints; this gives the
//! evaluation domain, and so the Lagrange coefficients at `tau`. A second pass adds each coefficient to its variable's
//! sum as it appears. Only three scalars per variable are stored.

use bellperson::{ConstraintSystem, Index, LinearCombination, SynthesisError, Variable};
use blstrs::Scalar;
use ff::{Field, PrimeField};
use rayon::prelude::*;

/// How many Lagrange coefficients share an inversion.
const LAGRANGE_CHUNK: usize = 4096;

/// A circuit that can be synthesized repeatedly, always with the same variables and constraints in the same order.
pub trait CircuitSource: Send + Sync {
    /// Allocates the circuit's variables and enforces its constraints, without assigning values.
    fn synthesize<CS: ConstraintSystem<Scalar>>(&self, cs: &mut CS) -> Result<(), SynthesisError>;
}

/// The number of variables and constraints of a circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Public inputs, including the constant one.
    pub(crate) inputs: usize,
    /// Private variables.
    pub(crate) aux: usize,
    /// Constraints, plus one for each input, which makes the inputs' polynomials independent.
    pub(crate) constraints: usize,
}

/// Each variable's three polynomials, evaluated at `tau`.
#[derive(Default)]
pub(crate) struct Evaluation {
    pub(crate) inputs: Polynomials,
    pub(crate) aux: Polynomials,
}

/// The three polynomials at `tau`, indexed by variable.
#[derive(Default)]
pub(crate) struct Polynomials {
    pub(crate) a: Vec<Scalar>,
    pub(crate) b: Vec<Scalar>,
    pub(crate) c: Vec<Scalar>,
}

/// The constraint system of the first pass, which counts.
struct Counter(Shape);

/// The constraint system of the second pass, which evaluates.
struct Evaluator<'a> {
    evaluation: Evaluation,
    lagrange: std::slice::Iter<'a, Scalar>,
    /// Whether there were more constraints than the first pass had counted.
    exhausted: bool,
}

impl Shape {
    /// Synthesizes the circuit to count.
    pub(crate) fn of(circuit: &impl CircuitSource) -> Result<Self, SynthesisError> {
        let mut counter = Counter(Self { inputs: 1, aux: 0, constraints: 0 });
        circuit.synthesize(&mut counter)?;
        let mut shape = counter.0;
        shape.constraints += shape.inputs;
        Ok(shape)
    }

    /// The size of the evaluation domain: the least power of two that holds all constraints.
    pub(crate) fn domain(&self) -> usize {
        self.constraints.next_power_of_two()
    }
}

impl Evaluation {
    /// Synthesizes the circuit, which has this shape, to evaluate its polynomials at `tau`.
    pub(crate) fn of(circuit: &impl CircuitSource, shape: Shape, tau: Scalar) -> Result<Self, SynthesisError> {
        let lagrange = lagrange_coefficients(shape, tau)?;
        let mut evaluator = Evaluator { evaluation: Self::default(), lagrange: lagrange.iter(), exhausted: false };
        evaluator.alloc_input(String::new, || Ok(Scalar::ONE))?;
        circuit.synthesize(&mut evaluator)?;
        let inputs = evaluator.evaluation.inputs.a.len();
        for input in 0..inputs {
            evaluator.enforce(String::new, |lc| lc + Variable(Index::Input(input)), |lc| lc, |lc| lc);
        }
        if evaluator.exhausted || evaluator.lagrange.len() > 0 || evaluator.evaluation.aux.a.len() != shape.aux {
            // Possible only if the two passes differ.
            return Err(SynthesisError::Unsatisfiable);
        }
        Ok(evaluator.evaluation)
    }
}

impl Polynomials {
    fn push(&mut self) -> usize {
        self.a.push(Scalar::ZERO);
        self.b.push(Scalar::ZERO);
        self.c.push(Scalar::ZERO);
        self.a.len() - 1
    }
}

/// The Lagrange polynomials of the shape's constraints at `tau`: `(tau^m - 1)/m * w^j/(tau - w^j)`,
/// `w` being the domain's root of unity.
fn lagrange_coefficients(shape: Shape, tau: Scalar) -> Result<Vec<Scalar>, SynthesisError> {
    let domain = shape.domain() as u64;
    let log_domain = domain.trailing_zeros();
    if log_domain >= Scalar::S {
        return Err(SynthesisError::PolynomialDegreeTooLarge);
    }
    let root = Scalar::ROOT_OF_UNITY.pow_vartime([1 << (Scalar::S - log_domain)]);
    let size_inverse = Option::<Scalar>::from(Scalar::from(domain).invert()).ok_or(SynthesisError::DivisionByZero)?;
    let factor = (tau.pow_vartime([domain]) - Scalar::ONE) * size_inverse;

    let mut coefficients = vec![Scalar::ZERO; shape.constraints];
    coefficients.par_chunks_mut(LAGRANGE_CHUNK).enumerate().try_for_each(|(chunk, coefficients)| {
        let first = root.pow_vartime([(chunk * LAGRANGE_CHUNK) as u64]);
        // Stores the numerators, and the product of the denominators before each.
        let mut power = first;
        let mut product = Scalar::ONE;
        for coefficient in coefficients.iter_mut() {
            *coefficient = product;
            product *= tau - power;
            power *= root;
        }
        // Montgomery's trick again: one inversion for the chunk, then back from its end.
        let root_inverse = Option::<Scalar>::from(root.invert()).ok_or(SynthesisError::DivisionByZero)?;
        let mut inverse = Option::<Scalar>::from(product.invert()).ok_or(SynthesisError::DivisionByZero)?;
        for coefficient in coefficients.iter_mut().rev() {
            power *= root_inverse;
            *coefficient *= inverse * power * factor;
            inverse *= tau - power;
        }
        Ok::<_, SynthesisError>(())
    })?;
    Ok(coefficients)
}

impl ConstraintSystem<Scalar> for Counter {
    type Root = Self;

    fn alloc<F, A, AR>(&mut self, _: A, _: F) -> Result<Variable, SynthesisError>
    where
        F: FnOnce() -> Result<Scalar, SynthesisError>,
        A: FnOnce() -> AR,
        AR: Into<String>,
    {
        self.0.aux += 1;
        Ok(Variable(Index::Aux(self.0.aux - 1)))
    }

    fn alloc_input<F, A, AR>(&mut self, _: A, _: F) -> Result<Variable, SynthesisError>
    where
        F: FnOnce() -> Result<Scalar, SynthesisError>,
        A: FnOnce() -> AR,
        AR: Into<String>,
    {
        self.0.inputs += 1;
        Ok(Variable(Index::Input(self.0.inputs - 1)))
    }

    fn enforce<A, AR, LA, LB, LC>(&mut self, _: A, _: LA, _: LB, _: LC)
    where
        A: FnOnce() -> AR,
        AR: Into<String>,
        LA: FnOnce(LinearCombination<Scalar>) -> LinearCombination<Scalar>,
        LB: FnOnce(LinearCombination<Scalar>) -> LinearCombination<Scalar>,
        LC: FnOnce(LinearCombination<Scalar>) -> LinearCombination<Scalar>,
    {
        self.0.constraints += 1;
    }

    fn push_namespace<NR, N>(&mut self, _: N)
    where
        NR: Into<String>,
        N: FnOnce() -> NR,
    {
    }

    fn pop_namespace(&mut self) {}

    fn get_root(&mut self) -> &mut Self::Root {
        self
    }
}

impl ConstraintSystem<Scalar> for Evaluator<'_> {
    type Root = Self;

    fn alloc<F, A, AR>(&mut self, _: A, _: F) -> Result<Variable, SynthesisError>
    where
        F: FnOnce() -> Result<Scalar, SynthesisError>,
        A: FnOnce() -> AR,
        AR: Into<String>,
    {
        Ok(Variable(Index::Aux(self.evaluation.aux.push())))
    }

    fn alloc_input<F, A, AR>(&mut self, _: A, _: F) -> Result<Variable, SynthesisError>
    where
        F: FnOnce() -> Result<Scalar, SynthesisError>,
        A: FnOnce() -> AR,
        AR: Into<String>,
    {
        Ok(Variable(Index::Input(self.evaluation.inputs.push())))
    }

    fn enforce<A, AR, LA, LB, LC>(&mut self, _: A, a: LA, b: LB, c: LC)
    where
        A: FnOnce() -> AR,
        AR: Into<String>,
        LA: FnOnce(LinearCombination<Scalar>) -> LinearCombination<Scalar>,
        LB: FnOnce(LinearCombination<Scalar>) -> LinearCombination<Scalar>,
        LC: FnOnce(LinearCombination<Scalar>) -> LinearCombination<Scalar>,
    {
        let Some(lagrange) = self.lagrange.next() else {
            self.exhausted = true;
            return;
        };
        let Evaluation { inputs, aux } = &mut self.evaluation;
        add(&a(LinearCombination::zero()), lagrange, &mut inputs.a, &mut aux.a);
        add(&b(LinearCombination::zero()), lagrange, &mut inputs.b, &mut aux.b);
        add(&c(LinearCombination::zero()), lagrange, &mut inputs.c, &mut aux.c);
    }

    fn push_namespace<NR, N>(&mut self, _: N)
    where
        NR: Into<String>,
        N: FnOnce() -> NR,
    {
    }

    fn pop_namespace(&mut self) {}

    fn get_root(&mut self) -> &mut Self::Root {
        self
    }
}

/// Adds a constraint's linear combination to the sums of its variables.
fn add(combination: &LinearCombination<Scalar>, lagrange: &Scalar, inputs: &mut [Scalar], aux: &mut [Scalar]) {
    let term = |coefficient: &Scalar| {
        if *coefficient == Scalar::ONE { *lagrange } else { *coefficient * lagrange }
    };
    for (variable, coefficient) in combination.iter_inputs() {
        inputs[*variable] += term(coefficient);
    }
    for (variable, coefficient) in combination.iter_aux() {
        aux[*variable] += term(coefficient);
    }
}
