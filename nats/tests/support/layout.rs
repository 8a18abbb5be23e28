//! nats-server's configuration from the playbook's template, the only list of permissions.

use minijinja::{Environment, context};
use sealbus_schema::IntentKind;

/// The template of `ansible/roles/nats`.
const TEMPLATE: &str = include_str!("../../../ansible/roles/nats/templates/nats.conf.j2");

/// The public keys that may connect.
pub struct Keys<'a> {
    pub manager: &'a str,
    pub operator: &'a str,
    /// The workers' keys, by name.
    pub workers: Vec<(&'a str, String)>,
    /// The miners that all workers seal for, with their sector sizes.
    pub miners: Vec<(&'a str, &'a str)>,
}

/// The configuration of one server. `cluster` is its cluster block; empty without a cluster.
pub fn render(
    listen: &str,
    name: &str,
    store: &str,
    cluster: &str,
    keys: &Keys<'_>,
) -> Result<String, minijinja::Error> {
    let mut environment = Environment::new();
    // As in Ansible.
    environment.set_trim_blocks(true);
    let mut hosts =
        std::collections::BTreeMap::from([("manager".to_owned(), context! { sealbus_nkey => keys.manager })]);
    let miners: Vec<_> = keys.miners.iter().map(|(id, size)| context! { id, sector_size => size }).collect();
    let mut workers = Vec::new();
    for (name, key) in &keys.workers {
        let host = format!("host-of-{name}");
        let variables = context! {
            sealbus_nkey => key,
            sealbus_worker_name => name,
            sealbus_miners => miners,
            sealbus_sector_size => "2KiB",
            sealbus_store => context! { name => "main" },
        };
        hosts.insert(host.clone(), variables);
        workers.push(host);
    }
    environment.render_str(
        TEMPLATE,
        context! {
            ansible_managed => "rendered by a test",
            sealbus_nats_listen => listen,
            sealbus_nats_server_name => name,
            sealbus_nats_store => store,
            sealbus_nats_cluster => cluster,
            sealbus_nats_tls => false,
            // With those that only tests have.
            sealbus_intents => IntentKind::ALL.iter().map(|kind| kind.name()).collect::<Vec<_>>(),
            sealbus_operator_nkey => keys.operator,
            groups => context! { managers => ["manager"], workers },
            hostvars => hosts,
        },
    )
}
