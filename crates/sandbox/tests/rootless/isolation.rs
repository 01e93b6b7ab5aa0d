//! What a container must not be able to do.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use xebec_sandbox::config::{
    ContainerUser, ExecConfig, KernelFiles, Mount, MountSource, Network, SeccompProfile, host_id,
};
use xebec_sandbox::sandbox::ErrorKind;

use crate::harness::{Bench, Case, cases, give_to_pods};

pub(crate) fn cases(list: &mut Vec<Case>) {
    cases!(
        list,
        is_no_root_of_the_host,
        sees_nothing_of_the_host,
        inherits_no_descriptors,
        has_the_expected_capabilities,
        is_confined_by_seccomp,
        is_confined_in_exec_too,
        a_filter_of_ones_own,
        other_call_conventions_are_killed,
        may_gain_privileges_only_when_told,
        cannot_change_the_kernel,
        kernel_files_are_masked,
        read_only_root,
        volumes,
        sub_paths_stay_in_their_volume,
        mount_targets_stay_in_the_container,
        working_directories_stay_in_the_container,
        fork_bombs_are_contained,
        pods_have_their_own_networks,
        host_network_is_only_used,
        shared_processes,
        sysctls,
        tmpfs_is_bounded,
        cannot_write_the_binary_that_made_it,
    );
}

async fn is_no_root_of_the_host(bench: Arc<Bench>) {
    let (_, output) = bench.run("cat /proc/self/uid_map /proc/self/gid_map; touch /made; ls -n /made").await;
    let mut lines = output.lines();
    for _ in 0..2 {
        let map: Vec<_> = lines.next().unwrap().split_whitespace().collect();
        assert_eq!(map[0], "0");
        assert_ne!(map[1], "0", "container root is the host's root: {output}");
        assert_eq!(map[2], "65535");
    }
    // On the disk it is a subordinate id, not the user's own.
    let pod = bench.pod().await;
    let mut config = bench.script("touch /made; mkdir /dir; chown 7:8 /dir");
    let writable = config.rootfs.writable.clone();
    config.log = None;
    let id = pod.start(config).await;
    assert_eq!(pod.sandbox.wait(&id).await.unwrap().code(), 0);
    let owner = |name: &str| {
        std::os::unix::fs::MetadataExt::uid(&fs::metadata(writable.join("upper").join(name)).unwrap())
    };
    assert_eq!(Some(owner("made")), host_id(0));
    assert_eq!(Some(owner("dir")), host_id(7));
    pod.sandbox.remove().await.unwrap();
}

async fn sees_nothing_of_the_host(bench: Arc<Bench>) {
    let secret = bench.directory.join("secret");
    fs::write(&secret, "secret").unwrap();
    let script = format!(
        "ls /proc | grep -c '^[0-9]*$'; ls -A /; ls {0} 2>&1; grep -c . /proc/mounts; grep {0} /proc/mounts /proc/self/mountinfo; \
         cat /proc/1/cgroup; readlink /proc/1/root; kill -9 2 2>&1; ls /sys/fs/cgroup; hostname; cat /proc/sys/kernel/hostname",
        secret.parent().unwrap().display()
    );
    let (_, output) = bench.run(&script).await;
    let lines: Vec<_> = output.lines().collect();
    assert!(lines[0].parse::<u32>().unwrap() <= 4, "{output}");
    for hidden in ["host\n", "keeper", "xebec-test", "writable", "/c/"] {
        let shown = output.replace(&secret.parent().unwrap().display().to_string(), "DIR");
        assert!(!shown.contains(hidden), "{hidden:?} is seen: {shown}");
    }
    assert!(output.contains("0::/\n"), "{output}");
    assert!(output.ends_with("test-pod\ntest-pod\n"), "{output}");
}

async fn inherits_no_descriptors(bench: Arc<Bench>) {
    let pod = bench.pod().await;
    let script = "ls /proc/$$/fd; for n in 0 1 2; do readlink /proc/$$/fd/$n; done";
    let check = |output: &str| {
        let (numbers, targets) = output.split_at("0\n1\n2\n".len());
        assert_eq!(numbers, "0\n1\n2\n", "{output}");
        assert!(targets.lines().all(|line| line == "/dev/null" || line.starts_with("pipe:")), "{output}");
    };
    let (_, output) = pod.run(bench.script(script)).await;
    check(&output);
    let id = pod.start(bench.script("sleep 600; true")).await;
    let (_, output) = pod.exec(&id, script).await;
    check(&output);
    pod.sandbox.remove().await.unwrap();
}

fn status_field(output: &str, name: &str) -> String {
    let line = output.lines().find(|line| line.starts_with(name));
    line.unwrap_or_else(|| panic!("no {name} in {output}")).split_whitespace().nth(1).unwrap().to_owned()
}

const STATUS: &str = "cat /proc/self/status";
/// The usual fourteen.
const DEFAULT_CAPABILITIES: &str = "00000000a80425fb";

async fn has_the_expected_capabilities(bench: Arc<Bench>) {
    let pod = bench.pod().await;
    let none = "0000000000000000";
    type Change = (&'static [&'static str], &'static [&'static str]);
    let check: [(u32, Change, &str, &str); 5] = [
        (0, (&[], &[]), DEFAULT_CAPABILITIES, DEFAULT_CAPABILITIES),
        (100, (&[], &[]), none, DEFAULT_CAPABILITIES),
        (0, (&[], &["ALL"]), none, none),
        (0, (&["NET_BIND_SERVICE"], &["ALL"]), "0000000000000400", "0000000000000400"),
        (0, (&["SYS_ADMIN"], &["ALL"]), "0000000000200000", "0000000000200000"),
    ];
    for (uid, (add, drop), effective, bounding) in check {
        for no_new_privileges in [true, false] {
            let mut config = bench.script(&format!("{STATUS}; sleep 600; true"));
            config.user = ContainerUser::ids(uid, uid);
            let parse = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
            config.capabilities.add = parse(add);
            config.capabilities.drop = parse(drop);
            config.no_new_privileges = no_new_privileges;
            let id = pod.start(config).await;
            let (_, output) = pod.exec(&id, STATUS).await;
            let first = pod.exec(&id, "cat /proc/1/status").await.1;
            for status in [output, first] {
                let about = format!("uid {uid} +{add:?} -{drop:?} {no_new_privileges}: {status}");
                assert_eq!(status_field(&status, "CapEff:"), effective, "{about}");
                assert_eq!(status_field(&status, "CapPrm:"), effective, "{about}");
                assert_eq!(status_field(&status, "CapBnd:"), bounding, "{about}");
                assert_eq!(status_field(&status, "CapInh:"), none, "{about}");
                assert_eq!(status_field(&status, "CapAmb:"), none, "{about}");
                assert_eq!(
                    status_field(&status, "NoNewPrivs:"),
                    u8::from(no_new_privileges).to_string(),
                    "{about}"
                );
                assert_eq!(status_field(&status, "Seccomp:"), "2", "{about}");
            }
            pod.sandbox.remove_container(&id).await.unwrap();
        }
    }
    pod.sandbox.remove().await.unwrap();
}

/// Things that only the filter prevents: the container has every capability.
const FORBIDDEN: &str = "
    mount -t tmpfs none /tmp 2>/dev/null && echo mounted
    umount /proc 2>/dev/null && echo unmounted
    unshare -U true 2>/dev/null && echo nested-user-namespace
    unshare -m true 2>/dev/null && echo mount-namespace
    nsenter -t 1 -m true 2>/dev/null && echo entered
    pivot_root / / 2>/dev/null && echo pivoted
    swapon /etc/passwd 2>/dev/null && echo swap
    echo end";

async fn is_confined_by_seccomp(bench: Arc<Bench>) {
    for no_new_privileges in [true, false] {
        let mut config = bench.script(FORBIDDEN);
        config.capabilities.add = vec!["ALL".parse().unwrap()];
        config.no_new_privileges = no_new_privileges;
        let (_, output) = bench.run_config(config).await;
        assert_eq!(output, "end\n");
    }
    // The script itself works: without the filter, it does some of these.
    let mut config = bench.script(FORBIDDEN);
    config.capabilities.add = vec!["ALL".parse().unwrap()];
    config.seccomp = SeccompProfile::DangerUnconfined;
    let (_, output) = bench.run_config(config).await;
    for done in ["mounted\n", "nested-user-namespace\n", "mount-namespace\n"] {
        assert!(output.contains(done), "{done:?} is not in {output:?}");
    }
}

async fn is_confined_in_exec_too(bench: Arc<Bench>) {
    let pod = bench.pod().await;
    let mut config = bench.script("sleep 600; true");
    config.capabilities.add = vec!["ALL".parse().unwrap()];
    let id = pod.start(config).await;
    assert_eq!(pod.exec(&id, FORBIDDEN).await.1, "end\n");
    let (_, maps) = pod.exec(&id, "cat /proc/self/uid_map; for n in user mnt; do readlink /proc/self/ns/$n; readlink /proc/1/ns/$n; done").await;
    let lines: Vec<_> = maps.lines().collect();
    assert_ne!(lines[0].split_whitespace().nth(1), Some("0"), "{maps}");
    assert_eq!(lines[1], lines[2], "{maps}");
    assert_eq!(lines[3], lines[4], "{maps}");
    pod.sandbox.remove().await.unwrap();
}

async fn a_filter_of_ones_own(bench: Arc<Bench>) {
    let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[
        {"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":28}]}"#;
    for no_new_privileges in [true, false] {
        let mut config = bench.script("mkdir /dir 2>&1; echo $?");
        config.seccomp = SeccompProfile::Localhost(profile.to_owned());
        config.no_new_privileges = no_new_privileges;
        let (_, output) = bench.run_config(config).await;
        assert!(output.contains("No space left") && output.ends_with("1\n"), "{output}");
    }
    let pod = bench.pod().await;
    let mut config = bench.script("true");
    config.seccomp = SeccompProfile::Localhost("{}".to_owned());
    let error = pod.sandbox.create_container(config).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig);
    pod.sandbox.remove().await.unwrap();
}

/// A program that makes the call `exit(42)` in the way of 32-bit x86.
#[cfg(target_arch = "x86_64")]
fn foreign_program() -> Vec<u8> {
    const BASE: u64 = 0x0040_0000;
    const HEADERS: u64 = 64 + 56;
    // mov eax, 1; mov ebx, 42; int 0x80; hlt
    let code = [0xb8, 1, 0, 0, 0, 0xbb, 42, 0, 0, 0, 0xcd, 0x80, 0xf4];
    let size = HEADERS + code.len() as u64;
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    file.extend([2_u16, 62].map(u16::to_le_bytes).concat());
    file.extend(1_u32.to_le_bytes());
    file.extend([BASE + HEADERS, 64, 0].map(u64::to_le_bytes).concat());
    file.extend(0_u32.to_le_bytes());
    file.extend([64_u16, 56, 1, 0, 0, 0].map(u16::to_le_bytes).concat());
    file.extend([1_u32, 5].map(u32::to_le_bytes).concat());
    file.extend([0, BASE, BASE, size, size, 0x1000].map(u64::to_le_bytes).concat());
    file.extend(code);
    file
}

#[cfg(not(target_arch = "x86_64"))]
async fn other_call_conventions_are_killed(_: Arc<Bench>) {}

#[cfg(target_arch = "x86_64")]
async fn other_call_conventions_are_killed(bench: Arc<Bench>) {
    const SIGSYS: i32 = 31;
    let top = bench.fresh_directory("top");
    fs::write(top.join("foreign"), foreign_program()).unwrap();
    give_to_pods(&top);
    fs::set_permissions(&top, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(top.join("foreign"), fs::Permissions::from_mode(0o755)).unwrap();
    for (seccomp, code) in
        [(SeccompProfile::RuntimeDefault, 128 + SIGSYS), (SeccompProfile::DangerUnconfined, 42)]
    {
        let mut config = bench.script("/foreign; echo $?");
        config.rootfs = bench.rootfs_with(&top);
        config.seccomp = seccomp;
        let (_, output) = bench.run_config(config).await;
        assert!(output.contains(&format!("{code}\n")), "{output}");
    }
}

async fn may_gain_privileges_only_when_told(bench: Arc<Bench>) {
    let top = bench.fresh_directory("top");
    fs::copy("/bin/busybox", top.join("setuid")).unwrap();
    give_to_pods(&top);
    fs::set_permissions(&top, fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(top.join("setuid"), fs::Permissions::from_mode(0o4755)).unwrap();
    for (no_new_privileges, expected) in [(true, 1), (false, 0)] {
        let mut config =
            bench.script("ln -s /setuid /tmp/su; /tmp/su -c true </dev/null 2>&1 | grep -c 'must be suid'");
        config.rootfs = bench.rootfs_with(&top);
        config.user = ContainerUser::ids(100, 100);
        config.no_new_privileges = no_new_privileges;
        let (_, output) = bench.run_config(config).await;
        // Busybox itself says whether it has become root.
        assert_eq!(output, format!("{expected}\n"));
    }
}

async fn cannot_change_the_kernel(bench: Arc<Bench>) {
    let mut config = bench.script(
        "for f in /proc/sys/kernel/core_pattern /proc/sys/vm/swappiness /proc/sys/net/ipv4/ip_forward \
         /proc/sysrq-trigger /proc/irq/default_smp_affinity /sys/kernel/uevent_helper /sys/fs/cgroup/cgroup.procs \
         /sys/kernel/mm/transparent_hugepage/enabled /proc/1/oom_score_adj; do \
         (echo -1000 > $f) 2>/dev/null && echo wrote $f; done; \
         mknod /tmp/mem c 1 1 2>/dev/null && echo mknod; mknod /tmp/disk b 254 0 2>/dev/null && echo mknod; \
         ls /dev; date -s 2000-01-01 >/dev/null 2>&1; date +%Y | grep 2000; echo end",
    );
    config.capabilities.add = vec!["ALL".parse().unwrap()];
    let (_, output) = bench.run_config(config).await;
    let devices = "console core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero";
    let seen: Vec<_> = output.lines().filter(|line| *line != "end").collect();
    let unexpected: Vec<_> = seen.iter().filter(|line| !devices.split(' ').any(|d| d == **line)).collect();
    assert!(unexpected.is_empty(), "{unexpected:?}");
}

async fn kernel_files_are_masked(bench: Arc<Bench>) {
    let script = "head -c 10 /proc/kcore /proc/keys /proc/timer_list 2>/dev/null | grep -v '==>' | tr -d '\\n' | wc -c; \
                  ls -A /sys/firmware | wc -l; grep -c ' /proc/sys .*ro,' /proc/mounts; \
                  (echo 1 > /proc/sys/kernel/shm_rmid_forced) 2>/dev/null && echo wrote; echo end";
    let (_, output) = bench.run(script).await;
    assert_eq!(output, "0\n0\n1\nend\n");
    let mut config = bench.script("grep -c ' /proc/sys ' /proc/mounts; grep -c ' /proc/k' /proc/mounts");
    config.kernel_files = KernelFiles::DangerUnmasked;
    let (_, output) = bench.run_config(config).await;
    assert_eq!(output, "0\n0\n");
}

async fn read_only_root(bench: Arc<Bench>) {
    let mut config = bench.script(
        "touch /x 2>&1; touch /tmp/x && echo wrote tmp; mount -o remount,rw / 2>/dev/null; touch /y 2>&1",
    );
    config.read_only_rootfs = true;
    config.mounts = vec![Mount {
        destination: "/tmp".into(),
        source: MountSource::Tmpfs { size_bytes: 1 << 20, mode: 0o1777 },
        read_only: false,
    }];
    let (_, output) = bench.run_config(config).await;
    assert_eq!(output.matches("Read-only file system").count(), 2, "{output}");
    assert!(output.contains("wrote tmp"), "{output}");
}

fn bind(path: &Path, destination: &str, read_only: bool) -> Mount {
    Mount {
        destination: destination.into(),
        source: MountSource::Bind { path: path.to_owned(), sub_path: None },
        read_only,
    }
}

fn sub(path: &Path, sub_path: &str, destination: &str) -> Mount {
    Mount {
        destination: destination.into(),
        source: MountSource::Bind { path: path.to_owned(), sub_path: Some(sub_path.into()) },
        read_only: false,
    }
}

/// A volume that root of pods owns.
fn volume(bench: &Bench) -> std::path::PathBuf {
    let volume = bench.fresh_directory("volume");
    fs::set_permissions(&volume, fs::Permissions::from_mode(0o755)).unwrap();
    give_to_pods(&volume);
    volume
}

async fn volumes(bench: Arc<Bench>) {
    let data = volume(&bench);
    fs::write(data.join("from-host"), "hello").unwrap();
    fs::set_permissions(data.join("from-host"), fs::Permissions::from_mode(0o644)).unwrap();
    let file = data.join("from-host");
    let mut config = bench.script(
        "cat /data/from-host /one /deep/er/file; echo; echo back > /data/back; cat /ro/back; \
         touch /ro/x 2>&1; mount -o remount,rw /ro 2>&1 | grep -c denied; (echo x > /one) 2>&1",
    );
    config.mounts = vec![
        bind(&data, "/data", false),
        bind(&data, "/ro", true),
        bind(&file, "/one", true),
        bind(&file, "/deep/er/file", true),
    ];
    let (_, output) = bench.run_config(config).await;
    assert!(output.starts_with("hellohellohello\nback\n"), "{output}");
    assert_eq!(output.matches("Read-only file system").count(), 2, "{output}");
    assert_eq!(fs::read_to_string(data.join("back")).unwrap(), "back\n");
    let pod = bench.pod().await;
    let mut config = bench.script("true");
    config.mounts = vec![bind(Path::new("/no/such/path"), "/data", false)];
    let error = pod.sandbox.create_container(config).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{error}");
    assert!(error.to_string().contains("/no/such/path"), "{error}");
    for place in ["/", "/proc", "/proc/sys", "/tmp/../proc", "relative"] {
        let mut config = bench.script("true");
        config.mounts = vec![bind(&data, place, false)];
        let error = pod.sandbox.create_container(config).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{place}: {error}");
    }
    pod.sandbox.remove().await.unwrap();
}

async fn sub_paths_stay_in_their_volume(bench: Arc<Bench>) {
    let data = volume(&bench);
    fs::create_dir(data.join("inside")).unwrap();
    fs::write(data.join("inside/file"), "inside").unwrap();
    symlink("inside", data.join("link")).unwrap();
    symlink("/etc", data.join("absolute")).unwrap();
    symlink("../../../../../../etc", data.join("climbing")).unwrap();
    give_to_pods(&data);
    let mut config = bench.script("cat /a/file /b/file /c; ls -d /d; ls -ld /d | cut -c1-10; ls -nd /d");
    config.mounts = vec![
        sub(&data, "inside", "/a"),
        sub(&data, "link", "/b"),
        sub(&data, "inside/file", "/c"),
        sub(&data, "new/deep", "/d"),
    ];
    let (status, output) = bench.run_config(config).await;
    assert_eq!(status.code(), 0, "{output}");
    assert!(output.starts_with("insideinsideinside/d\ndrwxr-xr-x\n"), "{output}");
    assert!(output.lines().last().unwrap().contains(" 0 "), "{output}");
    let pod = bench.pod().await;
    for bad in ["absolute", "climbing", "../x", "/etc", "absolute/passwd", "inside/../../x"] {
        let mut config = bench.script("true");
        config.mounts = vec![sub(&data, bad, "/a")];
        let error = pod.sandbox.create_container(config).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{bad}: {error}");
        assert!(error.to_string().contains("leads out of its volume"), "{bad}: {error}");
    }
    pod.sandbox.remove().await.unwrap();
}

async fn mount_targets_stay_in_the_container(bench: Arc<Bench>) {
    // An image whose links point at the host wherever a volume is to be mounted.
    let top = bench.fresh_directory("hostile");
    let outside = bench.fresh_directory("outside");
    let climb = format!("{}{}", "../".repeat(20), outside.display().to_string().trim_start_matches('/'));
    symlink(&outside, top.join("absolute")).unwrap();
    symlink(&climb, top.join("climbing")).unwrap();
    symlink("/proc/1/root/tmp", top.join("magic")).unwrap();
    symlink("/proc/self/attr", top.join("attr")).unwrap();
    give_to_pods(&top);
    fs::set_permissions(&top, fs::Permissions::from_mode(0o755)).unwrap();
    let data = volume(&bench);
    fs::write(data.join("mine"), "").unwrap();
    for target in ["/absolute/x", "/climbing/x", "/magic/x", "/absolute", "/climbing"] {
        let pod = bench.pod().await;
        let mut config = bench.script(&format!("ls {target}"));
        config.rootfs = bench.rootfs_with(&top);
        config.mounts = vec![bind(&data, target, false)];
        // It may be refused or end up inside the container; it must not appear outside.
        if pod.sandbox.create_container(config.clone()).await.is_ok() {
            pod.sandbox.start(&config.id).await.unwrap();
            pod.sandbox.wait(&config.id).await.unwrap();
        }
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{target} wrote outside");
        pod.sandbox.remove().await.unwrap();
    }
    // Where the image has a link instead of /proc, nothing starts.
    for name in ["proc", "sys", "dev"] {
        let top = bench.fresh_directory("hostile");
        symlink(&outside, top.join(name)).unwrap();
        give_to_pods(&top);
        let pod = bench.pod().await;
        let mut config = bench.script("true");
        config.rootfs = bench.rootfs_with(&top);
        let created = pod.sandbox.create_container(config).await;
        assert!(name == "dev" || created.is_err(), "{name} as a link was accepted");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{name} wrote outside");
        pod.sandbox.remove().await.unwrap();
    }
}

async fn working_directories_stay_in_the_container(bench: Arc<Bench>) {
    let pod = bench.pod().await;
    let id = pod.start(bench.script("sleep 600; true")).await;
    for number in 3..40 {
        let cwd = format!("/proc/self/fd/{number}");
        let mut config = bench.script("ls");
        config.cwd = cwd.clone().into();
        let container = config.id.clone();
        assert!(pod.sandbox.create_container(config).await.is_err(), "{cwd} was entered");
        assert!(pod.sandbox.list().await.unwrap().iter().all(|info| info.id != container));
        let mut config = ExecConfig::new(vec!["pwd".into()]);
        config.cwd = Some(cwd.clone().into());
        let error = pod.sandbox.exec(&id, config).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{cwd}: {error}");
    }
    let mut config = ExecConfig::new(vec!["pwd".into()]);
    config.cwd = Some("/none".into());
    assert!(pod.sandbox.exec(&id, config).await.is_err());
    pod.sandbox.remove().await.unwrap();
}

async fn fork_bombs_are_contained(bench: Arc<Bench>) {
    const LIMIT: u64 = 40;
    let mut config = bench.pod_config();
    config.limits.pids = Some(LIMIT);
    let bombed = bench.pod_with(config).await;
    let mut config = bench.pod_config();
    config.limits.pids = Some(LIMIT);
    let neighbour = bench.pod_with(config).await;
    let quiet = neighbour.start(bench.script("sleep 600; true")).await;
    // Five users, each of whom by itself could have all of them; the pod as a
    // whole cannot. A shell that cannot fork ends, what it started stays.
    let bomb = "for u in 1 2 3 4 5; do \
                  su u$u -c 'while true; do sleep 601 & done' 2>/dev/null & done; exec sleep 602";
    let id = bombed.start(bench.script(bomb)).await;
    let count = || {
        let names = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path().join("cmdline"));
        names.filter(|path| fs::read(path).is_ok_and(|text| text.starts_with(b"sleep\x00601"))).count()
    };
    let mut most = 0;
    for _ in 0..100 {
        most = most.max(count());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert!(
        most > 10,
        "the bomb did not go off: {most} {}",
        crate::harness::logged(&bench.directory.join(format!("{id}.log")))
    );
    assert!((most as u64) < LIMIT, "{most} processes where {LIMIT} are allowed, with others");
    assert_eq!(neighbour.exec(&quiet, "echo alive").await.1, "alive\n");
    bombed.sandbox.remove_container(&id).await.unwrap();
    assert_eq!(count(), 0);
    bombed.sandbox.remove().await.unwrap();
    neighbour.sandbox.remove().await.unwrap();
}

async fn pods_have_their_own_networks(bench: Arc<Bench>) {
    let pod = bench.pod().await;
    let pin = pod.sandbox.netns_path().unwrap().to_owned();
    let (_, output) = pod
        .run(bench.script(
            "readlink /proc/self/ns/net; ip -o addr; ping -c 1 -W 1 127.0.0.1 >/dev/null && echo ping; ls /sys/class/net",
        ))
        .await;
    assert!(output.contains("127.0.0.1/8") && output.contains("ping\nlo\n"), "{output}");
    let inside = output.lines().next().unwrap().to_owned();
    let pinned = std::os::unix::fs::MetadataExt::ino(&fs::metadata(&pin).unwrap());
    assert_eq!(inside, format!("net:[{pinned}]"));
    let own = fs::read_link("/proc/self/ns/net").unwrap().display().to_string();
    assert_ne!(inside, own);
    // The server may administrate it.
    let netns = fs::File::open(&pin).unwrap();
    std::thread::spawn(move || {
        use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
        use std::os::fd::AsFd;
        move_into_link_name_space(netns.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        std::net::TcpListener::bind("127.0.0.1:1").unwrap();
        fs::write("/proc/sys/net/ipv4/conf/lo/rp_filter", "1").unwrap();
    })
    .join()
    .unwrap();
    // A user without capabilities may listen on a low port.
    let mut config = bench.script("(echo hi | nc -l -p 80 & ); for i in 1 2 3 4 5 6 7 8 9; do nc 127.0.0.1 80 && break; usleep 50000; done");
    config.user = ContainerUser::ids(100, 100);
    let (_, output) = pod.run(config).await;
    assert!(output.contains("hi"), "{output}");
    pod.sandbox.remove().await.unwrap();
    assert!(!pin.exists());
}

async fn host_network_is_only_used(bench: Arc<Bench>) {
    let mut config = bench.pod_config();
    config.network = Network::Host;
    let pod = bench.pod_with(config).await;
    assert!(pod.sandbox.netns_path().is_none());
    let mut config = bench
        .script("readlink /proc/self/ns/net; ip link set lo down 2>&1; ls /sys/fs/cgroup; touch /sys/x 2>&1");
    config.capabilities.add = vec!["ALL".parse().unwrap()];
    let (_, output) = pod.run(config).await;
    let own = fs::read_link("/proc/self/ns/net").unwrap().display().to_string();
    assert_eq!(output.lines().next().unwrap(), own);
    assert!(output.contains("Operation not permitted"), "{output}");
    let id = pod.start(bench.script("sleep 600; true")).await;
    assert_eq!(pod.exec(&id, "echo here").await.1, "here\n");
    pod.sandbox.remove().await.unwrap();
}

async fn shared_processes(bench: Arc<Bench>) {
    let mut config = bench.pod_config();
    config.share_process_namespace = true;
    let pod = bench.pod_with(config).await;
    let first = pod.start(bench.script("sleep 601 & sleep 602; true")).await;
    let second = pod.start(bench.script("sleep 603; true")).await;
    let (_, seen) = pod
        .exec(
            &second,
            "ps; cat /proc/1/comm; ls -l /proc/1/root /proc/1/exe /proc/1/fd/ 2>&1; cat /proc/1/environ 2>&1",
        )
        .await;
    assert!(seen.contains("sleep 601") && seen.contains("sleep 602"), "{seen}");
    assert!(seen.contains("xebec-reaper"), "{seen}");
    assert!(seen.matches("ermission denied").count() >= 3, "{seen}");
    // What a container leaves behind ends with it, and nothing else does.
    pod.sandbox.signal(&first, xebec_sandbox::config::Signal::KILL).await.unwrap();
    assert_eq!(pod.sandbox.wait(&first).await.unwrap().code(), 137);
    let (_, seen) = pod.exec(&second, "ps").await;
    assert!(!seen.contains("sleep 601") && seen.contains("sleep 603"), "{seen}");
    pod.sandbox.remove().await.unwrap();
}

async fn sysctls(bench: Arc<Bench>) {
    let mut config = bench.pod_config();
    config.sysctls =
        [("net.core.somaxconn".to_owned(), "77".to_owned()), ("kernel.msgmax".to_owned(), "9000".to_owned())]
            .into();
    let pod = bench.pod_with(config).await;
    let (_, output) = pod.run(bench.script("cat /proc/sys/net/core/somaxconn /proc/sys/kernel/msgmax /proc/sys/net/ipv4/ip_unprivileged_port_start")).await;
    assert_eq!(output, "77\n9000\n0\n");
    pod.sandbox.remove().await.unwrap();
    let mut config = bench.pod_config();
    config.sysctls = [("kernel.core_pattern".to_owned(), "|/x".to_owned())].into();
    let id = config.id.clone();
    let xebec_sandbox::sandbox::SandboxError::Refused { kind, message } =
        xebec_sandbox::sandbox::Engine::create(&bench.engine, config).await.err().unwrap()
    else {
        panic!("another error");
    };
    assert_eq!(kind, ErrorKind::InvalidConfig);
    assert!(message.contains("kernel.core_pattern"), "{message}");
    assert!(!bench.info.run_dir.join("pods").join(id.as_str()).exists());
}

async fn tmpfs_is_bounded(bench: Arc<Bench>) {
    let mut config = bench.pod_config();
    config.shm_bytes = 1 << 20;
    let pod = bench.pod_with(config).await;
    let mut config = bench.script(
        "for d in /small /dev/shm /dev; do (i=0; while [ $i -lt 2000 ]; do : > $d/xx$i || break; i=$((i+1)); done) 2>&1 | grep -c 'No space'; rm $d/xx*; dd if=/dev/zero of=$d/fill bs=64k count=100 2>&1 | grep -c 'No space'; done; ls -ld /small | cut -c1-10",
    );
    config.mounts = vec![Mount {
        destination: "/small".into(),
        source: MountSource::Tmpfs { size_bytes: 1 << 20, mode: 0o700 },
        read_only: false,
    }];
    let (_, output) = pod.run(config).await;
    assert_eq!(output, "1\n1\n1\n1\n1\n1\ndrwx------\n");
    // Shared among the pod's containers.
    let (_, output) = pod.run(bench.script("ls /dev/shm; stat -c %a /dev/shm")).await;
    assert_eq!(output, "fill\n1777\n");
    pod.sandbox.remove().await.unwrap();
}

async fn cannot_write_the_binary_that_made_it(bench: Arc<Bench>) {
    // The program is the container's way to this process's own executable.
    let pod = bench.pod().await;
    let mut config = bench.script("");
    let top = bench.fresh_directory("hostile");
    symlink("/proc/self/exe", top.join("evil")).unwrap();
    give_to_pods(&top);
    fs::set_permissions(&top, fs::Permissions::from_mode(0o755)).unwrap();
    config.rootfs = bench.rootfs_with(&top);
    config.args = vec!["/evil".into()];
    let id = config.id.clone();
    let before = fs::metadata("/proc/self/exe").unwrap();
    // Whatever that executes, it is confined and cannot write the file.
    if pod.sandbox.create_container(config).await.is_ok() && pod.sandbox.start(&id).await.is_ok() {
        let (_, output) =
            pod.exec(&id, "(echo > /proc/1/exe) 2>&1; cat /proc/1/status | grep -E 'Seccomp:|NoNew'").await;
        assert!(!output.is_empty());
    }
    let after = fs::metadata("/proc/self/exe").unwrap();
    assert_eq!(before.len(), after.len());
    assert_eq!(before.modified().unwrap(), after.modified().unwrap());
    // Its owner and mode say the same: no id of a pod may write it.
    assert_eq!(before.permissions().mode() & 0o002, 0);
    pod.sandbox.remove().await.unwrap();
}
