//! The workflows' tables, which hold the data of their states. What all workflows have in common is in the table `jobs`.
//!
//! Workflow `w` has the table `w_jobs` with the columns `job`, `state` and those that its `table.rs` names. A row holds
//! the data of the job's state and nothing else; the table's CHECKs ensure that.

use std::{fmt::Write, str::FromStr};

use sealbus_schema::{
    SectorId, Workflow, for_each_workflow,
    machine::manager::Machine,
    workflows::{self, State},
};
use serde::de::DeserializeOwned;
use sqlx::{Any, Decode, Row, Type, ValueRef, any::AnyRow};

use super::{Existing, StoreError, rows::Places, statements::Statement};

/// What each workflow must say about its table.
pub(crate) trait Table: Machine {
    /// The columns after `job` and `state`.
    const COLUMNS: &'static [&'static str];

    /// Where a row says what its job may share with others: by this, jobs are grouped and sorted without reading each.
    const SHARED: InJson;

    /// Binds a state's values for these columns, in their order.
    fn bind<'q>(state: &'q Self::State, row: Statement<'q>) -> Statement<'q>;

    /// Reads the state with this name from a row.
    fn read(name: &str, row: &Columns<'_>) -> Result<Self::State, StoreError>;

    /// What exists of the sector when its job is in this state. `None` if the job changes nothing about that.
    fn leaves(state: &Self::State) -> Option<Existing>;
}

/// Columns with JSON, each with the field in it.
#[derive(Clone, Copy)]
pub(crate) struct InJson {
    /// The store that has the job's files.
    pub store: Option<(&'static str, &'static str)>,
    /// The epoch at which the job's deposit is lost.
    pub prove_by: Option<(&'static str, &'static str)>,
    /// The epoch at which its ticket expires, if it has no deposit yet.
    pub expires: Option<(&'static str, &'static str)>,
    /// The column that has a value once nothing can expire any more.
    pub safe: Option<&'static str>,
}

/// The columns of a workflow's table, in a row of [`select`].
pub(crate) struct Columns<'r> {
    row: &'r AnyRow,
    workflow: Workflow,
    sector: SectorId,
}

macro_rules! define {
    ($($(#[$cfg:meta])* $folder:ident: $name:ident $kinds:tt;)*) => {
        fn columns(workflow: Workflow) -> &'static [&'static str] {
            match workflow {
                $($(#[$cfg])* Workflow::$name => <workflows::$folder::manager::$name as Table>::COLUMNS,)*
            }
        }

        fn shared(workflow: Workflow) -> InJson {
            match workflow {
                $($(#[$cfg])* Workflow::$name => <workflows::$folder::manager::$name as Table>::SHARED,)*
            }
        }

        fn bind<'q>(state: &'q State, row: Statement<'q>) -> Statement<'q> {
            match state {
                $($(#[$cfg])* State::$name(state) => <workflows::$folder::manager::$name as Table>::bind(state, row),)*
            }
        }

        fn read(state: &str, row: &Columns<'_>) -> Result<State, StoreError> {
            match row.workflow {
                $($(#[$cfg])* Workflow::$name => {
                    <workflows::$folder::manager::$name as Table>::read(state, row).map(State::$name)
                })*
            }
        }

        /// What exists of a sector; see [`Table::leaves`].
        pub(super) fn leaves(state: &State) -> Option<Existing> {
            match state {
                $($(#[$cfg])* State::$name(state) => <workflows::$folder::manager::$name as Table>::leaves(state),)*
            }
        }
    };
}
for_each_workflow!(define);

/// A query for whole jobs. `from` names the table `jobs` and any tables that it is joined with.
pub(super) fn select(from: &str, rest: &str) -> String {
    select_also("", from, rest)
}

/// The same with more columns.
fn select_also(also: &str, from: &str, rest: &str) -> String {
    let mut selected = format!("SELECT jobs.*, sectors.proof{also}");
    let mut joined = " JOIN sectors ON sectors.miner = jobs.miner AND sectors.number = jobs.number".to_owned();
    for workflow in Workflow::ALL {
        for column in columns(*workflow) {
            let _ = write!(selected, ", {workflow}_jobs.{column} AS {workflow}_{column}");
        }
        let _ = write!(joined, " LEFT JOIN {workflow}_jobs ON {workflow}_jobs.job = jobs.id");
    }
    format!("{selected} FROM {from}{joined} {rest}")
}

/// A query for the first `$1` jobs of each group of unfinished jobs that need the same, with their number in the column
/// `alike`. In a group, `place` rises from 1, and those that expire first come first.
pub(super) fn alike(places: Places) -> String {
    let (mut stores, mut until, mut joined) = (Vec::new(), Vec::new(), String::new());
    for workflow in Workflow::ALL {
        let field = |of| field(places, *workflow, of);
        let epoch = |of| format!("CAST({} AS BIGINT)", field(of));
        let InJson { store, prove_by, expires, .. } = shared(*workflow);
        stores.extend(store.map(field));
        until.extend(prove_by.map(epoch));
        // Nothing expires while a message is on its way.
        until.extend(expires.map(|of| format!("CASE WHEN jobs.signed = 0 THEN {} END", epoch(of))));
        let _ = write!(joined, " LEFT JOIN {workflow}_jobs ON {workflow}_jobs.job = jobs.id");
    }
    stores.push("''".to_owned());
    until.push(i64::MAX.to_string());
    let live = format!(
        "SELECT jobs.id, jobs.miner, jobs.number, jobs.workflow, jobs.state, COALESCE({}) AS store, COALESCE({}) AS until \
         FROM jobs{joined} WHERE jobs.ended = 0 AND jobs.blocked IS NULL",
        stores.join(", "),
        until.join(", ")
    );
    // JSON is read once, in the innermost query, and not again for each sort.
    let group = "PARTITION BY live.miner, live.workflow, live.state, live.store";
    let parts = format!(
        "(SELECT live.id, live.store, COUNT(*) OVER ({group}) AS alike, \
         ROW_NUMBER() OVER ({group} ORDER BY live.until, live.number) AS place FROM ({live}) AS live) AS parts \
         JOIN jobs ON jobs.id = parts.id"
    );
    let first = places.list(1, 1);
    let rest = format!(
        "WHERE parts.place <= {first} ORDER BY jobs.miner, jobs.workflow, jobs.state, parts.store, parts.place"
    );
    select_also(", parts.alike, parts.place", &parts, &rest)
}

/// A query for the first `ticket` and the first `deposit` that an unfinished job loses, as epochs, and for how many lose
/// theirs before the epochs `$1` and `$2`.
pub(super) fn expiring(places: Places) -> String {
    let (mut tickets, mut deposits, mut joined) = (vec!["NULL".to_owned()], vec!["NULL".to_owned()], String::new());
    for workflow in Workflow::ALL {
        let InJson { prove_by, expires, safe, .. } = shared(*workflow);
        let epoch = |of| format!("CAST({} AS BIGINT)", field(places, *workflow, of));
        let unsafe_yet = safe.map_or("1 = 1".to_owned(), |column| format!("{workflow}_jobs.{column} IS NULL"));
        deposits.extend(prove_by.map(|of| format!("CASE WHEN {unsafe_yet} THEN {} END", epoch(of))));
        // Nothing expires while a message is on its way, and no ticket once there is a deposit.
        let before = prove_by.map_or(String::new(), |(column, _)| format!(" AND {workflow}_jobs.{column} IS NULL"));
        tickets.extend(expires.map(|of| format!("CASE WHEN jobs.signed = 0{before} THEN {} END", epoch(of))));
        let _ = write!(joined, " LEFT JOIN {workflow}_jobs ON {workflow}_jobs.job = jobs.id");
    }
    let live = format!(
        "SELECT COALESCE({}) AS ticket, COALESCE({}) AS deposit FROM jobs{joined} WHERE jobs.ended = 0",
        tickets.join(", "),
        deposits.join(", ")
    );
    let (first, second) = (places.list(1, 1), places.list(2, 1));
    format!(
        "SELECT MIN(ticket) AS ticket, MIN(deposit) AS deposit, \
         SUM(CASE WHEN ticket < {first} THEN 1 ELSE 0 END) AS tickets_soon, \
         SUM(CASE WHEN deposit < {second} THEN 1 ELSE 0 END) AS deposits_soon \
         FROM ({live}) AS live"
    )
}

/// A field of a column with JSON.
fn field(places: Places, workflow: Workflow, (column, field): (&str, &str)) -> String {
    match places {
        Places::Plain => format!("json_extract({workflow}_jobs.{column}, '$.{field}')"),
        Places::Numbered => format!("(CAST({workflow}_jobs.{column} AS JSON) ->> '{field}')"),
    }
}

/// The state of a row of [`select`].
pub(super) fn state(sector: SectorId, row: &AnyRow) -> Result<State, StoreError> {
    let name: String = row.get("workflow");
    let bad = || StoreError::BadRow { what: format!("sector {sector}"), problem: format!("unknown workflow {name}") };
    let workflow = *Workflow::ALL.iter().find(|workflow| workflow.name() == name).ok_or_else(bad)?;
    read(&row.get::<String, _>("state"), &Columns { row, workflow, sector })
}

/// Inserts the row of a new job.
pub(super) fn insert<'q>(places: Places, job: i64, state: &'q State) -> Statement<'q> {
    let (workflow, columns) = (state.workflow(), columns(state.workflow()));
    let names = [&["job", "state"], columns].concat().join(", ");
    let into = format!("INSERT INTO {workflow}_jobs ({names}) VALUES ");
    let statement = Statement::of_rows(places, &into, (1, 2 + columns.len()), "");
    bind(state, statement.bind(job).bind(state.traits().name))
}

/// Updates the states of sectors' last jobs, all of one workflow.
pub(super) fn update<'q>(places: Places, workflow: Workflow, jobs: &[(SectorId, &'q State)]) -> Statement<'q> {
    let columns = columns(workflow);
    let mut set = "state = new.column3".to_owned();
    for (column, place) in columns.iter().zip(4..) {
        let _ = write!(set, ", {column} = new.column{place}");
    }
    let statement = Statement::of_rows(
        places,
        &format!("UPDATE {workflow}_jobs SET {set} FROM (VALUES "),
        (jobs.len(), 3 + columns.len()),
        &format!(
            ") AS new JOIN jobs ON jobs.miner = new.column1 AND jobs.number = new.column2 AND jobs.is_last = 1 \
             WHERE {workflow}_jobs.job = jobs.id"
        ),
    );
    jobs.iter().fold(statement, |statement, (id, state)| {
        let statement = statement.bind(id.miner.to_string()).bind(id.number.0 as i64).bind(state.traits().name);
        bind(state, statement)
    })
}

impl<'r> Columns<'r> {
    /// Whether a column has a value.
    pub fn has(&self, column: &str) -> bool {
        self.row.try_get_raw(self.name(column).as_str()).is_ok_and(|value| !value.is_null())
    }

    /// The value of a column that the state must have.
    pub fn get<T: Decode<'r, Any> + Type<Any>>(&self, column: &str) -> Result<T, StoreError> {
        let value: Option<T> = self.row.get(self.name(column).as_str());
        value.ok_or_else(|| self.bad(format!("no {column} in its state")))
    }

    /// The value of a column that holds JSON.
    pub fn json<T: DeserializeOwned>(&self, column: &str) -> Result<T, StoreError> {
        let text: String = self.get(column)?;
        serde_json::from_str(&text).map_err(|error| self.bad(format!("{column}: {error}")))
    }

    /// The value of a column that holds another kind of text.
    pub fn parse<T: FromStr<Err: ToString>>(&self, column: &str) -> Result<T, StoreError> {
        let text: String = self.get(column)?;
        text.parse().map_err(|error: T::Err| self.bad(format!("{column}: {}", error.to_string())))
    }

    /// The column's name in [`select`].
    fn name(&self, column: &str) -> String {
        format!("{}_{column}", self.workflow)
    }

    /// The error for an impossible row.
    pub fn bad(&self, problem: String) -> StoreError {
        StoreError::BadRow { what: format!("sector {}", self.sector), problem }
    }
}
