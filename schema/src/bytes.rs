//! Byte strings in messages: binary in MessagePack, hexadecimal in formats for people (JSON, logs).

use std::fmt;

use serde::{Deserializer, Serializer, de};

/// Why a byte string was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BytesError {
    /// Not hexadecimal text.
    #[error("not a hexadecimal string: {0}")]
    Hex(String),
    /// The wrong number of bytes.
    #[error("expected {expected} bytes, got {actual}")]
    Length {
        /// How many bytes the type holds.
        expected: usize,
        /// How many there were.
        actual: usize,
    },
}

macro_rules! bytes32 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = BytesError;

            fn try_from(bytes: &[u8]) -> Result<Self, BytesError> {
                let array = bytes.try_into().map_err(|_| BytesError::Length { expected: 32, actual: bytes.len() })?;
                Ok(Self(array))
            }
        }

        impl std::str::FromStr for $name {
            type Err = BytesError;

            fn from_str(text: &str) -> Result<Self, BytesError> {
                let bytes = hex::decode(text).map_err(|e| BytesError::Hex(e.to_string()))?;
                Self::try_from(bytes.as_slice())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serialize_bytes(&self.0, serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let bytes = deserializer.deserialize_any(BytesVisitor)?;
                Self::try_from(bytes.as_slice()).map_err(de::Error::custom)
            }
        }
    };
}

bytes32! {
    /// CommD, CommR or a piece's commitment: a field element, 32 bytes, little-endian.
    Commitment
}
bytes32! {
    /// A ticket or a seed as drawn from the chain: 32 bytes.
    Randomness
}

/// A Groth16 proof: 192 bytes per partition.
#[derive(Clone, PartialEq, Eq)]
pub struct ProofBytes(pub Vec<u8>);

impl fmt::Debug for ProofBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProofBytes({} bytes)", self.0.len())
    }
}

impl serde::Serialize for ProofBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_bytes(&self.0, serializer)
    }
}

impl<'de> serde::Deserialize<'de> for ProofBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BytesVisitor).map(Self)
    }
}

fn serialize_bytes<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    if serializer.is_human_readable() {
        serializer.serialize_str(&hex::encode(bytes))
    } else {
        serializer.serialize_bytes(bytes)
    }
}

/// Accepts bytes, sequences and hexadecimal text, because serde's buffered content (used for internally tagged enums)
/// does not say whether it came from a human-readable format.
struct BytesVisitor;

impl<'de> de::Visitor<'de> for BytesVisitor {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes or a hexadecimal string")
    }

    fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }

    fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
        Ok(bytes)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<u8>, E> {
        hex::decode(text).map_err(E::custom)
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<u8>, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = seq.next_element()? {
            bytes.push(byte);
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_binary_on_the_bus_and_hexadecimal_for_people() {
        let commitment = Commitment([0xab; 32]);
        let packed = rmp_serde::to_vec_named(&commitment).expect("packs");
        assert_eq!(packed.len(), 34, "bin8 header and 32 bytes");
        assert_eq!(rmp_serde::from_slice::<Commitment>(&packed).expect("unpacks"), commitment);
        let json = serde_json::to_string(&commitment).expect("json");
        assert_eq!(json, format!("\"{}\"", "ab".repeat(32)));
        assert_eq!(serde_json::from_str::<Commitment>(&json).expect("json"), commitment);
    }

    #[test]
    fn a_short_commitment_is_refused_with_its_length() {
        let error = Commitment::try_from(&[1u8, 2][..]).expect_err("two bytes");
        assert_eq!(error, BytesError::Length { expected: 32, actual: 2 });
    }
}
