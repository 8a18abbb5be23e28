//! Version 2 of the processor protocol: one JSON document a line, on stdin and stdout. `docs/processors.md` is written
//! for those who implement it.

use sealbus_schema::ErrorClass;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::stage::StageError;

/// The version that is spoken here.
pub const VERSION: u32 = 2;

/// The child's first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The protocol's version.
    pub sealbus_processor: u32,
    /// The stage that the child serves.
    pub stage: String,
    /// The child's process id.
    pub pid: u32,
}

/// A line to the child.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Comes back in the answer; rises with each request to one child.
    pub id: u64,
    /// The stage's request.
    pub task: Value,
}

/// A line from the child, after the first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// Of the request.
    pub id: u64,
    /// How it ended.
    #[serde(flatten)]
    pub result: AnswerResult,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerResult {
    /// The stage's response.
    Output(Value),
    /// The stage's error.
    Error(Failure),
}

/// A stage's error on the wire. Other people's executables have codes of their own, so the code is text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What happens next.
    pub class: ErrorClass,
    /// The stable code.
    pub code: String,
    /// For people.
    pub message: String,
}

impl From<StageError> for Failure {
    fn from(error: StageError) -> Self {
        Self { class: error.class(), code: error.code.as_str().to_owned(), message: error.message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_the_documented_shape() {
        let hello = Hello { sealbus_processor: VERSION, stage: "pc1".into(), pid: 7 };
        assert_eq!(serde_json::to_string(&hello).expect("json"), r#"{"sealbus_processor":2,"stage":"pc1","pid":7}"#);
        let output = Answer { id: 1, result: AnswerResult::Output(Value::Bool(true)) };
        assert_eq!(serde_json::to_string(&output).expect("json"), r#"{"id":1,"output":true}"#);
        let failure = Failure { class: ErrorClass::Crit, code: "DISK_FULL".into(), message: "write".into() };
        let error = Answer { id: 2, result: AnswerResult::Error(failure) };
        let text = r#"{"id":2,"error":{"class":"crit","code":"DISK_FULL","message":"write"}}"#;
        assert_eq!(serde_json::to_string(&error).expect("json"), text);
        assert_eq!(serde_json::from_str::<Answer>(text).expect("answer"), error);
    }
}
