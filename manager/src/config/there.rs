//! Whether the files and directories that the configuration names exist on this machine now.

use sealbus_nats::{NotThere, secret};

use super::{Config, NamedNode};
use crate::{chain::local_keys, drive::chain_of};

impl Config {
    /// The files and directories that are missing or unusable. Does not connect.
    pub fn not_there(&self) -> Vec<NotThere> {
        let mut found = self.database.not_there();
        found.extend(self.nats.not_there());
        let mut add = |field: String, problem: String| found.push(NotThere { field, problem });
        for NamedNode { field, endpoint, .. } in self.chain.nodes() {
            let Some(path) = &endpoint.token_file else { continue };
            if let Err(error) = endpoint.check_token() {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
                add(format!("{field}.token_file"), format!("{error}{cause}"));
            }
            if let Some(problem) = secret::exposed(path) {
                add(format!("{field}.token_file"), problem);
            }
        }
        if let Some(endpoint) = self.chain.messager_endpoint()
            && let Some(path) = &endpoint.token_file
        {
            // Another than the node's, though the client is the same.
            if let Err(error) = endpoint.check_token() {
                add("chain.messager.token_file".to_owned(), chain_of(&error));
            }
            if let Some(problem) = secret::exposed(path) {
                add("chain.messager.token_file".to_owned(), problem);
            }
        }
        for (index, path) in self.chain.key_files.iter().enumerate() {
            if let Err(error) = local_keys::check(path) {
                add(format!("chain.key_files[{index}]"), error.to_string());
            }
        }
        for (index, store) in self.stores.iter().enumerate() {
            let shown = store.path.display();
            let problem = match store.path.metadata() {
                Ok(found) if found.is_dir() => continue,
                // Such as rights that this user does not have: nothing needs to be mounted for that.
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    format!("{shown} cannot be looked at: {error}")
                }
                _ => format!("{shown} is not a directory: make or mount it"),
            };
            add(format!("store[{index}].path"), problem);
        }
        found
    }
}
