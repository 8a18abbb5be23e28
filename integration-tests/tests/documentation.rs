//! The documentation is complete: every error code has a page, and every link has a target.

use std::{
    fs,
    path::{Path, PathBuf},
};

use sealbus_schema::ErrorCode;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn markdown_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("reads the directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            markdown_files(&path, found);
        } else if name.ends_with(".md") {
            found.push(path);
        }
    }
}

#[test]
fn every_error_code_has_a_page_and_every_page_a_code() {
    let directory = root().join("docs/errors");
    for (code, class) in ErrorCode::ALL {
        let page = directory.join(format!("{code}.md"));
        let text = fs::read_to_string(&page).unwrap_or_else(|_| panic!("{} is missing", page.display()));
        assert!(text.contains(&format!("`{class}`")), "{code}.md does not name its class `{class}`");
    }
    for entry in fs::read_dir(&directory).expect("reads the directory") {
        let name = entry.expect("an entry").file_name().into_string().expect("text");
        let code = name.trim_end_matches(".md");
        let known = ErrorCode::ALL.iter().any(|(known, _)| known.as_str() == code);
        assert!(known || code == "README", "docs/errors/{name} is about no code");
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut files = Vec::new();
    markdown_files(&root(), &mut files);
    assert!(files.len() > 10, "found only {files:?}");
    let mut broken = Vec::new();
    for file in &files {
        let text = fs::read_to_string(file).expect("reads");
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap_or_default();
            if path.is_empty() || path.contains("://") || path.starts_with("mailto:") {
                continue;
            }
            let resolved = file.parent().expect("a directory").join(path);
            if !resolved.exists() {
                broken.push(format!("{} -> {target}", file.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn code_that_documents_name_exists() {
    let mut files = Vec::new();
    markdown_files(&root().join("docs"), &mut files);
    files.push(root().join("README.md"));
    let mut broken = Vec::new();
    for file in &files {
        let text = fs::read_to_string(file).expect("reads");
        for quoted in text.split('`').skip(1).step_by(2) {
            let is_path =
                quoted.ends_with(".rs") && !quoted.contains(|c: char| c.is_whitespace() || c == '*' || c == '{');
            if is_path && quoted.contains('/') && !root().join(quoted).exists() {
                broken.push(format!("{}: `{quoted}`", file.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}
