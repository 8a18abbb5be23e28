//! The scripts of sealing's stages. Each produces its files and answer at once, and keeps the promises of the real stage.

use std::{fs, path::Path, time::Duration};

use sealbus_schema::{
    Commitment, ErrorClass, Phase, ProofBytes, Randomness,
    parts::{PieceInfo, StoredFile},
};
use sealbus_worker::{
    processor::protocol::Failure,
    sandbox::INCOMING,
    stage::{StageError, add_pieces, c1, c2, pc1, pc2, transfer, tree_d},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    scripted::yields,
    workflows::{NamedStore, Script, ScriptedFile},
};

/// How long a scripted C2 of a real replica takes. This is long enough to see whether two of them overlap.
const PROOF_TIME: Duration = Duration::from_secs(10);

/// The part of the real C1's `c1.json` that scripts need.
#[derive(Debug, Deserialize)]
struct C1Record {
    key: C1Key,
}

#[derive(Debug, Deserialize)]
struct C1Key {
    comm_r: Commitment,
    seed: Randomness,
}

/// What a stage's processor does with a request. `None` if the stage does not belong to sealing.
pub fn of(stage: Phase, task: &Value, real_replicas: bool) -> Option<Result<Script, Failure>> {
    Some(match stage {
        Phase::AddPieces => request(task).map(add_pieces),
        Phase::TreeD => request(task).map(tree_d),
        Phase::Pc1 => request(task).map(pc1),
        Phase::Pc2 => request(task).map(pc2),
        Phase::Transfer => request(task).map(transfer),
        Phase::C1 => request(task).map(c1),
        Phase::C2 if real_replicas => request(task).and_then(c2_of_real_replica),
        Phase::C2 => request(task).map(c2),
        Phase::Own(_) => return None,
    })
}

fn add_pieces(add_pieces::Request { work_dir, .. }: add_pieces::Request) -> Script {
    let commitment = yields::comm_d();
    Script {
        output: Some(ScriptedFile::new(work_dir.join("unsealed"), of_work(Phase::AddPieces, &work_dir))),
        answer: json!(add_pieces::Response { pieces: vec![PieceInfo { commitment, padded_bytes: 2048 }] }),
        ..Script::default()
    }
}

fn tree_d(tree_d::Request { work_dir, .. }: tree_d::Request) -> Script {
    Script {
        inputs: vec![(work_dir.join("unsealed"), of_work(Phase::AddPieces, &work_dir))],
        output: Some(ScriptedFile::new(work_dir.join("tree_d"), of_work(Phase::TreeD, &work_dir))),
        answer: json!(tree_d::Response { comm_d: yields::comm_d() }),
        ..Script::default()
    }
}

fn pc1(pc1::Request { work_dir, ticket, .. }: pc1::Request) -> Script {
    Script {
        inputs: vec![(work_dir.join("tree_d"), of_work(Phase::TreeD, &work_dir))],
        output: Some(ScriptedFile::new(work_dir.join("layer"), yields::file("pc1", &ticket.0))),
        answer: json!(pc1::Response { comm_d: yields::comm_d() }),
        ..Script::default()
    }
}

fn pc2(pc2::Request { work_dir, sector, ticket, .. }: pc2::Request) -> Script {
    let comm_r = yields::comm_r(sector, &ticket);
    Script {
        inputs: vec![(work_dir.join("layer"), yields::file("pc1", &ticket.0))],
        output: Some(ScriptedFile::new(work_dir.join("sealed"), replica(&comm_r))),
        answer: json!(pc2::Response { comm_r, comm_d: yields::comm_d() }),
        ..Script::default()
    }
}

fn transfer(request: transfer::Request) -> Script {
    let transfer::Request { work_dir, store_dir, store_name, store_id, sector, token, comm_r } = request;
    let content = replica(&comm_r);
    let (path, name) = (format!("sealed/{}", sector.file_name()), sector.file_name());
    let file = StoredFile { path: path.clone(), bytes: content.len() as u64, blake2b: yields::blake2b(&content) };
    Script {
        inputs: vec![(work_dir.join("sealed"), content.clone())],
        output: Some(ScriptedFile {
            temporary: store_dir.join(INCOMING).join(format!("sealed.{name}.{token}.tmp")),
            path: store_dir.join(path),
            content,
        }),
        store: Some(NamedStore { dir: store_dir, name: store_name, id: store_id }),
        answer: json!(transfer::Response { files: vec![file] }),
        ..Script::default()
    }
}

fn c1(c1::Request { work_dir, sector, ticket, seed, .. }: c1::Request) -> Script {
    Script {
        inputs: vec![(work_dir.join("sealed"), replica(&yields::comm_r(sector, &ticket)))],
        output: Some(ScriptedFile::new(work_dir.join("c1"), yields::file("c1", &seed.0))),
        answer: json!(c1::Response { bytes: yields::FILE_BYTES as u64 }),
        ..Script::default()
    }
}

fn c2(c2::Request { work_dir, sector, ticket, seed, .. }: c2::Request) -> Script {
    let comm_r = yields::comm_r(sector, &ticket);
    let proof = ProofBytes(yields::proof(sector, &comm_r, &ticket, &seed));
    Script {
        inputs: vec![(work_dir.join("c1"), yields::file("c1", &seed.0))],
        output: Some(ScriptedFile::new(work_dir.join("c2"), yields::file("c2", &seed.0))),
        answer: json!(c2::Response { proof }),
        ..Script::default()
    }
}

fn c2_of_real_replica(request: c2::Request) -> Result<Script, Failure> {
    let c2::Request { work_dir, sector, ticket, seed, .. } = request;
    let key = read_c1_key(&work_dir.join("c1.json"))?;
    if key.seed != seed {
        return Err(refused("INPUT_MISMATCH", "c1.json is for another seed"));
    }
    let proof = ProofBytes(yields::proof(sector, &key.comm_r, &ticket, &key.seed));
    Ok(Script { pause: PROOF_TIME, answer: json!(c2::Response { proof }), ..Script::default() })
}

fn read_c1_key(path: &Path) -> Result<C1Key, Failure> {
    let bytes = fs::read(path).map_err(|error| StageError::io("read", path, &error))?;
    let record: C1Record =
        serde_json::from_slice(&bytes).map_err(|error| refused("INPUT_MISMATCH", &error.to_string()))?;
    Ok(record.key)
}

fn request<R: DeserializeOwned>(task: &Value) -> Result<R, Failure> {
    R::deserialize(task).map_err(|error| refused("REQUEST_INVALID", &error.to_string()))
}

fn refused(code: &str, message: &str) -> Failure {
    Failure::new(ErrorClass::Perm, code, message)
}

/// The output of a stage whose request names only the working directory.
fn of_work(stage: Phase, work_dir: &Path) -> Vec<u8> {
    let name = work_dir.file_name().unwrap_or_default().to_string_lossy();
    yields::file(stage.name(), name.as_bytes())
}

fn replica(comm_r: &Commitment) -> Vec<u8> {
    yields::file("replica", &comm_r.0)
}
