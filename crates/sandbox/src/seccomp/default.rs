//! The default filter: what programs need, and nothing that mainly widens the
//! kernel's attack surface.
//!
//! Everything not listed fails with `EPERM`: keys, BPF, performance events,
//! userfaultfd, io_uring, mounting, namespaces, modules, kexec, swap, clocks.
//! Calls newer than the table fail with `ENOSYS`, and so does `clone3`, whose
//! flags a filter cannot see: C libraries then fall back to `clone`.

use seccompiler::{SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

use super::{Filter, Rules, SeccompError, names};

/// Namespace kinds in the flags of `clone`. `CLONE_NEWTIME` is no such flag there.
const CLONE_NAMESPACES: u64 = 0x7e02_0000;
/// Namespace kinds in the flags of `unshare`.
const UNSHARE_NAMESPACES: u64 = CLONE_NAMESPACES | 0x80;

/// Numbers from the end of the table up to here are answered with `ENOSYS`.
const FUTURE_CALLS: i64 = 600;

pub(super) fn filter() -> Result<Filter, SeccompError> {
    let mut allowed = Rules::new();
    for name in ALLOWED {
        // A name of another architecture is nothing to allow here.
        if let Some(number) = names::number(name) {
            allowed.insert(number, Vec::new());
        }
    }
    conditional(&mut allowed)?;
    let mut missing: Rules =
        (0..FUTURE_CALLS).filter(|n| !names::is_known(*n)).map(|number| (number, Vec::new())).collect();
    let clone3 = names::number("clone3").expect("the table has clone3 on every architecture");
    missing.insert(clone3, Vec::new());
    allowed.extend(missing.keys().map(|number| (*number, Vec::new())));

    let mut filter = Filter::default();
    filter.push(allowed, SeccompAction::Allow, SeccompAction::Errno(errno(libc::EPERM)))?;
    filter.push(missing, SeccompAction::Errno(errno(libc::ENOSYS)), SeccompAction::Allow)?;
    Ok(filter)
}

fn errno(number: i32) -> u32 {
    number.unsigned_abs()
}

/// Calls that are allowed with some arguments only. Arguments that the kernel
/// reads as 32 bits are compared as such, or the upper half would hide a match.
fn conditional(allowed: &mut Rules) -> Result<(), SeccompError> {
    let is = |index, operator, value| SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value);
    let none_of = |index, values: &[u64]| -> Result<Vec<SeccompRule>, SeccompError> {
        let conditions = values.iter().map(|value| is(index, SeccompCmpOp::Ne, *value));
        Ok(vec![SeccompRule::new(conditions.collect::<Result<_, _>>()?)?])
    };
    let without = |mask: u64| -> Result<Vec<SeccompRule>, SeccompError> {
        Ok(vec![SeccompRule::new(vec![is(0, SeccompCmpOp::MaskedEq(mask), 0)?])?])
    };
    let personalities = [0, 0x0008, 0x0002_0000, 0x0002_0008, 0xffff_ffff]
        .iter()
        .map(|value| Ok(SeccompRule::new(vec![is(0, SeccompCmpOp::Eq, *value)?])?))
        .collect::<Result<Vec<_>, SeccompError>>()?;
    let families = [libc::AF_ALG, libc::AF_VSOCK].map(|family| u64::from(family.unsigned_abs()));
    // Both put characters into a terminal's input, out of a container's shell into its caller's.
    let terminal_input = [libc::TIOCSTI, libc::TIOCLINUX];
    allowed.insert(libc::SYS_clone, without(CLONE_NAMESPACES)?);
    allowed.insert(libc::SYS_unshare, without(UNSHARE_NAMESPACES)?);
    allowed.insert(libc::SYS_socket, none_of(0, &families)?);
    allowed.insert(libc::SYS_ioctl, none_of(1, &terminal_input)?);
    allowed.insert(libc::SYS_personality, personalities);
    Ok(())
}

const ALLOWED: &[&str] = &[
    "accept",
    "accept4",
    "access",
    "adjtimex",
    "alarm",
    "arch_prctl",
    "bind",
    "brk",
    "cachestat",
    "capget",
    "capset",
    "chdir",
    "chmod",
    "chown",
    "chroot",
    "clock_getres",
    "clock_gettime",
    "clock_nanosleep",
    "close",
    "close_range",
    "connect",
    "copy_file_range",
    "creat",
    "dup",
    "dup2",
    "dup3",
    "epoll_create",
    "epoll_create1",
    "epoll_ctl",
    "epoll_pwait",
    "epoll_pwait2",
    "epoll_wait",
    "eventfd",
    "eventfd2",
    "execve",
    "execveat",
    "exit",
    "exit_group",
    "faccessat",
    "faccessat2",
    "fadvise64",
    "fallocate",
    "fchdir",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "fchown",
    "fchownat",
    "fcntl",
    "fdatasync",
    "fgetxattr",
    "flistxattr",
    "flock",
    "fork",
    "fremovexattr",
    "fsetxattr",
    "fstat",
    "fstatfs",
    "fsync",
    "ftruncate",
    "futex",
    "futex_requeue",
    "futex_wait",
    "futex_waitv",
    "futex_wake",
    "futimesat",
    "get_robust_list",
    "get_thread_area",
    "getcpu",
    "getcwd",
    "getdents",
    "getdents64",
    "getegid",
    "geteuid",
    "getgid",
    "getgroups",
    "getitimer",
    "getpeername",
    "getpgid",
    "getpgrp",
    "getpid",
    "getppid",
    "getpriority",
    "getrandom",
    "getresgid",
    "getresuid",
    "getrlimit",
    "getrusage",
    "getsid",
    "getsockname",
    "getsockopt",
    "gettid",
    "gettimeofday",
    "getuid",
    "getxattr",
    "getxattrat",
    "inotify_add_watch",
    "inotify_init",
    "inotify_init1",
    "inotify_rm_watch",
    "io_cancel",
    "io_destroy",
    "io_getevents",
    "io_pgetevents",
    "io_setup",
    "io_submit",
    "ioprio_get",
    "ioprio_set",
    "kill",
    "landlock_add_rule",
    "landlock_create_ruleset",
    "landlock_restrict_self",
    "lchown",
    "lgetxattr",
    "link",
    "linkat",
    "listen",
    "listxattr",
    "listxattrat",
    "llistxattr",
    "lremovexattr",
    "lseek",
    "lsetxattr",
    "lstat",
    "madvise",
    "map_shadow_stack",
    "membarrier",
    "memfd_create",
    "mincore",
    "mkdir",
    "mkdirat",
    "mknod",
    "mknodat",
    "mlock",
    "mlock2",
    "mlockall",
    "mmap",
    "modify_ldt",
    "mprotect",
    "mq_getsetattr",
    "mq_notify",
    "mq_open",
    "mq_timedreceive",
    "mq_timedsend",
    "mq_unlink",
    "mremap",
    "mseal",
    "msgctl",
    "msgget",
    "msgrcv",
    "msgsnd",
    "msync",
    "munlock",
    "munlockall",
    "munmap",
    "nanosleep",
    "newfstatat",
    "open",
    "openat",
    "openat2",
    "pause",
    "pidfd_getfd",
    "pidfd_open",
    "pidfd_send_signal",
    "pipe",
    "pipe2",
    "pkey_alloc",
    "pkey_free",
    "pkey_mprotect",
    "poll",
    "ppoll",
    "prctl",
    "pread64",
    "preadv",
    "preadv2",
    "prlimit64",
    "process_mrelease",
    "process_vm_readv",
    "process_vm_writev",
    "pselect6",
    "ptrace",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "read",
    "readahead",
    "readlink",
    "readlinkat",
    "readv",
    "recvfrom",
    "recvmmsg",
    "recvmsg",
    "remap_file_pages",
    "removexattr",
    "removexattrat",
    "rename",
    "renameat",
    "renameat2",
    "restart_syscall",
    "rmdir",
    "rseq",
    "rt_sigaction",
    "rt_sigpending",
    "rt_sigprocmask",
    "rt_sigqueueinfo",
    "rt_sigreturn",
    "rt_sigsuspend",
    "rt_sigtimedwait",
    "rt_tgsigqueueinfo",
    "sched_get_priority_max",
    "sched_get_priority_min",
    "sched_getaffinity",
    "sched_getattr",
    "sched_getparam",
    "sched_getscheduler",
    "sched_rr_get_interval",
    "sched_setaffinity",
    "sched_setattr",
    "sched_setparam",
    "sched_setscheduler",
    "sched_yield",
    "seccomp",
    "select",
    "semctl",
    "semget",
    "semop",
    "semtimedop",
    "sendfile",
    "sendmmsg",
    "sendmsg",
    "sendto",
    "set_robust_list",
    "set_thread_area",
    "set_tid_address",
    "setfsgid",
    "setfsuid",
    "setgid",
    "setgroups",
    "setitimer",
    "setpgid",
    "setpriority",
    "setregid",
    "setresgid",
    "setresuid",
    "setreuid",
    "setrlimit",
    "setsid",
    "setsockopt",
    "setuid",
    "setxattr",
    "setxattrat",
    "shmat",
    "shmctl",
    "shmdt",
    "shmget",
    "shutdown",
    "sigaltstack",
    "signalfd",
    "signalfd4",
    "socketpair",
    "splice",
    "stat",
    "statfs",
    "statx",
    "symlink",
    "symlinkat",
    "sync",
    "sync_file_range",
    "syncfs",
    "sysinfo",
    "tee",
    "tgkill",
    "time",
    "timer_create",
    "timer_delete",
    "timer_getoverrun",
    "timer_gettime",
    "timer_settime",
    "timerfd_create",
    "timerfd_gettime",
    "timerfd_settime",
    "times",
    "tkill",
    "truncate",
    "umask",
    "uname",
    "unlink",
    "unlinkat",
    "utime",
    "utimensat",
    "utimes",
    "vfork",
    "vmsplice",
    "wait4",
    "waitid",
    "write",
    "writev",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compiles_and_denies_what_it_must() {
        assert_eq!(filter().unwrap().programs.len(), 2);
        for name in [
            "add_key",
            "bpf",
            "delete_module",
            "finit_module",
            "fsmount",
            "fsopen",
            "init_module",
            "io_uring_enter",
            "io_uring_register",
            "io_uring_setup",
            "kexec_load",
            "keyctl",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_by_handle_at",
            "open_tree",
            "perf_event_open",
            "pivot_root",
            "reboot",
            "request_key",
            "setns",
            "swapon",
            "umount2",
            "userfaultfd",
        ] {
            assert!(names::number(name).is_some(), "{name} is no call");
            assert!(!ALLOWED.contains(&name), "{name} is allowed");
        }
    }
}
