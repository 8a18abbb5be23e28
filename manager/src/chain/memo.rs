//! Each question about a tipset is asked once.
//!
//! The chain's state at a tipset never changes, so an answer about it can be kept until nobody needs it any more. The
//! driver looks again whenever anything has changed; with this, a tick at the same head costs the node one call.
//! Concurrent identical questions share one call. Questions that depend on the message pool or the wallet, and
//! questions about "the head", always go to the node.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::Stream;
use serde_json::Value;
use tokio::sync::OnceCell;

use super::{Error, Transport};
use crate::wake::Wake;

/// The methods whose answers depend only on a tipset.
const OF_A_TIPSET: [&str; 12] = [
    "ChainGetTipSetByHeight",
    "StateAccountKey",
    "StateGetActor",
    "StateGetRandomnessFromBeacon",
    "StateGetRandomnessFromTickets",
    "StateLookupID",
    "StateMinerInfo",
    "StateMinerSectorAllocated",
    "StateNetworkVersion",
    "StateSearchMsg",
    "StateSectorGetInfo",
    "StateSectorPreCommitInfo",
];

/// How many answers are kept for one head, about a kilobyte each. Further questions go to the node each time.
const ANSWERS_MAX: usize = 20_000;

/// A transport that remembers answers.
#[derive(Debug)]
pub struct Memo<T> {
    inner: T,
    answers: Mutex<Answers>,
}

#[derive(Debug, Default)]
struct Answers {
    head: Value,
    /// Answers since the present head became the head.
    current: HashMap<Question, Answer>,
    /// Answers from the time of the previous head. Questions about older tipsets may still be the same.
    before: HashMap<Question, Answer>,
}

type Question = (&'static str, String);
type Answer = Arc<OnceCell<Value>>;

impl<T> Memo<T> {
    /// Creates an empty memo.
    pub fn new(inner: T) -> Memo<T> {
        Memo { inner, answers: Mutex::default() }
    }

    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, question: Question) -> Answer {
        let mut answers = self.answers();
        let known = answers.current.get(&question).or_else(|| answers.before.get(&question)).cloned();
        if answers.current.len() >= ANSWERS_MAX {
            return known.unwrap_or_default();
        }
        Arc::clone(answers.current.entry(question).or_insert_with(|| known.unwrap_or_default()))
    }

    fn note_head(&self, head: &Value) {
        let mut answers = self.answers();
        if answers.head != *head {
            answers.head = head.clone();
            answers.before = std::mem::take(&mut answers.current);
        }
    }
}

impl<T: Transport> Transport for Memo<T> {
    async fn call(&self, method: &'static str, params: Value) -> Result<Value, Error> {
        if OF_A_TIPSET.contains(&method) && names_a_tipset(&params) {
            let answer = self.answer((method, params.to_string()));
            return answer.get_or_try_init(|| self.inner.call(method, params)).await.cloned();
        }
        let answer = self.inner.call(method, params).await?;
        if method == "ChainHead" {
            self.note_head(&answer["Cids"]);
        }
        Ok(answer)
    }

    fn everywhere(&self, method: &'static str, params: Value) -> impl Stream<Item = Result<Value, Error>> + Send {
        self.inner.everywhere(method, params)
    }

    async fn permissions(&self) -> Result<Option<Vec<String>>, Error> {
        self.inner.permissions().await
    }

    async fn follow_heads(&self, silence: Duration, noticed: &Wake) -> Infallible {
        self.inner.follow_heads(silence, noticed).await
    }
}

/// Whether one of the parameters is a tipset key, which is a list of CIDs. An empty list means the node's present head.
fn names_a_tipset(params: &Value) -> bool {
    let is_cid = |value: &Value| value.get("/").is_some();
    let mut lists = params.as_array().into_iter().flatten().filter_map(Value::as_array);
    lists.any(|list| !list.is_empty() && list.iter().all(is_cid))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use serde_json::json;

    use super::*;

    /// A double that answers each call with its number.
    #[derive(Default)]
    struct Counting(AtomicU64);

    impl Transport for Counting {
        async fn call(&self, method: &'static str, _: Value) -> Result<Value, Error> {
            tokio::task::yield_now().await;
            match self.0.fetch_add(1, Ordering::SeqCst) {
                0 => Err(Error::refused(method, 1, "not yet")),
                number => Ok(json!({ "Cids": [number] })),
            }
        }
    }

    fn about(cid: &str) -> Value {
        json!(["t01000", 7, [{ "/": cid }]])
    }

    const METHOD: &str = "StateSectorGetInfo";

    #[tokio::test]
    async fn what_was_said_of_a_tipset_is_asked_once_and_what_failed_again() {
        let memo = Memo::new(Counting::default());
        memo.call(METHOD, about("a")).await.expect_err("not yet");
        let (one, other) = futures::future::join(memo.call(METHOD, about("a")), memo.call(METHOD, about("a"))).await;
        assert_eq!((one.expect("answers"), other.expect("answers")), (json!({ "Cids": [1] }), json!({ "Cids": [1] })));
        assert_eq!(memo.call(METHOD, about("b")).await.expect("answers"), json!({ "Cids": [2] }), "of another tipset");
        assert_eq!(memo.call(METHOD, about("a")).await.expect("answers"), json!({ "Cids": [1] }));
        for number in [3, 4] {
            let of_the_head = memo.call(METHOD, json!(["t01000", 7, []])).await.expect("answers");
            assert_eq!(of_the_head, json!({ "Cids": [number] }));
        }
        for number in [5, 6] {
            let estimate = memo.call("GasEstimateMessageGas", about("a")).await.expect("answers");
            assert_eq!(estimate, json!({ "Cids": [number] }), "it depends on the pool");
        }
    }

    #[tokio::test]
    async fn what_nobody_asks_any_more_is_forgotten_after_two_heads() {
        let memo = Memo::new(Counting(AtomicU64::new(1)));
        let ask = async |cid: &str| memo.call(METHOD, about(cid)).await.expect("answers")["Cids"][0].as_u64();
        let first = (ask("a").await, ask("b").await);
        memo.call("ChainHead", json!([])).await.expect("a head");
        assert_eq!(ask("a").await, first.0);
        memo.call("ChainHead", json!([])).await.expect("another head");
        assert_eq!(ask("a").await, first.0, "it was asked in between");
        assert_ne!(ask("b").await, first.1);
    }
}
