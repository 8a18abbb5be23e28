//! The points at which a manager dies: before and after each call, and after each statement that writes.
//!
//! Statements are heard by what the database library logs about them, so one test at a time may listen.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::{
    fmt::Debug,
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use sealbus_manager::chain::{Error as ChainError, Transport};
use serde_json::Value;
use tokio::sync::Notify;
use tracing::{
    Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context, layer::SubscriberExt};

/// Whether each point is tried also when it is passed again, and both with a manager that dies and with one that lives on.
/// Otherwise every second point is tried the first time, with one of them.
pub fn is_all() -> bool {
    std::env::var_os("SEALBUS_ALL_CASES").is_some()
}

/// The points that a manager has passed, and the one at which it dies.
#[derive(Default)]
pub struct Points {
    passed: Mutex<Vec<String>>,
    dies_at: Option<usize>,
    is_dead: AtomicBool,
    pub died: Notify,
    /// Lets a dead manager live again.
    revived: AtomicBool,
    revive: Notify,
}

impl Points {
    pub fn dying_at(dies_at: Option<usize>) -> Arc<Points> {
        Arc::new(Points { dies_at, ..Points::default() })
    }

    /// The names of the points, in the order in which they were passed.
    pub fn passed(&self) -> Vec<String> {
        self.passed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Passes a point. Returns whether the manager dies there.
    fn pass(&self, name: String) -> bool {
        if self.is_dead.load(Ordering::SeqCst) {
            return false;
        }
        let mut passed = self.passed.lock().unwrap_or_else(PoisonError::into_inner);
        let dies = self.dies_at == Some(passed.len());
        passed.push(name);
        if dies {
            self.is_dead.store(true, Ordering::SeqCst);
            self.died.notify_one();
        }
        dies
    }

    /// Passes a point at which a dead manager hangs, until it is revived.
    pub async fn pass_call(&self, name: String) {
        if self.pass(name) {
            while !self.revived.load(Ordering::SeqCst) {
                self.revive.notified().await;
            }
        }
    }

    /// Lets the dead manager live again.
    pub fn revive(&self) {
        self.revived.store(true, Ordering::SeqCst);
        self.revive.notify_waiters();
    }
}

/// A node, or the messager, whose caller dies before or after a call.
pub struct Dying<T> {
    pub inner: T,
    pub points: Arc<Points>,
}

impl<T: Transport> Transport for Dying<T> {
    async fn call(&self, method: &'static str, params: Value) -> Result<Value, ChainError> {
        self.points.pass_call(format!("before {method}")).await;
        let answer = self.inner.call(method, params).await;
        self.points.pass_call(format!("after {method}")).await;
        answer
    }
}

/// Whether the statements are a manager's, and not those of the test itself.
pub static IS_TICKING: AtomicBool = AtomicBool::new(false);

/// Whose statements are listened to.
static LISTENER: LazyLock<Mutex<Option<Arc<Points>>>> = LazyLock::new(Mutex::default);

pub fn listen(points: Option<Arc<Points>>) {
    *LISTENER.lock().unwrap_or_else(PoisonError::into_inner) = points;
}

/// Hears statements from now on.
pub fn hear_statements() {
    // Another test of this program may have done so.
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Statements));
}

/// Whether a point is within a transaction, where there is no call that could hang.
pub fn is_statement(name: &str) -> bool {
    ["INSERT", "UPDATE", "DELETE"].iter().any(|word| name.contains(word))
}

struct Statements;

impl<S: Subscriber> Layer<S> for Statements {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() != "sqlx::query" || !IS_TICKING.load(Ordering::SeqCst) {
            return;
        }
        let mut text = Summary(String::new());
        event.record(&mut text);
        let words: Vec<&str> = text.0.split_whitespace().take(3).collect();
        if !matches!(words.first(), Some(&("INSERT" | "UPDATE" | "DELETE"))) {
            return;
        }
        let listener = LISTENER.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(points) = listener {
            points.pass(format!("after {}", words.join(" ")));
        }
    }
}

struct Summary(String);

impl Visit for Summary {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "summary" {
            value.clone_into(&mut self.0);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "summary" {
            self.0 = format!("{value:?}");
        }
    }
}
