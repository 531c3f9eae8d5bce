//! Every line of the log is explained in docs/operations.md.

use super::pages::{page, root};

/// The longest part of a text in Rust that is printed as it is.
fn fixed_part(literal: &str) -> String {
    let mut parts: Vec<String> = vec![String::new()];
    let mut inside = false;
    for letter in literal.chars() {
        match letter {
            '{' => inside = true,
            '}' => {
                inside = false;
                parts.push(String::new());
            }
            _ if !inside => parts.last_mut().expect("a part").push(letter),
            _ => {}
        }
    }
    let longest = parts.into_iter().max_by_key(String::len);
    longest
        .unwrap_or_default()
        .trim_matches([' ', ':', ';', ',', '(', ')'])
        .to_string()
}

/// The first text in quotes.
fn literal(code: &str) -> Option<&str> {
    code.split_once('"')?.1.split('"').next()
}

/// What does not vary in a line: the longest piece between marks and numbers.
fn fixed_part_of(line: &str) -> String {
    let pieces = line.split(|letter: char| letter == MARK || letter.is_ascii_digit());
    let longest = pieces.max_by_key(|piece| piece.len()).unwrap_or_default();
    longest
        .split("(see")
        .next()
        .unwrap_or_default()
        .trim_matches([' ', ':', ';', ',', '(', ')', '"', '-', '.'])
        .to_string()
}

/// Stands for a text that varies.
const MARK: char = '§';

#[test]
fn every_line_is_explained() {
    let mark = MARK.to_string();
    let bridge = mqtt_handler::bridge::notice::catalogue(&mark);
    let link = mqtt_handler::link::notice::catalogue(&mark);
    let bridge = bridge.iter().map(ToString::to_string);
    let link = link.iter().map(ToString::to_string);
    let notices = bridge.chain(link).map(|line| fixed_part_of(&line));
    let reasons = code()
        .iter()
        .flat_map(|code| reasons_and_warnings(code))
        .collect::<Vec<_>>();
    let page = page("docs/operations.md");
    let parts: Vec<String> = notices
        .chain(reasons)
        .filter(|part| part.len() >= 8)
        .collect();
    assert!(parts.len() > 40, "{}", parts.len());
    let missing: Vec<&str> = parts
        .iter()
        .map(String::as_str)
        .filter(|part| !page.contains(part))
        .collect();
    assert!(missing.is_empty(), "not explained:\n{}", missing.join("\n"));
}

/// What the threads themselves log, and the reasons that name a setting.
fn reasons_and_warnings(code: &str) -> Vec<String> {
    let logged = code
        .split("warn!(")
        .skip(1)
        .chain(code.split("error!(").skip(1))
        .chain(code.split("info!(").skip(1));
    let reasons = code.match_indices("(see mqtt.").map(|(at, _)| {
        let begin = code[..at].rfind('"').unwrap_or_default();
        &code[begin..]
    });
    logged
        .chain(reasons)
        .filter_map(literal)
        .map(|text| fixed_part(text.split("(see").next().unwrap_or_default()))
        .collect()
}

/// The sources without their tests.
fn code() -> Vec<String> {
    let mut code = Vec::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)
            .expect("src")
            .map_while(Result::ok)
        {
            if entry.path().is_dir() {
                folders.push(entry.path());
                continue;
            }
            let text = std::fs::read_to_string(entry.path()).expect("code");
            code.push(text.split("#[cfg(test)]").next().unwrap_or_default().into());
        }
    }
    code
}
