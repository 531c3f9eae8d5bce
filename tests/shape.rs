//! The shape of the house: who may know whom, what a room that only decides must not do, and how
//! large a piece may be. A newcomer finds the place of a change by it, so it is kept by a test.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Each room with the rooms that it may use. Arrows go down only.
const ROOMS: [(&str, &[&str]); 14] = [
    ("model", &[]),
    ("net", &[]),
    ("random", &[]),
    ("redis", &["net"]),
    ("config", &["model", "random"]),
    ("logging", &["config"]),
    ("cli", &[]),
    ("store", &["model", "redis", "config"]),
    ("mqtt", &["model", "config", "net"]),
    ("bridge", &["model"]),
    ("link", &["model"]),
    ("commands", &["model", "config", "store"]),
    ("report", &["model", "config", "store", "mqtt"]),
    (
        "service",
        &[
            "model", "random", "config", "store", "mqtt", "bridge", "link", "commands",
        ],
    ),
];
/// What a machine must not have: it gets time, results and seeds, and gives actions and notices.
const IMPURE: [&str; 10] = [
    "Instant::now",
    "SystemTime",
    ".elapsed()",
    "crossbeam",
    "log::",
    "std::net",
    "std::thread",
    "std::fs",
    "crate::random",
    "println!",
];
const FILE: usize = 400;
const FUNCTION: usize = 50;
const FIELDS: usize = 12;
/// The loops around the machines have no decision in them.
const LOOP: usize = 150;

/// A source file: its room, its place, and its text without the tests in it.
struct Source {
    room: String,
    path: PathBuf,
    text: String,
    lines: usize,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("src") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let inside = path.strip_prefix(&root).expect("inside").to_path_buf();
            if inside.ends_with("tests.rs") {
                continue;
            }
            let all = std::fs::read_to_string(&path).expect("text");
            let room = inside.iter().next().expect("a room").to_string_lossy();
            found.push(Source {
                room: room.trim_end_matches(".rs").to_string(),
                path: inside,
                text: all.split("#[cfg(test)]").next().unwrap_or_default().into(),
                lines: all.lines().count(),
            });
        }
    }
    assert!(found.len() > 50, "{}", found.len());
    found
}

/// The compiler does not see it, for the catalogue makes one of each.
#[test]
fn every_notice_is_told_by_its_machine() {
    let sources = sources();
    let name_of = |text: &str| -> String {
        let letters = text.chars();
        letters
            .take_while(|letter| letter.is_alphanumeric())
            .collect()
    };
    for room in ["bridge", "link"] {
        let (of_notices, others): (Vec<_>, Vec<_>) = sources
            .iter()
            .filter(|source| source.room == room)
            .partition(|source| source.path.to_string_lossy().contains("notice"));
        let told: BTreeSet<String> = others
            .iter()
            .flat_map(|source| source.text.split("Notice::").skip(1).map(name_of))
            .collect();
        let texts = of_notices.iter().map(|source| source.text.as_str());
        let listed = texts.filter_map(|text| text.split("pub enum Notice {\n").nth(1));
        let listed = listed.filter_map(|text| text.split("\n}").next());
        let names: Vec<String> = listed
            .flat_map(str::lines)
            .filter_map(|line| line.strip_prefix("    "))
            .map(name_of)
            .filter(|name| name.starts_with(char::is_uppercase))
            .collect();
        assert!(names.len() > 5, "{room}: {names:?}");
        let silent: Vec<_> = names.iter().filter(|name| !told.contains(*name)).collect();
        assert!(silent.is_empty(), "{room} never tells {silent:?}");
    }
}

#[test]
fn arrows_between_rooms_go_down_only() {
    let mut wrong = Vec::new();
    for source in sources() {
        if ["lib", "main"].contains(&source.room.as_str()) {
            continue;
        }
        let Some((_, may_use)) = ROOMS.iter().find(|(room, _)| *room == source.room) else {
            wrong.push(format!("{}: a room without a place", source.path.display()));
            continue;
        };
        for piece in source.text.split("crate::").skip(1) {
            let used: String = piece
                .chars()
                .take_while(|c| c.is_ascii_lowercase() || *c == '_')
                .collect();
            if used != source.room && !may_use.contains(&used.as_str()) {
                wrong.push(format!("{} uses {used}", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // No circle: a room stands behind all that it uses.
    for (nth, (room, may_use)) in ROOMS.iter().enumerate() {
        let behind = |used: &&str| ROOMS[..nth].iter().any(|(other, _)| other == used);
        assert!(may_use.iter().all(behind), "{room}");
    }
}

#[test]
fn machines_have_no_clock_no_channel_and_no_log() {
    for source in sources() {
        if !["bridge", "link", "model"].contains(&source.room.as_str()) {
            continue;
        }
        for word in IMPURE {
            // The time of the record is that of its rendering.
            let excused = source.path.ends_with("model/status.rs") && word == "SystemTime";
            assert!(
                excused || !source.text.contains(word),
                "{}: {word}",
                source.path.display()
            );
        }
    }
}

#[test]
fn the_loops_around_the_machines_are_thin() {
    for name in ["poller.rs", "publisher.rs", "dispatcher.rs"] {
        let source = sources()
            .into_iter()
            .find(|source| source.path == Path::new("service").join(name))
            .expect(name);
        let code = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with("//");
        let start = source.text.find("    pub fn run(").expect("run");
        let lines = source.text[start..].lines().filter(code).count();
        assert!(lines < LOOP, "{name}: {lines} lines");
    }
}

#[test]
fn files_and_functions_stay_readable() {
    let mut long = Vec::new();
    for source in sources() {
        if source.lines >= FILE {
            long.push(format!("{}: {} lines", source.path.display(), source.lines));
        }
        long.extend(
            long_functions(&source.text)
                .into_iter()
                .map(|what| format!("{}: {what}", source.path.display())),
        );
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}

#[test]
fn structs_stay_small() {
    let mut wide = Vec::new();
    for source in sources() {
        let (mut name, mut fields) = (None, 0);
        for line in source.text.lines() {
            let is_field = |line: &str| {
                let line = line.strip_prefix("    ").unwrap_or_default();
                line.starts_with(char::is_alphabetic) && line.contains(": ")
            };
            if line.contains("struct ") && line.ends_with('{') && !line.starts_with([' ', '/']) {
                (name, fields) = (Some(line), 0);
            } else if line == "}" {
                let full = name.take().filter(|_| fields >= FIELDS);
                wide.extend(full.map(|name| format!("{}: {name} {fields}", source.path.display())));
            } else if name.is_some() && is_field(line) {
                fields += 1;
            }
        }
    }
    assert!(wide.is_empty(), "{}", wide.join("\n"));
}

/// Functions of `FUNCTION` lines and more, tables of words aside.
fn long_functions(text: &str) -> Vec<String> {
    let mut long = Vec::new();
    let mut begun: Option<(usize, String, String)> = None;
    for (nth, line) in text.lines().enumerate() {
        let indent: String = line.chars().take_while(|c| *c == ' ').collect();
        let code = line.trim_start();
        let is_function =
            code.starts_with("fn ") || code.contains(" fn ") && code.ends_with(['{', '(']);
        if is_function && !code.starts_with("//") {
            begun = Some((nth, indent.clone(), code.to_string()));
        }
        if let Some((from, outer, name)) = &begun {
            if line == format!("{outer}}}") {
                let lines = nth - from + 1;
                if lines >= FUNCTION {
                    long.push(format!("{lines} lines: {name}"));
                }
                begun = None;
            }
        }
    }
    long
}

#[test]
fn every_file_belongs_to_the_program() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut stray = Vec::new();
    while let Some(folder) = folders.pop() {
        let parent = if folder == root {
            root.join("lib.rs")
        } else {
            folder.with_extension("rs")
        };
        let text = std::fs::read_to_string(&parent).expect("the file beside its folder");
        for entry in std::fs::read_dir(folder).expect("src") {
            let path = entry.expect("entry").path();
            let name = path.file_stem().expect("a name").to_string_lossy();
            let is_root = ["lib", "main"].contains(&&*name);
            if !is_root && !text.contains(&format!("mod {name};")) {
                stray.push(path.display().to_string());
            }
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    assert!(stray.is_empty(), "{}", stray.join("\n"));
}
