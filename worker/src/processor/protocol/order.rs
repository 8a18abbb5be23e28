//! What the worker tells a child.

use std::path::PathBuf;

use serde::Deserialize;
use serde_json::Value;

use super::present;

/// A line to the child, as the child reads it.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// Carry this out.
    Run {
        /// Comes back in the answer.
        id: u64,
        /// What to carry out.
        task: Task,
    },
    /// Nobody waits for this request any more.
    Cancel {
        /// Which.
        id: u64,
    },
}

/// A task, or where it lies.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    /// The task itself.
    Here(Value),
    /// A file that holds it, as JSON. The worker removes it when the request has ended.
    File(PathBuf),
}

#[derive(Deserialize)]
struct Wire {
    id: Option<u64>,
    #[serde(default, deserialize_with = "present")]
    task: Option<Value>,
    task_file: Option<PathBuf>,
    cancel: Option<u64>,
}

impl Order {
    /// Reads a line.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn read(line: &[u8]) -> Result<Self, String> {
        match serde_json::from_slice(line).map_err(|error| error.to_string())? {
            Wire { id: Some(id), task: Some(task), task_file: None, cancel: None } => {
                Ok(Self::Run { id, task: Task::Here(task) })
            }
            Wire { id: Some(id), task: None, task_file: Some(path), cancel: None } => {
                Ok(Self::Run { id, task: Task::File(path) })
            }
            Wire { id: None, task: None, task_file: None, cancel: Some(id) } => Ok(Self::Cancel { id }),
            _ => Err("neither a task nor a cancel".to_owned()),
        }
    }

    /// The line that hands over a task which is JSON already.
    #[must_use]
    pub fn run_line(id: u64, task: &[u8]) -> Vec<u8> {
        let mut line = format!("{{\"id\":{id},\"task\":").into_bytes();
        line.reserve(task.len() + 2);
        line.extend_from_slice(task);
        line.extend_from_slice(b"}\n");
        line
    }

    /// The line that hands over a task in a file.
    #[must_use]
    pub fn file_line(id: u64, path: &std::path::Path) -> Vec<u8> {
        let line = serde_json::json!({ "id": id, "task_file": path.to_string_lossy() });
        format!("{line}\n").into_bytes()
    }

    /// The line that cancels.
    #[must_use]
    pub fn cancel_line(id: u64) -> Vec<u8> {
        format!("{{\"cancel\":{id}}}\n").into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_read_back_as_what_they_were_written_for() {
        let task = Value::from("x");
        assert_eq!(Order::read(&Order::run_line(3, b"\"x\"")), Ok(Order::Run { id: 3, task: Task::Here(task) }));
        let path = PathBuf::from("/tmp/a b\"c");
        assert_eq!(Order::read(&Order::file_line(4, &path)), Ok(Order::Run { id: 4, task: Task::File(path) }));
        assert_eq!(Order::read(&Order::cancel_line(5)), Ok(Order::Cancel { id: 5 }));
        assert!(Order::read(b"{\"id\":1}").is_err() && Order::read(b"rubbish").is_err());
    }
}
