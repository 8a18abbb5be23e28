//! How long a file should be, by what it says itself.
//!
//! The official manifests publish digests and no lengths. But a verifying key, a file of parameters
//! and an SRS say how many points follow, so a truncated file is known by a few reads, where
//! hashing it would take minutes.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use sealbus_params_dir::{G1_BYTES, VERIFYING_KEY_BYTES};
use storage_proofs_core::parameter_cache::{GROTH_PARAMETER_EXT, SRS_KEY_EXT, VERIFYING_KEY_EXT};

/// Bytes of the points of a verifying key, before its first length.
const KEY_POINTS_BYTES: u64 = VERIFYING_KEY_BYTES - LENGTH_BYTES;

const LENGTH_BYTES: u64 = 4;

/// The vectors of a file: the bytes of a point of each.
struct Layout {
    /// Bytes before the first vector.
    head: u64,
    vectors: &'static [u64],
}

/// The length that a file's own headers give it, judged by its name; `None` if they don't tell.
///
/// A file that ends before one of its headers is longer than that, at least: the answer is then the
/// least it can be.
pub(super) fn expected_size(path: &Path, name: &str) -> io::Result<Option<u64>> {
    let Some(layout) = layout(name) else {
        return Ok(None);
    };
    let mut file = File::open(path)?;
    let mut offset = layout.head;
    for point_bytes in layout.vectors {
        let mut length = [0; LENGTH_BYTES as usize];
        file.seek(SeekFrom::Start(offset))?;
        match file.read_exact(&mut length) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok(Some(offset + LENGTH_BYTES));
            }
            Err(error) => return Err(error),
        }
        offset += LENGTH_BYTES + u64::from(u32::from_be_bytes(length)) * point_bytes;
    }
    Ok(Some(offset))
}

fn layout(name: &str) -> Option<Layout> {
    const G1: u64 = G1_BYTES;
    const G2: u64 = 2 * G1_BYTES;
    const HALF_G1: u64 = G1_BYTES / 2;
    match Path::new(name).extension()?.to_str()? {
        VERIFYING_KEY_EXT => Some(Layout { head: KEY_POINTS_BYTES, vectors: &[G1] }),
        GROTH_PARAMETER_EXT => {
            // Inputs, h, l, a, b_g1, b_g2.
            Some(Layout { head: KEY_POINTS_BYTES, vectors: &[G1, G1, G1, G1, G1, G2] })
        }
        // Powers of alpha and beta in G1, compressed, then in G2.
        SRS_KEY_EXT => Some(Layout { head: 0, vectors: &[HALF_G1, HALF_G1, G1, G1] }),
        _ => None,
    }
}
