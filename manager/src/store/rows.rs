//! Many rows in one statement.

/// The most rows of one statement: below every database's limit of bound values, for every table.
const MAX_ROWS: usize = 256;

/// Cuts rows into pieces whose lengths are powers of two, so that only a few different statements are prepared.
pub fn chunks<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let length = 1 << rows.len().min(MAX_ROWS).checked_ilog2()?;
        let (chunk, rest) = rows.split_at(length);
        rows = rest;
        Some(chunk)
    })
}

/// The places of so many rows: `($1, $2), ($3, $4)`.
pub fn places(rows: usize, columns: usize) -> String {
    let row = |row: usize| format!("({})", list(row * columns + 1, columns));
    (0..rows).map(row).collect::<Vec<_>>().join(", ")
}

/// So many places from one on: `$3, $4`.
pub fn list(first: usize, count: usize) -> String {
    (first..first + count).map(|place| format!("${place}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_powers_of_two_and_keep_the_order() {
        let rows: Vec<usize> = (0..605).collect();
        let lengths: Vec<usize> = chunks(&rows).map(<[_]>::len).collect();
        assert_eq!(lengths, [256, 256, 64, 16, 8, 4, 1]);
        assert_eq!(chunks(&rows).flatten().copied().collect::<Vec<_>>(), rows);
        assert_eq!(chunks::<usize>(&[]).count(), 0);
    }

    #[test]
    fn places_are_numbered_through() {
        assert_eq!(places(2, 3), "($1, $2, $3), ($4, $5, $6)");
        assert_eq!(list(2, 2), "$2, $3");
    }
}
