//! Errands on the command line: what a message would do and cost, and asking for it.
//!
//! Nothing is sent here. A running manager sends what was asked for.

use anyhow::{Context, bail};
use clap::Args;
use fvm_shared::{address::Address, econ::TokenAmount};
use sealbus_schema::MinerId;
use serde_json::{Value, json};

use super::{
    ConfigArg,
    known::insist_on_configured,
    person::{By, confirm},
    print_json, table,
};
use crate::{
    chain::{
        Error as ChainError, Messager, NodeClient, Nodes, RpcClient,
        fees::Gas,
        json as wire,
        local_keys::LocalKeys,
        network,
        types::{MinerInfo, TipSet},
    },
    config::{Chain, Config},
    drive::{address, chain_of},
    errands::{
        Draft,
        desk::{Counter, Desk},
        fil::shown,
        keys::Account,
    },
    preflight,
    store::{MessageKind, Store},
};

/// How an errand is asked for.
#[derive(Debug, Args)]
pub struct Asking {
    #[command(flatten)]
    config: ConfigArg,
    /// Only show what would be sent, what it costs, and what follows.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask for confirmation.
    #[arg(long, short)]
    yes: bool,
    #[command(flatten)]
    by: By,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The configuration, the database and the chain.
pub struct Site {
    /// The configuration.
    pub config: Config,
    /// The database.
    pub store: Store,
    /// The chain node, or several as one. Nodes of another network are not used.
    pub node: NodeClient<Nodes<RpcClient>>,
    /// The head from which everything is read.
    pub head: TipSet,
    keys: LocalKeys,
    messager: Option<Messager>,
}

/// A draft with what sending it takes.
struct Priced {
    draft: Draft,
    /// The sender's key. `None` if it has none.
    key: Option<Address>,
    gas: Option<Gas>,
    /// What the gas costs at the present base fee, in attoFIL.
    fee: Option<TokenAmount>,
    /// Why it cannot be sent, and what to do about it.
    problems: Vec<String>,
}

impl Site {
    /// Reads the configuration, opens the database, and looks at the chain.
    pub async fn open(config: &ConfigArg) -> anyhow::Result<Site> {
        let (config, store) = (config.load()?, config.store().await?);
        let node = NodeClient::new(config.chain.client(store.network().await?)?);
        let head = node.chain_head().await.context("cannot look at the chain")?;
        network::check_supported(node.network_version(&head.key).await?)?;
        let (keys, messager) = (config.chain.local_keys(), config.chain.messager_client()?);
        Ok(Site { config, store, node, head, keys, messager })
    }

    /// A configured miner, as it is on chain.
    pub async fn miner(&self, miner: MinerId) -> anyhow::Result<MinerInfo> {
        insist_on_configured(miner, &self.config)?;
        match self.node.miner_info(&address(miner), &self.head.key).await {
            Err(error @ ChainError::Refused { .. }) => {
                let network = self.node.network_name().await?;
                Err(error).with_context(|| format!("miner: the chain {network} has no miner {miner}"))
            }
            answer => Ok(answer?),
        }
    }

    /// The address that sends a miner's messages.
    pub async fn sender(&self, miner: MinerId, info: &MinerInfo) -> anyhow::Result<Address> {
        let configured = self.config.miner(miner);
        let senders = preflight::senders(&self.node, configured, MessageKind::Errand, info, &self.head.key).await??;
        Ok(senders.first().copied().unwrap_or(info.worker))
    }

    /// An account that a person named.
    pub async fn account(&self, field: &str, text: &str) -> anyhow::Result<Account> {
        let (named, _) =
            wire::parse_address(text).with_context(|| format!("{field}: `{text}` is not an address, such as f3…"))?;
        let id = match self.node.lookup_id(&named, &self.head.key).await {
            Err(error) if error.is_actor_not_found() => {
                return Err(error).with_context(|| {
                    format!("{field}: {named} is not on chain yet: send it some FIL first, however little")
                });
            }
            answer => answer?,
        };
        let key = self.node.account_key(&id, &self.head.key).await;
        let key = key.with_context(|| format!("{field}: {named} is not an account with a key"))?;
        Ok(Account { id, key })
    }

    /// The ID address of whatever a person named: an account, a multisig, …
    pub async fn actor(&self, field: &str, text: &str) -> anyhow::Result<Address> {
        let (named, _) =
            wire::parse_address(text).with_context(|| format!("{field}: `{text}` is not an address, such as f3…"))?;
        let id = self.node.lookup_id(&named, &self.head.key).await;
        id.with_context(|| format!("{field}: {named} is not on chain"))
    }

    /// Whether somebody here can sign for a key. If not, what is missing.
    pub async fn signs_for(&self, key: &Address) -> Result<(), String> {
        if let Some(messager) = &self.messager {
            let network = self.node.network().await.map_err(|error| chain_of(&error))?;
            let missing = preflight::lacks_sender(messager, key, network, "send it").await;
            return missing.map_or(Ok(()), |cause| Err(cause.text));
        }
        if self.keys.has(key).await {
            return Ok(());
        }
        match self.node.wallet_has(key).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                Err(format!("no file of chain.key_files has the key of {key}, and the node's wallet lacks it"))
            }
            Err(error) => Err(format!(
                "no file of chain.key_files has the key of {key}, and the node's wallet cannot be asked: {}",
                chain_of(&error)
            )),
        }
    }

    async fn price(&self, draft: Draft) -> anyhow::Result<Priced> {
        let mut priced = Priced { draft, key: None, gas: None, fee: None, problems: Vec::new() };
        let sender = priced.draft.sender;
        let key = match self.node.account_key(&sender, &self.head.key).await {
            Ok(key) => key,
            Err(error @ ChainError::Refused { .. }) => {
                priced.problems.push(format!(
                    "the {} {sender} is not an account with a key, perhaps a multisig: let it send this message itself \
                     (--json has receiver, method and parameters) ({})",
                    priced.draft.role.words(),
                    chain_of(&error)
                ));
                return Ok(priced);
            }
            Err(error) => return Err(error.into()),
        };
        priced.key = Some(key);
        if let Err(missing) = self.signs_for(&key).await {
            priced.problems.push(missing);
        }
        let message = priced.draft.message(key);
        match self.node.gas_estimate(&message, &self.head.key).await {
            Ok(gas) => self.judge_costs(&mut priced, &key, gas).await?,
            Err(error) if error.exit_code().is_some() || error.is_not_enough_funds() || error.is_sender_unknown() => {
                priced.problems.push(format!("the chain refuses it: {}", chain_of(&error)));
            }
            Err(error) => return Err(error).context("the node cannot estimate the message"),
        }
        Ok(priced)
    }

    async fn judge_costs(&self, priced: &mut Priced, key: &Address, gas: Gas) -> anyhow::Result<()> {
        let actor = self.node.get_actor(key, &self.head.key).await?;
        let balance = actor.map(|actor| actor.balance).unwrap_or_default();
        let needed = priced.draft.value.clone() + gas.fee_max();
        if balance < needed {
            priced.problems.push(format!(
                "{key} has {} FIL, and value and fee may come to {} FIL: send it {} FIL",
                shown(&balance),
                shown(&needed),
                shown(&(needed.clone() - &balance))
            ));
        }
        let base_fee = self.head.base_fee().cloned().unwrap_or_default();
        priced.fee = Some((base_fee + &gas.premium).min(gas.fee_cap.clone()) * gas.limit);
        priced.gas = Some(gas);
        Ok(())
    }
}

impl Asking {
    /// Where errands are asked for.
    pub async fn site(&self) -> anyhow::Result<Site> {
        Site::open(&self.config).await
    }

    /// Whether the outcome is printed as JSON.
    pub const fn json(&self) -> bool {
        self.json
    }

    /// Shows what the messages do and cost. Asks for them, unless only that was wanted, or one cannot be sent. `notes` are
    /// printed for people and are part of the JSON.
    pub async fn carry_out(self, site: &Site, verb: &str, drafts: Vec<Draft>, notes: Value) -> anyhow::Result<()> {
        let mut priced = Vec::with_capacity(drafts.len());
        for draft in drafts {
            priced.push(site.price(draft).await?);
        }
        let problems: Vec<&String> = priced.iter().flat_map(|priced| &priced.problems).collect();
        let is_shown_only = self.dry_run || priced.is_empty() || !problems.is_empty();
        let mut json = json!({
            "epoch": site.head.height,
            "errands": priced.iter().map(|priced| priced.json(&site.config.chain)).collect::<Vec<_>>(),
            "notes": notes,
        });
        match (self.json, priced.is_empty()) {
            (true, _) if is_shown_only => print_json(&json)?,
            (true, _) => {}
            (false, true) => outln!("nothing is left to send"),
            (false, false) => show(&priced, &site.config.chain),
        }
        if !problems.is_empty() {
            for problem in &problems {
                errln!("{problem}");
            }
            bail!("nothing was ordered, because {} cannot be sent", messages(problems.len()));
        }
        if is_shown_only {
            if !self.json {
                outln!("nothing was ordered");
            }
            return Ok(());
        }
        if !confirm(&format!("`{verb}`: send {}?", messages(priced.len())), self.yes)? {
            return Ok(());
        }
        let drafts: Vec<Draft> = priced.into_iter().map(|priced| priced.draft).collect();
        let counter = Counter { store: &site.store, epoch: None };
        let ids = counter.ask(verb, &self.by.person(), &drafts).await?;
        if self.json {
            for (at, id) in ids.iter().enumerate() {
                json["errands"][at]["errand"] = json!(id);
            }
            return print_json(&json);
        }
        for (id, draft) in ids.iter().zip(&drafts) {
            outln!("errand {}: {}", id.0, draft.what);
        }
        outln!(
            "  a running manager sends it; `sealbus-manager messages list --errands --all` shows what becomes of it"
        );
        Ok(())
    }
}

impl Priced {
    fn json(&self, chain: &Chain) -> Value {
        let Draft { miner, kind, role, sender, receiver, method, params, value, what, follows, detail } = &self.draft;
        json!({
            "kind": kind, "miner": miner, "what": what, "follows": follows, "detail": detail,
            "role": role, "sender": sender.to_string(), "key": self.key.map(|key| key.to_string()),
            "receiver": receiver.to_string(), "method": method, "params": hex::encode(params.bytes()),
            "value_atto": value.atto().to_string(), "gas_limit": self.gas.as_ref().map(|gas| gas.limit),
            "fee_atto": self.fee.as_ref().map(|fee| fee.atto().to_string()),
            "fee_max_atto": self.gas.as_ref().map(|gas| gas.fee_max().atto().to_string()),
            "fee_limit_atto": chain.max_fee_atto,
            "problems": self.problems,
        })
    }
}

fn show(priced: &[Priced], chain: &Chain) {
    let amount = |amount: Option<&TokenAmount>| amount.map_or("?".to_owned(), shown);
    let row = |priced: &Priced| {
        let draft = &priced.draft;
        let key = priced.key.map_or(String::new(), |key| format!(" {}", shortened(&key.to_string())));
        vec![
            draft.what.clone(),
            format!("{} {}{key}", draft.role.words(), draft.sender),
            shown(&draft.value),
            amount(priced.fee.as_ref()),
            draft.follows.clone(),
        ]
    };
    let rows: Vec<Vec<String>> = priced.iter().map(row).collect();
    table::print(&["WHAT", "SENDER", "VALUE (FIL)", "GAS FEE (FIL)", "WHAT FOLLOWS"], &rows);
    if priced.len() > 1 {
        let value: TokenAmount = priced.iter().map(|priced| priced.draft.value.clone()).sum();
        let fee: TokenAmount = priced.iter().filter_map(|priced| priced.fee.clone()).sum();
        outln!("together: value {} FIL, gas fees {} FIL", shown(&value), shown(&fee));
    }
    let limit = wire::parse_tokens(&chain.max_fee_atto).unwrap_or_default();
    if priced.iter().filter_map(|priced| priced.fee.as_ref()).any(|fee| *fee > limit) {
        errln!("note: a fee is above chain.max_fee_atto = {}: the message waits until it is lower", chain.max_fee_atto);
    }
}

/// A key's beginning and end, enough to compare it.
fn shortened(key: &str) -> String {
    match (key.get(..8), key.get(key.len().saturating_sub(6)..)) {
        (Some(start), Some(end)) if key.len() > 20 => format!("{start}…{end}"),
        _ => key.to_owned(),
    }
}

fn messages(count: usize) -> String {
    if count == 1 { "1 message".to_owned() } else { format!("{count} messages") }
}
