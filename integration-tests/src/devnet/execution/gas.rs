//! Gas by a simple tariff: constant per method, linear in bytes and sectors. Bytes and the verification of proofs cost
//! what they do on mainnet. Changes of the state cost less, so that a block has room for the messages of many sectors.

use fil_actor_miner_state::v19::{PreCommitSectorBatchParams2, ProveCommitSectors3Params};
use fvm_shared::message::Message;

use super::{METHOD_PRE_COMMIT, METHOD_PROVE_COMMIT};

const MESSAGE: u64 = 500_000;
const PARAMETER_BYTE: u64 = 1_300;
const METHOD: u64 = 2_000_000;
const PRE_COMMIT_SECTOR: u64 = 15_000_000;
const PROVE_COMMIT_SECTOR: u64 = 8_000_000;
/// Verifies a single proof.
const VERIFY_SEAL: u64 = 42_000_000;
/// Verifies an aggregate: this for each sector, and one of [`VERIFY_AGGREGATE_STEPS`].
const VERIFY_AGGREGATE_SECTOR: u64 = 449_900;
/// From which number of sectors on an aggregate costs this much more. The prices of 32 GiB, which the FVM also charges
/// for the sizes of test networks (`fvm/src/gas/price_list.rs`).
const VERIFY_AGGREGATE_STEPS: [(u64, u64); 8] = [
    (4, 103_994_170),
    (7, 112_356_810),
    (13, 122_912_610),
    (26, 137_559_930),
    (52, 162_039_100),
    (103, 210_960_780),
    (205, 318_351_180),
    (410, 528_274_980),
];

/// Verifies a window PoSt: this, and [`VERIFY_POST_SECTOR`] for each challenged sector.
const VERIFY_POST: u64 = 117_680_921;
const VERIFY_POST_SECTOR: u64 = 43_780;

/// The gas for verifying a window PoSt of so many sectors. An optimistic one is verified only in a dispute.
pub fn verify_post(sectors: u64) -> u64 {
    VERIFY_POST + VERIFY_POST_SECTOR * sectors
}

/// The gas that executing a message uses, without the verification of window PoSts.
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
            METHOD + params.map_or(0, |params| prove_commit(&params))
        }
        _ => METHOD,
    };
    MESSAGE + bytes * PARAMETER_BYTE + method
}

fn prove_commit(params: &ProveCommitSectors3Params) -> u64 {
    let sectors = params.sector_activations.len() as u64;
    let verification = if params.aggregate_proof.is_empty() {
        VERIFY_SEAL * sectors
    } else {
        let step = VERIFY_AGGREGATE_STEPS.iter().rev().find(|(from, _)| *from <= sectors);
        let (_, step) = step.unwrap_or(&VERIFY_AGGREGATE_STEPS[0]);
        VERIFY_AGGREGATE_SECTOR * sectors + step
    };
    PROVE_COMMIT_SECTOR * sectors + verification
}
