//! Many affine additions at once, sharing one field inversion.
//!
//! Adding two affine points costs one inversion, which is worth some hundred multiplications. For
//! `n` independent additions Montgomery's trick makes them one inversion and `3n` multiplications,
//! so that an addition costs five multiplications and a squaring: a third of what an addition in
//! projective coordinates costs together with its normalisation.
//!
//! The coordinates' field types of `blstrs` cannot be named outside of that crate, so [`Curve`]
//! carries the functions that convert and everything else is generic over the field.

use blstrs::{G1Affine, G2Affine};
use ff::Field;
use group::{Curve as _, Group, prime::PrimeCurveAffine};

/// A point that is not the identity: its affine coordinates.
#[derive(Clone, Copy)]
pub(crate) struct Coordinates<F> {
    pub(crate) x: F,
    pub(crate) y: F,
}

/// What a batch addition must know of a curve: how to take its points apart and put them together.
pub(crate) struct Curve<F, P> {
    x: fn(&P) -> F,
    y: fn(&P) -> F,
    point: fn(F, F, bool) -> P,
}

/// A batch of additions that share an inversion, and the room for it, kept between batches so that
/// nothing is allocated for each.
pub(crate) struct Batch<F> {
    additions: Vec<Addition<F>>,
    /// For each addition the difference of the abscissas, to be inverted, and the product of all
    /// differences before it.
    products: Vec<(F, F)>,
}

struct Addition<F> {
    /// A copy: a table's entries lie far apart in memory, and copying them in a loop that does
    /// nothing else lets the processor wait for many of them at once.
    addend: Coordinates<F>,
    /// Which accumulator takes part.
    target: u32,
    /// Whether the addend's negative is added.
    negative: bool,
}

impl<F: Field> Coordinates<F> {
    #[inline]
    pub(crate) fn negated_if(self, negative: bool) -> Self {
        Self { x: self.x, y: if negative { -self.y } else { self.y } }
    }
}

/// G1's curve.
pub(crate) fn g1() -> Curve<impl Field, G1Affine> {
    Curve { x: G1Affine::x, y: G1Affine::y, point: G1Affine::from_raw_unchecked }
}

/// G2's curve.
pub(crate) fn g2() -> Curve<impl Field, G2Affine> {
    Curve { x: G2Affine::x, y: G2Affine::y, point: G2Affine::from_raw_unchecked }
}

impl<F: Field, P: PrimeCurveAffine> Curve<F, P> {
    /// Takes a point apart. It must not be the identity, which has no affine coordinates.
    pub(crate) fn coordinates(&self, point: &P) -> Coordinates<F> {
        debug_assert!(!bool::from(point.is_identity()));
        Coordinates { x: (self.x)(point), y: (self.y)(point) }
    }

    /// Puts a point together; the coordinates must lie on the curve.
    pub(crate) fn point(&self, coordinates: Coordinates<F>) -> P {
        (self.point)(coordinates.x, coordinates.y, false)
    }

    /// The sum of a point with itself, with an inversion of its own: for the few places that
    /// double.
    pub(crate) fn double(&self, coordinates: Coordinates<F>) -> Coordinates<F>
    where
        P::Curve: group::Curve<AffineRepr = P>,
    {
        self.coordinates(&self.point(coordinates).to_curve().double().to_affine())
    }
}

impl<F: Field> Batch<F> {
    pub(crate) fn with_capacity(additions: usize) -> Self {
        Self { additions: Vec::with_capacity(additions), products: Vec::with_capacity(additions) }
    }

    /// Puts down the addition of `addend`, or its negative, to `accumulators[target]`, which
    /// [`Self::finish`] carries out. A batch may name a target once.
    #[inline]
    pub(crate) fn push(&mut self, target: u32, addend: &Coordinates<F>, negative: bool) {
        self.additions.push(Addition { addend: *addend, target, negative });
    }

    /// Carries out the additions and empties the batch.
    ///
    /// Two points of the same abscissa, which are equal or opposite, have no such addition; for
    /// these the target is handed to `degenerate` and stays as it was.
    pub(crate) fn finish(&mut self, accumulators: &mut [Coordinates<F>], mut degenerate: impl FnMut(u32)) {
        let inverse = match Option::from(self.product(accumulators).invert()) {
            Some(inverse) => inverse,
            None => {
                // Once in 2^200 batches, so the check is not made for each addition.
                self.additions.retain(|addition| {
                    let possible = addition.addend.x != accumulators[addition.target as usize].x;
                    if !possible {
                        degenerate(addition.target);
                    }
                    possible
                });
                self.product(accumulators).invert().unwrap_or(F::ONE)
            }
        };
        self.add(accumulators, inverse);
    }

    /// The product of all differences, and on the way the ones before each.
    fn product(&mut self, accumulators: &[Coordinates<F>]) -> F {
        self.products.clear();
        let mut product = F::ONE;
        for Addition { addend, target, .. } in &self.additions {
            let mut difference = addend.x;
            difference -= &accumulators[*target as usize].x;
            self.products.push((difference, product));
            product *= &difference;
        }
        product
    }

    /// The additions, given the inverse of the product of all differences.
    ///
    /// Each step works in place: a value that is returned is copied, and reading it in pieces other
    /// than those in which it was just written stalls the processor.
    fn add(&mut self, accumulators: &mut [Coordinates<F>], mut inverse: F) {
        for (addition, (difference, product)) in self.additions.iter().zip(&self.products).rev() {
            let Addition { addend, target, negative } = addition;
            let sum = &mut accumulators[*target as usize];
            // The slope, or its negative if the addend is negated: only its square and its product
            // with a difference are wanted, and the latter is turned around below.
            let mut slope = addend.y;
            if *negative {
                slope += &sum.y;
            } else {
                slope -= &sum.y;
            }
            slope *= &inverse;
            slope *= product;
            inverse *= difference;

            let mut x = slope.square();
            x -= &sum.x;
            x -= &addend.x;
            let mut y = if *negative { x } else { sum.x };
            y -= if *negative { &sum.x } else { &x };
            y *= &slope;
            y -= &sum.y;
            *sum = Coordinates { x, y };
        }
        self.additions.clear();
    }
}
