//! The tables of settings: docs/configuration.md is made from the settings, the README shows ten.

use mqtt_handler::config::KEYS;

use super::pages::{page, root, rows};

const BEGIN: &str = "by UPDATE=1 cargo test --test readme -->\n";
const END: &str = "<!-- end of the tables -->";

#[test]
fn the_page_of_settings_is_made_from_the_settings() {
    let text = page("docs/configuration.md");
    let (before, rest) = text.split_once(BEGIN).expect("the begin of the tables");
    let (_, after) = rest.split_once(END).expect("the end of the tables");
    let made = format!("{before}{BEGIN}{}{END}{after}", tables());
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(root().join("docs/configuration.md"), made).expect("the page");
        return;
    }
    assert!(
        made == text,
        "docs/configuration.md is not what src/config/items.rs says: UPDATE=1 cargo test --test readme"
    );
}

/// A table for each section.
fn tables() -> String {
    let mut text = String::new();
    let mut section = "";
    for key in KEYS {
        if key.section != section {
            section = key.section;
            text += &format!("\n### {section}\n\n");
            text += "| key | variable | default | | allowed |\n| --- | --- | --- | --- | --- |\n";
        }
        assert!(!key.about.is_empty(), "{}: no words about it", key.variable);
        let default = match key.default {
            "" => "empty".to_string(),
            default => format!("`{default}`"),
        };
        text += &format!(
            "| {} | `{}` | {default} | {} | {} |\n",
            key.name, key.variable, key.about, key.allowed
        );
    }
    text + "\n"
}

#[test]
fn the_readme_shows_ten_settings_with_their_defaults() {
    let readme = page("README.md");
    let section = readme
        .split("\n## ")
        .find(|text| text.starts_with("The ten settings"));
    let rows = rows(section.expect("the section"));
    let shown: Vec<_> = rows.iter().filter(|row| row[0].starts_with('`')).collect();
    assert_eq!(shown.len(), 10);
    for row in shown {
        let variable = row[0].trim_matches('`');
        let key = KEYS.iter().find(|key| key.variable == variable);
        let default = key.unwrap_or_else(|| panic!("{variable}")).default;
        let default = if default.is_empty() { "empty" } else { default };
        assert_eq!(row[1], default, "{variable}");
    }
}
