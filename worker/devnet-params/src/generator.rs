//! Generates Groth16 parameters from a known trapdoor and streams them to a file in bellperson's format.
//!
//! The format is that of `bellperson::groth16::Parameters::write`. It has the verifying key, and then the five vectors
//! `h`, `l`, `a`, `b_g1` and `b_g2`. Each vector has its length as four bytes, big-endian, and its points uncompressed.
//! Points of variables whose `a` or `b` is zero are left out.
//!
//! Synthesizing a circuit uses a single core, and `h` depends only on the circuit's shape. So [`lay_out`] runs on its
//! own thread and sends the shape first. [`write`] computes `h` while that thread does its second pass and goes on to
//! the next circuit.

use std::io::{self, Seek, SeekFrom, Write};
use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender};

use bellperson::SynthesisError;
use blstrs::{G1Affine, G2Affine, Scalar};
use ff::Field;
use group::{Curve, UncompressedEncoding, prime::PrimeCurveAffine};
use indicatif::ProgressBar;
use rayon::prelude::*;
use sealbus_params_dir::{G1_BYTES, VERIFYING_KEY_BYTES};

use crate::assembly::{CircuitSource, Evaluation, Shape};
use crate::fixed_base::{self, BATCH, FixedBase};
use crate::trapdoor::Trapdoor;

/// The number of points computed between two writes: 6 MiB of points in G1.
const BLOCK: usize = 32 * BATCH;

/// The tables for both generators. They serve all circuits.
pub struct Tables {
    g1: Box<dyn FixedBase<G1Affine>>,
    g2: Box<dyn FixedBase<G2Affine>>,
}

/// The results of synthesizing one circuit, in the order in which they are sent.
pub(crate) enum Layout {
    Measured(Shape),
    Evaluated(Evaluation),
}

/// Why parameters could not be generated.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// The circuit could not be synthesized.
    #[error("the circuit cannot be laid out")]
    Synthesis(#[from] SynthesisError),
    /// The output could not be written.
    #[error("the parameters cannot be written")]
    Write(#[from] io::Error),
    /// The other thread has stopped. It reports its own error.
    #[error("the circuit's layout stopped early")]
    Interrupted,
}

impl Tables {
    /// Computes both tables on all cores: 150 MB, in some tenths of a second.
    pub fn new() -> Self {
        let (g1, g2) = rayon::join(fixed_base::g1, fixed_base::g2);
        Self { g1, g2 }
    }

    pub(crate) fn g1(&self) -> &dyn FixedBase<G1Affine> {
        &*self.g1
    }

    pub(crate) fn g2(&self) -> &dyn FixedBase<G2Affine> {
        &*self.g2
    }
}

impl Default for Tables {
    fn default() -> Self {
        Self::new()
    }
}

/// Writes one circuit's parameters to `out` at its start, beginning with the verifying key.
///
/// The bytes are the same as those of `bellperson::groth16::generate_parameters` for the same trapdoor and the standard
/// generators.
pub fn generate<C: CircuitSource>(
    circuit: &C,
    trapdoor: &Trapdoor,
    tables: &Tables,
    out: &mut (impl Write + Seek),
) -> Result<(), GenerateError> {
    std::thread::scope(|scope| {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        scope.spawn(move || lay_out(circuit, trapdoor, &sender));
        write(&receiver, trapdoor, tables, out, &ProgressBar::hidden())
    })
}

/// Synthesizes a circuit and sends its shape, then its evaluation. Returns whether the receiver still exists.
pub(crate) fn lay_out<C: CircuitSource>(
    circuit: &C,
    trapdoor: &Trapdoor,
    sender: &SyncSender<Result<Layout, SynthesisError>>,
) -> bool {
    let shape = match Shape::of(circuit) {
        Ok(shape) => shape,
        Err(error) => return sender.send(Err(error)).is_ok(),
    };
    if sender.send(Ok(Layout::Measured(shape))).is_err() {
        return false;
    }
    sender.send(Evaluation::of(circuit, shape, trapdoor.tau).map(Layout::Evaluated)).is_ok()
}

/// Receives one circuit's layout and writes its parameters.
pub(crate) fn write(
    layout: &Receiver<Result<Layout, SynthesisError>>,
    trapdoor: &Trapdoor,
    tables: &Tables,
    out: &mut (impl Write + Seek),
    progress: &ProgressBar,
) -> Result<(), GenerateError> {
    let Layout::Measured(shape) = layout.recv().map_err(|_| GenerateError::Interrupted)?? else {
        return Err(GenerateError::Interrupted);
    };
    let gamma_inverse = invert(trapdoor.gamma)?;
    let delta_inverse = invert(trapdoor.delta)?;
    let domain = shape.domain();
    // The exact length is known after the second pass. This estimate assumes that all variables occur in `a`.
    progress.set_length((domain + 2 * shape.aux) as u64);

    // The verifying key comes first in the file, but needs the second pass. Its place is skipped and filled in at the
    // end.
    out.seek(SeekFrom::Start(VERIFYING_KEY_BYTES + shape.inputs as u64 * G1_BYTES))?;

    // h: `tau^i * (tau^m - 1) / delta`, for `i` below `m - 1`.
    let factor = (trapdoor.tau.pow_vartime([domain as u64]) - Scalar::ONE) * delta_inverse;
    write_vector(
        out,
        tables.g1(),
        domain - 1,
        progress,
        |range| {
            let first = trapdoor.tau.pow_vartime([range.start as u64]) * factor;
            std::iter::successors(Some(first), |power| Some(*power * trapdoor.tau)).take(range.len()).collect()
        },
        uncompressed,
    )?;

    let Layout::Evaluated(Evaluation { inputs, aux }) = layout.recv().map_err(|_| GenerateError::Interrupted)?? else {
        return Err(GenerateError::Interrupted);
    };
    let external = |a: &Scalar, b: &Scalar, c: &Scalar| trapdoor.beta * a + trapdoor.alpha * b + c;

    let combined: Vec<Scalar> =
        (&aux.a, &aux.b, &aux.c).into_par_iter().map(|(a, b, c)| external(a, b, c) * delta_inverse).collect();
    // bellperson refuses such circuits as well: the variable's value would not matter to the proof.
    if combined.par_iter().any(|scalar| *scalar == Scalar::ZERO) {
        return Err(SynthesisError::UnconstrainedVariable.into());
    }
    let input_points: Vec<Scalar> =
        inputs.a.iter().zip(&inputs.b).zip(&inputs.c).map(|((a, b), c)| external(a, b, c) * gamma_inverse).collect();
    let non_zero = |inputs: Vec<Scalar>, aux: Vec<Scalar>| -> Vec<Scalar> {
        inputs.into_iter().chain(aux).filter(|scalar| *scalar != Scalar::ZERO).collect()
    };
    let a = non_zero(inputs.a, aux.a);
    let b = non_zero(inputs.b, aux.b);
    drop((inputs.c, aux.c));
    progress.set_length((domain + combined.len() + a.len() + 2 * b.len()) as u64);

    write_vector(out, tables.g1(), combined.len(), progress, |range| combined[range].to_vec(), uncompressed)?;
    drop(combined);
    write_vector(out, tables.g1(), a.len(), progress, |range| a[range].to_vec(), uncompressed)?;
    drop(a);
    write_vector(out, tables.g1(), b.len(), progress, |range| b[range].to_vec(), uncompressed)?;
    write_vector(out, tables.g2(), b.len(), progress, |range| b[range].to_vec(), uncompressed)?;

    out.seek(SeekFrom::Start(0))?;
    write_verifying_key(out, trapdoor, tables, &input_points)?;
    out.flush()?;
    Ok(())
}

fn invert(scalar: Scalar) -> Result<Scalar, SynthesisError> {
    Option::from(scalar.invert()).ok_or(SynthesisError::UnexpectedIdentity)
}

fn write_verifying_key(
    out: &mut impl Write,
    trapdoor: &Trapdoor,
    tables: &Tables,
    inputs: &[Scalar],
) -> io::Result<()> {
    let g1 = |scalar: Scalar| (G1Affine::generator() * scalar).to_affine().to_uncompressed();
    let g2 = |scalar: Scalar| (G2Affine::generator() * scalar).to_affine().to_uncompressed();
    out.write_all(&g1(trapdoor.alpha))?;
    out.write_all(&g1(trapdoor.beta))?;
    out.write_all(&g2(trapdoor.beta))?;
    out.write_all(&g2(trapdoor.gamma))?;
    out.write_all(&g1(trapdoor.delta))?;
    out.write_all(&g2(trapdoor.delta))?;
    write_vector(out, tables.g1(), inputs.len(), &ProgressBar::hidden(), |range| inputs[range].to_vec(), uncompressed)
}

/// Writes a vector's length and points. The points are computed on all cores, one block at a time.
pub(crate) fn write_vector<P>(
    out: &mut impl Write,
    base: &dyn FixedBase<P>,
    length: usize,
    progress: &ProgressBar,
    scalars: impl Fn(Range<usize>) -> Vec<Scalar> + Sync,
    encode: impl Fn(&P, &mut Vec<u8>) + Sync,
) -> io::Result<()> {
    let count =
        u32::try_from(length).map_err(|_| io::Error::other("a vector of the format holds at most 2^32 - 1 points"))?;
    out.write_all(&count.to_be_bytes())?;
    for block in (0..length).step_by(BLOCK) {
        let end = length.min(block + BLOCK);
        let pieces: Vec<Vec<u8>> = (block..end)
            .into_par_iter()
            .step_by(BATCH)
            .map(|start| {
                let points = base.multiples(&scalars(start..end.min(start + BATCH)));
                let mut bytes = Vec::with_capacity(points.len() * 2 * G1_BYTES as usize);
                points.iter().for_each(|point| encode(point, &mut bytes));
                bytes
            })
            .collect();
        for piece in pieces {
            out.write_all(&piece)?;
        }
        progress.inc((end - block) as u64);
    }
    Ok(())
}

/// The encoding of all points in a parameter file.
fn uncompressed<P: UncompressedEncoding>(point: &P, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(point.to_uncompressed().as_ref());
}
