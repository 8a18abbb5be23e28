//! Encoded requests and responses.

use serde::Serialize;

/// A value as JSON text without line breaks. It is encoded once at its source and decoded once where its type is known.
/// In between it is neither parsed nor copied, since it may be hundreds of megabytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Json(Vec<u8>);

impl Json {
    /// Encodes a value.
    ///
    /// # Errors
    /// [`serde_json::Error`] for values that JSON cannot represent, such as a map whose keys are not strings.
    pub fn of(value: &impl Serialize) -> Result<Self, serde_json::Error> {
        serde_json::to_vec(value).map(Self)
    }

    /// The text in UTF-8.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text in UTF-8.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}
