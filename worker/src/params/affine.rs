//! Many affine additions at once, sharing one field inversion.
//!
//! Adding two affine points costs one inversion, which is worth some hundred multiplications. For `n` independent additions Montgomery's trick
//! makes them one inversion and `3n` multiplications, so that an addition costs five multiplications and a squaring: a third of what an addition in
//! projective coordinates costs together with its normalisation.
//!
//! The coordinates' field types of `blstrs` cannot be named outside of that crate, so [`Curve`] carries the functions that convert and everything
//! else is generic over the field.

use blstrs::{G1Affine, G2Affine};
use ff::Field;
use group::{Curve as _, Group, prime::PrimeCurveAffine};

/// A point that is not the identity: its affine coordinates.
#[derive(Clone, Copy)]
pub(super) struct Coordinates<F> {
    pub(super) x: F,
    pub(super) y: F,
}

/// What a batch addition must know of a curve: how to take its points apart and put them together.
pub(super) struct Curve<F, P> {
    x: fn(&P) -> F,
    y: fn(&P) -> F,
    point: fn(F, F, bool) -> P,
}

/// A batch of additions that share an inversion, and the room for it, kept between batches so that nothing is allocated for each.
pub(super) struct Batch<'t, F> {
    additions: Vec<Addition<'t, F>>,
    product: F,
}

struct Addition<'t, F> {
    /// Which accumulator takes part.
    target: u32,
    /// Whether the addend's negative is added.
    negative: bool,
    addend: &'t Coordinates<F>,
    /// The difference of the abscissas, to be inverted.
    difference: F,
    /// The product of all differences before this one.
    product: F,
}

impl<F: Field> Coordinates<F> {
    #[inline]
    pub(super) fn negated_if(self, negative: bool) -> Self {
        Self {
            x: self.x,
            y: if negative { -self.y } else { self.y },
        }
    }
}

/// G1's curve.
pub(super) fn g1() -> Curve<impl Field, G1Affine> {
    Curve {
        x: G1Affine::x,
        y: G1Affine::y,
        point: G1Affine::from_raw_unchecked,
    }
}

/// G2's curve.
pub(super) fn g2() -> Curve<impl Field, G2Affine> {
    Curve {
        x: G2Affine::x,
        y: G2Affine::y,
        point: G2Affine::from_raw_unchecked,
    }
}

impl<F: Field, P: PrimeCurveAffine> Curve<F, P> {
    /// Takes a point apart. It must not be the identity, which has no affine coordinates.
    pub(super) fn coordinates(&self, point: &P) -> Coordinates<F> {
        debug_assert!(!bool::from(point.is_identity()));
        Coordinates {
            x: (self.x)(point),
            y: (self.y)(point),
        }
    }

    /// Puts a point together; the coordinates must lie on the curve.
    pub(super) fn point(&self, coordinates: Coordinates<F>) -> P {
        (self.point)(coordinates.x, coordinates.y, false)
    }

    /// The sum of a point with itself, with an inversion of its own: for the few places that double.
    pub(super) fn double(&self, coordinates: Coordinates<F>) -> Coordinates<F>
    where
        P::Curve: group::Curve<AffineRepr = P>,
    {
        self.coordinates(&self.point(coordinates).to_curve().double().to_affine())
    }
}

impl<'t, F: Field> Batch<'t, F> {
    pub(super) fn with_capacity(additions: usize) -> Self {
        Self {
            additions: Vec::with_capacity(additions),
            product: F::ONE,
        }
    }

    /// Puts down the addition of `addend`, or its negative, to `accumulators[target]`, which [`Self::finish`] carries out. A batch may name a target
    /// once.
    ///
    /// Returns whether it can: two points of the same abscissa, which are equal or opposite, have no such addition, and nothing is put down.
    #[inline]
    #[must_use]
    pub(super) fn push(
        &mut self,
        accumulators: &[Coordinates<F>],
        target: u32,
        addend: &'t Coordinates<F>,
        negative: bool,
    ) -> bool {
        let sum = &accumulators[target as usize];
        if sum.x == addend.x {
            return false;
        }
        let difference = addend.x - sum.x;
        self.additions.push(Addition {
            target,
            negative,
            addend,
            difference,
            product: self.product,
        });
        self.product *= difference;
        true
    }

    /// Carries out the additions and empties the batch.
    pub(super) fn finish(&mut self, accumulators: &mut [Coordinates<F>]) {
        // A product of values other than zero is not zero; `ONE` is for form.
        let mut inverse = self.product.invert().unwrap_or(F::ONE);
        for addition in self.additions.drain(..).rev() {
            let sum = &mut accumulators[addition.target as usize];
            let addend = addition.addend.negated_if(addition.negative);
            let slope = (addend.y - sum.y) * (inverse * addition.product);
            inverse *= addition.difference;
            let x = slope.square() - sum.x - addend.x;
            sum.y = slope * (sum.x - x) - sum.y;
            sum.x = x;
        }
        self.product = F::ONE;
    }
}
