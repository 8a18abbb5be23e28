//! The lines of the damocles protocol. The form of its tasks and outputs is defined beside the stages
//! (`crate::stage::foreign`).

use serde::Deserialize;
use serde_json::Value;

use super::line_around;
use crate::stage::{Json, Stage};

/// The first line of a child, without the line break.
#[must_use]
pub fn ready_line(stage: Stage) -> String {
    format!("{stage} processor ready")
}

/// The line that sends a task.
#[must_use]
pub fn request_line(id: u64, task: Json) -> Vec<u8> {
    line_around(id, "task", task)
}

/// A line from a child, after the first.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Response {
    /// The request's id.
    pub id: u64,
    /// The error, if there was one.
    #[serde(default)]
    pub err_msg: Option<String>,
    /// The output, if there was no error.
    #[serde(default)]
    pub output: Option<Value>,
}

/// What a line from a child means.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// A response.
    Response(Response),
    /// Not a message of the protocol: probably a library inside the executable printed it.
    Noise,
}

/// Reads a line. Executables of this protocol are known to print other text to stdout. So a line that is not JSON
/// counts as noise, unless it looks like a damaged response: ignoring that would leave a request waiting for ever.
///
/// # Errors
/// What is wrong with the line, for people.
pub fn read(line: &[u8]) -> Result<Heard, String> {
    match serde_json::from_slice(line) {
        Ok(response) => Ok(Heard::Response(response)),
        Err(error) => {
            let text = String::from_utf8_lossy(line);
            let looks_like_one = ["\"id\"", "\"err_msg\"", "\"output\""].iter().any(|key| text.contains(key));
            match looks_like_one {
                true => Err(format!("{error} in {:?}", text.chars().take(200).collect::<String>())),
                false => Ok(Heard::Noise),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn responses_are_told_from_noise_and_from_torn_ones() {
        let response = |id, err_msg: Option<&str>, output| {
            Ok(Heard::Response(Response { id, err_msg: err_msg.map(str::to_owned), output }))
        };
        assert_eq!(read(br#"{"id":1,"err_msg":null,"output":true}"#), response(1, None, Some(Value::Bool(true))));
        assert_eq!(read(br#"{"id":2,"err_msg":"no"}"#), response(2, Some("no"), None));
        assert_eq!(read(br#"{"id":3}"#), response(3, None, None));
        for noise in [&b"GPU 0: 43 C"[..], b"", b"\xff\xfe", b"12", b"{}"] {
            assert_eq!(read(noise), Ok(Heard::Noise), "{noise:?}");
        }
        for torn in [&br#"{"id":1,"output":tr"#[..], br#"loading{"id":1,"output":true}"#, br#"{"id":"x","output":1}"#] {
            read(torn).expect_err("torn");
        }
    }

    #[test]
    fn requests_and_greetings_look_as_they_always_did() {
        assert_eq!(request_line(7, Json::of(&json!({"a": 1})).expect("json")), b"{\"id\":7,\"task\":{\"a\":1}}\n");
        assert_eq!(ready_line(Stage::TreeD), "tree_d processor ready");
    }
}
