//! Requests and responses as they travel.

use serde::Serialize;

/// A value as JSON, without a line break. Made once, where the value is, and read once, where its type is known: in between
/// nothing is parsed or copied, since it may have hundreds of megabytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Json(Vec<u8>);

impl Json {
    /// A value's.
    ///
    /// # Errors
    /// For values that JSON does not have, such as a map whose keys are no text.
    pub fn of(value: &impl Serialize) -> Result<Self, serde_json::Error> {
        serde_json::to_vec(value).map(Self)
    }

    /// The text, in UTF-8.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text, in UTF-8.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}
