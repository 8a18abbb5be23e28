//! Jobs: reads and stores each sector's last job, unfinished or ended.

use std::collections::{BTreeMap, BTreeSet};

use sealbus_schema::{
    ErrorReport, IntentKind, MinerId, SealProof, SectorId, Token, Transition, WorkerName, Workflow,
    lease::Ownership,
    machine::manager::{AtStake, AttemptPolicy, Life, Standing},
    workflows::{Effect, Input, State},
};
use sqlx::{AnyConnection, Row, any::AnyRow};
use time::{Duration, OffsetDateTime};

use super::{
    Existing, Store, StoreError, Tx, now_text,
    rows::{self, Places},
    sql, tables, time_text,
};

/// For this long after a sector's end, its slot may still hold it because the worker has not read of the end.
const UNREAD_END: Duration = Duration::days(7);
/// How many jobs of a long list are read in one query.
const PAGE: usize = 1000;

mod row;

pub(super) use row::{bad_row, from_row, id_from_row};

/// A job as the manager knows it: a workflow applied to a sector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The sector.
    pub id: SectorId,
    /// Its seal proof.
    pub proof: SealProof,
    /// The current attempt, counted from 1. Each has its own ticket.
    pub attempt: u32,
    /// How often it was offered to the workers since a person last decided about it.
    pub issues: u32,
    /// How many orders to resubmit its last owner was given. This is also the serial of the last one.
    pub resubmits: u32,
    /// Whether a message of this attempt was sent, or may have been sent, and has not failed.
    pub signed: bool,
    /// When it was created.
    pub created_at: String,
    /// When its row last changed.
    pub changed_at: String,
    /// Who owns it.
    pub ownership: Ownership,
    /// The server's time of its last lease record.
    pub leased_at: Option<String>,
    /// Its state.
    pub state: State,
    /// Why a person must decide, if the job is blocked.
    pub blocked: Option<ErrorReport>,
}

/// Which sectors to list.
#[derive(Clone, Debug, Default)]
pub struct SectorFilter {
    /// Only those of this miner.
    pub miner: Option<MinerId>,
    /// Only those in the state with this name.
    pub state: Option<String>,
    /// Only blocked ones.
    pub blocked: bool,
}

impl Job {
    /// A job that begins now, without an owner.
    fn begun(id: SectorId, proof: SealProof, workflow: Workflow, last_lease: u64) -> Job {
        let now = now_text();
        Job {
            id,
            proof,
            attempt: 1,
            issues: 1,
            resubmits: 0,
            signed: false,
            created_at: now.clone(),
            changed_at: now,
            ownership: Ownership::Free { last_lease },
            leased_at: None,
            state: State::start(workflow),
            blocked: None,
        }
    }

    /// What an input does to it.
    pub fn apply(&self, input: Input, policy: AttemptPolicy) -> Transition<Standing<State>, Effect> {
        self.standing().apply(input, policy)
    }

    /// Its state, and why it is blocked, if it is.
    pub fn standing(&self) -> Standing<State> {
        Standing { at: self.state.clone(), blocked: self.blocked.clone() }
    }

    /// Whether it has reached its goal.
    pub fn is_done(&self) -> bool {
        self.state.traits().life == Life::Done
    }

    /// The last epoch at which it can still reach what it waits for on chain. `None` if there is no such limit.
    pub fn last_epoch(&self) -> Option<i64> {
        match self.state.at_stake() {
            AtStake::Deposit(precommit) => Some(precommit.prove_by_epoch),
            AtStake::Ticket(ticket) => Some(ticket.expires_epoch),
            AtStake::Slot | AtStake::Nothing => None,
        }
    }

    /// Sets its state, and whether it is blocked.
    pub fn stand(&mut self, standing: Standing<State>) {
        (self.state, self.blocked) = (standing.at, standing.blocked);
    }
}

impl SectorFilter {
    /// The statement for a page and its text values. It has only the conditions that are asked for, so that an index can
    /// serve them. After the text values comes the number after which the page begins.
    fn select(&self, after: Option<SectorId>) -> (String, Vec<String>) {
        let (mut condition, mut values) = ("WHERE jobs.is_last = 1".to_owned(), Vec::new());
        if let Some(miner) = self.miner {
            values.push(miner.to_string());
            condition.push_str(" AND jobs.miner = $1");
        }
        if let Some(state) = &self.state {
            values.push(state.clone());
            condition.push_str(&format!(" AND jobs.state = ${}", values.len()));
        }
        if self.blocked {
            condition.push_str(" AND jobs.blocked IS NOT NULL");
        }
        if let Some(after) = after {
            values.push(after.miner.to_string());
            condition.push_str(&format!(
                " AND (jobs.miner, jobs.number) > (${0}, ${1})",
                values.len(),
                values.len() + 1
            ));
        }
        condition.push_str(&format!(" ORDER BY jobs.miner, jobs.number LIMIT {PAGE}"));
        (tables::select("jobs", &condition), values)
    }
}

impl Store {
    /// The last jobs of the sectors that a filter selects, ordered by miner and number.
    pub async fn sectors(&self, filter: &SectorFilter) -> Result<Vec<Job>, StoreError> {
        let mut jobs = Vec::new();
        self.each_sector(filter, |job| jobs.push(job)).await?;
        Ok(jobs)
    }

    /// Calls `show` with the same jobs one after the other, for lists that are too long for memory. They are read in pages,
    /// so that no transaction is open while `show` waits for whoever reads its output.
    pub async fn each_sector(&self, filter: &SectorFilter, mut show: impl FnMut(Job)) -> Result<(), StoreError> {
        let mut after: Option<SectorId> = None;
        loop {
            let (text, values) = filter.select(after);
            let query = values.into_iter().fold(sqlx::query(&text), |query, value| query.bind(value));
            let query = after.into_iter().fold(query, |query, after| query.bind(after.number.0 as i64));
            let rows = query.fetch_all(&self.pool).await.map_err(sql("list sectors"))?;
            let is_last = rows.len() < PAGE;
            for row in rows {
                let job = from_row(&row)?;
                after = Some(job.id);
                show(job);
            }
            if is_last {
                return Ok(());
            }
        }
    }

    /// The unfinished jobs, ordered by miner and number.
    pub async fn live_sectors(&self) -> Result<Vec<Job>, StoreError> {
        self.jobs_where("jobs.ended = 0 ORDER BY jobs.miner, jobs.number").await
    }

    /// How many jobs that go on each worker has.
    pub async fn held_by_workers(&self) -> Result<BTreeMap<WorkerName, usize>, StoreError> {
        let text = "SELECT owner, COUNT(*) AS n FROM jobs WHERE owner IS NOT NULL AND ended = 0 GROUP BY owner";
        let rows = sqlx::query(text).fetch_all(&self.pool).await.map_err(sql("count the workers' sectors"))?;
        let held = |row: &AnyRow| {
            let owner: String = row.get("owner");
            let bad = |error| StoreError::BadRow { what: format!("the worker {owner}"), problem: format!("{error}") };
            Ok((owner.parse().map_err(bad)?, row.get::<i64, _>("n") as usize))
        };
        rows.iter().map(held).collect()
    }

    /// The jobs that go on and that a worker has, by miner and number.
    pub async fn sectors_of_worker(&self, worker: &WorkerName) -> Result<Vec<Job>, StoreError> {
        let condition = "WHERE jobs.owner = $1 AND jobs.ended = 0 ORDER BY jobs.miner, jobs.number";
        let text = tables::select("jobs", condition);
        let query = sqlx::query(&text).bind(worker.as_str());
        let rows = query.fetch_all(&self.pool).await.map_err(sql("list a worker's sectors"))?;
        rows.iter().map(from_row).collect()
    }

    /// The jobs that wait for a worker in the queue, including blocked ones.
    pub async fn queued_sectors(&self) -> Result<Vec<Job>, StoreError> {
        self.jobs_where("jobs.offered IS NOT NULL").await
    }

    /// The jobs that need a record in a new stream: unfinished ones, those with an owner, and those that ended so
    /// recently that a slot may not know it yet.
    pub async fn sectors_to_recover(&self) -> Result<Vec<Job>, StoreError> {
        let text = tables::select(
            "jobs",
            "WHERE jobs.is_last = 1 AND (jobs.ended = 0 OR jobs.owner IS NOT NULL OR jobs.changed_at > $1) \
             ORDER BY jobs.miner, jobs.number",
        );
        let since = time_text(OffsetDateTime::now_utc() - UNREAD_END);
        let rows =
            sqlx::query(&text).bind(since).fetch_all(&self.pool).await.map_err(sql("list the jobs to recover"))?;
        rows.iter().map(from_row).collect()
    }

    /// All jobs that a sector ever had, oldest first.
    pub async fn jobs_of(&self, id: SectorId) -> Result<Vec<Job>, StoreError> {
        let text = tables::select("jobs", "WHERE jobs.miner = $1 AND jobs.number = $2 ORDER BY jobs.id");
        let query = sqlx::query(&text).bind(id.miner.to_string()).bind(id.number.0 as i64);
        let rows = query.fetch_all(&self.pool).await.map_err(sql("read a sector's jobs"))?;
        rows.iter().map(from_row).collect()
    }

    /// How many sectors of a miner are in the queue, or on their way into it, and were not started by any worker.
    pub async fn queued_count(&self, miner: MinerId) -> Result<u64, StoreError> {
        let row = sqlx::query("SELECT COUNT(*) AS n FROM jobs WHERE miner = $1 AND offered = $2")
            .bind(miner.to_string())
            .bind(IntentKind::Seal.name())
            .fetch_one(&self.pool)
            .await
            .map_err(sql("count queued sectors"))?;
        Ok(row.get::<i64, _>("n") as u64)
    }

    /// The owned sectors, with owner and lease.
    pub async fn leases(&self) -> Result<Vec<(SectorId, WorkerName, Token)>, StoreError> {
        let rows = sqlx::query("SELECT miner, number, owner, token FROM jobs WHERE owner IS NOT NULL")
            .fetch_all(&self.pool)
            .await
            .map_err(sql("list leases"))?;
        let lease = |row| {
            let id = id_from_row(row)?;
            let owner: String = row.get("owner");
            Ok((id, owner.parse().map_err(bad_row(id))?, Token(row.get::<i64, _>("token") as u64)))
        };
        rows.iter().map(lease).collect()
    }

    /// A sector's last job. `None` if its number was never given out.
    pub async fn sector(&self, id: SectorId) -> Result<Option<Job>, StoreError> {
        Ok(self.sectors_among(&[id]).await?.pop())
    }

    /// The last jobs of these sectors, ordered by miner and number. Sectors that do not exist are left out.
    pub async fn sectors_among(&self, ids: &[SectorId]) -> Result<Vec<Job>, StoreError> {
        let mut connection = self.pool.acquire().await.map_err(sql("read sectors"))?;
        among(&mut connection, self.places(), ids.iter().copied().collect()).await
    }

    async fn jobs_where(&self, condition: &str) -> Result<Vec<Job>, StoreError> {
        let text = tables::select("jobs", &format!("WHERE {condition}"));
        let rows = sqlx::query(&text).fetch_all(&self.pool).await.map_err(sql("list sectors"))?;
        rows.iter().map(from_row).collect()
    }
}

impl Tx {
    /// A sector's last job, as this transaction sees it.
    pub async fn sector(&mut self, id: SectorId) -> Result<Option<Job>, StoreError> {
        Ok(self.sectors(&BTreeSet::from([id])).await?.pop())
    }

    /// The last jobs of these sectors, as this transaction sees them, ordered by miner and number. Sectors that do not
    /// exist are left out.
    pub async fn sectors(&mut self, ids: &BTreeSet<SectorId>) -> Result<Vec<Job>, StoreError> {
        let jobs = among(&mut self.inner, self.places, ids.iter().copied().collect()).await?;
        self.states.extend(jobs.iter().map(|job| (job.id, job.state.clone())));
        Ok(jobs)
    }

    /// Begins another job of a sector that has a number. The database refuses this while the last job is unfinished or
    /// its lease is open.
    pub async fn start_job(&mut self, id: SectorId, workflow: Workflow) -> Result<(), StoreError> {
        let proof = self.proof_of(id).await?;
        let ended = sqlx::query(
            "UPDATE jobs SET is_last = 0, version = version + 1 WHERE miner = $1 AND number = $2 AND is_last = 1 \
             AND ended = 1 AND owner IS NULL RETURNING last_lease",
        )
        .bind(id.miner.to_string())
        .bind(id.number.0 as i64)
        .fetch_optional(&mut *self.inner)
        .await
        .map_err(sql("begin a job after the last one"))?;
        // The log of a new number may hold claims. They are ended before its first offer.
        let last_lease = ended.map_or(0, |row| row.get::<i64, _>("last_lease") as u64);
        let job = Job::begun(id, proof, workflow, last_lease);
        let begun = self.fetch_one("begin a job", row::insert(self.places, &job)).await?;
        let state = tables::insert(self.places, begun.get("id"), &job.state);
        self.execute_each("begin a job", Box::new(std::iter::once(state))).await?;
        self.states.insert(id, job.state);
        Ok(())
    }

    /// Stores a job that was read in this transaction.
    pub async fn save_sector(&mut self, sector: Job) -> Result<(), StoreError> {
        self.save_sectors(vec![sector]).await
    }

    /// Stores jobs that were read in this transaction, each at most once.
    pub(super) async fn save_sectors(&mut self, jobs: Vec<Job>) -> Result<(), StoreError> {
        let places = self.places;
        let statements = rows::chunks(&jobs).map(move |jobs| row::update(places, jobs));
        let saved = self.execute_each("store jobs", Box::new(statements)).await?;
        all_saved(saved, jobs.iter().map(|job| job.id).collect())?;
        self.save_states(&jobs).await?;
        self.look_soon(&jobs.iter().map(|job| job.id).collect::<Vec<_>>()).await?;
        let ended = jobs.iter().filter(|job| job.state.is_terminal());
        self.archive_later(&ended.map(|job| job.id).collect::<Vec<_>>()).await
    }

    /// Stores the states that have changed in their workflows' tables. Most reports change only the row in `jobs`.
    async fn save_states(&mut self, jobs: &[Job]) -> Result<(), StoreError> {
        let places = self.places;
        let mut changed = Vec::new();
        let mut left: Vec<(SectorId, Existing)> = Vec::new();
        for Job { id, state, .. } in jobs {
            let before = self.states.get(id);
            if before != Some(state) {
                let exists = tables::leaves(state).filter(|now| before.and_then(tables::leaves).as_ref() != Some(now));
                left.extend(exists.map(|now| (*id, now)));
                changed.push((*id, state));
            }
        }
        for workflow in Workflow::ALL {
            let states: Vec<_> = changed.iter().filter(|(_, state)| state.workflow() == *workflow).copied().collect();
            let statements = rows::chunks(&states).map(move |states| tables::update(places, *workflow, states));
            let saved = self.execute_each("store states", Box::new(statements)).await?;
            all_saved(saved, states.iter().map(|(id, _)| *id).collect())?;
        }
        self.save_existing(&left).await?;
        self.states.extend(changed.into_iter().map(|(id, state)| (id, state.clone())));
        Ok(())
    }
}

/// The last jobs of these sectors, ordered by miner and number. Sectors that do not exist are left out.
async fn among(
    connection: &mut AnyConnection,
    places: Places,
    ids: BTreeSet<SectorId>,
) -> Result<Vec<Job>, StoreError> {
    let ids = Vec::from_iter(ids);
    let mut found = Vec::with_capacity(ids.len());
    for ids in ids.chunk_by(|a, b| a.miner == b.miner).flat_map(rows::chunks) {
        let (miner, numbers) = (places.list(1, 1), places.list(2, ids.len()));
        let condition = format!("WHERE jobs.is_last = 1 AND jobs.miner = {miner} AND jobs.number IN ({numbers})");
        let text = tables::select("jobs", &condition);
        let query = sqlx::query(&text).bind(ids.first().map(|id| id.miner.to_string()));
        let query = ids.iter().fold(query, |query, id| query.bind(id.number.0 as i64));
        for row in query.fetch_all(&mut *connection).await.map_err(sql("read sectors"))? {
            found.push(from_row(&row)?);
        }
    }
    found.sort_unstable_by_key(|job| job.id);
    Ok(found)
}

/// Fails unless every row was there.
fn all_saved(saved: u64, ids: Vec<SectorId>) -> Result<(), StoreError> {
    if saved == ids.len() as u64 {
        return Ok(());
    }
    let what = match &ids[..] {
        [only] => format!("sector {only}"),
        ids => format!("{} sectors, the first {}", ids.len(), ids[0]),
    };
    Err(StoreError::BadRow { what, problem: format!("only {saved} of them exist") })
}
