//! What the worker sends to a child.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{line_around, present};
use crate::stage::Json;

/// A line to the child, as the child reads it.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Carry out a task.
    Run {
        /// Repeated in the answer.
        id: u64,
        /// The task.
        task: Task,
    },
    /// Stop a request: nobody waits for it any more.
    Cancel {
        /// The request's id.
        id: u64,
    },
}

/// A task, inline or in a file.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    /// The task itself, as JSON.
    Here(Box<str>),
    /// A file that holds the task as JSON. The worker removes it when the request has ended.
    File(PathBuf),
}

#[derive(Deserialize)]
struct Wire {
    id: Option<u64>,
    #[serde(default, deserialize_with = "present")]
    task: Option<Box<RawValue>>,
    task_file: Option<PathBuf>,
    cancel: Option<u64>,
}

impl Order {
    /// Reads a line.
    ///
    /// # Errors
    /// What is wrong with the line, for people.
    pub fn read(line: &[u8]) -> Result<Self, String> {
        match serde_json::from_slice(line).map_err(|error| error.to_string())? {
            Wire { id: Some(id), task: Some(task), task_file: None, cancel: None } => {
                Ok(Self::Run { id, task: Task::Here(task.into()) })
            }
            Wire { id: Some(id), task: None, task_file: Some(path), cancel: None } => {
                Ok(Self::Run { id, task: Task::File(path) })
            }
            Wire { id: None, task: None, task_file: None, cancel: Some(id) } => Ok(Self::Cancel { id }),
            _ => Err("neither a task nor a cancel".to_owned()),
        }
    }

    /// The line that sends a task.
    #[must_use]
    pub fn run_line(id: u64, task: Json) -> Vec<u8> {
        line_around(id, "task", task)
    }

    /// The line that sends a task in a file.
    #[must_use]
    pub fn file_line(id: u64, path: &std::path::Path) -> Vec<u8> {
        let line = serde_json::json!({ "id": id, "task_file": path.to_string_lossy() });
        format!("{line}\n").into_bytes()
    }

    /// The line that cancels a request.
    #[must_use]
    pub fn cancel_line(id: u64) -> Vec<u8> {
        format!("{{\"cancel\":{id}}}\n").into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn lines_read_back_as_what_they_were_written_for() {
        for task in ["null", r#"{"a b":"x"}"#] {
            let json = serde_json::from_str::<Value>(task).and_then(|value| Json::of(&value)).expect("json");
            let here = Task::Here(task.into());
            assert_eq!(Order::read(&Order::run_line(3, json)), Ok(Order::Run { id: 3, task: here }));
        }
        let path = PathBuf::from("/tmp/a b\"c");
        assert_eq!(Order::read(&Order::file_line(4, &path)), Ok(Order::Run { id: 4, task: Task::File(path) }));
        assert_eq!(Order::read(&Order::cancel_line(5)), Ok(Order::Cancel { id: 5 }));
        assert!(Order::read(b"{\"id\":1}").is_err() && Order::read(b"rubbish").is_err());
    }
}
