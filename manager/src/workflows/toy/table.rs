//! The table `toy_jobs`.

use sealbus_schema::workflows::toy::manager::{Measured, State, Toy};

use crate::store::{Columns, Existing, InJson, Statement, StoreError, Table};

impl Table for Toy {
    const COLUMNS: &'static [&'static str] = &["ticket", "bytes", "cause", "for_good"];

    const SHARED: InJson =
        InJson { store: None, prove_by: None, expires: Some(("ticket", "expires_epoch")), safe: None };

    fn bind<'q>(state: &'q State, row: Statement<'q>) -> Statement<'q> {
        let (cause, for_good) = match state {
            State::Leaving { cause, for_good } => (Some(cause), Some(i64::from(*for_good))),
            State::GivenUp { cause } => (Some(cause), None),
            _ => (None, None),
        };
        row.json(state.ticket().as_ref()).bind(state.bytes().map(|bytes| bytes as i64)).json(cause).bind(for_good)
    }

    fn read(name: &str, row: &Columns<'_>) -> Result<State, StoreError> {
        let measured =
            || Ok::<_, StoreError>(Measured { ticket: row.json("ticket")?, bytes: row.get::<i64>("bytes")? as u64 });
        Ok(match name {
            "toy_queued" => State::Queued,
            "toy_staging" => State::Staging,
            "toy_drawing" => State::Drawing,
            "toy_measuring" => State::Measuring(row.json("ticket")?),
            "toy_cleaning" => State::Cleaning(measured()?),
            "toy_done" => State::Done(measured()?),
            "toy_leaving" => State::Leaving { cause: row.json("cause")?, for_good: row.get::<i64>("for_good")? == 1 },
            "toy_given_up" => State::GivenUp { cause: row.json("cause")? },
            _ => return Err(row.bad(format!("unknown state {name}"))),
        })
    }

    fn leaves(_state: &State) -> Option<Existing> {
        None
    }
}
