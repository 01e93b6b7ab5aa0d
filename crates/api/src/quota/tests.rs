use super::*;
use crate::object;

fn now() -> Timestamp {
    Timestamp::parse("2026-01-01T00:00:00Z").expect("a time")
}

fn shown(amounts: &Amounts) -> String {
    let parts: Vec<String> = amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect();
    parts.join(" ")
}

fn pod(containers: Value) -> Value {
    object!({"metadata": {"name": "p"}, "spec": {"containers": (containers)}})
}

fn quota(hard: Value, used: Value) -> Value {
    object!({"metadata": {"name": "q"}, "spec": {"hard": (hard.clone())}, "status": {"hard": (hard), "used": (used)}})
}

#[test]
fn what_objects_use() {
    let check = |group: &str, resource: &str, object: Value, want: &str| {
        assert_eq!(shown(&Evaluator::of(group, resource).usage(&object, now())), want, "{resource}");
    };
    check("apps", "deployments", object!({}), "count/deployments.apps=1");
    check("", "secrets", object!({}), "count/secrets=1 secrets=1");
    check(
        "",
        "services",
        object!({"spec": {"type": "LoadBalancer", "ports": [{"port": 1}, {"port": 2}]}}),
        "count/services=1 services=1 services.loadbalancers=1 services.nodeports=2",
    );
    check(
        "",
        "services",
        object!({"spec": {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": [{"port": 1}]}}),
        "count/services=1 services=1 services.loadbalancers=1 services.nodeports=0",
    );
    check(
        "",
        "persistentvolumeclaims",
        object!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1Gi"}}}}),
        "count/persistentvolumeclaims=1 gold.storageclass.storage.k8s.io/persistentvolumeclaims=1 \
         gold.storageclass.storage.k8s.io/requests.storage=1Gi persistentvolumeclaims=1 requests.storage=1Gi",
    );
    check(
        "resource.k8s.io",
        "resourceclaims",
        object!({"spec": {"devices": {"requests": [
            {"exactly": {"deviceClassName": "gpu", "count": 2}},
            {"firstAvailable": [
                {"deviceClassName": "gpu", "count": 3}, {"deviceClassName": "gpu", "count": 1},
                {"deviceClassName": "npu", "allocationMode": "All"}
            ]}
        ]}}}),
        "count/resourceclaims.resource.k8s.io=1 gpu.deviceclass.resource.k8s.io/devices=5 \
         npu.deviceclass.resource.k8s.io/devices=32",
    );
}

#[test]
fn what_pods_use() {
    let check = |pod: Value, want: &str| {
        assert_eq!(shown(&Evaluator::of("", "pods").usage(&pod, now())), want, "{pod:?}");
    };
    check(pod(object!([{"name": "a"}])), "count/pods=1 pods=1");
    let busy = pod(object!([
        {"name": "a", "resources": {"requests": {"cpu": "500m", "memory": "1Gi", "example.com/x": 1, "hugepages-2Mi": "2Mi"},
                                    "limits": {"cpu": "1"}}},
        {"name": "b", "resources": {"requests": {"cpu": "250m"}, "limits": {"cpu": "1"}}}
    ]));
    check(
        busy.clone(),
        "count/pods=1 cpu=750m hugepages-2Mi=2Mi limits.cpu=2 memory=1Gi pods=1 requests.cpu=750m \
         requests.example.com/x=1 requests.hugepages-2Mi=2Mi requests.memory=1Gi",
    );
    let mut ended = busy;
    ended.set(&["status", "phase"], "Succeeded");
    check(ended.clone(), "count/pods=1");
    ended.remove_at(&["status"]);
    ended.set(&["metadata", "deletionTimestamp"], "2025-12-31T23:59:00Z");
    ended.set(&["metadata", "deletionGracePeriodSeconds"], 30);
    check(ended, "count/pods=1");
    let mut first = pod(object!([{"name": "a", "resources": {"requests": {"cpu": "1"}}}]));
    first.set(
        &["spec", "initContainers"],
        object!([
            {"name": "i", "resources": {"requests": {"cpu": "3"}}},
            {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}},
            {"name": "j", "resources": {"requests": {"cpu": "2500m"}}}
        ]),
    );
    check(first.clone(), "count/pods=1 cpu=3500m pods=1 requests.cpu=3500m");
    first.set(&["spec", "overhead"], object!({"cpu": "100m"}));
    check(first.clone(), "count/pods=1 cpu=3600m pods=1 requests.cpu=3600m");
    first.set(&["spec", "resources"], object!({"requests": {"cpu": "2"}}));
    check(first, "count/pods=1 cpu=2100m pods=1 requests.cpu=2100m");
}

#[test]
fn scopes_pick_pods() {
    let asks = || object!([{"name": "a", "resources": {"limits": {"memory": "1"}}}]);
    let mut classy = pod(object!([{"name": "a"}]));
    classy.set(&["spec", "priorityClassName"], "high");
    let mut short = pod(asks());
    short.set(&["spec", "activeDeadlineSeconds"], 5);
    let mut social = pod(asks());
    let elsewhere = object!([{"weight": 1, "podAffinityTerm": {"namespaceSelector": {}}}]);
    social.set(
        &["spec", "affinity", "podAntiAffinity", "preferredDuringSchedulingIgnoredDuringExecution"],
        elsewhere,
    );
    let pods = [classy, short, social];
    let check = |scopes: Value, want: [bool; 3]| {
        let mut quota = quota(object!({"pods": "1"}), object!({}));
        for (name, value) in scopes.as_object().expect("an object").iter() {
            quota.set(&["spec", name], value.clone());
        }
        let pods_of = Evaluator::of("", "pods");
        assert_eq!(
            pods.each_ref().map(|pod| pods_of.concerns(&quota, Limits::Wanted, pod)),
            want,
            "{scopes:?}"
        );
    };
    let selector = |name: &str, operator: &str, values: Value| {
        object!({"scopeSelector": {"matchExpressions": [
            {"scopeName": name, "operator": operator, "values": (values)}
        ]}})
    };
    check(object!({}), [true; 3]);
    check(object!({"scopes": ["BestEffort"]}), [true, false, false]);
    check(object!({"scopes": ["NotBestEffort", "NotTerminating"]}), [false, false, true]);
    check(object!({"scopes": ["Terminating"]}), [false, true, false]);
    check(object!({"scopes": ["CrossNamespacePodAffinity"]}), [false, false, true]);
    check(selector("PriorityClass", "Exists", object!([])), [true, false, false]);
    check(selector("PriorityClass", "In", object!(["low", "high"])), [true, false, false]);
    check(selector("PriorityClass", "NotIn", object!(["high"])), [false, true, true]);
    let secrets = quota(object!({"secrets": "1", "count/pods": "1"}), object!({}));
    assert!(Evaluator::of("", "secrets").concerns(&secrets, Limits::Wanted, &object!({})));
    assert!(!Evaluator::of("", "configmaps").concerns(&secrets, Limits::Wanted, &object!({})));
}

#[test]
fn quotas_are_charged_or_refuse() {
    let check = |quota: &Value, event: Event<'_>, pod: &Value, want: &str| {
        let found = match charge(&Evaluator::of("", "pods"), quota, event, pod, now()) {
            Ok(None) => "untouched".to_owned(),
            Ok(Some(quota)) => shown(&amounts(quota.at(&["status", "used"]))),
            Err(denied) => denied.to_string(),
        };
        assert_eq!(found, want);
    };
    let one = |cpu: &str| pod(object!([{"name": "a", "resources": {"requests": {"cpu": cpu}}}]));
    let limited = quota(object!({"cpu": "2", "secrets": "1"}), object!({"cpu": "1", "secrets": "1"}));
    check(&limited, Event::Create, &one("500m"), "cpu=1500m secrets=1");
    check(&limited, Event::Create, &one("1"), "cpu=2 secrets=1");
    check(
        &limited,
        Event::Create,
        &one("1500m"),
        "exceeded quota: q, requested: cpu=1500m, used: cpu=1, limited: cpu=2",
    );
    check(
        &limited,
        Event::Create,
        &pod(object!([{"name": "b"}])),
        "failed quota: q: must specify cpu for: b",
    );
    check(&limited, Event::Create, &one("0"), "untouched");
    check(&limited, Event::Update(&one("1"), "resize"), &one("2"), "cpu=2 secrets=1");
    check(&limited, Event::Update(&one("2"), "resize"), &one("1"), "untouched");
    let fresh = quota(object!({"cpu": "2", "pods": "1"}), object!({}));
    check(&fresh, Event::Create, &one("1"), "status unknown for quota: q, resources: cpu,pods");
    let of_others = quota(object!({"secrets": "1"}), object!({"secrets": "1"}));
    check(&of_others, Event::Create, &one("1"), "untouched");
}

#[test]
fn changes_that_matter() {
    let check = |resource: &str, event: Event<'_>, new: &Value, want: bool| {
        assert_eq!(Evaluator::of("", resource).handles(event, new), want, "{resource} {event:?}");
    };
    let plain = object!({});
    let short = object!({"spec": {"activeDeadlineSeconds": 1}});
    check("pods", Event::Create, &plain, true);
    check("pods", Event::Update(&plain, ""), &plain, false);
    check("pods", Event::Update(&plain, ""), &short, true);
    check("pods", Event::Update(&plain, "status"), &plain, false);
    check("pods", Event::Update(&plain, "resize"), &plain, true);
    check("services", Event::Update(&plain, ""), &plain, true);
    check("services", Event::Update(&plain, "status"), &plain, false);
    check("secrets", Event::Update(&plain, ""), &plain, false);
}
