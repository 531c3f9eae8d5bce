//! A terminal that nobody sits at.

use std::os::fd::OwnedFd;

use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};

/// The screen and keyboard, and what a program has as its stdin and stdout.
pub fn open() -> (OwnedFd, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
    let screen = openpt(flags).expect("terminal");
    grantpt(&screen)
        .and_then(|()| unlockpt(&screen))
        .expect("terminal");
    let inside = ioctl_tiocgptpeer(&screen, flags).expect("terminal");
    (screen, inside)
}
