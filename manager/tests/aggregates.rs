//! Aggregates made by the real child process, from proofs that were forged with the devnet parameters' trapdoor.
//!
//! Requires the parameters for 2 KiB sectors in `FIL_PROOFS_PARAMETER_CACHE` (from `sealbus-devnet-params`).

use std::{path::PathBuf, time::Duration};

use sealbus_devnet_params::{Forger, SectorSize, Statement};
use sealbus_manager::{
    aggregates::{COMMAND, Member, Request, aggregate},
    chain::randomness::prover_id,
    child::Program,
    proofs::{Library, Porep, Verifier},
};
use sealbus_schema::{
    Commitment, ErrorClass, ErrorCode, MinerId, ProofBytes, Randomness, SealProof, SectorId, SectorNumber,
};

const PROOF: SealProof = SealProof::StackedDrg2KiBV1_1;
const MINER: MinerId = MinerId(1000);
/// Much longer than an aggregate of four takes.
const LONG: Duration = Duration::from_secs(120);

fn forger() -> Forger {
    let dir = std::env::var_os("FIL_PROOFS_PARAMETER_CACHE")
        .expect("FIL_PROOFS_PARAMETER_CACHE names a directory made by sealbus-devnet-params");
    Forger::new(&PathBuf::from(dir), SectorSize::KiB2).expect("a known trapdoor")
}

/// A proof of a sector that does not exist.
fn member(forger: &Forger, number: u64) -> Member {
    let [comm_r, comm_d, ticket, seed] = [1, 2, 3, 4].map(|salt| [salt + number as u8; 32]);
    let statement = Statement { comm_r, comm_d, prover_id: prover_id(MINER.0), sector: number, ticket, seed };
    let porep = Porep {
        comm_r: Commitment(comm_r),
        comm_d: Commitment(comm_d),
        ticket: Randomness(ticket),
        seed: Randomness(seed),
        proof: ProofBytes(forger.porep(&statement).expect("a forged proof")),
    };
    Member { number: SectorNumber(number), porep }
}

fn request(sectors: Vec<Member>) -> Request {
    Request { miner: MINER, proof: PROOF, sectors }
}

fn program() -> Program {
    Program { program: env!("CARGO_BIN_EXE_sealbus-manager").into(), arguments: vec![COMMAND.into()] }
}

#[tokio::test]
async fn an_aggregate_verifies_for_its_sectors_in_their_order_alone() {
    let forger = forger();
    let sectors: Vec<Member> = (1..=5).map(|number| member(&forger, number)).collect();
    for Member { number, porep } in &sectors {
        assert_eq!(Library.verify_seal(SectorId { miner: MINER, number: *number }, PROOF, porep), Ok(()));
    }
    let made = aggregate(&program(), &request(sectors.clone()), LONG).await.expect("an aggregate");
    assert_eq!(made.0.len(), 2260 + 2976 * 3, "padded to eight proofs");
    let verify = |sectors: &[Member]| Library.verify_aggregate(MINER, PROOF, sectors, &made).map_err(|e| e.code);
    assert_eq!(verify(&sectors), Ok(()));
    let swapped: Vec<_> = [1, 0, 2, 3, 4].map(|index| sectors[index].clone()).to_vec();
    assert_eq!(verify(&swapped), Err(ErrorCode::PROOF_INVALID));
    assert!(verify(&sectors[..4]).is_err());
    assert!(Library.verify_aggregate(MinerId(1001), PROOF, &sectors, &made).is_err());
}

#[tokio::test]
async fn an_aggregate_with_one_wrong_proof_is_not_given_out() {
    let forger = forger();
    let mut sectors: Vec<Member> = (1..=4).map(|number| member(&forger, number)).collect();
    sectors[2].porep.proof = member(&forger, 9).porep.proof;
    let error = aggregate(&program(), &request(sectors.clone()), LONG).await.expect_err("the third is wrong");
    assert_eq!((error.code, error.class), (ErrorCode::PROOF_INVALID, ErrorClass::Perm));
    sectors[2].porep.proof = ProofBytes(vec![7; 192]);
    let error = aggregate(&program(), &request(sectors), LONG).await.expect_err("the third is no proof at all");
    assert_eq!((error.code, error.class), (ErrorCode::PROOFS_FAILED, ErrorClass::Perm));
}

#[tokio::test]
async fn without_the_srs_the_file_is_named() {
    let forger = forger();
    let sectors: Vec<Member> = (1..=4).map(|number| member(&forger, number)).collect();
    let empty = tempfile::tempdir().expect("a directory");
    let variable = format!("FIL_PROOFS_PARAMETER_CACHE={}", empty.path().display());
    let Program { program, arguments } = program();
    let arguments = [variable.into(), program.into_os_string()].into_iter().chain(arguments).collect();
    let program = Program { program: "env".into(), arguments };
    let error = aggregate(&program, &request(sectors), LONG).await.expect_err("no SRS");
    assert_eq!((&error.code, error.class), (&ErrorCode::PARAMS_MISSING, ErrorClass::Crit));
    let path = empty.path().join("v28-fil-inner-product-v1.srs");
    assert!(error.message().contains(&path.display().to_string()), "{}", error.message());
    assert_eq!(Library.aggregates_ready(), Ok(()), "in the right directory it is there");
}

#[tokio::test]
async fn an_aggregation_that_takes_too_long_is_killed() {
    let forger = forger();
    let sectors: Vec<Member> = (1..=4).map(|number| member(&forger, number)).collect();
    let asleep = Program { program: "sleep".into(), arguments: vec!["600".into()] };
    let error = aggregate(&asleep, &request(sectors), Duration::from_millis(100)).await.expect_err("it sleeps");
    assert_eq!((error.code, error.class), (ErrorCode::PROCESSOR_TIMED_OUT, ErrorClass::Temp));
}

#[tokio::test]
async fn numbers_of_sectors_that_the_chain_refuses_are_refused_before_the_work() {
    let sector = member(&forger(), 1);
    let nobody = Program { program: "/nowhere/at/all".into(), arguments: vec![] };
    for count in [0, 3, 820] {
        let error = aggregate(&nobody, &request(vec![sector.clone(); count]), LONG).await.expect_err("out of range");
        assert_eq!(error.code, ErrorCode::REQUEST_INVALID, "{count}");
    }
}
