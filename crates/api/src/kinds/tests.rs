use super::*;
use crate::object;

#[test]
fn rows_are_sorted_and_complete() {
    assert!(KINDS.is_sorted_by(|a, b| (a.group, a.resource) < (b.group, b.resource)));
    // 68 rows of the API, of which the two versions of horizontalpodautoscalers are one here.
    assert_eq!(KINDS.len(), 67);
    assert_eq!(of("apps", "deployments").resource, "deployments");
    assert_eq!(of("example.com", "widgets").resource, "");
}

#[test]
fn flags_are_upstreams() {
    let having = |flag: fn(&Kind) -> bool| -> Vec<&str> {
        KINDS.iter().filter(|k| flag(k)).map(|k| k.resource).collect()
    };
    let want = [
        "endpoints",
        "events",
        "limitranges",
        "services",
        "leases",
        "events",
        "runtimeclasses",
        "clusterrolebindings",
        "clusterroles",
        "rolebindings",
        "roles",
    ];
    assert_eq!(having(|k| k.create_on_update), want);
    assert_eq!(having(|k| k.orphan_by_default), ["replicationcontrollers", "jobs"]);
    assert_eq!(having(|k| k.status_on_create), ["nodes"]);
    let returned = [
        "persistentvolumeclaims",
        "persistentvolumes",
        "pods",
        "podtemplates",
        "resourcequotas",
        "serviceaccounts",
        "services",
        "deviceclasses",
        "resourceclaims",
        "resourceclaimtemplates",
        "resourceslices",
        "csidrivers",
        "csinodes",
        "storageclasses",
        "volumeattachments",
        "volumeattributesclasses",
    ];
    assert_eq!(having(|k| k.returned_when_deleted), returned);
    let refusing = [
        "mutatingadmissionpolicies",
        "mutatingadmissionpolicybindings",
        "mutatingwebhookconfigurations",
        "validatingadmissionpolicies",
        "validatingadmissionpolicybindings",
        "validatingwebhookconfigurations",
        "customresourcedefinitions",
        "apiservices",
        "leases",
        "runtimeclasses",
        "poddisruptionbudgets",
        "csidrivers",
        "csinodes",
        "csistoragecapacities",
        "volumeattachments",
    ];
    let unstored = having(|k| !k.unconditional_update).len() - refusing.len();
    assert_eq!(unstored, 8);
    let stored_refusing: Vec<&str> = having(|k| !k.unconditional_update)
        .into_iter()
        .filter(|r| !r.ends_with("reviews") && !matches!(*r, "bindings" | "componentstatuses"))
        .collect();
    assert_eq!(stored_refusing, refusing);
}

#[test]
fn defaults_of_single_fields() {
    let check = |group: &str, resource: &str, object: Value, path: &str, want: Value| {
        let mut object = object;
        (of(group, resource).defaults)(&mut object, "v1");
        let mut found = Vec::new();
        fill::each(&mut object, path, &mut |value| found.push(value.clone()));
        assert_eq!(found, [want], "{group} {resource} {path}");
    };
    let batch = |resource, object, path, want| check("batch", resource, object, path, want);
    batch("jobs", object!({}), "spec.completions", object!(1));
    batch("jobs", object!({"spec": {"completions": 3}}), "spec.parallelism", object!(1));
    batch(
        "jobs",
        object!({"spec": {"backoffLimitPerIndex": 1}}),
        "spec.backoffLimit",
        object!(2_147_483_647),
    );
    batch("jobs", object!({}), "spec.podReplacementPolicy", object!("TerminatingOrFailed"));
    batch("jobs", object!({}), "spec.template.spec.restartPolicy", object!("Always"));
    batch("cronjobs", object!({}), "spec.concurrencyPolicy", object!("Allow"));
    batch("cronjobs", object!({}), "spec.jobTemplate.spec.template.spec.dnsPolicy", object!("ClusterFirst"));
    let hooks = object!({"webhooks": [{"rules": [{}], "clientConfig": {"service": {}}}]});
    let admission = "admissionregistration.k8s.io";
    for resource in ["validatingwebhookconfigurations", "mutatingwebhookconfigurations"] {
        check(admission, resource, hooks.clone(), "webhooks[*].rules[*].scope", object!("*"));
        check(admission, resource, hooks.clone(), "webhooks[*].clientConfig.service.port", object!(443));
    }
    check(
        admission,
        "mutatingwebhookconfigurations",
        hooks,
        "webhooks[*].reinvocationPolicy",
        object!("Never"),
    );
    check(admission, "mutatingadmissionpolicies", object!({}), "spec.failurePolicy", object!("Fail"));
    let binding = object!({"spec": {"matchResources": {}}});
    let path = "spec.matchResources.objectSelector";
    check(admission, "validatingadmissionpolicybindings", binding, path, object!({}));
    check("storage.k8s.io", "storageclasses", object!({}), "reclaimPolicy", object!("Delete"));
    check("storage.k8s.io", "csidrivers", object!({}), "spec.volumeLifecycleModes", object!(["Persistent"]));
    let inline = object!({"spec": {"source": {"inlineVolumeSpec": {"iscsi": {}}}}});
    let path = "spec.source.inlineVolumeSpec.iscsi.iscsiInterface";
    check("storage.k8s.io", "volumeattachments", inline, path, object!("default"));
    check(
        "scheduling.k8s.io",
        "priorityclasses",
        object!({}),
        "preemptionPolicy",
        object!("PreemptLowerPriority"),
    );
    let class = object!({"spec": {"parameters": {}}});
    check("networking.k8s.io", "ingressclasses", class, "spec.parameters.scope", object!("Cluster"));
    let flow = "flowcontrol.apiserver.k8s.io";
    check(flow, "flowschemas", object!({}), "spec.matchingPrecedence", object!(1000));
    let limited = object!({"spec": {"limited": {"limitResponse": {"queuing": {}}}}});
    let path = "spec.limited.limitResponse.queuing.queues";
    check(flow, "prioritylevelconfigurations", limited, path, object!(64));
    let claim = object!({"spec": {"devices": {"requests": [{"exactly": {}}]}}});
    check("resource.k8s.io", "resourceclaims", claim, "spec.devices.requests[*].exactly.count", object!(1));
    check(
        "discovery.k8s.io",
        "endpointslices",
        object!({"ports": [{}]}),
        "ports[*].protocol",
        object!("TCP"),
    );
    check(
        "",
        "endpoints",
        object!({"subsets": [{"ports": [{}]}]}),
        "subsets[*].ports[*].protocol",
        object!("TCP"),
    );
    check("", "persistentvolumes", object!({}), "spec.persistentVolumeReclaimPolicy", object!("Retain"));
    check("", "podtemplates", object!({}), "template.spec.schedulerName", object!("default-scheduler"));
    let service = object!({"spec": {"service": {}}});
    check("apiregistration.k8s.io", "apiservices", service, "spec.service.port", object!(443));
}

/// A small generator of pseudo-random numbers (xorshift), so that a failure names its seed.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % below as u64).expect("below a usize")
    }

    fn scalar(&mut self) -> Value {
        match self.next(14) {
            0 => Value::Null,
            1 => true.into(),
            2 => 0.into(),
            3 => (-1).into(),
            4 => i64::MAX.into(),
            5 => Value::Float(1.5),
            6 => "".into(),
            7 => "é".repeat(40).into(),
            8 => "1e9999".into(),
            9 => "-5".into(),
            10 => "1Gi".into(),
            11 => "a/b=c:%".into(),
            12 => Value::Array(vec![Value::Null, "x".into(), 1.into()]),
            _ => object!({"name": {}, "spec": [], "key": 3}),
        }
    }

    /// Changes one place of the tree.
    fn mutate(&mut self, value: &mut Value) {
        if self.next(4) == 0 {
            *value = self.scalar();
            return;
        }
        match value {
            Value::Object(map) if !map.is_empty() => {
                let at = self.next(map.len());
                let (name, member) = map.iter_mut().nth(at).expect("an index below the length");
                let name = name.to_owned();
                match self.next(10) {
                    0 => drop(map.remove(&name)),
                    1 => {
                        let copy = member.clone();
                        map.insert("status", copy);
                    }
                    _ => self.mutate(member),
                }
            }
            Value::Array(items) if !items.is_empty() => {
                let at = self.next(items.len());
                match self.next(8) {
                    0 => drop(items.remove(at)),
                    1 => items.push(items[at].clone()),
                    _ => self.mutate(&mut items[at]),
                }
            }
            other => *other = self.scalar(),
        }
    }
}

/// Whatever the tree, a kind answers and does not panic.
#[test]
fn no_tree_makes_a_kind_panic() {
    let seeds: Vec<Value> = samples::ALL
        .iter()
        .map(|text| crate::json::from_slice(text.as_bytes()).expect("a sample"))
        .chain([Value::Null, Value::object(), Value::Array(Vec::new()), 1.into()])
        .collect();
    for seed in 1..=600_u64 {
        let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let at = random.next(seeds.len());
        let mut object = seeds[at].clone();
        for _ in 0..random.next(12) {
            random.mutate(&mut object);
        }
        for kind in KINDS {
            exercise(kind, &object, &seeds[at]);
        }
    }
}

fn exercise(kind: &Kind, object: &Value, old: &Value) {
    let mut new = object.clone();
    for version in ["v1", "v2"] {
        (kind.defaults)(&mut new, version);
        (kind.defaults)(&mut new, version);
    }
    let mut created = new.clone();
    (kind.prepare_create)(&mut created);
    for (new, old) in [(&created, old), (old, &created)] {
        let mut updated = new.clone();
        (kind.prepare_update)(&mut updated, old);
        drop((kind.validate)(&updated));
        drop((kind.validate_update)(&updated, old));
        drop((kind.validate_status)(&updated, old));
        drop((kind.warnings)(&updated, None));
        drop((kind.warnings)(&updated, Some(old)));
    }
}

/// Defaults given twice are the same as given once.
#[test]
fn defaults_are_stable() {
    for text in samples::ALL {
        let mut once: Value = crate::json::from_slice(text.as_bytes()).expect("a sample");
        for kind in KINDS {
            (kind.defaults)(&mut once, "v1");
            let mut twice = once.clone();
            (kind.defaults)(&mut twice, "v1");
            assert_eq!(once, twice, "{}", kind.resource);
        }
    }
}

mod samples;
