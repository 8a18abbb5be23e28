//! The care of sectors and the owner's errands: what the command line shows beforehand is what the chain then does.
//!
//! The program runs as a person runs it. What it shows is sent to the chain as it is, and its effect compared.

#[path = "devnet_support/chain.rs"]
mod chain;

#[path = "care/bad_input.rs"]
mod bad_input;
#[path = "care/errands.rs"]
mod errands;
#[path = "care/ordered.rs"]
mod ordered;
#[path = "care/sectors.rs"]
mod sectors;

use std::{
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use chain::Chain;
use fvm_ipld_encoding::RawBytes;
use fvm_shared::{address::Address, econ::TokenAmount, receipt::Receipt};
use sealbus_integration_tests::{
    cluster::own_binary,
    devnet::{Config, Server, address::parse},
};
use sealbus_manager::{config::Database, store::Store};
use serde_json::Value;
use tokio::runtime::{Builder, Runtime};

/// A chain, and the command line of a manager whose node it is.
struct Site {
    chain: Chain,
    runtime: Runtime,
    directory: tempfile::TempDir,
    _server: Server,
}

impl Site {
    fn new() -> Site {
        Site::with(Config { miners: 2, ..Config::default() })
    }

    fn with(config: Config) -> Site {
        let chain = Chain::with(config);
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let listen = "127.0.0.1:0".parse().expect("an address");
        let server = runtime.block_on(Server::start(&chain.devnet, listen)).expect("starts");
        let directory = tempfile::tempdir().expect("a directory");
        let site = Site { chain, runtime, directory, _server: server };
        let token = site.path("token");
        std::fs::write(&token, &site.chain.devnet.tokens().sign).expect("writes");
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&token, private).expect("sets the mode");
        let text = format!(
            "[database]\npath = \"{}\"\n[nats]\nurl = \"nats://127.0.0.1:1\"\n[chain]\nurl = \"{}\"\ntoken_file = \"{}\"\n\
             [[miner]]\nid = \"f01000\"\nsector_size = \"2KiB\"\n",
            site.path("manager.db").display(),
            site._server.url(),
            token.display()
        );
        std::fs::write(site.path("manager.toml"), text).expect("writes");
        site.store();
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn store(&self) -> Store {
        let database = Database::Sqlite { path: self.path("manager.db") };
        self.runtime.block_on(Store::open(&database)).expect("a database")
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(own_binary("sealbus-manager").expect("built"));
        let command = command.args(arguments).arg("--config").arg(self.path("manager.toml"));
        command.stdin(Stdio::null()).output().expect("runs")
    }

    /// What would be sent, as JSON.
    fn preview(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--dry-run", "--json"]].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {said}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// The only message that would be sent.
    fn only(&self, arguments: &[&str]) -> Value {
        let preview = self.preview(arguments);
        let errands = preview["errands"].as_array().expect("errands");
        assert_eq!(errands.len(), 1, "{preview:#}");
        errands[0].clone()
    }

    /// Runs a command that is refused, and returns what it says.
    fn refused(&self, arguments: &[&str], words: &[&str]) -> String {
        let output = self.run(&[arguments, &["--dry-run"]].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
        for word in words {
            assert!(said.contains(word), "{arguments:?}: `{word}` is not in: {said}");
        }
        assert!(!said.contains("panicked"), "{said}");
        said
    }

    /// Sends what was shown, as it was shown.
    fn send(&self, errand: &Value) -> Receipt {
        let text = |field: &str| errand[field].as_str().unwrap_or_else(|| panic!("{field}: {errand:#}"));
        let params = RawBytes::new(hex::decode(text("params")).expect("hexadecimal"));
        let method = errand["method"].as_u64().expect("a method");
        let mut message = self.chain.message(address(text("key")), method, params, atto(text("value_atto")));
        message.to = address(text("receiver"));
        let cid = self.chain.push(message).expect("the mempool takes it");
        self.chain.advance(2);
        self.chain.search(&cid).expect("it was executed").receipt
    }

    fn sends(&self, errand: &Value) {
        let receipt = self.send(errand);
        assert_eq!(receipt.exit_code.value(), 0, "{errand:#}");
    }
}

fn address(text: &str) -> Address {
    parse(text).expect("an address")
}

fn atto(text: &str) -> TokenAmount {
    TokenAmount::from_atto(text.parse::<fvm_shared::bigint::BigInt>().expect("a number"))
}
