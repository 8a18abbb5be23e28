//! Batched affine point additions that share one field inversion.
//!
//! Adding two affine points costs one inversion, which is as expensive as about a hundred multiplications. For `n`
//! independent additions, Montgomery's trick replaces the inversions by one inversion and `3n` multiplications. So an
//! addition costs five multiplications and a squaring: a third of an addition in projective coordinates with its
//! normalisation.
//!
//! The coordinate field types of `blstrs` cannot be named outside of that crate. So [`Curve`] carries conversion
//! functions, and everything else is generic over the field.

use blstrs::{G1Affine, G2Affine};
use ff::Field;
use group::{Curve as _, Group, prime::PrimeCurveAffine};

/// The affine coordinates of a point that is not the identity.
#[derive(Clone, Copy)]
pub(crate) struct Coordinates<F> {
    pub(crate) x: F,
    pub(crate) y: F,
}

/// The curve operations that a batch needs: converting points to coordinates and back.
pub(crate) struct Curve<F, P> {
    x: fn(&P) -> F,
    y: fn(&P) -> F,
    point: fn(F, F, bool) -> P,
}

/// A batch of additions that share an inversion. Its buffers are kept between batches to avoid allocations.
pub(crate) struct Batch<F> {
    additions: Vec<Addition<F>>,
    /// For each addition: the difference of the abscissas, which is to be inverted, and the product of all differences
    /// before it.
    products: Vec<(F, F)>,
}

struct Addition<F> {
    /// A copy. Table entries lie far apart in memory; a loop that only copies them lets the CPU wait for many of them
    /// at once.
    addend: Coordinates<F>,
    /// The index of the accumulator.
    target: u32,
    /// Whether the addend is subtracted.
    negative: bool,
}

impl<F: Field> Coordinates<F> {
    #[inline]
    pub(crate) fn negated_if(self, negative: bool) -> Self {
        Self { x: self.x, y: if negative { -self.y } else { self.y } }
    }
}

/// The curve of G1.
pub(crate) fn g1() -> Curve<impl Field, G1Affine> {
    Curve { x: G1Affine::x, y: G1Affine::y, point: G1Affine::from_raw_unchecked }
}

/// The curve of G2.
pub(crate) fn g2() -> Curve<impl Field, G2Affine> {
    Curve { x: G2Affine::x, y: G2Affine::y, point: G2Affine::from_raw_unchecked }
}

impl<F: Field, P: PrimeCurveAffine> Curve<F, P> {
    /// Converts a point to coordinates. It must not be the identity, which has no affine coordinates.
    pub(crate) fn coordinates(&self, point: &P) -> Coordinates<F> {
        debug_assert!(!bool::from(point.is_identity()));
        Coordinates { x: (self.x)(point), y: (self.y)(point) }
    }

    /// Converts coordinates to a point. They must lie on the curve.
    pub(crate) fn point(&self, coordinates: Coordinates<F>) -> P {
        (self.point)(coordinates.x, coordinates.y, false)
    }

    /// Doubles a point, with its own inversion. Doubling is needed in few places only.
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

    /// Queues the addition of `addend`, or its negative, to `accumulators[target]`; [`Self::finish`] carries it out. A
    /// batch may name each target only once.
    #[inline]
    pub(crate) fn push(&mut self, target: u32, addend: &Coordinates<F>, negative: bool) {
        self.additions.push(Addition { addend: *addend, target, negative });
    }

    /// Carries out the queued additions and empties the batch.
    ///
    /// Equal or opposite points have the same abscissa, so this formula cannot add them. Their targets are passed to
    /// `degenerate` and stay as they were.
    pub(crate) fn finish(&mut self, accumulators: &mut [Coordinates<F>], mut degenerate: impl FnMut(u32)) {
        let inverse = match Option::from(self.product(accumulators).invert()) {
            Some(inverse) => inverse,
            None => {
                // Happens once in 2^200 batches, so it is not checked for each addition.
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

    /// The product of all differences. Stores the products before each of them on the way.
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

    /// Carries out the additions, given the inverse of the product of all differences.
    ///
    /// Every step works in place. A returned value would be copied, and reading it in other pieces than it was written
    /// in stalls the CPU.
    fn add(&mut self, accumulators: &mut [Coordinates<F>], mut inverse: F) {
        // From the last to the first: `inverse` is the inverse of the product of all differences up to the present one.
        // Multiplied by the product of those before, it gives the inverse of this difference.
        for (addition, (difference, product)) in self.additions.iter().zip(&self.products).rev() {
            let Addition { addend, target, negative } = addition;
            let sum = &mut accumulators[*target as usize];
            // The slope, negated if the addend is. Only its square, and its product with a difference, are used; the
            // latter is negated again below.
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
