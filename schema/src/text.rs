//! Sanitises text from elsewhere for a terminal or a log.
//!
//! Text from a worker, a processor, a node or a database may contain anything: escape sequences that retitle a window
//! or hide a line, line breaks that fake another line, marks that change the direction of writing. All output for
//! people is sanitised here, once, where it is written.

use std::{borrow::Cow, fmt::Write};

/// Text of several lines: everything that a terminal would interpret is escaped, except line breaks and tabs.
pub fn printable(text: &str) -> Cow<'_, str> {
    spelled_out(text, |c| is_obeyed(c) && !matches!(c, '\n' | '\t'))
}

/// Text that must stay on one line: line breaks and tabs are escaped too.
pub fn one_line(text: &str) -> Cow<'_, str> {
    spelled_out(text, is_obeyed)
}

/// JSON with everything that a terminal would interpret written as the equivalent `\u….`. Such characters occur only in
/// strings, so the line breaks of the layout stay.
pub fn printable_json(json: &str) -> Cow<'_, str> {
    if !json.chars().any(|c| is_obeyed(c) && c != '\n') {
        return Cow::Borrowed(json);
    }
    let mut text = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_obeyed(c) && c != '\n' {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing into a string cannot fail.
                let _ = write!(text, "\\u{unit:04x}");
            }
        } else {
            text.push(c);
        }
    }
    Cow::Owned(text)
}

/// Whether a terminal interprets a character instead of showing it: C0 and C1 control characters, line separators,
/// direction marks, and other invisible marks.
fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}')
        || matches!(c, '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

fn spelled_out(text: &str, is_bad: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(&is_bad) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            c if is_bad(c) => clean.extend(c.escape_default()),
            c => clean.push(c),
        }
    }
    Cow::Owned(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_spelled_out() {
        assert_eq!(printable("\u{1b}]0;title\u{7}\u{9b}2J\r\u{8}x"), "\\u{1b}]0;title\\u{7}\\u{9b}2J\\r\\u{8}x");
        assert_eq!(printable("left \u{202e}right"), "left \\u{202e}right");
    }

    #[test]
    fn text_in_any_language_stays_as_it_is() {
        let text = "größe, 大小 – \t„ok“\nnext";
        assert!(matches!(printable(text), Cow::Borrowed(same) if same == text));
    }

    #[test]
    fn a_line_break_does_not_begin_a_line_where_one_is_wanted() {
        assert_eq!(one_line("one\ntwo\tthree"), "one\\ntwo\\tthree");
        assert_eq!(printable("one\ntwo"), "one\ntwo");
    }

    #[test]
    fn json_means_the_same_afterwards() {
        let value = serde_json::json!({ "why": "a\u{9b}2J b\u{7f} c\u{e0041} d\n" });
        let json = serde_json::to_string_pretty(&value).expect("prints");
        let shown = printable_json(&json);
        assert!(!shown.chars().any(|c| is_obeyed(c) && c != '\n'), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).expect("is JSON"), value);
    }
}
