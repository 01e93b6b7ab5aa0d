//! Process 1 of a pod that shares its process namespace: it reaps, and nothing else.
//!
//! The containers see it, so it is stripped: no descriptors, no files, no
//! capabilities, and no way to look into it.

use std::io;

use rustix::process::{DumpableBehavior, WaitOptions};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::sys::{self, SignalFd};

/// Runs until it is killed.
pub(super) fn run() -> io::Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::thread::set_name(c"xebec-reaper")?;
    rustix::process::setsid()?;
    // A directory that is empty but for this process's own descriptors.
    rustix::process::chroot("/proc/self/fdinfo")?;
    rustix::process::chdir("/")?;
    sys::close_from(0)?;
    let none = CapabilitySet::empty();
    rustix::thread::set_capabilities(
        None,
        CapabilitySets { effective: none, permitted: none, inheritable: none },
    )?;
    let signals = SignalFd::open(&[libc::SIGCHLD])?;
    loop {
        reap_all()?;
        let mut watched = [rustix::event::PollFd::new(&signals, rustix::event::PollFlags::IN)];
        match rustix::event::poll(&mut watched, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        while signals.next()?.is_some() {}
    }
}

fn reap_all() -> io::Result<()> {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) | Err(rustix::io::Errno::CHILD) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}
