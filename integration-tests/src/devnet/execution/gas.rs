//! Gas by a simple tariff: constant per method, linear in bytes and sectors. The orders of magnitude are mainnet's.

use fil_actor_miner_state::v19::{PreCommitSectorBatchParams2, ProveCommitSectors3Params};
use fvm_shared::message::Message;

use super::{METHOD_PRE_COMMIT, METHOD_PROVE_COMMIT};

const MESSAGE: u64 = 500_000;
const PARAMETER_BYTE: u64 = 1_300;
const METHOD: u64 = 2_000_000;
const PRE_COMMIT_SECTOR: u64 = 15_000_000;
const PROVE_COMMIT_SECTOR: u64 = 50_000_000;

/// The gas that executing a message uses.
pub fn gas_used(message: &Message) -> u64 {
    let bytes = message.params.bytes().len() as u64;
    let method = match message.method_num {
        fvm_shared::METHOD_SEND => 0,
        METHOD_PRE_COMMIT => {
            let params = message.params.deserialize::<PreCommitSectorBatchParams2>();
            METHOD + PRE_COMMIT_SECTOR * params.map_or(0, |params| params.sectors.len() as u64)
        }
        METHOD_PROVE_COMMIT => {
            let params = message.params.deserialize::<ProveCommitSectors3Params>();
            METHOD + PROVE_COMMIT_SECTOR * params.map_or(0, |params| params.sector_activations.len() as u64)
        }
        _ => METHOD,
    };
    MESSAGE + bytes * PARAMETER_BYTE + method
}
