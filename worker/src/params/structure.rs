//! The length that a file should have, from its own headers.
//!
//! The official manifests publish digests but no lengths. Verifying keys, parameter files and the SRS say how many
//! points follow. So a truncated file is found with a few reads, where hashing it would take minutes.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use sealbus_params_dir::{G1_BYTES, VERIFYING_KEY_BYTES};
use storage_proofs_core::parameter_cache::{GROTH_PARAMETER_EXT, SRS_KEY_EXT, VERIFYING_KEY_EXT};

/// The size of a verifying key's points before its first length field.
const KEY_POINTS_BYTES: u64 = VERIFYING_KEY_BYTES - LENGTH_BYTES;

const LENGTH_BYTES: u64 = 4;

/// The vectors in a file. Each entry of `vectors` is the size of one point in bytes.
struct Layout {
    /// The number of bytes before the first vector.
    head: u64,
    vectors: &'static [u64],
}

/// The length that a file's own headers give it. The file's name decides how they are read. `None` if they do not tell.
///
/// If the file ends before one of its headers, the result is only a lower bound.
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
            // The vectors in order: inputs, h, l, a, b_g1, b_g2.
            Some(Layout { head: KEY_POINTS_BYTES, vectors: &[G1, G1, G1, G1, G1, G2] })
        }
        // Powers of alpha and beta, first compressed in G1, then in G2.
        SRS_KEY_EXT => Some(Layout { head: 0, vectors: &[HALF_G1, HALF_G1, G1, G1] }),
        _ => None,
    }
}
