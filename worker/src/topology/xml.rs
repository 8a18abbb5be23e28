//! Restricts the XML documents that hwloc may read. hwloc parses them recursively in C and does not check numbers.

use std::collections::BTreeSet;

/// Far more bytes than the largest machine's export has.
pub(super) const BYTES_MAX: u64 = 16 << 20;
/// Deeper than any machine's tree.
const DEPTH_MAX: usize = 64;
/// The largest accepted index of a processing unit or node. hwloc allocates sets as large as the largest index.
const INDEX_MAX: u32 = 65_535;
/// The longest text of a set up to that index, in words of 32 bits.
const SET_BYTES_MAX: usize = (INDEX_MAX as usize + 1) / 32 * "0x00000000,".len();
/// The format of libhwloc 2. It also reads that of version 1, which has no number.
const VERSION: u32 = 2;

/// Why a document is not passed to hwloc.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum XmlProblem {
    #[error("it has more than {BYTES_MAX} bytes")]
    TooLarge,
    #[error("it is no UTF-8 text")]
    NoText,
    #[error("it has no element <topology>")]
    NoTopology,
    #[error("it is of format {0}")]
    Version(String),
    #[error("a tag has no end")]
    NoEnd,
    #[error("its elements are nested more than {DEPTH_MAX} deep")]
    TooDeep,
    #[error("its elements do not close as they open")]
    Unbalanced,
    #[error("{element} has an attribute that is not written NAME=\"VALUE\"")]
    Attribute { element: String },
    #[error("{element} has {name}={value:?}, which is no {what}")]
    Value { element: String, name: String, value: String, what: String },
    #[error("there are two of {0}")]
    Twice(String),
}

/// Checks size, form and numbers of a document, and returns it as text.
pub(super) fn checked(bytes: Vec<u8>) -> Result<String, XmlProblem> {
    if bytes.len() as u64 > BYTES_MAX {
        return Err(XmlProblem::TooLarge);
    }
    let text = String::from_utf8(bytes).map_err(|_| XmlProblem::NoText)?;
    if text.contains('\0') {
        return Err(XmlProblem::NoText);
    }
    if !text.contains("<topology") {
        return Err(XmlProblem::NoTopology);
    }
    let (mut depth, mut rest) = (0_usize, text.as_str());
    let mut numbered = BTreeSet::new();
    while let Some(start) = rest.find('<') {
        let tag = &rest[start..];
        let end = if tag.starts_with("<!--") { tag.find("-->").map(|at| at + 2) } else { end_of_tag(tag) };
        let end = end.ok_or(XmlProblem::NoEnd)?;
        if tag.starts_with("</") {
            depth = depth.checked_sub(1).ok_or(XmlProblem::Unbalanced)?;
        } else if !tag.starts_with("<!") && !tag.starts_with("<?") {
            element(&tag[1..end], &mut numbered)?;
            depth += usize::from(!tag[..end].ends_with('/'));
        }
        if depth > DEPTH_MAX {
            return Err(XmlProblem::TooDeep);
        }
        rest = &tag[end + 1..];
    }
    if depth == 0 { Ok(text) } else { Err(XmlProblem::Unbalanced) }
}

/// The position of a tag's closing `>`. Attribute values may contain the character too.
fn end_of_tag(tag: &str) -> Option<usize> {
    let mut quoted = None;
    tag.bytes().position(|byte| {
        match quoted {
            None if byte == b'"' || byte == b'\'' => quoted = Some(byte),
            Some(mark) if mark == byte => quoted = None,
            _ => {}
        }
        byte == b'>' && quoted.is_none()
    })
}

/// Checks an element such as `object type="PU" os_index="0"`. Units and nodes are collected, because their numbers must
/// be unique.
fn element<'a>(tag: &'a str, numbered: &mut BTreeSet<(&'a str, u32)>) -> Result<(), XmlProblem> {
    let (name, rest) = tag.split_at(tag.find([' ', '\t', '\r', '\n', '/']).unwrap_or(tag.len()));
    let attributes = attributes(rest).ok_or_else(|| XmlProblem::Attribute { element: format!("<{name}>") })?;
    let value = |wanted: &str| attributes.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
    let named = || match (value("type"), value("os_index")) {
        (Some(kind), Some(index)) => format!("{kind} {index}"),
        (Some(kind), None) => kind.to_owned(),
        _ => format!("<{name}>"),
    };
    let refused = |attribute: &str, value: &str, what: String| {
        let value: String = value.chars().take(100).collect();
        Err(XmlProblem::Value { element: named(), name: attribute.to_owned(), value, what })
    };
    if name == "topology"
        && let Some(version) = value("version")
    {
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        match major {
            None => return refused("version", version, "number of a format".to_owned()),
            Some(major) if major > VERSION => return Err(XmlProblem::Version(version.to_owned())),
            Some(_) => {}
        }
    }
    for (attribute, value) in &attributes {
        let is_plain = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
        match *attribute {
            "local_memory" | "cache_size" | "size" | "count" if !is_plain || value.parse::<u64>().is_err() => {
                return refused(attribute, value, "size or count".to_owned());
            }
            "cpuset" | "nodeset" | "complete_cpuset" | "complete_nodeset" | "allowed_cpuset" | "allowed_nodeset"
                if value.len() > SET_BYTES_MAX =>
            {
                return refused(attribute, value, format!("set of numbers up to {INDEX_MAX}"));
            }
            _ => {}
        }
    }
    let kind = value("type").filter(|kind| name == "object" && matches!(*kind, "PU" | "NUMANode"));
    if let (Some(kind), Some(index)) = (kind, value("os_index")) {
        let number = index.parse::<u32>().ok().filter(|number| *number <= INDEX_MAX && !index.starts_with('+'));
        let Some(number) = number else {
            return refused("os_index", index, format!("number up to {INDEX_MAX}"));
        };
        if !numbered.insert((kind, number)) {
            return Err(XmlProblem::Twice(named()));
        }
    }
    Ok(())
}

/// The attributes after an element's name.
fn attributes(text: &str) -> Option<Vec<(&str, &str)>> {
    let mut all = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() && rest != "/" && rest != "?" {
        let (name, after) = rest.split_once('=')?;
        let after = after.trim_start();
        let mark = after.chars().next().filter(|mark| matches!(mark, '"' | '\''))?;
        let (value, after) = after[1..].split_once(mark)?;
        all.push((name.trim(), value));
        rest = after.trim_start();
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> Option<XmlProblem> {
        checked(text.as_bytes().to_vec()).err()
    }

    /// How errors refer to an object with these attributes.
    fn said(attributes: &str) -> String {
        let problem = problem(&format!("<topology version=\"2.0\"><object {attributes}/></topology>"));
        problem.map(|problem| problem.to_string()).unwrap_or_default()
    }

    #[test]
    fn documents_are_bounded_before_the_library_sees_them() {
        let header = "<?xml version=\"1.0\"?>\n<!DOCTYPE topology SYSTEM \"hwloc2.dtd\">\n<!-- <a> -->\n";
        assert_eq!(problem(&format!("{header}<topology><object name=\"a>b\" id='x\">y'/></topology>")), None);
        assert_eq!(problem("<a></a>"), Some(XmlProblem::NoTopology));
        assert_eq!(problem("<topology><object"), Some(XmlProblem::NoEnd));
        assert_eq!(problem("<topology><object>"), Some(XmlProblem::Unbalanced));
        assert_eq!(problem("<topology></topology></object>"), Some(XmlProblem::Unbalanced));
        assert_eq!(problem(&format!("<topology>{}", "<object>".repeat(100_000))), Some(XmlProblem::TooDeep));
        assert_eq!(problem("<topology>\0</topology>"), Some(XmlProblem::NoText));
        assert_eq!(checked(b"<topology>\xff</topology>".to_vec()), Err(XmlProblem::NoText));
        assert_eq!(checked(vec![b' '; BYTES_MAX as usize + 1]), Err(XmlProblem::TooLarge));
    }

    #[test]
    fn numbers_that_no_machine_has_are_refused_with_their_object() {
        assert_eq!(said("type=\"PU\" os_index=\"-1\""), "PU -1 has os_index=\"-1\", which is no number up to 65535");
        for (attributes, found) in [
            ("type=\"PU\" os_index=\"65536\"", "PU 65536"),
            ("type=\"PU\" os_index=\"+1\"", "PU +1"),
            ("type=\"NUMANode\" os_index=\"4294967296\"", "NUMANode 4294967296"),
            ("type=\"NUMANode\" os_index=\"0\" local_memory=\"-1\"", "NUMANode 0 has local_memory=\"-1\""),
            ("type=\"NUMANode\" os_index=\"0\" local_memory=\"\"", "NUMANode 0 has local_memory=\"\""),
            ("type=\"L3Cache\" cache_size=\"99999999999999999999\"", "L3Cache has cache_size"),
            ("type", "<object> has an attribute that is not written"),
            ("type=PU", "<object> has an attribute that is not written"),
        ] {
            assert!(said(attributes).starts_with(found), "{attributes}: {}", said(attributes));
        }
        assert!(said(&format!("type=\"PU\" cpuset=\"{}\"", "0x1,".repeat(100_000))).contains("no set of numbers"));
        for attributes in ["type=\"Package\" os_index=\"4294967295\"", "type=\"PU\" os_index=\"65535\"", "type = 'PU'"]
        {
            assert_eq!(said(attributes), "", "{attributes}");
        }
    }

    #[test]
    fn a_unit_and_a_node_are_there_once() {
        let two = |one: &str, other: &str| {
            problem(&format!(
                "<topology><object type=\"{one}\" os_index=\"7\"/><object type=\"{other}\" os_index=\"7\"/></topology>"
            ))
        };
        assert_eq!(two("PU", "PU"), Some(XmlProblem::Twice("PU 7".to_owned())));
        assert_eq!(two("NUMANode", "NUMANode"), Some(XmlProblem::Twice("NUMANode 7".to_owned())));
        assert_eq!(two("PU", "NUMANode"), None);
        assert_eq!(two("Core", "Core"), None, "cores are numbered in each package");
    }

    #[test]
    fn the_format_is_looked_at_first() {
        let of = |version: &str| {
            problem(&format!("<topology version=\"{version}\"><object type=\"PU\" os_index=\"-1\"/></topology>"))
        };
        assert_eq!(of("3.0"), Some(XmlProblem::Version("3.0".to_owned())));
        assert!(matches!(of("new"), Some(XmlProblem::Value { .. })));
        assert!(matches!(of("2.0"), Some(XmlProblem::Value { .. })), "the format is right, its number is not");
    }
}
