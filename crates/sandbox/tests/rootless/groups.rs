//! What is different where a control group was delegated to the user.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use xebec_sandbox::sandbox::Limits;

use crate::harness::{Bench, Case, cases};

/// Cases whose way depends on the group.
pub(crate) const MATTERS_FOR: [&str; 8] = [
    "runs_a_program",
    "exec_runs_in_the_container",
    "stats_are_counted",
    "containers_are_removed",
    "cannot_change_the_kernel",
    "host_network_is_only_used",
    "shared_processes",
    "gvisor_execs",
];

pub(crate) fn cases(list: &mut Vec<Case>) {
    cases!(list, containers_have_groups, limits_are_written_where_they_can_be);
}

const PODS: &str = "/sys/fs/cgroup/xebec-pods";

async fn containers_have_groups(bench: Arc<Bench>) {
    let pod = bench.pod().await;
    let id = pod.start(bench.script("sleep 600; true")).await;
    let pid = pod.sandbox.list().await.unwrap()[0].pid.unwrap();
    let group = Path::new(PODS).join(pod.sandbox.id().as_str()).join(id.as_str());
    let members = || fs::read_to_string(group.join("cgroup.procs")).unwrap();
    assert!(members().lines().any(|line| line == pid.to_string()), "{}", members());
    let before = members().lines().count();
    let (_, output) = pod
        .exec(&id, "cat /proc/self/cgroup; grep -c ' /sys/fs/cgroup cgroup2 ro,' /proc/mounts; ls -d /sys/fs/cgroup/xebec-pods 2>&1; cat /sys/fs/cgroup/cgroup.procs | wc -l")
        .await;
    assert!(output.contains("0::/\n1\n"), "{output}");
    assert!(output.contains("No such file"), "{output}");
    assert!(output.lines().last().unwrap().parse::<usize>().unwrap() > before, "{output}");
    pod.sandbox.remove_container(&id).await.unwrap();
    assert!(!group.exists());
    pod.sandbox.remove().await.unwrap();
    assert!(!group.parent().unwrap().exists());
    // The server is in a group of its own, so that others may have controllers.
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    assert!(own.contains("0::/xebec-keeper\n"), "{own}");
}

async fn limits_are_written_where_they_can_be(bench: Arc<Bench>) {
    let Limits { memory, pids, cpu } = bench.info.limits;
    assert!(pids);
    let mut config = bench.pod_config();
    config.limits.memory_bytes = Some(64 << 20);
    config.limits.cpu_millis = Some(500);
    let pod = bench.pod_with(config).await;
    let mut config = bench.script("sleep 600; true");
    config.limits.memory_bytes = Some(32 << 20);
    config.limits.cpu_millis = Some(250);
    config.limits.oom_score_adj = Some(500);
    let id = pod.start(config).await;
    assert_eq!(pod.exec(&id, "cat /proc/1/oom_score_adj").await.1, "500\n");
    let group = Path::new(PODS).join(pod.sandbox.id().as_str());
    let check = |enforced: bool, file: &str, pod: &str, container: &str| {
        let read = |path: &Path| fs::read_to_string(path.join(file)).map(|text| text.trim().to_owned());
        if enforced {
            assert_eq!(read(&group).unwrap(), pod);
            assert_eq!(read(&group.join(id.as_str())).unwrap(), container);
        } else {
            assert!(read(&group).is_err(), "{file} can be written and was said not to be");
        }
    };
    check(memory, "memory.max", &(64 << 20).to_string(), &(32 << 20).to_string());
    check(cpu, "cpu.max", "50000 100000", "25000 100000");
    pod.sandbox.remove().await.unwrap();
}
