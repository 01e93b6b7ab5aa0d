//! Stopping a keeper that some other process started.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::{Began, BootstrapError, KeeperInfo};

/// Asks the keeper of a run directory to stop, waits, and kills it when it takes longer than `patience`. `false`: none
/// runs.
pub fn stop(run_dir: &Path, patience: Duration) -> Result<bool, BootstrapError> {
    let info = match KeeperInfo::load(run_dir) {
        Ok(info) => info,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(failed("read what the keeper recorded")(error)),
    };
    let Some(keeper) = find(&info)? else { return Ok(false) };
    for (signal, wait) in [(Signal::TERM, patience), (Signal::KILL, Duration::from_secs(10))] {
        match pidfd_send_signal(&keeper, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(failed("signal the keeper")(error.into())),
        }
        if ended_within(&keeper, wait)? {
            return Ok(true);
        }
    }
    Err(failed("stop the keeper")(io::Error::new(io::ErrorKind::TimedOut, "it outlives being killed")))
}

fn failed(action: &'static str) -> impl FnOnce(io::Error) -> BootstrapError {
    move |source| BootstrapError::System { action, source }
}

/// The keeper's process, if that number is still its.
fn find(info: &KeeperInfo) -> Result<Option<OwnedFd>, BootstrapError> {
    let Some(pid) = i32::try_from(info.host_pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
    let keeper = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(keeper) => keeper,
        Err(rustix::io::Errno::SRCH) => return Ok(None),
        Err(error) => return Err(failed("find the keeper")(error.into())),
    };
    // Numbers are given again, and the record may be from before a crash of the machine. The descriptor is open: from here
    // on the number means the same process.
    Ok(Began::of(&info.host_pid.to_string()).is_ok_and(|began| began == info.began).then_some(keeper))
}

fn ended_within(keeper: &OwnedFd, wait: Duration) -> Result<bool, BootstrapError> {
    let timeout = Timespec { tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX), tv_nsec: 0 };
    let mut watched = [PollFd::from_borrowed_fd(keeper.as_fd(), PollFlags::IN)];
    match poll(&mut watched, Some(&timeout)) {
        Ok(count) => Ok(count > 0),
        Err(error) => Err(failed("wait for the keeper")(error.into())),
    }
}
