//! Carries out a request, in this process or with a third-party executable.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::damocles::Damocles;
use crate::stage::{Json, Stage, StageCode, StageError, foreign};
use crate::workflows;

/// What carries out the requests of a child.
#[derive(Debug)]
pub enum Engine {
    /// The built-in stages, in this process.
    BuiltIn,
    /// An executable with the damocles protocol does the computation; this process does what comes before and after.
    Damocles(Damocles, foreign::Options),
}

impl Engine {
    /// Carries out a request. Blocks. A panic becomes an error.
    pub(super) fn run(&self, stage: Stage, task: &[u8]) -> Result<Json, StageError> {
        let run = || match self {
            Self::BuiltIn => workflows::run_stage(stage, task),
            Self::Damocles(executable, options) => foreign::run_json(stage, task, executable, options),
        };
        catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| Err(library_panic(stage, panic.as_ref())))
    }
}

fn library_panic(stage: Stage, panic: &(dyn std::any::Any + Send)) -> StageError {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    StageError::new(StageCode::LibraryPanic, format!("{stage} panicked: {}", text.unwrap_or("without a message")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_with_its_message() {
        let panic = catch_unwind(|| panic!("layer {} is odd", 3)).expect_err("panic");
        let error = library_panic(Stage::Pc1, panic.as_ref());
        assert_eq!((error.code, error.message.as_str()), (StageCode::LibraryPanic, "pc1 panicked: layer 3 is odd"));
    }
}
