//! Reads lines of limited length from a pipe.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// How reading a line ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A whole line is in the buffer, without the line break.
    Whole,
    /// The pipe ended. The buffer holds what came after the last line break.
    End,
    /// The line is longer than allowed. The buffer holds its beginning.
    TooLong,
}

/// Reads one line into `line`, which is cleared first and never holds more than `max` bytes.
pub(super) async fn read_line(
    from: &mut (impl AsyncBufRead + Unpin),
    line: &mut Vec<u8>,
    max: usize,
) -> io::Result<Line> {
    line.clear();
    loop {
        let available = from.fill_buf().await?;
        if available.is_empty() {
            return Ok(Line::End);
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let length = end.unwrap_or(available.len());
        let room = max - line.len();
        if length > room {
            line.extend_from_slice(&available[..room]);
            from.consume(room);
            return Ok(Line::TooLong);
        }
        line.extend_from_slice(&available[..length]);
        from.consume(length + usize::from(end.is_some()));
        if end.is_some() {
            return Ok(Line::Whole);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_bounded_and_whole() {
        let mut from = tokio::io::BufReader::with_capacity(3, &b"abc\n\nlonger than ten\nend"[..]);
        let mut line = Vec::new();
        assert_eq!(read_line(&mut from, &mut line, 10).await.expect("read"), Line::Whole);
        assert_eq!(line, b"abc");
        assert_eq!(read_line(&mut from, &mut line, 10).await.expect("read"), Line::Whole);
        assert_eq!(line, b"");
        assert_eq!(read_line(&mut from, &mut line, 10).await.expect("read"), Line::TooLong);
        assert_eq!(line, b"longer tha");
        assert_eq!(read_line(&mut from, &mut line, 10).await.expect("read"), Line::Whole);
        assert_eq!(line, b"n ten");
        assert_eq!(read_line(&mut from, &mut line, 10).await.expect("read"), Line::End);
        assert_eq!(line, b"end");
    }
}
