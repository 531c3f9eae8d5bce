//! A key, or Ctrl-C: whoever watches may end it at any time.

use std::io::{IsTerminal, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

/// Counts keys and signals; the terminal is as it was when this is dropped.
pub struct Keys {
    asked: Arc<AtomicUsize>,
    before: Option<Termios>,
}

impl Keys {
    pub fn watch() -> Keys {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        ctrlc::set_handler(move || {
            count.fetch_add(1, Ordering::Relaxed);
        })
        .expect("signals");
        let mut keys = Keys {
            asked,
            before: None,
        };
        if std::io::stdin().is_terminal() && std::io::stdout().is_terminal() {
            keys.listen();
        }
        keys
    }

    /// Has the terminal hand over each key at once, and not show it.
    fn listen(&mut self) {
        let Ok(before) = tcgetattr(std::io::stdin()) else {
            return;
        };
        let mut now = before.clone();
        now.local_modes
            .remove(LocalModes::ICANON | LocalModes::ECHO);
        if tcsetattr(std::io::stdin(), OptionalActions::Now, &now).is_err() {
            return;
        }
        self.before = Some(before);
        let asked = self.asked.clone();
        std::thread::spawn(move || {
            for _ in std::io::stdin().bytes().map_while(Result::ok) {
                asked.fetch_add(1, Ordering::Relaxed);
            }
        });
    }

    pub fn are_watched(&self) -> bool {
        self.before.is_some()
    }

    /// How often the end was asked for.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}
