//! What the toy asks of the chain: a ticket.

mod table;

use sealbus_schema::{
    Randomness,
    parts::Ticket,
    workflows::{
        Input,
        toy::manager::{Answer, State, Toy},
    },
};
use serde_json::{Value, json};

use super::{Driven, Known, Need, Next, Now, Question, Sends};
use crate::{
    chain::randomness::{Domain, ticket_epoch, ticket_expires_epoch},
    store::Job,
};

impl Driven for Toy {
    fn needs(state: &State) -> Option<Need<'_>> {
        matches!(state, State::Drawing).then_some(Need::Answer)
    }

    fn next(_job: &Job, state: &State, now: &Now, known: &Known) -> Result<Next, Question> {
        if !matches!(state, State::Drawing) {
            return Ok(Next::Wait { until: None });
        }
        let epoch = ticket_epoch(now.head);
        let randomness = known.randomness(Question::TicketRandomness { domain: Domain::SealRandomness, epoch })?;
        Ok(Next::Apply(Input::from(Answer::Drawn(Ticket {
            draw: 1,
            randomness: Randomness(randomness),
            epoch,
            expires_epoch: ticket_expires_epoch(epoch),
            head_epoch: now.head,
            epoch_millis: now.epoch_millis,
        }))))
    }

    fn told(answer: &Answer) -> (&'static str, Value) {
        let Answer::Drawn(ticket) = answer;
        ("toy_drawn", json!({ "epoch": ticket.epoch }))
    }
}

/// The toy sends no messages.
impl Sends for Toy {}
