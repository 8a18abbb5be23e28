//! The stand-in for the prover of winning PoSts. The vanilla proofs may be real ones.

use sealbus_schema::{ErrorClass, Phase, ProofBytes, post::PostKind};
use sealbus_worker::{
    processor::protocol::Failure,
    stage::post_prove::{Request, Response},
};
use serde_json::{Value, json};

use super::Script;
use crate::scripted::yields;

/// What a scripted prover does with a request; `None` for another stage.
pub fn script(stage: Phase, task: &Value) -> Option<Result<Script, Failure>> {
    let [_, prove] = Phase::WINNING;
    (stage == prove).then(|| {
        let refused = |problem: String| Failure::new(ErrorClass::Perm, "REQUEST_INVALID", &problem);
        let Request { miner, post, randomness, sectors, .. } =
            serde_json::from_value(task.clone()).map_err(|error| refused(error.to_string()))?;
        if post != PostKind::Winning {
            return Err(refused("a window PoSt is no block's".to_owned()));
        }
        let sectors: Vec<_> = sectors.iter().map(|sector| (sector.number, sector.comm_r)).collect();
        let proof = ProofBytes(yields::post("winning", miner, &randomness, &sectors));
        Ok(Script { answer: json!(Response::Proved { proof }), ..Script::default() })
    })
}
