//! `decode`: one message of the bus as JSON.

use std::io::Read;

use anyhow::{Context, bail};
use clap::Args;
use sealbus_nats::subject::Subject;
use sealbus_schema::{
    codec,
    message::{Event, Fact, Heartbeat, Intent, LeaseRecord, Orders},
    post::{PostReport, PostTask, Vanilla},
};
use serde_json::{Value, json};

/// Decodes a message from stdin.
#[derive(Debug, Args)]
pub struct Decode {
    /// The message's subject, which determines its type; without it the type is guessed from the content.
    #[arg(long)]
    subject: Option<String>,
    /// Accepted for uniformity; the output is always JSON.
    #[arg(long)]
    json: bool,
}

impl Decode {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let mut bytes = Vec::new();
        let limit = codec::MAX_MESSAGE_BYTES as u64 + 1;
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes).context("cannot read stdin")?;
        let value = match &self.subject {
            Some(subject) => by_subject(subject, &bytes)?,
            None => guess(&bytes)?,
        };
        super::print_json(&value)
    }
}

fn by_subject(subject: &str, bytes: &[u8]) -> anyhow::Result<Value> {
    let value = match subject.parse::<Subject>()? {
        Subject::Intent { .. } => codec::decode::<Intent>(bytes).map(|m| json!(m)),
        Subject::Lease { .. } => codec::decode::<LeaseRecord>(bytes).map(|m| json!(m)),
        Subject::Event { .. } => codec::decode::<Event>(bytes).map(|m| json!(m)),
        Subject::Fact { .. } => codec::decode::<Fact>(bytes).map(|m| json!(m)),
        Subject::Heartbeat { .. } => codec::decode::<Heartbeat>(bytes).map(|m| json!(m)),
        Subject::Orders { .. } => codec::decode::<Orders>(bytes).map(|m| json!(m)),
        Subject::PostRead { .. } | Subject::PostProve { .. } => codec::decode::<PostTask>(bytes).map(|m| json!(m)),
        Subject::Vanilla { .. } => codec::decode::<Vanilla>(bytes).map(|m| json!(m)),
        // That it is there says everything.
        Subject::PostDue { .. } => Ok(json!({})),
        Subject::PostReport { .. } => codec::decode::<PostReport>(bytes).map(|m| json!(m)),
    };
    value.with_context(|| format!("this is not a message of {subject}"))
}

/// No two message types have the same fields, except for fields that a newer version adds.
fn guess(bytes: &[u8]) -> anyhow::Result<Value> {
    if let Ok(event) = codec::decode::<Event>(bytes) {
        return Ok(json!(event));
    }
    if let Ok(heartbeat) = codec::decode::<Heartbeat>(bytes) {
        return Ok(json!(heartbeat));
    }
    if let Ok(intent) = codec::decode::<Intent>(bytes) {
        return Ok(json!(intent));
    }
    if let Ok(orders) = codec::decode::<Orders>(bytes) {
        return Ok(json!(orders));
    }
    match (codec::decode::<PostTask>(bytes), codec::decode::<PostReport>(bytes), codec::decode::<Vanilla>(bytes)) {
        (Ok(task), ..) if task != PostTask::Unknown => return Ok(json!(task)),
        (_, Ok(report), _) if report != PostReport::Unknown => return Ok(json!(report)),
        (_, _, Ok(vanilla)) => return Ok(json!(vanilla)),
        _ => {}
    }
    match (codec::decode::<LeaseRecord>(bytes), codec::decode::<Fact>(bytes)) {
        (Ok(LeaseRecord::Unknown) | Err(_), Ok(fact)) if fact.kind().is_some() => Ok(json!(fact)),
        (Ok(record), _) if record != LeaseRecord::Unknown => Ok(json!(record)),
        (Ok(_), _) | (_, Ok(_)) => Ok(json!({ "kind": "unknown" })),
        (Err(error), Err(_)) => match bytes.len() {
            0 => bail!("nothing came on stdin: pipe one message into this command"),
            n => Err(error).with_context(|| format!("these {n} bytes are not a message of Sealbus")),
        },
    }
}

#[cfg(test)]
mod tests {
    use sealbus_schema::{Token, message::EventBody, workflows::seal};

    use super::*;

    #[test]
    fn a_message_is_recognised_with_and_without_its_subject() {
        let event = Event { token: Token(3), number: 1, body: EventBody::Seal(seal::Event::Pc1Done {}) };
        let bytes = codec::encode(&event).expect("packs");
        let by_name = by_subject("seal.sector.f01000.1.ev.w", &bytes).expect("decodes");
        assert_eq!(by_name, guess(&bytes).expect("decodes"));
        assert_eq!(by_name["body"]["kind"], "pc1_done");

        let release = codec::encode(&LeaseRecord::Release { reason: "x".into() }).expect("packs");
        assert_eq!(guess(&release).expect("decodes")["kind"], "release");
        let fact = codec::encode(&Fact::new(Token(3), 0, seal::Fact::PersistChecked {})).expect("packs");
        assert_eq!(guess(&fact).expect("decodes")["kind"], "persist_checked");
    }

    #[test]
    fn rubbish_is_refused_in_words() {
        assert!(guess(b"").expect_err("empty").to_string().contains("stdin"));
        assert!(guess(b"hello").expect_err("text").to_string().contains("5 bytes"));
        assert!(by_subject("foo.bar", b"").expect_err("subject").to_string().contains("foo.bar"));
    }
}
