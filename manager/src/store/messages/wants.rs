//! Stores what is wanted, in the transaction of the transition that caused it.

use sealbus_schema::{MinerId, SectorId};
use sqlx::Row;

use super::{Message, MessageKind};
use crate::store::{
    StoreError, Tx, WantedMessage,
    rows::{self, Places},
    sql,
    statements::Statement,
};

impl Tx {
    /// Stores wants. If one is already stored for a purpose, it stays as it is. If that one has failed, another want
    /// follows it.
    pub(crate) async fn want_messages(&mut self, wanted: &[(SectorId, WantedMessage)]) -> Result<(), StoreError> {
        // Nearly always nothing is stored yet for any of these purposes.
        if self.insert_wanted(wanted, 1).await? < wanted.len() as u64 {
            for message in wanted {
                self.want_again(message).await?;
            }
        }
        Ok(())
    }

    /// Stores another want, if all earlier ones of the job for this purpose have failed or are withdrawn. Returns whether it
    /// did.
    pub(super) async fn want_again(&mut self, wanted: &(SectorId, WantedMessage)) -> Result<bool, StoreError> {
        let (sector, WantedMessage { kind, attempt }) = wanted;
        let earlier = sqlx::query(
            "SELECT wants.state, jobs.is_last FROM wants JOIN jobs ON jobs.id = wants.job \
             WHERE wants.kind = $1 AND wants.miner = $2 AND wants.number = $3 AND wants.attempt = $4",
        )
        .bind(kind.name())
        .bind(sector.miner.to_string())
        .bind(sector.number.0 as i64)
        .bind(i64::from(*attempt))
        .fetch_all(&mut *self.inner)
        .await
        .map_err(sql("read a sector's wants"))?;
        let mut of_job = earlier.iter().filter(|row| row.get::<i64, _>("is_last") == 1);
        if !of_job.all(|row| matches!(row.get::<String, _>("state").as_str(), "failed" | "withdrawn")) {
            return Ok(false);
        }
        let turn = earlier.len() as u32 + 1;
        match self.insert_wanted(std::slice::from_ref(wanted), turn).await? {
            0 => Err(StoreError::BadRow {
                what: format!("want {}", kind.key(*sector, *attempt, turn)),
                problem: format!("taken, though there are only {} for its purpose", earlier.len()),
            }),
            _ => Ok(true),
        }
    }

    /// Inserts the wants that are not there yet, and returns how many these are.
    async fn insert_wanted(&mut self, wanted: &[(SectorId, WantedMessage)], turn: u32) -> Result<u64, StoreError> {
        let places = self.places;
        let statements = rows::chunks(wanted).map(move |wanted| insert(places, wanted, turn));
        self.execute_each("store wants", Box::new(statements)).await
    }

    /// Records since when wants may be signed.
    pub async fn note_ready(&mut self, messages: &[&Message], epoch: i64) -> Result<(), StoreError> {
        for want in messages.iter().filter_map(|message| message.want) {
            sqlx::query("UPDATE wants SET ready_epoch = $2 WHERE id = $1 AND ready_epoch IS NULL")
                .bind(want.0)
                .bind(epoch)
                .execute(&mut *self.inner)
                .await
                .map_err(sql("note what waits for others"))?;
        }
        Ok(())
    }

    /// Lets what is not signed yet wait no longer for others: of one miner or of all, of one kind or of all. Returns how
    /// many these are.
    pub async fn hurry(&mut self, miner: Option<MinerId>, kind: Option<MessageKind>) -> Result<u64, StoreError> {
        let hurried = sqlx::query(
            "UPDATE wants SET hurried = 1 WHERE state = 'wanted' AND hurried = 0 \
             AND ($1 = '' OR miner = $1) AND ($2 = '' OR kind = $2)",
        )
        .bind(miner.map(|miner| miner.to_string()).unwrap_or_default())
        .bind(kind.map(MessageKind::name).unwrap_or_default())
        .execute(&mut *self.inner)
        .await
        .map_err(sql("hurry what waits for others"))?;
        Ok(hurried.rows_affected())
    }

    /// Records since when the node refuses to estimate the call for a want; `None` when it no longer refuses.
    pub async fn note_refusal(&mut self, message: &Message, epoch: Option<i64>) -> Result<(), StoreError> {
        sqlx::query("UPDATE wants SET refused_epoch = $2 WHERE id = $1")
            .bind(message.want.map(|want| want.0))
            .bind(epoch)
            .execute(&mut *self.inner)
            .await
            .map_err(sql("note a refusal"))?;
        Ok(())
    }
}

fn insert<'q>(places: Places, wanted: &'q [(SectorId, WantedMessage)], turn: u32) -> Statement<'q> {
    let into = "INSERT INTO wants (job, miner, number, kind, attempt, turn, state) \
                SELECT jobs.id, new.column1, new.column2, new.column3, new.column4, new.column5, 'wanted' FROM (VALUES ";
    let after = ") AS new JOIN jobs ON jobs.miner = new.column1 AND jobs.number = new.column2 AND jobs.is_last = 1 \
                 WHERE true ON CONFLICT DO NOTHING";
    let statement = Statement::of_rows(places, into, (wanted.len(), 5), after);
    wanted.iter().fold(statement, |statement, (sector, WantedMessage { kind, attempt })| {
        statement
            .bind(sector.miner.to_string())
            .bind(sector.number.0 as i64)
            .bind(kind.name())
            .bind(i64::from(*attempt))
            .bind(i64::from(turn))
    })
}
