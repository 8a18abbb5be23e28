//! The scripts of the two stages of proofs of spacetime. Like the real ones, they look at the store before and after
//! reading, name who spoils a proof, and write no files.

use std::{fs, io, time::Duration};

use sealbus_schema::{ErrorClass, Phase, ProofBytes, SectorId, post::PostKind};
use sealbus_worker::{
    processor::protocol::Failure,
    stage::{post_prove, post_read},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{check_store, refused};
use crate::{
    scripted::{control::Control, latencies::Latencies, yields},
    workflows::NamedStore,
};

/// How long a scripted SNARK takes: long enough to be killed in the middle.
const PROVE_TIME: Duration = Duration::from_millis(500);

/// What the processor of a stage answers. `None` if the stage does not belong to proofs of spacetime.
pub fn run(stage: Phase, task: &Value, control: &Control) -> Option<Result<Value, Failure>> {
    let [read, prove] = Phase::POST;
    if stage == read {
        Some(request(task).and_then(|request| self::read(request, control)))
    } else if stage == prove {
        Some(request(task).and_then(self::prove))
    } else {
        None
    }
}

fn read(request: post_read::Request, control: &Control) -> Result<Value, Failure> {
    let post_read::Request { store_dir, store_name, store_id, sector, comm_r, post, randomness, .. } = request;
    let vanilla = || {
        let vanilla = yields::vanilla(name(post), sector, &comm_r, &randomness);
        Ok(json!(post_read::Response { vanilla: ProofBytes(vanilla) }))
    };
    if let Some(latencies) = Latencies::told(control) {
        std::thread::sleep(latencies.of(sector.number.0));
        return match latencies.bad.contains(&sector.number.0) {
            true => Err(refused("FILES_UNPROVABLE", &format!("sealed/{} is damaged", sector.file_name()))),
            false => vanilla(),
        };
    }
    let store = NamedStore { dir: store_dir, name: store_name, id: store_id };
    check_store(&store)?;
    let path = store.dir.join("sealed").join(sector.file_name());
    let found = fs::read(&path);
    check_store(&store)?;
    let unprovable = |problem: &str| Err(refused("FILES_UNPROVABLE", &format!("{}: {problem}", path.display())));
    match found {
        Ok(content) if content == yields::file("replica", &comm_r.0) => vanilla(),
        Ok(_) => unprovable("not the scripted replica"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => unprovable(&error.to_string()),
        Err(error) => Err(Failure::new(ErrorClass::Temp, "STORE_UNAVAILABLE", error.to_string())),
    }
}

fn prove(request: post_prove::Request) -> Result<Value, Failure> {
    let post_prove::Request { vanillas, miner, post, randomness, sectors, .. } = request;
    let bytes = fs::read(&vanillas).map_err(|error| refused("REQUEST_INVALID", &error.to_string()))?;
    std::thread::sleep(PROVE_TIME);
    let (mut rest, mut culprits) = (&bytes[..], Vec::new());
    for sector in &sectors {
        let of_sector = rest.split_at_checked(sector.bytes);
        let (vanilla, others) = of_sector.ok_or_else(|| refused("REQUEST_INVALID", "the file is too short"))?;
        rest = others;
        let id = SectorId { miner, number: sector.number };
        if vanilla != yields::vanilla(name(post), id, &sector.comm_r, &randomness) {
            culprits.push(sector.number);
        }
    }
    if !culprits.is_empty() {
        let problem = "not the scripted vanilla proofs".to_owned();
        return Ok(json!(post_prove::Response::Unfit { culprits, problem }));
    }
    let sectors: Vec<_> = sectors.iter().map(|sector| (sector.number, sector.comm_r)).collect();
    let proof = yields::post(name(post), miner, &randomness, &sectors);
    Ok(json!(post_prove::Response::Proved { proof: ProofBytes(proof) }))
}

const fn name(post: PostKind) -> &'static str {
    match post {
        PostKind::Winning => "winning",
        PostKind::Window | PostKind::Unknown => "window",
    }
}

fn request<T: DeserializeOwned>(task: &Value) -> Result<T, Failure> {
    serde_json::from_value(task.clone()).map_err(|error| refused("REQUEST_INVALID", &error.to_string()))
}
