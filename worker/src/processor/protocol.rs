//! Version 2 of the processor protocol: one JSON document per line, on stdin and stdout. `docs/processors.md` describes
//! it for implementers.
//!
//! This file defines the lines. [`said`] reads the child's lines, [`order`] the worker's, and [`large`] handles values
//! that travel as files.

use sealbus_schema::ErrorClass;
use sealbus_schema::error::Exit;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::stage::{Json, StageError};

pub mod damocles;
pub mod large;
pub mod order;
pub mod said;

/// The protocol version of this worker.
pub const VERSION: u32 = 2;

/// The error code in the answer to a cancelled request.
pub const CANCELLED: &str = "CANCELLED";

/// The child's first line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The protocol version.
    pub sealbus_processor: u32,
    /// The stage that the child serves.
    pub stage: String,
    /// The child's process id.
    pub pid: u32,
    /// The child's optional features; see [`Features`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
}

/// The optional features of a child. Unknown names are ignored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// The child reports progress.
    pub progress: bool,
    /// The child stops a request when it is told to.
    pub cancel: bool,
    /// The child sends heartbeats.
    pub heartbeat: bool,
    /// The child reads large tasks from files.
    pub files: bool,
    /// The child works on several requests at the same time.
    pub concurrent: bool,
}

/// A line to the child.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Repeated in the answer. Increases with each request to a child.
    pub id: u64,
    /// The stage's request.
    pub task: Value,
}

/// A line from the child, after the first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The request's id.
    pub id: u64,
    /// The result.
    #[serde(flatten)]
    pub result: AnswerResult,
}

/// The result of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerResult {
    /// The stage's response.
    Output(Value),
    /// The stage's error.
    Error(Failure),
}

/// A stage's error on the wire. The code is text, because third-party executables have their own codes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The error class, which decides what happens next.
    pub class: ErrorClass,
    /// The stable error code.
    pub code: String,
    /// The message for people.
    #[serde(default)]
    pub message: String,
    /// How a process behind the child ended, if one did: `{"status":3}` or `{"signal":9}`. Any other form is ignored.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "if_understood")]
    pub exit: Option<Exit>,
}

impl Failure {
    /// A failure in which no process ended.
    #[must_use]
    pub fn new(class: ErrorClass, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { class, code: code.into(), message: message.into(), exit: None }
    }
}

/// The progress of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// The fraction done, 0 to 1.
    pub done: f64,
    /// What is being done, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

impl Hello {
    /// The greeting of this process, without features.
    #[must_use]
    pub fn of(stage: crate::stage::Stage) -> Self {
        let features = Vec::new();
        Self { sealbus_processor: VERSION, stage: stage.name().to_owned(), pid: std::process::id(), features }
    }
}

impl Answer {
    /// The line of an answer with an output.
    #[must_use]
    pub fn output_line(id: u64, output: Json) -> Vec<u8> {
        line_around(id, "output", output)
    }
}

impl Features {
    /// The names of all features.
    pub const ALL: [&'static str; 5] = ["progress", "cancel", "heartbeat", "files", "concurrent"];

    /// The features that a greeting names.
    #[must_use]
    pub fn named(names: &[String]) -> Self {
        let has = |name: &str| names.iter().any(|other| other == name);
        Self {
            progress: has("progress"),
            cancel: has("cancel"),
            heartbeat: has("heartbeat"),
            files: has("files"),
            concurrent: has("concurrent"),
        }
    }
}

impl Progress {
    /// Clamps `done` and limits the note's length, because a child's values are not trusted.
    #[must_use]
    pub fn bounded(self) -> Self {
        let done = if self.done.is_finite() { self.done.clamp(0.0, 1.0) } else { 0.0 };
        Self { done, note: self.note.chars().take(200).collect() }
    }
}

impl From<StageError> for Failure {
    fn from(error: StageError) -> Self {
        let exit = error.exit;
        Self { exit, ..Self::new(error.class(), error.code.as_str(), error.message) }
    }
}

/// A line with a request's id and one other field.
fn line_around(id: u64, field: &str, value: Json) -> Vec<u8> {
    let mut line = value.into_bytes();
    line.splice(..0, format!("{{\"id\":{id},\"{field}\":").into_bytes());
    line.extend_from_slice(b"}\n");
    line
}

/// Reads a field leniently: a third-party executable's odd value must not spoil its answer.
fn if_understood<'de, D: serde::Deserializer<'de>, T: serde::de::DeserializeOwned>(
    from: D,
) -> Result<Option<T>, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(from)?).ok())
}

/// Tells a field with the value `null` from a missing one.
fn present<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_the_documented_shape() {
        let hello = Hello { sealbus_processor: VERSION, stage: "pc1".into(), pid: 7, features: Vec::new() };
        assert_eq!(serde_json::to_string(&hello).expect("json"), r#"{"sealbus_processor":2,"stage":"pc1","pid":7}"#);
        let output = Answer { id: 1, result: AnswerResult::Output(Value::Bool(true)) };
        assert_eq!(serde_json::to_string(&output).expect("json"), r#"{"id":1,"output":true}"#);
        assert_eq!(Answer::output_line(1, Json::of(&true).expect("json")), b"{\"id\":1,\"output\":true}\n");
        let failure = Failure::new(ErrorClass::Crit, "DISK_FULL", "write");
        let error = Answer { id: 2, result: AnswerResult::Error(failure) };
        let text = r#"{"id":2,"error":{"class":"crit","code":"DISK_FULL","message":"write"}}"#;
        assert_eq!(serde_json::to_string(&error).expect("json"), text);
        assert_eq!(serde_json::from_str::<Answer>(text).expect("answer"), error);
    }

    #[test]
    fn how_a_process_behind_the_child_ended_travels_and_nonsense_there_is_passed_over() {
        let failure =
            Failure { exit: Some(Exit::Signal(9)), ..Failure::new(ErrorClass::Temp, "PROCESSOR_DIED", "gone") };
        let text = r#"{"class":"temp","code":"PROCESSOR_DIED","message":"gone","exit":{"signal":9}}"#;
        assert_eq!(serde_json::to_string(&failure).expect("json"), text);
        assert_eq!(serde_json::from_str::<Failure>(text).expect("failure"), failure);
        for nonsense in ["3", "null", r#"{"status":"x"}"#] {
            let text = text.replace(r#"{"signal":9}"#, nonsense);
            assert_eq!(serde_json::from_str::<Failure>(&text).expect("failure").exit, None, "{nonsense}");
        }
    }

    #[test]
    fn unknown_features_mean_nothing_and_progress_is_bounded() {
        let names = ["cancel", "telepathy"].map(str::to_owned);
        assert_eq!(Features::named(&names), Features { cancel: true, ..Features::default() });
        let wild = Progress { done: f64::NAN, note: "x".repeat(1000) }.bounded();
        assert_eq!((wild.done, wild.note.len()), (0.0, 200));
        assert_eq!(Progress { done: 7.0, note: String::new() }.bounded().done, 1.0);
    }
}
