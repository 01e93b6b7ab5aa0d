//! What the keeper gives to the server.

use std::fs;
use std::sync::Arc;

use xebec_sandbox::sandbox::Engine;

use crate::harness::{Bench, Case, cases};

pub(crate) fn cases(list: &mut Vec<Case>) {
    cases!(
        list,
        the_server_is_root_of_a_namespace_only,
        the_server_inherits_nothing,
        mounts_and_networks,
        pods_share_half_of_the_processes
    );
}

async fn the_server_is_root_of_a_namespace_only(bench: Arc<Bench>) {
    assert!(rustix::process::geteuid().is_root());
    for (file, own) in [("uid_map", bench.info.identity.uid), ("gid_map", bench.info.identity.gid)] {
        let map = fs::read_to_string(format!("/proc/self/{file}")).unwrap();
        let rows: Vec<Vec<u32>> =
            map.lines().map(|line| line.split_whitespace().map(|n| n.parse().unwrap()).collect()).collect();
        assert_eq!(rows[0], [0, own, 1], "{map}");
        assert_eq!((rows[1][0], rows[1][2]), (1, 65_535), "{map}");
        assert_eq!(rows.len(), 2, "{map}");
    }
    assert_ne!(bench.info.identity.uid, 0);
    let groups = rustix::process::getgroups().unwrap();
    assert!(groups.is_empty(), "{groups:?}");
    assert!(bench.engine.available().is_ok());
    assert!(bench.info.limits.pids);
}

async fn the_server_inherits_nothing(_: Arc<Bench>) {
    let mut names: Vec<_> = std::env::vars().map(|(name, _)| name).collect();
    names.sort();
    assert_eq!(names, ["GIVEN", "HOME", "PATH"]);
    let status = fs::read_to_string("/proc/1/status").unwrap();
    assert!(status.contains("Pid:\t1\n"), "{status}");
    // As it began: before the runtime opened descriptors of its own.
    let keeper: Vec<_> = fs::read_dir("/proc/1/fd")
        .unwrap()
        .map(|entry| fs::read_link(entry.unwrap().path()).unwrap_or_default().display().to_string())
        .collect();
    assert!(keeper.iter().all(|link| !link.contains("/target/") && !link.contains(".cargo")), "{keeper:?}");
    assert!(keeper.len() <= 6, "{keeper:?}");
    let mask = rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    assert_eq!(mask, rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
}

async fn mounts_and_networks(bench: Arc<Bench>) {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("shared:"), "a mount is shared with the host: {mounts}");
    let on_top = |path: &str| {
        mounts.lines().rev().find(|line| line.split(' ').nth(4) == Some(path)).unwrap().to_owned()
    };
    assert!(on_top("/sys/fs/cgroup").contains(" - cgroup2 "), "{mounts}");
    assert!(on_top("/proc").contains(" - proc "), "{mounts}");
    let own = fs::metadata("/proc/self/ns/net").unwrap();
    let node = fs::metadata(&bench.info.node_netns).unwrap();
    let inode = std::os::unix::fs::MetadataExt::ino;
    assert_ne!(inode(&own), inode(&node));
    assert_ne!(inode(&node), 0);
    // The node's network can be entered from here, and its loopback is up.
    let netns = fs::File::open(&bench.info.node_netns).unwrap();
    std::thread::spawn(move || {
        use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
        use std::os::fd::AsFd;
        move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        std::net::TcpListener::bind("127.0.0.1:1").unwrap();
    })
    .join()
    .unwrap();
    let processes = fs::read_dir("/proc")
        .unwrap()
        .filter(|entry| {
            entry.as_ref().unwrap().file_name().to_string_lossy().bytes().all(|b| b.is_ascii_digit())
        })
        .count();
    assert!(processes < 20, "{processes} processes: the host's are seen");
}

async fn pods_share_half_of_the_processes(_: Arc<Bench>) {
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max processes")).expect("a limit");
    let soft: u64 = line.split_whitespace().next().unwrap().parse().expect("it is bounded");
    let kernel = |name: &str| -> u64 {
        fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap().trim().parse().unwrap()
    };
    assert!(soft <= kernel("pid_max").min(kernel("threads-max")) / 2, "{line}");
}
