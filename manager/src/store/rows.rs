//! Many rows in one statement.

/// The most rows of one statement. For every table, this stays below every database's limit of bound values.
const MAX_ROWS: usize = 256;

/// Splits rows into chunks whose lengths are powers of two, so that only a few different statements are prepared.
pub fn chunks<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let length = 1 << rows.len().min(MAX_ROWS).checked_ilog2()?;
        let (chunk, rest) = rows.split_at(length);
        rows = rest;
        Some(chunk)
    })
}

/// The placeholders of a database for bound values. Both databases accept `$1`, but SQLite searches for each one among
/// all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Places {
    /// `?`
    Plain,
    /// `$1`
    Numbered,
}

impl Places {
    /// The placeholders for this many rows: `($1, $2), ($3, $4)`.
    pub fn rows(self, rows: usize, columns: usize) -> String {
        let mut text = String::with_capacity(rows * columns * 7);
        for place in 0..rows * columns {
            text.push_str(match (place, place % columns) {
                (0, _) => "(",
                (_, 0) => "), (",
                _ => ", ",
            });
            self.write(1 + place, &mut text);
        }
        text.push(')');
        text
    }

    /// `count` placeholders beginning with `first`: `$3, $4`.
    pub fn list(self, first: usize, count: usize) -> String {
        let mut text = String::with_capacity(count * 7);
        for place in first..first + count {
            text.push_str(if place == first { "" } else { ", " });
            self.write(place, &mut text);
        }
        text
    }

    fn write(self, place: usize, text: &mut String) {
        match self {
            Places::Plain => text.push('?'),
            Places::Numbered => {
                text.push('$');
                text.push_str(&place.to_string());
            }
        }
    }
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
        assert_eq!(Places::Numbered.rows(2, 3), "($1, $2, $3), ($4, $5, $6)");
        assert_eq!(Places::Numbered.list(2, 2), "$2, $3");
        assert_eq!(Places::Plain.rows(2, 3), "(?, ?, ?), (?, ?, ?)");
    }
}
