//! A real sealed sector in a bench's store, made by the worker's own processors.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
};

use sealbus_schema::{Commitment, Randomness, SectorId, SectorNumber, Token};
use sealbus_worker::{
    processor::protocol::{Answer, AnswerResult, Request},
    stage::{StageRequest, add_pieces, pc1, pc2, transfer, tree_d},
};

use crate::support::{Bench, MINER, PROOF};

pub fn sector(number: u64) -> SectorId {
    SectorId { miner: MINER, number: SectorNumber(number) }
}

impl Bench {
    /// Seals sector 1 and stores its files. Returns its CommR.
    pub fn seal(&self) -> Commitment {
        let work_dir = self.path("work");
        fs::create_dir(&work_dir).expect("directory");
        let (sector, ticket, proof) = (sector(1), Randomness([3; 32]), PROOF);
        let pieces = self.ask(&add_pieces::Request::committed_capacity(work_dir.clone(), proof)).pieces;
        let static_dirs = vec![self.path("static")];
        self.ask(&tree_d::Request { work_dir: work_dir.clone(), proof, pieces: pieces.clone(), static_dirs });
        self.ask(&pc1::Request { work_dir: work_dir.clone(), proof, sector, ticket, pieces: pieces.clone() });
        let comm_r = self.ask(&pc2::Request { work_dir: work_dir.clone(), proof, sector, ticket, pieces }).comm_r;
        let (store_dir, store_name) = (self.path("store"), "main".to_owned());
        let token = Token(1);
        self.ask(&transfer::Request { work_dir, store_dir, store_name, store_id: None, sector, token, comm_r });
        comm_r
    }

    /// Gives sector 1's files to another sector too. They prove the same CommR for it, with other challenges.
    pub fn copy_to(&self, number: u64) {
        let (store, from, to) = (self.path("store"), sector(1).file_name(), sector(number).file_name());
        fs::copy(store.join("sealed").join(&from), store.join("sealed").join(&to)).expect("copies");
        fs::create_dir(store.join("cache").join(&to)).expect("directory");
        for entry in fs::read_dir(store.join("cache").join(&from)).expect("lists") {
            let path = entry.expect("entry").path();
            fs::copy(&path, store.join("cache").join(&to).join(path.file_name().expect("name"))).expect("copies");
        }
    }

    fn ask<R: StageRequest>(&self, request: &R) -> R::Response {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sealbus-worker"))
            .args(["processor", R::STAGE.name()])
            .env("FIL_PROOFS_PARENT_CACHE", self.path("parents"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a processor");
        let task = serde_json::to_value(request).expect("json");
        let line = serde_json::to_string(&Request { id: 1, task }).expect("json");
        // Dropping its stdin lets it end after its answer.
        writeln!(child.stdin.take().expect("stdin"), "{line}").expect("asks");
        let lines = BufReader::new(child.stdout.take().expect("stdout")).lines().map_while(Result::ok);
        let answer = lines.filter_map(|line| serde_json::from_str::<Answer>(&line).ok()).last().expect("an answer");
        child.wait().expect("reaps");
        match answer.result {
            AnswerResult::Output(output) => serde_json::from_value(output).expect("response"),
            AnswerResult::Error(failure) => panic!("{}: {failure:?}", R::STAGE),
        }
    }
}
