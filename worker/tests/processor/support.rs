//! A sector in a temporary directory, and a processor driven over plain pipes.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use sealbus_schema::parts::PieceInfo;
use sealbus_schema::{Commitment, MinerId, Randomness, SealProof, SectorId, SectorNumber, Token};
use sealbus_worker::processor::protocol::{Answer, AnswerResult, Failure, Request};
use sealbus_worker::stage::{Stage, StageRequest};
use sealbus_worker::stage::{add_pieces, c1, pc1, pc2, transfer, tree_d};
use tempfile::TempDir;

pub const SECTOR: SectorId = SectorId { miner: MinerId(1000), number: SectorNumber(7) };
pub const TICKET: Randomness = Randomness([3; 32]);
pub const SEED: Randomness = Randomness([5; 32]);

/// A slot's working directory, a store, and a private directory for the parent cache.
pub struct Bench {
    pub dir: TempDir,
    pub proof: SealProof,
    pub pieces: Vec<PieceInfo>,
}

impl Bench {
    /// Contains the unsealed file and tree D.
    pub fn prepared(proof: SealProof) -> Self {
        let dir = tempfile::tempdir().expect("directory");
        for name in ["slot", "store", "parents", "tmp"] {
            std::fs::create_dir(dir.path().join(name)).expect("directory");
        }
        let mut bench = Self { dir, proof, pieces: Vec::new() };
        bench.pieces = bench.ask(&add_pieces::Request::committed_capacity(bench.slot(), proof)).expect("pieces").pieces;
        bench.ask(&bench.tree_d()).expect("tree D");
        bench
    }

    /// Contains everything up to PC2's results.
    pub fn sealed(proof: SealProof) -> (Self, pc2::Response) {
        let bench = Self::prepared(proof);
        bench.ask(&bench.pc1()).expect("PC1");
        let sealed = bench.ask(&bench.pc2()).expect("PC2");
        (bench, sealed)
    }

    pub fn slot(&self) -> PathBuf {
        self.dir.path().join("slot")
    }

    pub fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    pub fn cache(&self) -> PathBuf {
        self.slot().join("cache")
    }

    pub fn tree_d(&self) -> tree_d::Request {
        let static_dirs = vec![self.dir.path().join("static")];
        tree_d::Request { work_dir: self.slot(), proof: self.proof, pieces: self.pieces.clone(), static_dirs }
    }

    pub fn pc1(&self) -> pc1::Request {
        pc1::Request {
            work_dir: self.slot(),
            proof: self.proof,
            sector: SECTOR,
            ticket: TICKET,
            pieces: self.pieces.clone(),
        }
    }

    pub fn pc2(&self) -> pc2::Request {
        pc2::Request {
            work_dir: self.slot(),
            proof: self.proof,
            sector: SECTOR,
            ticket: TICKET,
            pieces: self.pieces.clone(),
        }
    }

    pub fn c1(&self, comm_r: Commitment, seed: Randomness) -> c1::Request {
        let pieces = self.pieces.clone();
        c1::Request { work_dir: self.slot(), proof: self.proof, sector: SECTOR, ticket: TICKET, seed, comm_r, pieces }
    }

    pub fn transfer(&self, comm_r: Commitment, token: u64) -> transfer::Request {
        transfer::Request {
            work_dir: self.slot(),
            store_dir: self.store(),
            store_name: "main".to_owned(),
            store_id: None,
            sector: SECTOR,
            token: Token(token),
            comm_r,
        }
    }

    /// Starts a processor as the pool would, but without a pool.
    pub fn processor(&self, stage: Stage) -> Processor {
        self.processor_by(&[], stage)
    }

    /// Like [`Self::processor`], with further arguments.
    pub fn processor_by(&self, args: &[&str], stage: Stage) -> Processor {
        let mut child = Command::new(env!("CARGO_BIN_EXE_sealbus-worker"))
            .args(["processor", stage.name()])
            .args(args)
            .env("FIL_PROOFS_PARENT_CACHE", self.dir.path().join("parents"))
            .env("TMPDIR", self.dir.path().join("tmp"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("processor");
        let (stdin, stdout) = (child.stdin.take().expect("stdin"), child.stdout.take().expect("stdout"));
        let mut processor = Processor { child, stdin, stdout: BufReader::new(stdout) };
        assert!(processor.line().contains("\"sealbus_processor\":2"));
        processor
    }

    /// Sends one request to a new processor.
    pub fn ask<R: StageRequest>(&self, request: &R) -> Result<R::Response, Failure> {
        self.ask_by(&[], request)
    }

    /// Sends one request to a new processor with further arguments.
    pub fn ask_by<R: StageRequest>(&self, args: &[&str], request: &R) -> Result<R::Response, Failure> {
        let mut processor = self.processor_by(args, R::STAGE);
        processor.send(request);
        match serde_json::from_str::<Answer>(&processor.line()).expect("answer").result {
            AnswerResult::Output(output) => Ok(serde_json::from_value(output).expect("response")),
            AnswerResult::Error(failure) => Err(failure),
        }
    }
}

pub struct Processor {
    pub child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl Processor {
    pub fn send<R: StageRequest>(&mut self, request: &R) {
        let request = Request { id: 1, task: serde_json::to_value(request).expect("json") };
        writeln!(self.stdin, "{}", serde_json::to_string(&request).expect("json")).expect("write");
    }

    /// The next line that is neither a heartbeat nor progress.
    pub fn line(&mut self) -> String {
        loop {
            let mut line = String::new();
            self.stdout.read_line(&mut line).expect("line");
            if !line.starts_with("{\"heartbeat\"") && !line.contains("\"progress\":{") {
                return line;
            }
        }
    }

    /// `kill -9`. Returns whether the answer had already been sent.
    pub fn kill(mut self) -> bool {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
        !self.line().is_empty()
    }
}

impl Drop for Processor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The contents of all files below a directory, by path.
pub fn contents(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![dir.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).expect("list") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                open.push(path);
            } else {
                let name = path.strip_prefix(dir).expect("inside").display().to_string();
                found.insert(name, std::fs::read(&path).expect("read"));
            }
        }
    }
    found
}
