//! The raw system calls that no safe wrapper offers.
//!
//! Owns every `unsafe` block of the crate. Each function checks what makes it
//! sound, or takes a token that proves it. It holds no policy.
#![expect(unsafe_code, reason = "these calls have no safe wrapper")]

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::ptr;

use rustix::process::Pid;

/// Proof that this process has a single thread, and so may fork and go on
/// running ordinary code in the child: no other thread can hold a lock there.
///
/// The code that holds the token starts no thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SingleThreaded(());

/// The process has several threads.
#[derive(Debug, thiserror::Error)]
#[error("this process has {0} threads where it must have one")]
pub(crate) struct ManyThreads(u64);

impl SingleThreaded {
    /// Counts the threads of this process.
    pub(crate) fn prove() -> io::Result<Self> {
        let directories = fs::metadata("/proc/self/task")?.nlink();
        match directories.saturating_sub(2) {
            1 => Ok(Self(())),
            threads => Err(io::Error::other(ManyThreads(threads))),
        }
    }
}

/// Which side of a fork this is.
#[derive(Debug)]
pub(crate) enum Fork {
    Parent(Pid),
    Child,
}

/// Duplicates this process.
pub(crate) fn fork(proof: SingleThreaded) -> io::Result<Fork> {
    clone(proof, 0)
}

/// Duplicates this process; the child is in new namespaces of the given kinds
/// (`CLONE_NEW*`, and `CLONE_PARENT`), and signals its end with `SIGCHLD`.
pub(crate) fn clone(_proof: SingleThreaded, flags: i32) -> io::Result<Fork> {
    let flags = i64::from(flags | libc::SIGCHLD);
    // SAFETY: without CLONE_VM and with a null stack, clone behaves as fork:
    // the child owns a copy of this memory. The process has one thread, so no
    // lock is held by a thread that the child lacks.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0_i64, 0_i64, 0_i64, 0_i64) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            Ok(Fork::Parent(pid.expect("the kernel's process ids are positive and fit")))
        }
    }
}

/// Ends this process at once: no destructor, no exit handler. The way out of a
/// forked child, which must not run what belongs to its parent.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no precondition.
    unsafe { libc::_exit(code) }
}

/// Moves this process into new namespaces of the given kinds (`CLONE_NEW*`).
pub(crate) fn unshare(flags: rustix::thread::UnshareFlags) -> io::Result<()> {
    assert!(
        !flags.contains(rustix::thread::UnshareFlags::FILES),
        "unsharing the descriptor table is not what a namespace change means"
    );
    // SAFETY: only CLONE_FILES affects IO safety, and it is excluded above.
    Ok(unsafe { rustix::thread::unshare_unsafe(flags) }?)
}

/// Marks every descriptor from `first` on as closing when a program is executed.
pub(crate) fn close_on_exec_from(first: RawFd) -> io::Result<()> {
    let first = u32::try_from(first).expect("descriptors are not negative");
    // SAFETY: the call changes flags of descriptors only; none is closed now.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Closes every descriptor from `first` on. Only for the beginning of a
/// program or of a forked child, before anything there owns one of them.
pub(crate) fn close_from(first: RawFd) -> io::Result<()> {
    let first = u32::try_from(first).expect("descriptors are not negative");
    // SAFETY: by the callers, no object of this process uses such a descriptor again.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Closes every descriptor from 3 on but those in `keep`. Only for forked
/// children, which run no destructor of what they inherited.
pub(crate) fn close_all_but(keep: &[RawFd]) -> io::Result<()> {
    let mut keep: Vec<u32> = keep.iter().filter_map(|fd| u32::try_from(*fd).ok()).collect();
    keep.sort_unstable();
    let mut first = 3;
    for kept in keep.into_iter().chain([u32::MAX]) {
        if kept > first {
            // SAFETY: by the callers, no object is used whose descriptor is closed here.
            let done = unsafe { libc::syscall(libc::SYS_close_range, first, kept - 1, 0) };
            if done != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        first = first.max(kept.saturating_add(1));
    }
    Ok(())
}

/// Makes `target` another name of `source`, kept open across execution.
///
/// Only for a process that is about to execute a program, or that is setting
/// up its standard streams.
pub(crate) fn duplicate_onto(source: &impl AsFd, target: RawFd) -> io::Result<()> {
    let source = source.as_fd().as_raw_fd();
    // SAFETY: both are plain numbers to the kernel. The callers are children
    // that own their whole descriptor table and use `target` by number only.
    let done = unsafe {
        if source == target { libc::fcntl(target, libc::F_SETFD, 0) } else { libc::dup2(source, target) }
    };
    if done == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Higher than any number that a program is started with.
const FIRST_FREE: RawFd = 64;

/// Another name of `source` with a number that no started program is given.
pub(crate) fn duplicate_high(source: &OwnedFd) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(source, FIRST_FREE)?)
}

/// Takes a descriptor that this process was started with.
pub(crate) fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl with F_DUPFD_CLOEXEC fails on a closed number and otherwise
    // gives a new descriptor that nobody else owns; not one of the numbers
    // that are still to be asked for.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, FIRST_FREE) };
    if copy == -1 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `copy` was made just now.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Writes to a descriptor by its number, without owning it.
pub(crate) struct BorrowedPipe(RawFd);

/// Names a pipe by a number that a forked child kept from its parent.
pub(crate) const fn borrowed_pipe(number: RawFd) -> BorrowedPipe {
    BorrowedPipe(number)
}

impl io::Write for BorrowedPipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // SAFETY: the kernel reads `bytes.len()` bytes; a closed number fails with EBADF.
        let count = unsafe { libc::write(self.0, bytes.as_ptr().cast(), bytes.len()) };
        usize::try_from(count).map_err(|_| io::Error::last_os_error())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Closes a descriptor that this process was started with.
pub(crate) fn close_inherited(number: RawFd) {
    // SAFETY: called at the start of a program, on numbers from its command
    // protocol that no Rust object owns.
    unsafe { libc::close(number) };
}

/// Sends any signal, real-time ones included.
pub(crate) fn send_signal(pid: Pid, signal: i32) -> io::Result<()> {
    // SAFETY: no memory is passed; a bad number fails with EINVAL.
    match unsafe { libc::kill(pid.as_raw_nonzero().get(), signal) } {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            error => Err(error),
        },
    }
}

/// The signals that the event loops take from a descriptor.
#[derive(Debug)]
pub(crate) struct SignalFd(OwnedFd);

impl SignalFd {
    /// Blocks the signals and opens a non-blocking descriptor that yields them.
    pub(crate) fn open(signals: &[i32]) -> io::Result<Self> {
        let set = signal_set(signals);
        set_mask(libc::SIG_BLOCK, &set)?;
        // SAFETY: `set` is initialised; -1 asks for a new descriptor.
        let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd == -1 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel gave this descriptor just now.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// The next pending signal's number.
    pub(crate) fn next(&self) -> io::Result<Option<i32>> {
        let mut info = [0_u8; size_of::<libc::signalfd_siginfo>()];
        match rustix::io::read(&self.0, &mut info) {
            Ok(_) => {
                let number = u32::from_ne_bytes([info[0], info[1], info[2], info[3]]);
                Ok(Some(i32::try_from(number).expect("signal numbers are small")))
            }
            Err(rustix::io::Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Blocks no signal and gives every signal its default effect, as a program expects at its start.
pub(crate) fn reset_signals() -> io::Result<()> {
    for signal in 1..=libc::SIGRTMAX() {
        if signal == libc::SIGKILL || signal == libc::SIGSTOP {
            continue;
        }
        // SAFETY: SIG_DFL installs no code. The numbers that the C library
        // keeps for itself are refused, which changes nothing.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    set_mask(libc::SIG_SETMASK, &signal_set(&[]))
}

fn signal_set(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: sigemptyset initialises the set whatever it held, and sigaddset
    // is given an initialised set.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        set
    }
}

fn set_mask(how: i32, set: &libc::sigset_t) -> io::Result<()> {
    // SAFETY: `set` is initialised and the old mask is not asked for.
    match unsafe { libc::sigprocmask(how, set, ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Gives this process a session keyring of its own, so that no key of whoever
/// started Xebec is reachable from it.
pub(crate) fn join_fresh_keyring() -> io::Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: i64 = 1;
    // SAFETY: a null name asks for an anonymous keyring; no memory is passed.
    let serial =
        unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, ptr::null::<libc::c_char>()) };
    match serial {
        -1 => match io::Error::last_os_error() {
            // A kernel without keys has none to leak.
            error if error.raw_os_error() == Some(libc::ENOSYS) => Ok(()),
            error => Err(error),
        },
        _ => Ok(()),
    }
}

/// Sets the `IFF_UP` flag of a network interface.
pub(crate) fn interface_up(socket: &impl AsFd, name: &CStr) -> io::Result<()> {
    let socket = socket.as_fd().as_raw_fd();
    // SAFETY: an all-zero request is valid: integers and byte arrays only.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let name = name.to_bytes_with_nul();
    if name.len() > request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    }
    for (place, byte) in request.ifr_name.iter_mut().zip(name) {
        *place = byte.cast_signed();
    }
    // SAFETY: both calls read and write the flags of `request` only, which
    // the first has set when the second reads them.
    let done = unsafe {
        let mut done = libc::ioctl(socket, libc::SIOCGIFFLAGS, &raw mut request);
        if done == 0 {
            request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short;
            done = libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw const request);
        }
        done
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Changes attributes of the mount at `mount`: `MOUNT_ATTR_*` to set, and the propagation.
pub(crate) fn set_mount_attributes(mount: &impl AsFd, set: u64, propagation: u64) -> io::Result<()> {
    let attributes = libc::mount_attr { attr_set: set, attr_clr: 0, propagation, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | libc::AT_RECURSIVE;
    // SAFETY: the path is an empty C string and `attributes` has the size given.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Installs a compiled seccomp filter on this process.
pub(crate) fn install_filter(program: &[seccompiler::sock_filter]) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: `program` points to `length` instructions that live until the
    // call returns; `seccompiler::sock_filter` has the layout of the C structure
    // (both are `repr(C)` of u16, u8, u8, u32). The kernel copies and only reads.
    let done =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0_u32, &raw const program) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Replaces this process's program. Returns only on failure.
pub(crate) fn execute(program: &CString, args: &[CString], env: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect()
    };
    let (args, env) = (pointers(args), pointers(env));
    // SAFETY: the strings end in NUL, the lists end in null, and both outlive the call.
    unsafe { libc::execve(program.as_ptr(), args.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_binary_has_several_threads() {
        let error = SingleThreaded::prove().unwrap_err();
        assert!(error.to_string().contains("threads"), "{error}");
    }

    #[test]
    fn filters_have_the_kernels_layout() {
        assert_eq!(size_of::<seccompiler::sock_filter>(), size_of::<libc::sock_filter>());
        assert_eq!(align_of::<seccompiler::sock_filter>(), align_of::<libc::sock_filter>());
    }
}
