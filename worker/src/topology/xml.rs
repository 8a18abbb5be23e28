//! What an XML document may be. hwloc follows it by recursion, in C.

/// Far more than an export of the largest machine.
pub(super) const BYTES_MAX: u64 = 16 << 20;
/// Deeper than any machine is.
const DEPTH_MAX: usize = 64;

/// Why a document is not even shown to hwloc.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum XmlProblem {
    #[error("it has more than {BYTES_MAX} bytes")]
    TooLarge,
    #[error("it is no UTF-8 text")]
    NoText,
    #[error("it has no element <topology>")]
    NoTopology,
    #[error("a tag has no end")]
    NoEnd,
    #[error("its elements are nested more than {DEPTH_MAX} deep")]
    TooDeep,
    #[error("its elements do not close as they open")]
    Unbalanced,
}

/// The document as text, if its size and form are bearable.
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
    while let Some(start) = rest.find('<') {
        let tag = &rest[start..];
        let end = if tag.starts_with("<!--") { tag.find("-->").map(|at| at + 2) } else { end_of_tag(tag) };
        let end = end.ok_or(XmlProblem::NoEnd)?;
        if tag.starts_with("</") {
            depth = depth.checked_sub(1).ok_or(XmlProblem::Unbalanced)?;
        } else if !tag.starts_with("<!") && !tag.starts_with("<?") && !tag[..end].ends_with('/') {
            depth += 1;
        }
        if depth > DEPTH_MAX {
            return Err(XmlProblem::TooDeep);
        }
        rest = &tag[end + 1..];
    }
    if depth == 0 { Ok(text) } else { Err(XmlProblem::Unbalanced) }
}

/// Where the `>` of a tag stands, which may also be part of a value.
fn end_of_tag(tag: &str) -> Option<usize> {
    let mut quoted = false;
    tag.bytes().position(|byte| {
        quoted ^= byte == b'"';
        byte == b'>' && !quoted
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> Option<XmlProblem> {
        checked(text.as_bytes().to_vec()).err()
    }

    #[test]
    fn documents_are_bounded_before_the_library_sees_them() {
        let header = "<?xml version=\"1.0\"?>\n<!DOCTYPE topology SYSTEM \"hwloc2.dtd\">\n<!-- <a> -->\n";
        assert_eq!(problem(&format!("{header}<topology><object name=\"a>b\"/></topology>")), None);
        assert_eq!(problem("<a></a>"), Some(XmlProblem::NoTopology));
        assert_eq!(problem("<topology><object"), Some(XmlProblem::NoEnd));
        assert_eq!(problem("<topology><object>"), Some(XmlProblem::Unbalanced));
        assert_eq!(problem("<topology></topology></object>"), Some(XmlProblem::Unbalanced));
        assert_eq!(problem(&format!("<topology>{}", "<object>".repeat(100_000))), Some(XmlProblem::TooDeep));
        assert_eq!(problem("<topology>\0</topology>"), Some(XmlProblem::NoText));
        assert_eq!(checked(b"<topology>\xff</topology>".to_vec()), Err(XmlProblem::NoText));
        assert_eq!(checked(vec![b' '; BYTES_MAX as usize + 1]), Err(XmlProblem::TooLarge));
    }
}
