//! What a child sends after its greeting.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

use super::{AnswerResult, Failure, Progress, present};

/// A line from the child.
#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    /// A request has ended.
    Answer {
        /// The request's id.
        id: u64,
        /// The result.
        result: AnswerResult,
    },
    /// A request has ended. Its output is in a file.
    OutputFile {
        /// The request's id.
        id: u64,
        /// The file. Its path has not been checked yet.
        path: PathBuf,
    },
    /// The progress of a request.
    Progress {
        /// The request's id.
        id: u64,
        /// The progress.
        progress: Progress,
    },
    /// The child is alive.
    Heartbeat,
}

#[derive(Deserialize)]
struct Wire {
    id: Option<u64>,
    #[serde(default, deserialize_with = "present")]
    output: Option<Value>,
    output_file: Option<PathBuf>,
    error: Option<Failure>,
    progress: Option<Progress>,
    #[serde(default, deserialize_with = "present")]
    heartbeat: Option<Value>,
}

impl Said {
    /// Reads a line. Unknown fields are ignored.
    ///
    /// # Errors
    /// What is wrong with the line, for people.
    pub fn read(line: &[u8]) -> Result<Self, String> {
        let excerpt = || String::from_utf8_lossy(&line[..line.len().min(200)]).into_owned();
        let wire: Wire = serde_json::from_slice(line).map_err(|error| format!("{error} in {:?}", excerpt()))?;
        let said = match wire {
            Wire { id: None, heartbeat: Some(_), .. } => Some(Self::Heartbeat),
            Wire { id: Some(id), output: Some(output), output_file: None, error: None, .. } => {
                Some(Self::Answer { id, result: AnswerResult::Output(output) })
            }
            Wire { id: Some(id), output: None, output_file: None, error: Some(failure), .. } => {
                Some(Self::Answer { id, result: AnswerResult::Error(failure) })
            }
            Wire { id: Some(id), output: None, output_file: Some(path), error: None, .. } => {
                Some(Self::OutputFile { id, path })
            }
            Wire { id: Some(id), output: None, output_file: None, error: None, progress: Some(progress), .. } => {
                Some(Self::Progress { id, progress: progress.bounded() })
            }
            _ => None,
        };
        said.ok_or_else(|| format!("neither one answer nor progress nor heartbeat: {:?}", excerpt()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Said, String> {
        Said::read(line.as_bytes())
    }

    #[test]
    fn each_kind_of_line_is_told_from_the_others() {
        let null = AnswerResult::Output(Value::Null);
        assert_eq!(read(r#"{"id":1,"output":null}"#), Ok(Said::Answer { id: 1, result: null }));
        assert_eq!(read(r#"{"id":1,"output_file":"/t/o"}"#), Ok(Said::OutputFile { id: 1, path: "/t/o".into() }));
        let progress = Progress { done: 0.5, note: String::new() };
        assert_eq!(read(r#"{"id":1,"progress":{"done":0.5}}"#), Ok(Said::Progress { id: 1, progress }));
        for heartbeat in [r#"{"heartbeat":true}"#, r#"{"heartbeat":null,"load":3}"#] {
            assert_eq!(read(heartbeat), Ok(Said::Heartbeat));
        }
        let error = read(r#"{"id":2,"error":{"class":"solar","code":"X"}}"#).expect("an error of another version");
        assert!(matches!(error, Said::Answer { id: 2, result: AnswerResult::Error(_) }));
    }

    #[test]
    fn what_is_no_such_line_is_refused() {
        for line in [
            "",
            "progress: 10%",
            "{\"id\":1",
            "[]",
            "{}",
            r#"{"id":1}"#,
            r#"{"output":1}"#,
            r#"{"id":-1,"output":1}"#,
            r#"{"id":1,"output":1,"error":{"class":"temp","code":"X"}}"#,
            r#"{"id":1,"error":{"class":7}}"#,
            r#"{"id":1,"output":1}{"id":2,"output":1}"#,
        ] {
            assert!(read(line).is_err(), "{line}");
        }
        assert!(Said::read(b"{\"id\":1,\"output\":\"\xff\"}").is_err());
    }
}
