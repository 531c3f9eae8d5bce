//! What a run looks like over time, for a picture: one line a second.

use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mqtt_handler::model::stream_id::{Cursor, StreamId};

const VALUES: &str = "measurement:values";

/// Measurements confirmed so far: counted up to the last cursor that was seen.
struct Confirmed {
    upto: StreamId,
    count: u64,
}

impl Confirmed {
    fn look(&mut self, connection: &mut redis::Connection) -> redis::RedisResult<()> {
        let stored: Option<String> = redis::cmd("GET")
            .arg("mqtt_sender:last_id")
            .query(connection)?;
        let cursor = stored.and_then(|text| text.parse().ok());
        if let Some(Cursor::After(cursor)) = cursor {
            if cursor > self.upto {
                self.count += between(connection, self.upto, cursor)?;
            } else {
                let back = between(connection, cursor, self.upto)?;
                self.count = self.count.saturating_sub(back);
            }
            self.upto = cursor;
        }
        Ok(())
    }
}

fn between(
    connection: &mut redis::Connection,
    after: StreamId,
    upto: StreamId,
) -> redis::RedisResult<u64> {
    let entries: Vec<redis::Value> = redis::cmd("XRANGE")
        .arg(VALUES)
        .arg(format!("({after}"))
        .arg(upto.to_string())
        .query(connection)?;
    Ok(entries.len() as u64)
}

/// Writes `seconds,produced,confirmed,received,fault` to a file until it is stopped.
pub struct Series {
    fault: Arc<Mutex<&'static str>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Series {
    pub fn start(
        mut file: File,
        port: u16,
        received: impl Fn() -> usize + Send + 'static,
    ) -> Series {
        let fault = Arc::new(Mutex::new(""));
        let stop = Arc::new(AtomicBool::new(false));
        let (name, stopped, begun) = (fault.clone(), stop.clone(), Instant::now());
        let thread = std::thread::spawn(move || {
            let client = redis::Client::open(("127.0.0.1", port)).expect("client");
            let mut confirmed = Confirmed {
                upto: StreamId::ZERO,
                count: 0,
            };
            let mut produced = 0;
            while !stopped.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_secs(1));
                let look = client
                    .get_connection_with_timeout(Duration::from_secs(1))
                    .and_then(|mut connection| {
                        connection.set_read_timeout(Some(Duration::from_secs(1)))?;
                        produced = redis::cmd("XLEN").arg(VALUES).query(&mut connection)?;
                        confirmed.look(&mut connection)
                    });
                // While Redis is away, the last numbers stand.
                drop(look);
                let fault = name
                    .lock()
                    .map_or("", |mut name| std::mem::take(&mut *name));
                let (time, received) = (begun.elapsed().as_secs(), received());
                writeln!(
                    file,
                    "{time},{produced},{},{received},{fault}",
                    confirmed.count
                )
                .expect("the series");
            }
        });
        Series {
            fault,
            stop,
            thread,
        }
    }

    pub fn note(&self, fault: &'static str) {
        *self.fault.lock().expect("the name of a fault") = fault;
    }

    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the series");
    }
}
