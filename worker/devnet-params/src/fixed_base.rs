//! Computes many multiples of one fixed point.
//!
//! A scalar is split into signed digits of [`WINDOW_BITS`] bits. A table holds the multiple of the base for each digit
//! at each place. So a point costs one addition per digit and no doubling, and the additions of many points share their
//! inversions (see [`crate::affine`]). The scalars are processed place by place. So only one place's part of the table
//! (3 MiB for G1) is in use at a time, and it stays in the cache.

use blstrs::{G1Affine, G2Affine, Scalar};
use ff::{Field, PrimeField};
use group::{Curve as _, prime::PrimeCurveAffine};
use rayon::prelude::*;

use crate::affine::{self, Batch, Coordinates, Curve};

/// Bits per digit. With 16 the table is computed in a fraction of a second. One bit more would save about one addition
/// in sixteen.
const WINDOW_BITS: usize = 16;

/// Bits per scalar.
const SCALAR_BITS: usize = Scalar::NUM_BITS as usize;

/// The number of points that share an inversion. An inversion costs as much as about a hundred multiplications. A
/// batch's data fits into the L2 cache.
pub(crate) const BATCH: usize = 2048;

/// Multiplies a fixed base, the curve's standard generator, by many scalars.
pub(crate) trait FixedBase<P>: Send + Sync {
    /// The base multiplied by each scalar, in the same order; the identity for zero.
    ///
    /// Runs on the calling thread. Callers split their scalars into pieces of about [`BATCH`] and distribute these over
    /// the cores.
    fn multiples(&self, scalars: &[Scalar]) -> Vec<P>;
}

struct Table<F, P> {
    curve: Curve<F, P>,
    base: P,
    /// `d * 2^(p * window_bits)` times the base, for place `p` and digit `d > 0`, is at `[p][d - 1]`.
    places: Vec<Vec<Coordinates<F>>>,
    window_bits: usize,
}

/// The table for G1's generator: 50 MB.
pub(crate) fn g1() -> Box<dyn FixedBase<G1Affine>> {
    Box::new(Table::new(affine::g1(), G1Affine::generator(), WINDOW_BITS))
}

/// The table for G2's generator: 100 MB.
pub(crate) fn g2() -> Box<dyn FixedBase<G2Affine>> {
    Box::new(Table::new(affine::g2(), G2Affine::generator(), WINDOW_BITS))
}

impl<F, P> Table<F, P>
where
    F: Field,
    P: PrimeCurveAffine<Scalar = Scalar>,
    P::Curve: group::Curve<AffineRepr = P>,
{
    fn new(curve: Curve<F, P>, base: P, window_bits: usize) -> Self {
        let largest = 1 << (window_bits - 1);
        let step = Scalar::from(1 << window_bits);
        let bases: Vec<P> = std::iter::successors(Some(base), |place| Some((*place * step).to_affine()))
            .take(places(window_bits))
            .collect();
        let places = bases.into_par_iter().map(|place| multiples_up_to(&curve, &place, largest)).collect();
        Self { curve, base, places, window_bits }
    }
}

/// The first `count` multiples of a point.
fn multiples_up_to<F, P>(curve: &Curve<F, P>, point: &P, count: usize) -> Vec<Coordinates<F>>
where
    F: Field,
    P: PrimeCurveAffine,
    P::Curve: group::Curve<AffineRepr = P>,
{
    let mut multiples = Vec::with_capacity(count);
    multiples.push(curve.coordinates(point));
    while multiples.len() < count {
        // Extends 1..=n to 1..=2n: adds n to each of 1..n, and doubles n.
        let known = multiples.len();
        let last = multiples[known - 1];
        let mut sums: Vec<_> = multiples.iter().copied().take((known - 1).min(count - known)).collect();
        for piece in sums.chunks_mut(BATCH) {
            let mut batch = Batch::with_capacity(piece.len());
            for target in 0..piece.len() as u32 {
                batch.push(target, &last, false);
            }
            batch.finish(piece, |_| debug_assert!(false, "small multiples of a point differ"));
        }
        multiples.append(&mut sums);
        if multiples.len() < count {
            multiples.push(curve.double(last));
        }
    }
    multiples
}

impl<F, P> FixedBase<P> for Table<F, P>
where
    F: Field,
    P: PrimeCurveAffine<Scalar = Scalar>,
    P::Curve: group::Curve<AffineRepr = P>,
{
    fn multiples(&self, scalars: &[Scalar]) -> Vec<P> {
        let mut products = Vec::with_capacity(scalars.len());
        for piece in scalars.chunks(BATCH) {
            self.piece(piece, &mut products);
        }
        products
    }
}

/// The state of one product.
#[derive(Clone, Copy, PartialEq)]
enum Progress {
    /// All digits so far were zero.
    Identity,
    /// The accumulator holds the sum of the digits so far.
    Sum,
    /// An addition was impossible in affine coordinates, so an ordinary multiplication is used instead. This happens to
    /// one scalar in 2^200.
    Degenerate,
}

impl<F, P> Table<F, P>
where
    F: Field,
    P: PrimeCurveAffine<Scalar = Scalar>,
    P::Curve: group::Curve<AffineRepr = P>,
{
    fn piece(&self, scalars: &[Scalar], products: &mut Vec<P>) {
        let digits = signed_digits(scalars, self.window_bits, self.places.len());
        let mut sums = vec![self.curve.coordinates(&self.base); scalars.len()];
        let mut progress = vec![Progress::Identity; scalars.len()];
        let mut batch = Batch::with_capacity(scalars.len());

        for (multiples, digits) in self.places.iter().zip(digits.chunks(scalars.len())) {
            for (index, digit) in digits.iter().enumerate() {
                // Digit 0 adds nothing. Digit `d` is at index `d - 1`.
                let Some(place) = (digit.unsigned_abs() as usize).checked_sub(1) else {
                    continue;
                };
                let addend = &multiples[place];
                match progress[index] {
                    // The identity has no affine coordinates, so the first addition is an assignment.
                    Progress::Identity => {
                        sums[index] = addend.negated_if(*digit < 0);
                        progress[index] = Progress::Sum;
                    }
                    Progress::Sum => batch.push(index as u32, addend, *digit < 0),
                    Progress::Degenerate => {}
                }
            }
            batch.finish(&mut sums, |target| progress[target as usize] = Progress::Degenerate);
        }

        products.extend(sums.into_iter().zip(progress).zip(scalars).map(|((sum, progress), scalar)| match progress {
            Progress::Identity => P::identity(),
            Progress::Sum => self.curve.point(sum),
            Progress::Degenerate => (self.base * scalar).to_affine(),
        }));
    }
}

/// The number of digits of a scalar. The last digit must have room for the carry from the one before.
fn places(window_bits: usize) -> usize {
    let places = SCALAR_BITS.div_ceil(window_bits);
    let largest = (-Scalar::ONE).to_repr();
    let last = window(&largest, (places - 1) * window_bits, window_bits) + 1;
    places + usize::from(last > 1 << (window_bits - 1))
}

/// Splits scalars into digits from `-2^(bits-1)` to `2^(bits-1)`. The lowest digits of all scalars come first, then the
/// next ones.
fn signed_digits(scalars: &[Scalar], bits: usize, places: usize) -> Vec<i32> {
    let mut digits = vec![0; scalars.len() * places];
    for (index, scalar) in scalars.iter().enumerate() {
        let bytes = scalar.to_repr();
        let mut carry = 0;
        for place in 0..places {
            let mut digit = window(&bytes, place * bits, bits) + carry;
            carry = 0;
            // A large digit is replaced by its difference to the next power of two, and a carry. This halves the table.
            if digit > 1 << (bits - 1) {
                digit -= 1 << bits;
                carry = 1;
            }
            digits[place * scalars.len() + index] = digit;
        }
        debug_assert_eq!(carry, 0, "a scalar is below 2^255, so the last digit takes the carry");
    }
    digits
}

/// The `bits` bits starting at bit `offset` of a little-endian number; zeros beyond its end.
fn window(bytes: &[u8; 32], offset: usize, bits: usize) -> i32 {
    let first = offset / 8;
    let word = (0..4).filter_map(|byte| Some(u32::from(*bytes.get(first + byte)?) << (8 * byte))).sum::<u32>();
    ((word >> (offset % 8)) & ((1 << bits) - 1)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scalars at the limits of the field, of a digit and of the carry.
    fn borders() -> Vec<Scalar> {
        let two = Scalar::from(2);
        let powers = (1..255).map(|exponent| two.pow_vartime([exponent]));
        [Scalar::ZERO, Scalar::ONE, -Scalar::ONE, -two, two.invert().expect("2 is not 0")]
            .into_iter()
            .chain(powers.flat_map(|power| [power, power - Scalar::ONE, power + Scalar::ONE, -power]))
            .collect()
    }

    fn assert_multiples<F, P>(curve: Curve<F, P>, window_bits: usize)
    where
        F: Field,
        P: PrimeCurveAffine<Scalar = Scalar>,
        P::Curve: group::Curve<AffineRepr = P>,
    {
        let table = Table::new(curve, P::generator(), window_bits);
        let scalars = borders();
        for (scalar, product) in scalars.iter().zip(table.multiples(&scalars)) {
            assert_eq!(product, (P::generator() * scalar).to_affine(), "{scalar:?} with {window_bits} bits");
        }
    }

    #[test]
    fn multiples_equal_those_of_the_group_at_all_borders() {
        for window_bits in [2, 5, 8, 12] {
            assert_multiples(affine::g1(), window_bits);
            assert_multiples(affine::g2(), window_bits);
        }
        assert_multiples(affine::g1(), WINDOW_BITS);
    }

    #[test]
    fn an_addition_of_equal_points_falls_back() {
        // In the last addition both points are equal if the lower digits, as a number `low`, are congruent to half of
        // the scalar. That holds for `r + 2 low` with a negative `low`, which must have the same last digits as `-r`.
        let mut found = 0;
        for window_bits in 2..=16 {
            let places = places(window_bits);
            let table = Table::new(affine::g1(), G1Affine::generator(), window_bits);
            let below = Scalar::from(2).pow_vartime([((places - 1) * window_bits) as u64]);
            // The digits of `-r` modulo `2^k`, computed from -1 = r - 1.
            let digits = signed_digits(&[-Scalar::ONE], window_bits, places);
            let low_digits = &digits[..places - 1];
            let low = low_digits.iter().rev().fold(Scalar::ZERO, |sum, digit| {
                let magnitude = Scalar::from(u64::from(digit.unsigned_abs()));
                sum * Scalar::from(1 << window_bits) + if *digit < 0 { -magnitude } else { magnitude }
            }) + Scalar::ONE;
            let scalar = -(low + low);
            let top = signed_digits(&[scalar], window_bits, places)[places - 1];
            let top = Scalar::from(u64::from(top.unsigned_abs())) * below;
            found += usize::from(scalar - top == top);
            let product = table.multiples(&[scalar])[0];
            assert_eq!(product, (G1Affine::generator() * scalar).to_affine(), "{window_bits} bits");
        }
        assert!(found > 0, "no width of windows met the case");
    }

    #[test]
    fn more_scalars_than_a_batch_keep_their_order() {
        let table = Table::new(affine::g1(), G1Affine::generator(), 8);
        let scalars: Vec<_> = (0..BATCH as u64 + 3).map(Scalar::from).collect();
        let mut sum = G1Affine::identity().to_curve();
        for product in table.multiples(&scalars) {
            assert_eq!(product, sum.to_affine());
            sum += G1Affine::generator();
        }
    }
}
