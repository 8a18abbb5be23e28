//! The stand-ins of the toy's stages.

use sealbus_schema::{
    Phase,
    workflows::toy::worker::{MEASURE, Toy},
};
use sealbus_worker::{processor::protocol::Failure, workflows::toy};
use serde_json::{Value, json};

use super::{Script, StandIns};

impl StandIns for Toy {
    /// Its other stage is one of sealing's, which has a script.
    fn script(stage: Phase, _task: &Value, _real_replicas: bool) -> Option<Result<Script, Failure>> {
        (stage == MEASURE).then(|| Ok(Script { answer: json!(toy::Response { bytes: 2048 }), ..Script::default() }))
    }
}
