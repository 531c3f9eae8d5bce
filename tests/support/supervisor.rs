//! The supervisor of balena as a small real HTTP server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Request {
    pub line: String,
    pub headers: Vec<String>,
    pub body: String,
}

pub struct Supervisor {
    pub address: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Supervisor {
    /// Answers every request with this status and body; status 0 never answers.
    pub fn start(status: u16, body: &'static str) -> Supervisor {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let address = format!("http://{}", listener.local_addr().expect("address"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = requests.clone();
        std::thread::spawn(move || {
            let mut hanging = Vec::new();
            for mut stream in listener.incoming().map_while(Result::ok) {
                let mut reader = BufReader::new(stream.try_clone().expect("clone"));
                let mut line = String::new();
                if reader.read_line(&mut line).is_err() || line.is_empty() {
                    continue;
                }
                let headers: Vec<String> = reader
                    .by_ref()
                    .lines()
                    .map_while(Result::ok)
                    .take_while(|line| !line.is_empty())
                    .collect();
                let length = headers.iter().find_map(|header| {
                    header
                        .to_lowercase()
                        .strip_prefix("content-length:")?
                        .trim()
                        .parse()
                        .ok()
                });
                let mut content = vec![0; length.unwrap_or(0)];
                drop(reader.read_exact(&mut content));
                let body_text = String::from_utf8_lossy(&content).into_owned();
                seen.lock().expect("requests").push(Request {
                    line: line.trim().into(),
                    headers,
                    body: body_text,
                });
                if status == 0 {
                    hanging.push(stream);
                    continue;
                }
                let answer = format!(
                    "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
                drop(stream.write_all(answer.as_bytes()));
            }
        });
        Supervisor { address, requests }
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("requests").clone()
    }
}
