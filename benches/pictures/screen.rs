//! A terminal as a picture: the text that a program writes to one, with its colours.

use std::error::Error;
use std::fmt::Write as _;
use std::io::Read;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::Outcome;
use super::paper::keep;
use super::support::proxy::{Behaviour, Proxy};
use super::support::service::command;
use super::support::{Service, World, signal, terminal, wait_until};

const WIDTH: f64 = 8.4;
const LINE: usize = 19;
const MARGIN: usize = 18;
const CLEAR: &str = "\x1b[H\x1b[2J";

/// `make demo`, shortened.
pub fn demo() -> Outcome {
    let mut make = Command::new("make");
    make.arg("demo")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("DEMO_SECONDS", "20");
    let (mut child, text) = watched(make)?;
    let status = child.wait()?;
    if !status.success() {
        return Err(format!("make demo: {status}").into());
    }
    wait_until("the account is shown", || shown(&text).contains("lost "));
    let text = shown(&text);
    let begin = text.find("A private").ok_or("no demo")?;
    paint("demo", &format!("$ make demo\n{}", &text[begin..]))
}

/// `--status --watch`: catching up over a slow line, without a broker, and when all is well.
pub fn status() -> Outcome {
    let mut world = World::new();
    world.redis.fill(now() - 60_000, 30_000);
    let proxy = Proxy::start(world.broker.port);
    proxy.set(Behaviour {
        rate: 200_000,
        ..Behaviour::default()
    });
    let direct = world.settings();
    let mut slow = direct.clone();
    slow.push(("MQTT_PORT", proxy.port.to_string()));
    let service = Service::start(&slow);
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("app.conf"), "")?;
    let mut watch = command();
    watch
        .current_dir(folder.path())
        .args(["--status", "--watch"])
        .envs(direct.clone());
    let (mut child, text) = watched(watch)?;
    let screen = |broker: &str, what: &str| {
        let mut found = None;
        wait_until(what, || {
            let text = shown(&text);
            // The last one may not be written in full yet.
            let screens: Vec<&str> = text.split(CLEAR).collect();
            let whole = screens.len().checked_sub(2).map(|nth| screens[nth]);
            found = whole
                .filter(|whole| whole.contains(broker) && whole.contains(what))
                .map(String::from);
            found.is_some()
        });
        found.ok_or("no status")
    };
    let catching_up = screen("connected (", " to go")?;
    world.broker.stop();
    drop(service);
    let _service = Service::start(&direct);
    let alone = screen("not connected: ", "backlog")?;
    world.broker.start_again();
    let well = screen("connected (", "backlog           0 ")?;
    signal("INT", child.id());
    child.wait()?;
    let screens = [catching_up, alone, well].join("\n");
    paint(
        "status",
        &format!("$ mqtt-handler --status --watch\n\n{screens}"),
    )
}

fn now() -> u64 {
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    time.map_or(0, |time| time.as_millis() as u64)
}

type Text = Arc<Mutex<String>>;

fn shown(text: &Text) -> String {
    text.lock().expect("text").replace('\r', "")
}

/// Starts a program in a terminal and collects what it writes there.
fn watched(mut command: Command) -> Result<(std::process::Child, Text), Box<dyn Error>> {
    let (screen, inside) = terminal::open();
    command.stdin(inside.try_clone()?).stdout(inside);
    let child = command.spawn()?;
    let text = Text::default();
    let to = text.clone();
    std::thread::spawn(move || {
        let mut from = std::fs::File::from(screen);
        let mut part = [0; 4096];
        let mut left = Vec::new();
        while let Ok(length @ 1..) = from.read(&mut part) {
            left.extend_from_slice(&part[..length]);
            // A character may come in two parts.
            let whole = match std::str::from_utf8(&left) {
                Ok(text) => text.len(),
                Err(error) => error.valid_up_to(),
            };
            let text: Vec<u8> = left.drain(..whole).collect();
            let text = String::from_utf8(text).expect("UTF-8");
            to.lock().expect("text").push_str(&text);
        }
    });
    std::thread::sleep(Duration::from_millis(10));
    Ok((child, text))
}

/// Each piece of a line stands where it belongs, whatever font there is.
fn paint(name: &str, text: &str) -> Outcome {
    let text = text.trim_end();
    let columns = text.lines().map(|line| plain(line).chars().count()).max();
    let width = columns.unwrap_or(0) as f64 * WIDTH + 2.0 * MARGIN as f64;
    let height = text.lines().count() * LINE + 2 * MARGIN;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.0} {height}\" width=\"{width:.0}\" height=\"{height}\">\n\
         <style>text{{font:14px ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:#e6edf3;white-space:pre}}\
         .b{{font-weight:bold;fill:#fff}}.g{{fill:#3fb950}}.r{{fill:#ff7b72}}</style>\n\
         <rect width=\"100%\" height=\"100%\" rx=\"8\" fill=\"#161b22\" stroke=\"#3d444d\"/>\n"
    );
    for (row, line) in text.lines().enumerate() {
        let y = MARGIN + row * LINE + 14;
        let mut column = 0;
        for (class, piece) in pieces(line) {
            let letters = piece.chars().count();
            if !piece.trim().is_empty() {
                let (x, length) = (
                    MARGIN as f64 + column as f64 * WIDTH,
                    letters as f64 * WIDTH,
                );
                let piece = piece.replace('&', "&amp;").replace('<', "&lt;");
                writeln!(
                    svg,
                    "<text x=\"{x:.1}\" y=\"{y}\"{class} textLength=\"{length:.1}\" xml:space=\"preserve\">{piece}</text>"
                )?;
            }
            column += letters;
        }
    }
    svg += "</svg>\n";
    keep(name, &svg)
}

fn plain(line: &str) -> String {
    pieces(line).into_iter().map(|(_, piece)| piece).collect()
}

/// The pieces of a line with their classes.
fn pieces(line: &str) -> Vec<(&'static str, &str)> {
    let mut pieces = Vec::new();
    let mut class = "";
    for (nth, part) in line.split("\x1b[").enumerate() {
        let Some((code, text)) = part.split_once('m').filter(|_| nth > 0) else {
            pieces.push((class, part));
            continue;
        };
        class = match code {
            "1" => " class=\"b\"",
            "32" => " class=\"g\"",
            "31" | "1;31" => " class=\"r\"",
            _ => "",
        };
        pieces.push((class, text));
    }
    pieces
}
