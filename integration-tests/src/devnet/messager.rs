//! A stand-in for Venus' messager, on the devnet's pool.
//!
//! Ids, states, error texts and what happens to a message at each head are those of sophon-messager at 8254efe
//! (`service/message_service.go`, `message_selector.go`, `message_state_refresh.go`, `models/sqlite/message.go`). Of its
//! methods there are the ones that the manager calls. Nothing happens by itself: the test says when a head is looked at.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use fvm_shared::{address::Address, econ::TokenAmount, message::Message};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use super::{
    message::{SignedMessage, equal_call},
    node::Node,
    rpc::{
        form, gas,
        params::{Params, parse_amount},
    },
    server::Devnet,
};

/// The only token that it takes.
pub const TOKEN: &str = "a-user-of-the-messager";

/// A message's state (`MessageState` of venus-shared).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// `UnFillMsg`.
    Unfilled = 1,
    /// `FillMsg`.
    Filled = 2,
    /// `OnChainMsg`.
    OnChain = 3,
    /// `FailedMsg`.
    Failed = 4,
    /// `NonceConflictMsg`: another message with its nonce is on chain.
    NonceConflict = 5,
}

/// What is wrong with it. Everything is off at first.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// It answers nothing.
    pub away: bool,
    /// So many calls of this method take effect, and their answers are lost.
    pub lost_answers: Option<(String, u32)>,
    /// It fills no message.
    pub stuck: bool,
    /// Why no message can be filled.
    pub filling_fails: Option<String>,
    /// The senders that the token's user may not use.
    pub unknown_senders: BTreeSet<Address>,
}

#[derive(Clone, Debug)]
struct Row {
    message: Message,
    max_fee: TokenAmount,
    signed: Option<SignedMessage>,
    stage: Stage,
    error: String,
}

#[derive(Debug, Default)]
struct Rows {
    rows: BTreeMap<String, Row>,
    /// The ids in the order in which they came.
    order: Vec<String>,
    nonces: BTreeMap<Address, u64>,
    faults: Faults,
    pushes: u32,
}

/// A messager that serves RPC. It stops when it is dropped.
pub struct Messager {
    devnet: Devnet,
    rows: Arc<Mutex<Rows>>,
    address: SocketAddr,
    serving: JoinHandle<()>,
}

#[derive(Clone)]
struct Service {
    devnet: Devnet,
    rows: Arc<Mutex<Rows>>,
}

impl Drop for Messager {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Messager {
    /// Serves on a free loopback port.
    pub async fn start(devnet: &Devnet) -> std::io::Result<Messager> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let (address, rows) = (listener.local_addr()?, Arc::default());
        let service = Service { devnet: devnet.clone(), rows: Arc::clone(&rows) };
        let router = Router::new().route("/rpc/v0", post(answer)).with_state(service);
        let serving = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the messager stopped");
            }
        });
        Ok(Messager { devnet: devnet.clone(), rows, address, serving })
    }

    /// Its address, as damocles' configuration has it.
    pub fn url(&self) -> String {
        format!("/ip4/{}/tcp/{}", self.address.ip(), self.address.port())
    }

    /// Changes what is wrong with it.
    pub fn faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut lock(&self.rows).faults);
    }

    /// The ids with their stages, in the order in which they came.
    pub fn stages(&self) -> Vec<(String, Stage)> {
        let rows = lock(&self.rows);
        rows.order.iter().filter_map(|id| Some((id.clone(), rows.rows.get(id)?.stage))).collect()
    }

    /// What it has signed for an id.
    pub fn signed(&self, id: &str) -> Option<SignedMessage> {
        lock(&self.rows).rows.get(id)?.signed.clone()
    }

    /// How often a message was handed over, repetitions included.
    pub fn pushes(&self) -> u32 {
        lock(&self.rows).pushes
    }

    /// A person marks a message as bad; or (`None`) a database of before is restored, which does not have it.
    pub fn set_stage(&self, id: &str, stage: Option<Stage>) {
        let mut rows = lock(&self.rows);
        match stage {
            Some(stage) => {
                if let Some(row) = rows.rows.get_mut(id) {
                    row.stage = stage;
                }
            }
            None => drop(rows.rows.remove(id)),
        }
    }

    /// `ReplaceMessage` with `auto`: signs the same call with the same nonce for a higher premium.
    pub fn replace(&self, id: &str, premium: TokenAmount) {
        let mut rows = lock(&self.rows);
        let Some(row) = rows.rows.get_mut(id).filter(|row| row.stage == Stage::Filled) else { return };
        let Some(signed) = &row.signed else { return };
        let mut message = signed.message.clone();
        message.gas_fee_cap = message.gas_fee_cap.max(premium.clone());
        message.gas_premium = premium;
        let replaced = self.devnet.with_node(|node| {
            let signed = node.wallet.sign_message(&message.from, message.clone()).ok()?;
            node.push(signed.clone()).ok().map(|_| signed)
        });
        if replaced.is_some() {
            (row.signed, row.message) = (replaced, message);
        }
    }

    /// Looks at the head: sees what has landed, pushes again what has not, and fills what is new.
    pub fn look(&self) {
        let mut rows = lock(&self.rows);
        self.devnet.with_node(|node| {
            for row in rows.rows.values_mut() {
                refresh(node, row);
            }
            if !rows.faults.stuck && !rows.faults.away {
                fill(node, &mut rows);
            }
        });
    }
}

/// Compares a message with the chain. One that is signed, and neither landed nor marked bad, is pushed again.
fn refresh(node: &mut Node, row: &mut Row) {
    let Some(signed) = row.signed.as_ref().filter(|_| !matches!(row.stage, Stage::Failed | Stage::Unfilled)) else {
        return;
    };
    let sent = &signed.message;
    let used = node.latest().ok().and_then(|view| view.actor(&sent.from).ok().map(|(_, actor)| actor.nonce));
    if used.is_none_or(|next| next <= sent.sequence) {
        row.stage = Stage::Filled;
        // It may be there already.
        let _ = node.push(signed.clone());
        return;
    }
    let landed = on_chain(node, sent);
    row.stage = if landed.as_ref() == Some(sent) { Stage::OnChain } else { Stage::NonceConflict };
}

/// The message on chain with another one's sender and nonce.
fn on_chain(node: &Node, sent: &Message) -> Option<Message> {
    let mut tipset = node.chain.head().clone();
    loop {
        let found = tipset.messages.iter().map(|(_, signed)| &signed.message);
        let mut found = found.filter(|message| message.from == sent.from && message.sequence == sent.sequence);
        if let Some(message) = found.next() {
            return Some(message.clone());
        }
        tipset = node.chain.parent(&tipset).ok()??.clone();
    }
}

fn fill(node: &mut Node, rows: &mut Rows) {
    for id in rows.order.clone() {
        let Some(row) = rows.rows.get_mut(&id).filter(|row| row.stage == Stage::Unfilled) else { continue };
        let from = row.message.from;
        let Ok(on_chain) = node.next_nonce(&from) else { continue };
        let nonce = rows.nonces.entry(from).and_modify(|nonce| *nonce = on_chain.max(*nonce)).or_insert(on_chain);
        match signed_as(node, row, *nonce, rows.faults.filling_fails.as_deref()) {
            Ok(signed) => {
                *nonce += 1;
                (row.stage, row.message) = (Stage::Filled, signed.message.clone());
                row.error.clear();
                let _ = node.push(signed.clone());
                row.signed = Some(signed);
            }
            Err(error) => row.error = error,
        }
    }
}

fn signed_as(node: &mut Node, row: &Row, nonce: u64, fails: Option<&str>) -> Result<SignedMessage, String> {
    if let Some(error) = fails {
        return Err(error.to_owned());
    }
    let mut message = gas::estimate(node, row.message.clone(), row.max_fee.clone(), None)
        .map_err(|error| format!("gas estimate: estimating gas limit: {}", error.message))?;
    message.sequence = nonce;
    node.wallet.sign_message(&message.from.clone(), message).map_err(|error| format!("sign message failed: {error}"))
}

async fn answer(State(service): State<Service>, headers: HeaderMap, body: Bytes) -> Response {
    if lock(&service.rows).faults.away {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if token != Some(&format!("Bearer {TOKEN}")) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let Ok(request) = serde_json::from_slice::<Value>(&body) else { return StatusCode::BAD_REQUEST.into_response() };
    let method = request["method"].as_str().unwrap_or_default().to_owned();
    let outcome = call(&service, &method, &request["params"]);
    let mut rows = lock(&service.rows);
    if let Some((of, left)) = &mut rows.faults.lost_answers
        && method == format!("Message.{of}")
        && *left > 0
    {
        *left -= 1;
        return StatusCode::BAD_GATEWAY.into_response();
    }
    let id = &request["id"];
    axum::Json(match outcome {
        Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
        Err(message) => json!({ "jsonrpc": "2.0", "id": id, "error": { "code": 1, "message": message } }),
    })
    .into_response()
}

fn call(service: &Service, method: &str, params: &Value) -> Result<Value, String> {
    let id = params[0].as_str().unwrap_or_default();
    let count = if method == "Message.PushMessageWithId" { 3 } else { 1 };
    let params = Params::new(method, count, Some(params)).map_err(|error| error.message)?;
    match method {
        "Message.HasMessageByUid" => Ok(json!(lock(&service.rows).rows.contains_key(id))),
        "Message.GetMessageByUid" => {
            let rows = lock(&service.rows);
            let row = rows.rows.get(id).ok_or("get message by id error: record not found")?;
            described(id, row)
        }
        "Message.MarkBadMessage" => {
            let mut rows = lock(&service.rows);
            rows.rows.get_mut(id).ok_or("get message by id error: record not found")?.stage = Stage::Failed;
            Ok(Value::Null)
        }
        "Message.WalletHas" => {
            let address = params.address(0).map_err(|error| error.message)?;
            check_sender(service, &address)?;
            Ok(json!(service.devnet.with_node(|node| node.wallet.has(&address))))
        }
        "Message.PushMessageWithId" => push(service, id, &params),
        other => Err(format!("method '{other}' not found")),
    }
}

fn check_sender(service: &Service, sender: &Address) -> Result<(), String> {
    match lock(&service.rows).faults.unknown_senders.contains(sender) {
        true => Err(format!("signer {sender} not exist in user sealbus: permission deny")),
        false => Ok(()),
    }
}

fn push(service: &Service, id: &str, params: &Params<'_>) -> Result<Value, String> {
    let (message, spec) = (params.message(1).map_err(|error| error.message)?, params.value(2));
    check_sender(service, &message.from)?;
    if !service.devnet.with_node(|node| node.wallet.has(&message.from)) {
        return Err(format!("signer address {} not exists", message.from));
    }
    let max_fee = parse_amount(spec["maxFee"].as_str().unwrap_or_default())?;
    let mut rows = lock(&service.rows);
    rows.pushes += 1;
    if rows.rows.contains_key(id) {
        return Err("UNIQUE constraint failed: messages.id".to_owned());
    }
    let row = Row { message, max_fee, signed: None, stage: Stage::Unfilled, error: String::new() };
    rows.rows.insert(id.to_owned(), row);
    if !rows.order.iter().any(|known| known == id) {
        rows.order.push(id.to_owned());
    }
    Ok(json!(id))
}

fn described(id: &str, row: &Row) -> Result<Value, String> {
    let mut value = form::message(&row.message).map_err(|error| error.to_string())?;
    let signed = row.signed.as_ref();
    let cid = signed.map(SignedMessage::cid).transpose().map_err(|error| error.to_string())?;
    debug_assert!(signed.is_none_or(|signed| equal_call(&signed.message, &row.message)));
    value["ID"] = json!(id);
    value["SignedCid"] = form::optional_cid(cid.as_ref());
    value["Signature"] = signed.map_or(Value::Null, |signed| form::signature(&signed.signature));
    value["State"] = json!(row.stage as u8);
    value["ErrorMsg"] = json!(row.error);
    Ok(value)
}

fn lock(rows: &Mutex<Rows>) -> MutexGuard<'_, Rows> {
    rows.lock().unwrap_or_else(PoisonError::into_inner)
}
