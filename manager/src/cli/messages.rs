//! `messages`: what is sent to the chain, what it costs, and what waits to be sent together.

mod show;

use anyhow::bail;
use clap::{Args, Subcommand, ValueEnum};
use sealbus_schema::MinerId;
use serde_json::{Value, json};

use super::{
    ConfigArg,
    fleet::counted,
    known::{insist_on_configured, insist_on_miner},
    person::By,
    print_json, table,
};
use crate::{
    chain::message::SignedMessage,
    errands::outcome,
    store::{AuditEntry, CallFilter, CallRow, Errand, ErrandId, ErrandState, MessageKind, Store},
};

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Messages {
    /// List messages: those that have not ended, or also the others.
    List(List),
    /// Show one message: what it carries, what it may cost, and what sending many sectors together has saved.
    Show(show::Show),
    /// Send what waits for others now.
    Flush(Flush),
    /// Take back what a person or a policy asked for.
    Cancel(Cancel),
}

/// A kind of message that may be sent with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Kind {
    Precommit,
    ProveCommit,
    Filler,
    Errand,
}

impl Kind {
    const fn of(self) -> MessageKind {
        match self {
            Kind::Precommit => MessageKind::PreCommit,
            Kind::ProveCommit => MessageKind::ProveCommit,
            Kind::Filler => MessageKind::Filler,
            Kind::Errand => MessageKind::Errand,
        }
    }
}

/// Which messages to list.
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    config: ConfigArg,
    /// Only messages of this miner.
    #[arg(long)]
    miner: Option<MinerId>,
    /// Only messages of this kind.
    #[arg(long)]
    kind: Option<Kind>,
    /// Also messages that have ended.
    #[arg(long)]
    all: bool,
    /// What was asked for by people and policies instead, also what is not signed yet.
    #[arg(long, conflicts_with = "kind")]
    errands: bool,
    /// At most so many, the newest.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What to send now.
#[derive(Debug, Args)]
pub struct Flush {
    #[command(flatten)]
    config: ConfigArg,
    /// Only messages of this miner.
    #[arg(long)]
    miner: Option<MinerId>,
    /// Only messages of this kind.
    #[arg(long, value_parser = clap::builder::PossibleValuesParser::new(["precommit", "prove_commit"]))]
    kind: Option<String>,
    /// Only show how many wait.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    by: By,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// What to take back.
#[derive(Debug, Args)]
pub struct Cancel {
    #[command(flatten)]
    config: ConfigArg,
    /// The errand's number, as `messages list --errands` shows it.
    errand: i64,
    #[command(flatten)]
    by: By,
}

impl Messages {
    pub(super) async fn run(self) -> anyhow::Result<()> {
        match self {
            Messages::List(list) if list.errands => list.errands().await,
            Messages::List(list) => list.run().await,
            Messages::Show(show) => show.run().await,
            Messages::Flush(flush) => flush.run().await,
            Messages::Cancel(cancel) => cancel.run().await,
        }
    }
}

impl List {
    async fn store(&self) -> anyhow::Result<Store> {
        let config = self.config.load()?;
        let store = Store::open_existing(&config.database).await?;
        if let Some(miner) = self.miner {
            insist_on_miner(miner, &config, &store).await?;
        }
        Ok(store)
    }

    async fn run(self) -> anyhow::Result<()> {
        let store = self.store().await?;
        let kind = self.kind.map(Kind::of);
        let filter = CallFilter { miner: self.miner, kind, ended: self.all, limit: self.limit };
        let calls = store.calls(&filter).await?;
        let mut unsigned = store.unsigned().await?;
        unsigned
            .retain(|of| self.miner.is_none_or(|miner| of.miner == miner) && kind.is_none_or(|kind| of.kind == kind));
        if self.json {
            let unsigned: Vec<_> = unsigned
                .iter()
                .map(|of| json!({ "miner": of.miner, "kind": of.kind.name(), "count": of.count }))
                .collect();
            let calls = calls.iter().map(describe).collect::<anyhow::Result<Vec<_>>>()?;
            return print_json(&json!({ "messages": calls, "not_signed": unsigned }));
        }
        if calls.is_empty() {
            outln!("no message is {}", if self.all { "stored" } else { "on its way" });
        } else {
            let rows = calls.iter().map(row).collect::<anyhow::Result<Vec<_>>>()?;
            table::print(
                &["MESSAGE", "KIND", "MINER", "SECTORS", "STATE", "NONCE", "EPOCH", "MAX FEE FIL", "WHAT"],
                &rows,
            );
        }
        for of in unsigned {
            let count = counted(of.count, "message");
            outln!("{count} of {} of the kind {} not signed yet; `sectors list` says why", of.miner, of.kind.name());
        }
        Ok(())
    }

    async fn errands(self) -> anyhow::Result<()> {
        let store = self.store().await?;
        let mut errands = store.errands(self.all.then_some(self.limit)).await?;
        errands.retain(|errand| self.miner.is_none_or(|miner| errand.asked.miner == miner));
        if self.json {
            return print_json(&errands.iter().map(describe_errand).collect::<Vec<_>>());
        }
        if errands.is_empty() {
            outln!("nothing that was asked for is {}", if self.all { "stored" } else { "on its way" });
            return Ok(());
        }
        let row = |errand: &Errand| {
            let asked = &errand.asked;
            vec![
                errand.id.0.to_string(),
                asked.kind.clone(),
                asked.miner.to_string(),
                errand.state.name().to_owned(),
                errand.epoch.map(|epoch| epoch.to_string()).unwrap_or_default(),
                fil(&asked.value_atto),
                asked.asked_by.clone(),
                outcome::in_words(errand),
            ]
        };
        let headings = ["ERRAND", "WHAT", "MINER", "STATE", "EPOCH", "VALUE FIL", "ASKED BY", "DETAIL"];
        table::print(&headings, &errands.iter().map(row).collect::<Vec<_>>());
        Ok(())
    }
}

impl Flush {
    async fn run(self) -> anyhow::Result<()> {
        let config = self.config.load()?;
        if let Some(miner) = self.miner {
            insist_on_configured(miner, &config)?;
        }
        let store = Store::open_existing(&config.database).await?;
        let kind = self.kind.as_deref().and_then(MessageKind::of_name);
        let is_meant = |of: &&crate::store::Unsigned| {
            self.miner.is_none_or(|miner| of.miner == miner) && kind.is_none_or(|kind| of.kind == kind)
        };
        let waiting: u64 = store.unsigned().await?.iter().filter(is_meant).map(|of| of.count).sum();
        if !self.dry_run {
            let person = self.by.person();
            let mut tx = store.begin_order().await?;
            let hurried = tx.hurry(self.miner, kind).await?;
            let target = self.miner.map_or_else(|| "all miners".to_owned(), |miner| miner.to_string());
            let detail = json!({ "kind": kind.map(MessageKind::name), "messages": hurried });
            tx.add_audit(&AuditEntry::new(&person.name, "messages flush", target, &person.why, detail)).await?;
            tx.commit().await?;
        }
        if self.json {
            return print_json(&json!({ "messages": waiting, "dry_run": self.dry_run }));
        }
        let (count, are) = (counted(waiting, "message"), if waiting == 1 { "is" } else { "are" });
        match self.dry_run {
            true => outln!("{count} {are} not signed yet; nothing was changed"),
            false => outln!(
                "{count} {are} not signed yet, and no longer wait{} for others",
                if waiting == 1 { "s" } else { "" }
            ),
        }
        Ok(())
    }
}

impl Cancel {
    async fn run(self) -> anyhow::Result<()> {
        let store = self.config.store().await?;
        let person = self.by.person();
        let why = if person.why.is_empty() { "taken back by a person" } else { &person.why };
        let mut tx = store.begin_order().await?;
        let before = store.errand(ErrandId(self.errand)).await?;
        let Some(state) = tx.cancel_errand(ErrandId(self.errand), why).await? else {
            bail!("there is no errand {}; `messages list --errands --all` shows all", self.errand);
        };
        if let Some(before) = before.filter(|before| !before.state.is_open()) {
            bail!("errand {} has ended: it is {}", self.errand, before.state.name());
        }
        let (target, detail) = (format!("errand {}", self.errand), json!({ "state": state.name() }));
        tx.add_audit(&AuditEntry::new(&person.name, "messages cancel", target, &person.why, detail)).await?;
        tx.commit().await?;
        match state {
            ErrandState::Cancelled => outln!("errand {} is cancelled; nothing was sent", self.errand),
            _ if self.config.load()?.chain.messager.is_some() => outln!(
                "errand {} is taken back at the messager, unless that has signed it: then it may still land",
                self.errand
            ),
            _ => outln!(
                "errand {} is signed and may still land; something harmless takes its nonce if it does not",
                self.errand
            ),
        }
        Ok(())
    }
}

fn row(call: &CallRow) -> anyhow::Result<Vec<String>> {
    let epoch = call.landed_epoch.or(call.pushed_epoch).or(call.signed_epoch);
    let max_fee = match &call.envelope {
        Some((_, bytes)) => {
            let signed = SignedMessage::from_bytes(bytes)?;
            let sent = signed.message();
            fil(&(sent.gas_fee_cap.clone() * sent.gas_limit).atto().to_string())
        }
        None => String::new(),
    };
    let what = match (&call.error, &call.sectors[..]) {
        (Some(error), _) => error.clone(),
        (None, []) => call.envelope.as_ref().map(|(cid, _)| cid.clone()).unwrap_or_default(),
        (None, [only]) => only.id.to_string(),
        (None, [first, others @ ..]) => format!("{} and {} more", first.id, others.len()),
    };
    Ok(vec![
        call.id.0.to_string(),
        call.kind.name().to_owned(),
        call.miner.to_string(),
        call.sectors.len().to_string(),
        call.state.clone(),
        call.nonce.map_or_else(|| "messager".to_owned(), |nonce| nonce.to_string()),
        epoch.map(|epoch| epoch.to_string()).unwrap_or_default(),
        max_fee,
        what,
    ])
}

fn describe(call: &CallRow) -> anyhow::Result<Value> {
    let sent = call.envelope.as_ref().map(|(_, bytes)| SignedMessage::from_bytes(bytes)).transpose()?;
    let sent = sent.as_ref().map(SignedMessage::message);
    Ok(json!({
        "message": call.id.0, "kind": call.kind.name(), "miner": call.miner, "errand": call.errand,
        "state": call.state, "sender": call.sender, "nonce": call.nonce, "messager_id": call.uid,
        "signed_epoch": call.signed_epoch, "pushed_epoch": call.pushed_epoch, "landed_epoch": call.landed_epoch,
        "exit_code": call.exit_code, "error": call.error,
        "cid": call.envelope.as_ref().map(|(cid, _)| cid), "envelopes": call.envelopes,
        "method": sent.map(|sent| sent.method_num),
        "value_atto": sent.map(|sent| sent.value.atto().to_string()),
        "gas_limit": sent.map(|sent| sent.gas_limit),
        "fee_cap_atto": sent.map(|sent| sent.gas_fee_cap.atto().to_string()),
        "premium_atto": sent.map(|sent| sent.gas_premium.atto().to_string()),
        "sectors": call.sectors.iter().map(|sector| json!({
            "sector": sector.id, "state": sector.state, "error": sector.error,
        })).collect::<Vec<_>>(),
    }))
}

fn describe_errand(errand: &Errand) -> Value {
    let asked = &errand.asked;
    json!({
        "errand": errand.id, "kind": asked.kind, "miner": asked.miner, "state": errand.state,
        "sender": asked.sender, "receiver": asked.receiver, "method": asked.method, "value_atto": asked.value_atto,
        "detail": asked.detail, "asked_by": asked.asked_by, "asked_at": errand.asked_at,
        "epoch": errand.epoch, "exit_code": errand.exit_code, "error": errand.error,
        "returned": errand.returned.as_ref().map(hex::encode),
    })
}

/// An amount in attoFIL as FIL, exactly.
pub(super) fn fil(atto: &str) -> String {
    crate::chain::json::parse_tokens(atto).map_or_else(|_| atto.to_owned(), |amount| amount.to_string())
}
