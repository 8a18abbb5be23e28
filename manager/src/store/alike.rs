//! What unfinished jobs wait for outside their workers, in groups: nobody reads 100,000 jobs to say why they wait.

use sqlx::Row;

use super::{Job, Store, StoreError, jobs, sql, tables};

/// Unfinished jobs of one miner that are not blocked, are in the same state, and have their files in the same store. They
/// need the same.
#[derive(Clone, Debug)]
pub struct Alike {
    /// How many they are.
    pub count: u64,
    /// The first few, beginning with the one whose ticket or deposit expires first. There is at least one.
    pub first: Vec<Job>,
}

impl Store {
    /// The unfinished jobs that are not blocked, in groups, with at most `first` jobs of each.
    pub async fn alike(&self, first: u32) -> Result<Vec<Alike>, StoreError> {
        let text = tables::alike(self.places());
        let query = sqlx::query(&text).bind(i64::from(first));
        let rows = query.fetch_all(&self.pool).await.map_err(sql("count the jobs that need the same"))?;
        let mut groups: Vec<Alike> = Vec::new();
        for row in rows {
            let job = jobs::from_row(&row)?;
            match groups.last_mut().filter(|_| row.get::<i64, _>("place") > 1) {
                Some(group) => group.first.push(job),
                None => groups.push(Alike { count: row.get::<i64, _>("alike") as u64, first: vec![job] }),
            }
        }
        Ok(groups)
    }
}
