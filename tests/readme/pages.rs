//! The pages, and what holds for each of them.

use std::path::{Path, PathBuf};

use super::support;

/// Languages of blocks: each has a test that runs or checks it.
const KNOWN: [&str; 8] = [
    "sh",
    "yaml",
    "json",
    "acl",
    "conf",
    "mosquitto",
    "redis",
    "python",
];

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn page(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The paths of all pages, from the root.
pub fn pages() -> Vec<String> {
    let docs = std::fs::read_dir(root().join("docs")).expect("docs");
    let names = docs.map(|entry| entry.expect("entry").file_name());
    let mut pages: Vec<String> = names
        .map(|name| format!("docs/{}", name.to_string_lossy()))
        .filter(|path| path.ends_with(".md"))
        .collect();
    pages.sort();
    pages.extend(["README.md", "CONTRIBUTING.md"].map(String::from));
    pages
}

/// The blocks of a language on a page, in order.
pub fn blocks(path: &str, language: &str) -> Vec<String> {
    let text = page(path);
    let fence = format!("```{language}\n");
    let found = text.split(&fence).skip(1);
    found
        .map(|rest| rest.split("\n```").next().unwrap_or_default().to_string())
        .collect()
}

/// Rows of tables: their cells.
pub fn rows(text: &str) -> Vec<Vec<String>> {
    let lines = text.lines().filter_map(|line| line.strip_prefix("| "));
    let cells = |line: &str| line.trim_end_matches('|').split('|').map(trimmed).collect();
    lines.map(cells).collect()
}

fn trimmed(cell: &str) -> String {
    cell.trim().to_string()
}

#[test]
fn the_readme_is_short() {
    let lines = page("README.md").lines().count();
    assert!(lines <= 200, "{lines} lines");
}

#[test]
fn every_page_is_named_in_the_readme() {
    let readme = page("README.md");
    for path in pages().iter().filter(|path| *path != "README.md") {
        assert!(readme.contains(&format!("({path})")), "{path}");
    }
}

#[test]
fn every_link_leads_to_a_heading_or_a_file() {
    for path in pages() {
        let text = page(&path);
        let links = text.split("](").skip(1);
        let links = links.filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                PathBuf::from(&path)
            } else {
                Path::new(&path).with_file_name(file)
            };
            assert!(root().join(&target).exists(), "{path}: {link}");
            let target = page(target.to_str().expect("a path"));
            let headings = target.lines().filter(|line| line.starts_with('#'));
            let found = anchor.is_empty() || headings.map(anchor_of).any(|own| own == anchor);
            assert!(found, "{path}: {link}");
        }
    }
}

/// As the hosts of repositories make it.
fn anchor_of(heading: &str) -> String {
    let words = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = words
        .chars()
        .filter(|c| c.is_alphanumeric() || " -".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_block_is_of_a_language_that_is_tested() {
    for path in pages() {
        for fence in page(&path)
            .lines()
            .filter_map(|line| line.strip_prefix("```"))
        {
            assert!(
                fence.is_empty() || KNOWN.contains(&fence),
                "{path}: {fence}"
            );
        }
    }
}

#[test]
fn every_compose_file_is_valid() {
    // The entry for an existing fleet: what docker-compose says of it, and the same rights as
    // in the file of this repository.
    let folder = tempfile::tempdir().expect("folder");
    std::fs::create_dir(folder.path().join("mqtt-handler")).expect("folder");
    let here = page("docker-compose.yml");
    let own: Vec<&str> = here.lines().map(str::trim).collect();
    let mut checked = 0;
    for text in pages().iter().flat_map(|path| blocks(path, "yaml")) {
        let file = folder.path().join(format!("{checked}.yml"));
        std::fs::write(&file, &text).expect("file");
        support::compose_accepts(&file);
        let compose: serde_yaml_ng::Value = serde_yaml_ng::from_str(&text).expect("YAML");
        for (name, service) in compose["services"].as_mapping().expect("services") {
            assert_eq!(service["security_opt"][0], "no-new-privileges", "{name:?}");
            assert_eq!(service["cap_drop"][0], "ALL", "{name:?}");
            assert_eq!(service["read_only"], true, "{name:?}");
            assert!(!service["mem_limit"].is_null(), "{name:?}");
        }
        for line in text.lines().map(str::trim) {
            assert!(
                own.contains(&line) || line == "build: ./mqtt-handler",
                "{line:?} is not in docker-compose.yml"
            );
        }
        checked += 1;
    }
    assert!(checked > 0);
}
