use super::*;
use crate::builtin;
use crate::json;
use crate::resource::Verbs;
use crate::time::Timestamp;

const NOW: &str = "2026-01-11T00:00:00Z";
/// Ten days before.
const THEN: &str = "2026-01-01T00:00:00Z";

fn now() -> Timestamp {
    Timestamp::parse(NOW).expect("a time")
}

#[test]
fn every_resource_that_can_be_listed_has_columns() {
    for row in builtin::resources() {
        let columns = builtin(&row.group, &row.names.plural);
        assert_eq!(columns.is_some(), row.verbs.has(Verbs::LIST), "{}", row.names.plural);
        for version in &row.versions {
            assert_eq!(version.columns.len(), columns.map_or(0, <[Column]>::len), "{}", row.names.plural);
        }
        let columns = columns.unwrap_or_default();
        // Nothing panics on an object that has nothing, and there is a cell for each column.
        assert_eq!(Renderer::new(columns).cells(&object!({}), now()).len(), columns.len());
        let named = columns.iter().any(|c| c.format == "name" && c.name == "Name");
        assert_eq!(named, !columns.is_empty(), "{}", row.names.plural);
    }
}

/// The cells of an object that was made ten days ago and is called `x`, joined by `|`.
fn cells(group: &str, plural: &str, mut object: Value) -> String {
    object.set(&["metadata", "name"], "x");
    object.set(&["metadata", "creationTimestamp"], THEN);
    let columns = builtin(group, plural).unwrap_or_else(|| panic!("{plural} has no columns"));
    let text = |cell: Value| match cell {
        Value::String(text) => text.to_string(),
        other => String::from_utf8(json::to_vec(&other)).expect("JSON is UTF-8"),
    };
    Renderer::new(columns).cells(&object, now()).into_iter().map(text).collect::<Vec<_>>().join("|")
}

fn headings(group: &str, plural: &str) -> String {
    let columns = builtin(group, plural).unwrap_or_else(|| panic!("{plural} has no columns"));
    let mark = |c: &Column| format!("{}{}", c.name, if c.priority == 1 { "*" } else { "" });
    columns.iter().map(mark).collect::<Vec<_>>().join("|")
}

/// READY, STATUS and RESTARTS of a pod.
fn check_pod(spec: Value, status: Value, deleted: bool, want: &str) {
    let mut pod = object!({"spec": spec, "status": status});
    if deleted {
        pod.set(&["metadata", "deletionTimestamp"], NOW);
    }
    let text = cells("", "pods", pod.clone());
    let got: Vec<&str> = text.split('|').skip(1).take(3).collect();
    assert_eq!(got.join("|"), want, "{pod:?}");
}

fn containers(count: usize) -> Value {
    object!({"containers": (vec![Value::object(); count])})
}

fn with_init(init: usize) -> Value {
    object!({"containers": [{}], "initContainers": (vec![Value::object(); init])})
}

/// A container that ran, restarted `restarts` times, the last time `ago` days ago.
fn restarted(restarts: i64, ago: i64) -> Value {
    object!({
        "ready": true,
        "restartCount": restarts,
        "state": {"running": {}},
        "lastState": {"terminated": {"finishedAt": (format!("2026-01-{:02}T00:00:00Z", 11 - ago))}}
    })
}

#[test]
fn pods_with_containers() {
    let running = || object!({"ready": true, "restartCount": 3, "state": {"running": {}}});
    let completed = || object!({"restartCount": 3, "state": {"terminated": {"reason": "Completed"}}});
    let status = |phase: &str, containers: Vec<Value>| object!({"phase": phase, "containerStatuses": (Value::Array(containers))});
    let check = |count: usize, containers_: Vec<Value>, want: &str| {
        check_pod(containers(count), status("Running", containers_), false, want);
    };
    check(2, vec![running(), object!({"restartCount": 3})], "1/2|Running|6");
    let waiting = object!({"state": {"waiting": {"reason": "CrashLoopBackOff"}}});
    check(2, vec![running(), waiting.clone()], "1/2|CrashLoopBackOff|3");
    let error = object!({"state": {"terminated": {"reason": "Error", "exitCode": 1}}});
    check(2, vec![waiting, error.clone()], "0/2|CrashLoopBackOff|0");
    check(2, vec![completed(), running()], "1/2|NotReady|6");
    check(2, vec![completed(), error], "0/2|Error|3");
    check(1, vec![object!({"state": {"terminated": {"exitCode": 3}}})], "0/1|ExitCode:3|0");
    check(1, vec![object!({"state": {"terminated": {"exitCode": 137, "signal": 9}}})], "0/1|Signal:9|0");
    check(1, vec![restarted(3, 5)], "1/1|Running|3 (5d ago)");
    check(2, vec![restarted(6, 5), restarted(3, 8)], "2/2|Running|9 (5d ago)");
    check(2, vec![running(), restarted(3, 8)], "2/2|Running|6 (8d ago)");
    let mut ready = status("Running", vec![completed(), running()]);
    ready.set(&["conditions"], vec![object!({"type": "Ready", "status": "True"})]);
    check_pod(containers(2), ready, false, "1/2|Running|6");
    check_pod(containers(1), status("Succeeded", vec![completed()]), false, "0/1|Completed|3");
}

#[test]
fn pods_by_phase_and_conditions() {
    check_pod(containers(1), object!({"phase": "Pending"}), false, "0/1|Pending|0");
    check_pod(containers(1), object!({"phase": "Failed", "reason": "Evicted"}), false, "0/1|Evicted|0");
    check_pod(containers(1), object!({"phase": "Pending"}), true, "0/1|Terminating|0");
    check_pod(containers(1), object!({"phase": "Succeeded"}), true, "0/1|Succeeded|0");
    check_pod(containers(1), object!({"phase": "Running", "reason": "NodeLost"}), true, "0/1|Unknown|0");
    let gated = object!({
        "phase": "Pending",
        "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]
    });
    check_pod(containers(2), gated, false, "0/2|SchedulingGated|0");
}

#[test]
fn pods_with_init_containers() {
    let status = |init: Vec<Value>| {
        object!({
            "phase": "Pending",
            "initContainerStatuses": (Value::Array(init)),
            "containerStatuses": [{"state": {"waiting": {"reason": "PodInitializing"}}}]
        })
    };
    let check = |init: Vec<Value>, want: &str| check_pod(with_init(2), status(init), false, want);
    let done = |restarts: i64| object!({"restartCount": restarts, "state": {"terminated": {"exitCode": 0}}});
    check(vec![object!({"state": {"running": {}}})], "0/1|Init:0/2|0");
    check(vec![done(0), restarted(3, 5)], "0/1|Init:1/2|3 (5d ago)");
    check(vec![done(2), restarted(3, 5)], "0/1|Init:1/2|5 (5d ago)");
    check(vec![object!({"state": {"waiting": {"reason": "PodInitializing"}}})], "0/1|Init:0/2|0");
    check(vec![object!({"state": {"waiting": {"reason": "ErrImagePull"}}})], "0/1|Init:ErrImagePull|0");
    check(vec![object!({"state": {"terminated": {"exitCode": 2}}})], "0/1|Init:ExitCode:2|0");
    check(vec![object!({"state": {"terminated": {"exitCode": 2, "signal": 9}}})], "0/1|Init:Signal:9|0");
    check(vec![object!({"state": {"terminated": {"exitCode": 1, "reason": "Error"}}})], "0/1|Init:Error|0");
    check(vec![done(2), done(1)], "0/1|PodInitializing|0");
}

#[test]
fn pods_with_sidecars() {
    let spec = || {
        object!({
            "containers": [{"name": "main"}],
            "initContainers": [{"name": "setup"}, {"name": "proxy", "restartPolicy": "Always"}]
        })
    };
    let setup = || object!({"name": "setup", "restartCount": 4, "state": {"terminated": {"exitCode": 0}}});
    let mut proxy = restarted(2, 5);
    proxy.set(&["name"], "proxy");
    proxy.set(&["started"], true);
    let mut status = object!({
        "phase": "Running",
        "initContainerStatuses": (vec![setup(), proxy.clone()]),
        "containerStatuses": [{"name": "main", "ready": true, "state": {"running": {}}}]
    });
    check_pod(spec(), status.clone(), false, "2/2|Running|2 (5d ago)");
    proxy.set(&["started"], false);
    status.set(&["initContainerStatuses"], vec![setup(), proxy]);
    check_pod(spec(), status.clone(), false, "0/2|Init:1/2|6 (5d ago)");
    // A pod that was initialised stays so while a sidecar starts again.
    status.set(&["conditions"], vec![object!({"type": "Initialized", "status": "True"})]);
    check_pod(spec(), status, false, "1/2|Init:1/2|2 (5d ago)");
}

#[test]
fn the_wide_columns_of_pods() {
    assert_eq!(
        headings("", "pods"),
        "Name|Ready|Status|Restarts|Age|IP*|Node*|Nominated Node*|Readiness Gates*"
    );
    let pod = object!({
        "spec": {"nodeName": "n1", "readinessGates": [{"conditionType": "a"}, {"conditionType": "b"}]},
        "status": {
            "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}],
            "conditions": [{"type": "a", "status": "True"}, {"type": "b", "status": "False"}]
        }
    });
    assert_eq!(cells("", "pods", pod), "x|0/0||0|10d|10.0.0.1|n1|<none>|1/2");
    assert_eq!(cells("", "pods", object!({})), "x|0/0||0|10d|<none>|<none>|<none>|<none>");
}

#[test]
fn a_pod_that_ended_is_marked() {
    let check = |phase: &str, want: usize| {
        assert_eq!(row_conditions("", "Pod", &object!({"status": {"phase": phase}})).len(), want, "{phase}");
    };
    check("Succeeded", 1);
    check("Failed", 1);
    check("Running", 0);
    assert!(row_conditions("", "Node", &object!({"status": {"phase": "Failed"}})).is_empty());
}

#[test]
fn services() {
    let check = |spec: Value, status: Value, want: &str| {
        assert_eq!(cells("", "services", object!({"spec": spec, "status": status})), want);
    };
    let ports =
        || object!([{"port": 80, "protocol": "TCP"}, {"port": 53, "nodePort": 30053, "protocol": "UDP"}]);
    check(
        object!({"type": "ClusterIP", "clusterIPs": ["10.0.0.1"], "ports": (ports()), "selector": {"a": "b"}}),
        object!({}),
        "x|ClusterIP|10.0.0.1|<none>|80/TCP,53:30053/UDP|10d|a=b",
    );
    check(
        object!({"type": "NodePort", "clusterIPs": ["None"], "externalIPs": ["1.1.1.1", "2.2.2.2"]}),
        object!({}),
        "x|NodePort|None|1.1.1.1,2.2.2.2|<none>|10d|<none>",
    );
    check(
        object!({"type": "LoadBalancer"}),
        object!({}),
        "x|LoadBalancer|<none>|<pending>|<none>|10d|<none>",
    );
    check(
        object!({"type": "LoadBalancer", "externalIPs": ["9.9.9.9"]}),
        object!({"loadBalancer": {"ingress": [{"ip": "5.5.5.5"}, {"hostname": "a.example"}, {"ip": "5.5.5.5"}]}}),
        "x|LoadBalancer|<none>|5.5.5.5,a.example,9.9.9.9|<none>|10d|<none>",
    );
    check(
        object!({"type": "ExternalName", "externalName": "db.example"}),
        object!({}),
        "x|ExternalName|<none>|db.example|<none>|10d|<none>",
    );
}

#[test]
fn nodes() {
    let node = object!({
        "metadata": {"labels": {
            "node-role.kubernetes.io/control-plane": "",
            "kubernetes.io/role": "a",
            "node-role.kubernetes.io/": ""
        }},
        "spec": {"unschedulable": true},
        "status": {
            "conditions": [{"type": "Ready", "status": "Unknown"}],
            "addresses": [{"type": "Hostname", "address": "h"}, {"type": "InternalIP", "address": "10.0.0.2"}],
            "nodeInfo": {"kubeletVersion": "v1.36.0", "kernelVersion": "6.1", "architecture": "amd64"}
        }
    });
    let want = "x|NotReady,SchedulingDisabled|a,control-plane|10d|v1.36.0|10.0.0.2|<none>|<unknown>|6.1 (amd64)|<unknown>";
    assert_eq!(cells("", "nodes", node), want);
    assert_eq!(
        cells("", "nodes", object!({})),
        "x|Unknown|<none>|10d||<none>|<none>|<unknown>|<unknown>|<unknown>"
    );
}

#[test]
fn workloads() {
    let template = || {
        object!({
            "spec": {"containers": [{"name": "a", "image": "i1"}, {"name": "b", "image": "i2"}], "nodeSelector": {"d": "ssd"}}
        })
    };
    let scaled = object!({
        "spec": {"replicas": 5, "template": (template()), "selector": {"matchLabels": {"app": "w"}}},
        "status": {"replicas": 4, "readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 1}
    });
    assert_eq!(cells("apps", "deployments", scaled.clone()), "x|2/5|3|1|10d|a,b|i1,i2|app=w");
    assert_eq!(cells("apps", "replicasets", scaled.clone()), "x|5|4|2|10d|a,b|i1,i2|app=w");
    assert_eq!(cells("apps", "statefulsets", scaled), "x|2/5|10d|a,b|i1,i2");
    let daemon = object!({
        "spec": {"template": (template()), "selector": {}},
        "status": {
            "desiredNumberScheduled": 5, "currentNumberScheduled": 4, "numberReady": 3,
            "updatedNumberScheduled": 2, "numberAvailable": 1
        }
    });
    assert_eq!(cells("apps", "daemonsets", daemon), "x|5|4|3|2|1|d=ssd|10d|a,b|i1,i2|<none>");
    let controller = object!({"spec": {"replicas": 1, "selector": {"a": "b"}}, "status": {"replicas": 1}});
    assert_eq!(cells("", "replicationcontrollers", controller), "x|1|1|0|10d|||a=b");
    let owners = object!([{"kind": "DaemonSet", "apiVersion": "apps/v1", "name": "d", "controller": true}]);
    let revision = object!({"metadata": {"ownerReferences": owners}, "revision": 7});
    assert_eq!(cells("apps", "controllerrevisions", revision), "x|daemonset.apps/d|7|10d");
}

#[test]
fn jobs() {
    let check = |spec: Value, status: Value, want: &str| {
        let text = cells("batch", "jobs", object!({"spec": spec, "status": status}));
        assert_eq!(text.split('|').skip(1).take(3).collect::<Vec<_>>().join("|"), want);
    };
    check(object!({"completions": 4}), object!({"succeeded": 1}), "Running|1/4|");
    check(object!({"parallelism": 3}), object!({}), "Running|0/1 of 3|");
    let times = || object!({"startTime": "2026-01-10T00:00:00Z", "completionTime": "2026-01-10T00:05:03Z"});
    let mut done = times();
    done.set(&["conditions"], vec![object!({"type": "Complete", "status": "True"})]);
    check(object!({}), done, "Complete|0/1|5m3s");
    check(object!({}), object!({"startTime": "2026-01-10T23:59:00Z"}), "Running|0/1|60s");
    let suspended = object!({"conditions": [{"type": "Suspended", "status": "True"}, {"type": "Failed", "status": "False"}]});
    check(object!({}), suspended, "Suspended|0/1|");
    let cron = object!({
        "spec": {"schedule": "* * * * *", "suspend": false},
        "status": {"active": [{}, {}], "lastScheduleTime": "2026-01-10T23:59:30Z"}
    });
    assert_eq!(cells("batch", "cronjobs", cron), "x|* * * * *|<none>|False|2|30s|10d|||<none>");
}

#[test]
fn volumes() {
    let volume = object!({
        "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany", "ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Delete", "claimRef": {"namespace": "n", "name": "c"}, "storageClassName": "s"
        },
        "status": {"phase": "Bound"}
    });
    let want = "x|1Gi|RWO,RWX|Delete|Bound|n/c|s|<unset>||10d|<unset>";
    assert_eq!(cells("", "persistentvolumes", volume), want);
    let claim = object!({
        "metadata": {"deletionTimestamp": NOW, "annotations": {"volume.beta.kubernetes.io/storage-class": "old"}},
        "spec": {"volumeName": "v", "volumeMode": "Block"},
        "status": {"phase": "Bound", "capacity": {"storage": "2Gi"}, "accessModes": ["ReadWriteOncePod"]}
    });
    assert_eq!(cells("", "persistentvolumeclaims", claim), "x|Terminating|v|2Gi|RWOP|old|<unset>|10d|Block");
    let pending = object!({"status": {"phase": "Pending", "capacity": {"storage": "2Gi"}}});
    assert_eq!(cells("", "persistentvolumeclaims", pending), "x|Pending|||||<unset>|10d|<unset>");
    let class = object!({
        "metadata": {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}, "provisioner": "p"
    });
    assert_eq!(cells("storage.k8s.io", "storageclasses", class), "x (default)|p|Delete|Immediate|false|10d");
    let driver =
        object!({"spec": {"tokenRequests": [{"audience": "a"}, {"audience": "b"}], "attachRequired": false}});
    assert_eq!(cells("storage.k8s.io", "csidrivers", driver), "x|false|false|false|a,b|false|<none>|10d");
}

#[test]
fn endpoints() {
    let addresses = |count: usize| -> Vec<Value> {
        (1..=count).map(|n| object!({"ip": (format!("10.0.0.{n}"))})).collect()
    };
    let check = |subsets: Vec<Value>, want: &str| {
        let text = cells("", "endpoints", object!({"subsets": subsets}));
        assert_eq!(text, format!("x|{want}|10d"));
    };
    check(vec![], "<none>");
    check(vec![object!({"addresses": (addresses(2)), "ports": [{"port": 80}]})], "10.0.0.1:80,10.0.0.2:80");
    check(vec![object!({"addresses": (addresses(2))})], "10.0.0.1,10.0.0.2");
    let two_ports = object!({"addresses": (addresses(2)), "ports": [{"port": 80}, {"port": 81}]});
    check(vec![two_ports], "10.0.0.1:80,10.0.0.2:80,10.0.0.1:81 + 1 more...");
    check(vec![object!({"addresses": [{"ip": "fd00::1"}], "ports": [{"port": 80}]})], "[fd00::1]:80");
    let slice = object!({
        "addressType": "IPv4", "ports": [{"port": 80}, {"name": "any"}, {}],
        "endpoints": [{"addresses": ["1", "2"]}, {"addresses": ["3", "4", "5"]}]
    });
    assert_eq!(cells("discovery.k8s.io", "endpointslices", slice), "x|IPv4|80,any,*|1,2,3 + 2 more...|10d");
    let empty = object!({"addressType": "IPv6"});
    assert_eq!(cells("discovery.k8s.io", "endpointslices", empty), "x|IPv6|<unset>|<unset>|10d");
}

#[test]
fn ingresses_and_addresses() {
    let hosts = |names: &[&str]| -> Vec<Value> { names.iter().map(|n| object!({"host": (*n)})).collect() };
    let check =
        |ingress: Value, want: &str| assert_eq!(cells("networking.k8s.io", "ingresses", ingress), want);
    check(object!({}), "x|<none>|*||80|10d");
    let full = object!({
        "spec": {"ingressClassName": "c", "rules": (hosts(&["a", "b", "c", "d", "e"])), "tls": [{}]},
        "status": {"loadBalancer": {"ingress": [{"hostname": "lb.example.org"}]}}
    });
    check(full, "x|c|a,b,c + 2 more...|lb.example.org|80, 443|10d");
    let class = object!({
        "metadata": {"annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}},
        "spec": {"controller": "c", "parameters": {"apiGroup": "g", "kind": "K", "name": "n"}}
    });
    assert_eq!(cells("networking.k8s.io", "ingressclasses", class), "x (default)|c|K.g/n|10d");
    let ip = object!({"spec": {"parentRef": {"resource": "services", "namespace": "n", "name": "s"}}});
    assert_eq!(cells("networking.k8s.io", "ipaddresses", ip), "x|services/n/s");
    let policy = object!({"spec": {"podSelector": {}}});
    assert_eq!(cells("networking.k8s.io", "networkpolicies", policy), "x|<none>|10d");
}

#[test]
fn events_of_both_groups() {
    assert_eq!(
        headings("", "events"),
        "Last Seen|Type|Reason|Object|Subobject*|Source*|Message|First Seen*|Count*|Name*"
    );
    let old = object!({
        "firstTimestamp": "2026-01-10T22:00:00Z", "lastTimestamp": "2026-01-10T23:00:00Z", "count": 4,
        "type": "Normal", "reason": "Pulled", "message": " done\n",
        "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec.containers{a}"},
        "source": {"component": "kubelet", "host": "n1"}
    });
    let want = "60m|Normal|Pulled|pod/p|spec.containers{a}|kubelet, n1|done|120m|4|x";
    assert_eq!(cells("", "events", old), want);
    let new = object!({
        "eventTime": "2026-01-10T23:59:00.000000Z", "regarding": {"kind": "Node"}, "note": "hi",
        "reportingController": "c", "series": {"count": 9, "lastObservedTime": "2026-01-10T23:59:50.000000Z"}
    });
    assert_eq!(cells("events.k8s.io", "events", new), "10s|||node||c|hi|60s|9|x");
    let single = object!({"eventTime": "2026-01-10T23:59:00.000000Z", "reportingComponent": "c"});
    assert_eq!(cells("", "events", single), "60s|||||c||60s|1|x");
}

#[test]
fn autoscalers() {
    let check = |spec: Value, status: Value, want: &str| {
        let text =
            cells("autoscaling", "horizontalpodautoscalers", object!({"spec": spec, "status": status}));
        assert_eq!(text.split('|').nth(2), Some(want));
    };
    check(object!({}), object!({}), "<none>");
    check(
        object!({"targetCPUUtilizationPercentage": 80}),
        object!({"currentCPUUtilizationPercentage": 10}),
        "cpu: 10%/80%",
    );
    let cpu = |target: Value| object!({"type": "Resource", "resource": {"name": "cpu", "target": target}});
    let utilization = || cpu(object!({"averageUtilization": 80}));
    check(object!({"metrics": [(utilization())]}), object!({}), "cpu: <unknown>/80%");
    check(
        object!({"metrics": [(utilization())]}),
        object!({"currentMetrics": [{"type": "Resource", "resource": {"current": {"averageUtilization": 50}}}]}),
        "cpu: 50%/80%",
    );
    check(
        object!({"metrics": [(cpu(object!({"averageValue": "100m"})))]}),
        object!({}),
        "cpu: <unknown>/100m",
    );
    let pods = object!({"type": "Pods", "pods": {"target": {"averageValue": "10"}}});
    let current = object!({"type": "Pods", "pods": {"current": {"averageValue": "5"}}});
    check(object!({"metrics": [(pods.clone())]}), object!({"currentMetrics": [current]}), "5/10");
    let external = object!({"type": "External", "external": {"target": {"averageValue": "7"}}});
    check(object!({"metrics": [(external.clone())]}), object!({}), "<unknown>/7 (avg)");
    let whole = object!({"type": "Object", "object": {"target": {"value": "3"}}});
    check(object!({"metrics": [(whole.clone())]}), object!({}), "<unknown>/3");
    let many = object!({"metrics": [pods, external, whole]});
    check(many, object!({}), "<unknown>/10, <unknown>/7 (avg) + 1 more...");
    let scaler = object!({
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "maxReplicas": 5},
        "status": {"currentReplicas": 2}
    });
    let want = "x|Deployment/d|<none>|<unset>|5|2|10d";
    assert_eq!(cells("autoscaling", "horizontalpodautoscalers", scaler), want);
}

#[test]
fn the_rest() {
    let check = |group: &str, plural: &str, object: Value, want: &str| {
        assert_eq!(cells(group, plural, object), want, "{plural}");
    };
    check("", "configmaps", object!({"data": {"a": "1"}, "binaryData": {"b": "", "c": ""}}), "x|3|10d");
    check("", "secrets", object!({"type": "Opaque", "data": {"a": ""}}), "x|Opaque|1|10d");
    check("", "serviceaccounts", object!({}), "x|10d");
    check("", "namespaces", object!({"status": {"phase": "Active"}}), "x|Active|10d");
    check("", "limitranges", object!({}), &format!("x|{THEN}"));
    let quota = object!({"status": {
        "hard": {"limits.cpu": "4", "pods": "10", "requests.cpu": "2"}, "used": {"limits.cpu": "1", "pods": "3"}
    }});
    check("", "resourcequotas", quota, "x|pods: 3/10, requests.cpu: 0/2|limits.cpu: 1/4|10d");
    let healthy = object!({"conditions": [{"type": "Healthy", "status": "True", "message": "ok"}]});
    check("", "componentstatuses", healthy, "x|Healthy|ok|");
    let budget = object!({"spec": {"minAvailable": "50%"}, "status": {"disruptionsAllowed": 2}});
    check("policy", "poddisruptionbudgets", budget, "x|50%|N/A|2|10d");
    check("policy", "poddisruptionbudgets", object!({"spec": {"maxUnavailable": 1}}), "x|N/A|1|0|10d");
    let binding = object!({
        "roleRef": {"kind": "ClusterRole", "name": "admin"},
        "subjects": [
            {"kind": "User", "name": "u1"}, {"kind": "User", "name": "u2"}, {"kind": "Group", "name": "g"},
            {"kind": "ServiceAccount", "namespace": "n", "name": "s"}
        ]
    });
    check("rbac.authorization.k8s.io", "rolebindings", binding, "x|ClusterRole/admin|10d|u1, u2|g|n/s");
    let request = object!({
        "spec": {"signerName": "s", "username": "u", "expirationSeconds": 3600},
        "status": {"certificate": "eA==", "conditions": [{"type": "Approved", "status": "True"}]}
    });
    check("certificates.k8s.io", "certificatesigningrequests", request, "x|10d|s|u|60m|Approved,Issued");
    let level = object!({"spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 5}}});
    check(
        "flowcontrol.apiserver.k8s.io",
        "prioritylevelconfigurations",
        level,
        "x|Limited|5|<none>|<none>|<none>|10d",
    );
    let schema = object!({"spec": {"priorityLevelConfiguration": {"name": "p"}, "matchingPrecedence": 8}});
    check("flowcontrol.apiserver.k8s.io", "flowschemas", schema, "x|p|8|<none>|10d|?");
    let api = object!({
        "spec": {"service": {"namespace": "n", "name": "s"}},
        "status": {"conditions": [{"type": "Available", "status": "False", "reason": "Missing"}]}
    });
    check("apiregistration.k8s.io", "apiservices", api, "x|n/s|False (Missing)|10d");
    check("apiregistration.k8s.io", "apiservices", object!({}), "x|Local|Unknown|10d");
    check("coordination.k8s.io", "leases", object!({"spec": {"holderIdentity": "h"}}), "x|h|10d");
    check("scheduling.k8s.io", "priorityclasses", object!({"value": 7}), "x|7|false|10d|");
    check("node.k8s.io", "runtimeclasses", object!({"handler": "runsc"}), "x|runsc|10d");
    let claim = object!({"status": {"allocation": {}, "reservedFor": [{}]}});
    check("resource.k8s.io", "resourceclaims", claim, "x|allocated,reserved|10d");
    let policy = object!({"spec": {"validations": [{}], "paramKind": {"apiVersion": "a/v1", "kind": "K"}}});
    check("admissionregistration.k8s.io", "validatingadmissionpolicies", policy, "x|1|a/v1/K|10d");
    let bound = object!({"spec": {"policyName": "p", "paramRef": {"name": "n"}}});
    check("admissionregistration.k8s.io", "mutatingadmissionpolicybindings", bound, "x|p|*/n|10d");
    check("apiextensions.k8s.io", "customresourcedefinitions", object!({}), &format!("x|{THEN}"));
}

#[test]
fn custom_resources() {
    let object = object!({
        "metadata": {"name": "x", "creationTimestamp": THEN},
        "spec": {"n": 3, "f": (Value::Float(1.5)), "big": (Value::Float(1e30)), "small": (Value::Float(0.00001)), "list": ["a", "<b>"], "on": true, "when": THEN, "s": "text"}
    });
    let check = |ty: &str, path: &str, want: Value| {
        let columns = custom(&[object!({"name": "C", "type": ty, "jsonPath": path})]);
        let cells = Renderer::new(&columns).cells(&object, now());
        assert_eq!(cells, vec!["x".into(), want], "{ty} {path}");
    };
    check("string", ".spec.s", "text".into());
    check("string", ".spec.n", "3".into());
    check("string", ".spec.f", "1.5".into());
    check("string", ".spec.big", "1e+30".into());
    check("string", ".spec.small", "1e-05".into());
    check("string", ".spec.on", "true".into());
    check("string", ".spec.list", r#"["a","\u003cb\u003e"]"#.into());
    check("string", ".spec.list[*]", "a".into());
    check("string", ".spec.missing", Value::Null);
    check("integer", ".spec.n", 3.into());
    check("integer", ".spec.f", 1.into());
    check("integer", ".spec.s", Value::Null);
    check("number", ".spec.f", Value::Float(1.5));
    check("boolean", ".spec.on", true.into());
    check("boolean", ".spec.s", Value::Null);
    check("date", ".spec.when", "10d".into());
    check("date", ".spec.s", "<invalid>".into());
    check("date", ".spec.n", Value::Null);
    check("string", ".spec[", Value::Null);
    let plain = custom(&[]);
    assert_eq!(Renderer::new(&plain).cells(&object, now()), vec!["x".into(), "10d".into()]);
    let definitions = Renderer::new(&plain).definitions();
    let names: Vec<_> =
        definitions.as_array().unwrap_or_default().iter().map(|d| d.str_at(&["name"])).collect();
    assert_eq!(names, [Some("Name"), Some("Age")]);
}
