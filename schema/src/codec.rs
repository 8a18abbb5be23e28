//! MessagePack with field names, bounded in size.
//!
//! Field names let an older reader skip unknown fields and a newer one use defaults for missing fields. Compact arrays
//! would allow neither.

use serde::{Serialize, de::DeserializeOwned};

/// The version in the `Seal-V` header of every message.
pub const VERSION: u32 = 1;

/// The largest message that is published or accepted, in bytes. Messages contain only small things: proofs,
/// commitments, paths, checksums. A 32 GiB PoRep proof has 1920 bytes, an aggregate at most 81,960
/// (`MAX_AGGREGATE_PROOF_SIZE`).
pub const MAX_MESSAGE_BYTES: usize = 128 * 1024;

/// Why a message could not be encoded or decoded.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Larger than [`MAX_MESSAGE_BYTES`].
    #[error("a message of {bytes} bytes is over the limit of {MAX_MESSAGE_BYTES}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// It could not be encoded.
    #[error("cannot pack the message")]
    Pack(#[source] rmp_serde::encode::Error),
    /// It is not a message of the expected type.
    #[error("cannot unpack the message")]
    Unpack(#[source] rmp_serde::decode::Error),
    /// There are bytes after the message.
    #[error("{bytes} bytes follow the message")]
    TrailingBytes {
        /// Their number.
        bytes: usize,
    },
}

/// Encodes a message. Refuses one that is too large to send.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, CodecError> {
    let bytes = rmp_serde::to_vec_named(message).map_err(CodecError::Pack)?;
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Err(CodecError::TooLarge { bytes: bytes.len() });
    }
    Ok(bytes)
}

/// Decodes one message. Refuses trailing bytes, which `rmp_serde` itself would ignore.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    if bytes.len() > MAX_MESSAGE_BYTES {
        return Err(CodecError::TooLarge { bytes: bytes.len() });
    }
    let mut reader = std::io::Cursor::new(bytes);
    let message = T::deserialize(&mut rmp_serde::Deserializer::new(&mut reader)).map_err(CodecError::Unpack)?;
    let rest = bytes.len() - reader.position() as usize;
    if rest > 0 {
        return Err(CodecError::TrailingBytes { bytes: rest });
    }
    Ok(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_a_message_is_refused() {
        let mut bytes = encode(&7u32).expect("packs");
        assert_eq!(decode::<u32>(&bytes).expect("unpacks"), 7);
        bytes.push(0);
        assert!(matches!(decode::<u32>(&bytes), Err(CodecError::TrailingBytes { bytes: 1 })));
    }

    #[test]
    fn a_message_over_the_limit_is_refused_both_ways() {
        let large = "x".repeat(MAX_MESSAGE_BYTES);
        assert!(matches!(encode(&large), Err(CodecError::TooLarge { .. })));
        assert!(matches!(decode::<u32>(&vec![0; MAX_MESSAGE_BYTES + 1]), Err(CodecError::TooLarge { .. })));
    }
}
