//! The chain nodes: one in `[chain]`, or several in `[[chain.node]]`.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use serde::Deserialize;

use super::Chain;
use crate::chain::{
    Endpoint, Error, Nodes, RpcClient,
    nodes::{Member, NetworkId},
};

/// A `[[chain.node]]` table.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// The name for people. Host and port of the address if it is missing.
    #[serde(default)]
    pub name: Option<String>,
    /// See [`Chain::url`].
    pub url: String,
    /// See [`Chain::token_file`].
    #[serde(default)]
    pub token_file: Option<PathBuf>,
}

/// A configured node.
#[derive(Clone, Debug)]
pub struct NamedNode {
    /// The name for people.
    pub name: String,
    /// The table in the file: `chain`, or `chain.node[0]`.
    pub field: String,
    /// Its address, token and limits.
    pub endpoint: Endpoint,
}

impl Chain {
    /// The configured nodes, in order.
    pub fn nodes(&self) -> Vec<NamedNode> {
        if let Some(url) = &self.url {
            return vec![self.node("chain".to_owned(), None, url, self.token_file.as_ref())];
        }
        let nodes = self.nodes.iter().enumerate();
        nodes
            .map(|(index, node)| {
                self.node(format!("chain.node[{index}]"), node.name.clone(), &node.url, node.token_file.as_ref())
            })
            .collect()
    }

    fn node(&self, field: String, name: Option<String>, url: &str, token_file: Option<&PathBuf>) -> NamedNode {
        let mut endpoint = Endpoint::new(url, token_file.cloned());
        endpoint.timeout = Duration::from_secs(self.timeout_secs);
        endpoint.slow_timeout = Duration::from_secs(self.slow_timeout_secs.max(self.timeout_secs));
        NamedNode { name: name.unwrap_or_else(|| endpoint.host()), field, endpoint }
    }

    /// The client of all configured nodes. Fails if the address or the token of a single node cannot be used; one of
    /// several is left out while its token cannot be read. `network` is the only network whose nodes are used.
    pub fn client(&self, network: Option<NetworkId>) -> Result<Nodes<RpcClient>, Error> {
        let nodes = self.nodes();
        let is_single = nodes.len() == 1;
        let members = nodes.into_iter().map(|NamedNode { name, endpoint, .. }| {
            let transport = if is_single { RpcClient::new(endpoint) } else { RpcClient::with_any_token(endpoint) };
            Ok(Member { name, transport: transport? })
        });
        Ok(Nodes::new(members.collect::<Result<_, Error>>()?, self.confidence_epochs, network))
    }

    /// Checks the nodes. Returns the field and what is wrong with it.
    pub(super) fn check_nodes(&self) -> Result<(), (String, String)> {
        let refuse = |field: &str, problem: &str| Err((field.to_owned(), problem.to_owned()));
        match (&self.url, self.nodes.as_slice()) {
            (None, []) => return refuse("chain.url", "missing: name the chain node, or several as [[chain.node]]"),
            (Some(_), [_, ..]) => return refuse("chain.url", "there are [[chain.node]] as well: make it one of them"),
            (None, [_, ..]) if self.token_file.is_some() => {
                return refuse("chain.token_file", "each [[chain.node]] has its own");
            }
            _ => {}
        }
        let (mut names, mut urls) = (BTreeSet::new(), BTreeSet::new());
        for NamedNode { name, field, endpoint } in self.nodes() {
            if let Err(error) = endpoint.check() {
                return Err((format!("{field}.url"), error.to_string()));
            }
            let is_odd = |c: char| c.is_whitespace() || c.is_control();
            if !(1..=64).contains(&name.chars().count()) || name.contains(is_odd) {
                let problem = format!("{name:?}: a node needs a name of up to 64 characters without spaces");
                return Err((format!("{field}.name"), problem));
            }
            if !urls.insert(endpoint.shown()) {
                return Err((format!("{field}.url"), format!("{} is configured twice", endpoint.shown())));
            }
            if !names.insert(name.clone()) {
                return Err((format!("{field}.name"), format!("`{name}` is configured twice")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    const SEVERAL: &str = r#"
        [[node]]
        name = "lotus"
        url = "http://127.0.0.1:1234"
        token_file = "/etc/sealbus/token"
        [[node]]
        url = "https://forest.example:2345/rpc/v1"
    "#;

    fn chain(text: &str) -> Chain {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn one_node_or_several_are_named_each_with_its_table() {
        let named = |text: &str| {
            let nodes = chain(text).nodes().into_iter();
            nodes.map(|node| [node.name, node.field, node.endpoint.shown()]).collect::<Vec<_>>()
        };
        assert_eq!(named("url = \"http://a:1234\""), [["a:1234", "chain", "http://a:1234/rpc/v1"]]);
        let [lotus, forest] = [
            ["lotus", "chain.node[0]", "http://127.0.0.1:1234/rpc/v1"],
            ["forest.example:2345", "chain.node[1]", "https://forest.example:2345/rpc/v1"],
        ];
        assert_eq!(named(SEVERAL), [lotus, forest]);
        assert_eq!(chain(SEVERAL).check_nodes(), Ok(()));
    }

    #[test]
    fn limits_are_shared_and_tokens_are_not() {
        let nodes = chain(&format!("timeout_secs = 7\n{SEVERAL}")).nodes();
        assert!(nodes.iter().all(|node| node.endpoint.timeout == Duration::from_secs(7)));
        assert!(nodes[0].endpoint.token_file.is_some() && nodes[1].endpoint.token_file.is_none());
    }

    #[test]
    fn nodes_that_are_missing_or_cannot_be_told_apart_are_refused_by_field() {
        for (from, to, field) in [
            ("[[node]]\n        name", "url = \"http://a\"\n[[node]]\nname", "chain.url"),
            ("[[node]]\n        name", "token_file = \"/a\"\n[[node]]\nname", "chain.token_file"),
            ("https://forest.example:2345/rpc/v1", "http://127.0.0.1:1234/rpc/v1/", "chain.node[1].url"),
            ("https://forest.example:2345/rpc/v1", "ws://forest.example", "chain.node[1].url"),
            ("\"lotus\"", "\"forest.example:2345\"", "chain.node[1].name"),
            ("\"lotus\"", "\"a b\"", "chain.node[0].name"),
        ] {
            let (named, problem) = chain(&SEVERAL.replace(from, to)).check_nodes().unwrap_err();
            assert_eq!(named, field, "{problem}");
        }
        assert_eq!(chain("").check_nodes().unwrap_err().0, "chain.url");
    }
}
