use super::*;
use crate::{Map, object};

fn standard(level: Level, minor: u64) -> Standard {
    Standard { level, version: Version::Minor(minor) }
}

fn told(standard: Standard, pod: &Value) -> String {
    together(&evaluate(standard, pod))
}

/// What the latest baseline says of a specification.
fn baseline(spec: Value, want: &str) {
    let pod = object!({"metadata": {"name": "p"}, "spec": spec});
    assert_eq!(told(Standard::latest(Level::Baseline), &pod), want, "{:?}", pod.get("spec"));
}

/// A specification of one container with this security context.
fn secured(context: Value) -> Value {
    object!({"containers": [{"name": "a", "securityContext": context}]})
}

fn hardened() -> Value {
    object!({
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "a", "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}
        }}]
    })
}

/// What the latest restricted says of a hardened specification in which something else is set.
fn restricted(path: &[&str], value: Value, want: &str) {
    let mut spec = hardened();
    match path {
        ["container", rest @ ..] => {
            spec.make(&["containers"]).as_array_mut().expect("a list")[0].set(rest, value);
        }
        path => spec.set(path, value),
    }
    let pod = object!({"metadata": {}, "spec": spec});
    assert_eq!(told(Standard::latest(Level::Restricted), &pod), want, "{path:?}");
}

#[test]
fn what_a_plain_pod_lacks() {
    let pod = object!({"metadata": {}, "spec": {
        "initContainers": [{"name": "i"}], "containers": [{"name": "a"}], "ephemeralContainers": [{"name": "e"}]
    }});
    assert_eq!(told(Standard::latest(Level::Privileged), &pod), "");
    assert_eq!(told(Standard::latest(Level::Baseline), &pod), "");
    assert_eq!(
        told(Standard::latest(Level::Restricted), &pod),
        "allowPrivilegeEscalation != false (containers \"i\", \"a\", \"e\" must set \
         securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (containers \"i\", \"a\", \"e\" must \
         set securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or containers \"i\", \"a\", \"e\" \
         must set securityContext.runAsNonRoot=true), seccompProfile (pod or containers \"i\", \"a\", \"e\" must set \
         securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
    );
    assert_eq!(
        told(standard(Level::Restricted, 0), &pod).matches("must set").count(),
        1,
        "only the user was looked at"
    );
}

#[test]
fn baseline_keeps_pods_off_the_host() {
    baseline(
        object!({"hostNetwork": true, "hostPID": true, "hostIPC": false}),
        "host namespaces (hostNetwork=true, hostPID=true)",
    );
    baseline(
        object!({"volumes": [{"name": "a", "hostPath": {"path": "/"}}, {"name": "b", "emptyDir": {}}]}),
        r#"hostPath volumes (volume "a")"#,
    );
    let ports = object!([{"hostPort": 80}, {"hostPort": 8080}, {"hostPort": 0}, {"containerPort": 1}]);
    baseline(
        object!({"containers": [{"name": "a", "ports": (ports.clone())}, {"name": "b", "ports": ports}]}),
        r#"hostPort (containers "a", "b" use hostPorts 80, 8080)"#,
    );
    baseline(
        object!({"containers": [{"name": "a", "livenessProbe": {"httpGet": {"host": "x", "port": 1}},
            "lifecycle": {"preStop": {"tcpSocket": {"host": "10.0.0.1"}}}}]}),
        r#"probe or lifecycle host (container "a" uses probe or lifecycle hosts "10.0.0.1", "x")"#,
    );
    baseline(
        secured(object!({"privileged": true})),
        r#"privileged (container "a" must not set securityContext.privileged=true)"#,
    );
    baseline(
        secured(object!({"windowsOptions": {"hostProcess": true}})),
        r#"hostProcess (container "a" must not set securityContext.windowsOptions.hostProcess=true)"#,
    );
}

#[test]
fn baseline_keeps_what_confines_containers() {
    baseline(
        secured(object!({"capabilities": {"add": ["SYS_ADMIN", "CHOWN", "CAP_CHOWN"]}})),
        "non-default capabilities (container \"a\" must not include \"CAP_CHOWN\", \"SYS_ADMIN\" in \
         securityContext.capabilities.add)",
    );
    baseline(
        secured(object!({"procMount": "Unmasked"})),
        r#"procMount (container "a" must not set securityContext.procMount to "Unmasked")"#,
    );
    let profile = |pod: &str, container: &str, field: &str| {
        let mut spec = object!({"containers": [{"name": "a"}]});
        spec.set(&["securityContext", field, "type"], pod);
        spec.make(&["containers"]).as_array_mut().expect("a list")[0]
            .set(&["securityContext", field, "type"], container);
        spec
    };
    baseline(profile("RuntimeDefault", "Localhost", "seccompProfile"), "");
    baseline(
        profile("Unconfined", "Unconfined", "seccompProfile"),
        "seccompProfile (pod and container \"a\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
    );
    baseline(
        profile("Localhost", "Unconfined", "appArmorProfile"),
        "forbidden AppArmor profile (container \"a\" must not set AppArmor profile type to \"Unconfined\")",
    );
    baseline(
        object!({"securityContext": {"sysctls": [{"name": "kernel.msgmax"}, {"name": "net.ipv4.tcp_rmem"}]}}),
        "forbidden sysctls (kernel.msgmax)",
    );
    let labelled = |options: Value| object!({"securityContext": {"seLinuxOptions": options}});
    baseline(labelled(object!({"type": "container_engine_t", "level": "s0"})), "");
    baseline(
        labelled(object!({"type": "spc_t", "user": "u", "role": "r"})),
        "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not be set; role may \
         not be set)",
    );
}

#[test]
fn annotations_of_before_count() {
    let annotated = |key: &str, value: &str| {
        let mut pod = object!({"metadata": {}, "spec": {"containers": [{"name": "a"}]}});
        pod.set(&["metadata", "annotations", key], value);
        pod
    };
    let check = |minor: u64, key: &str, value: &str, want: &str| {
        assert_eq!(told(standard(Level::Baseline, minor), &annotated(key, value)), want, "{key} {minor}");
    };
    let armor = "container.apparmor.security.beta.kubernetes.io/a";
    check(36, armor, "runtime/default", "");
    check(
        36,
        armor,
        "unconfined",
        "forbidden AppArmor profile (annotation must not set AppArmor profile type to \
         \"container.apparmor.security.beta.kubernetes.io/a=\"unconfined\"\")",
    );
    let seccomp = "container.seccomp.security.alpha.kubernetes.io/a";
    let want = r#"seccompProfile (forbidden annotation container.seccomp.security.alpha.kubernetes.io/a="unconfined")"#;
    check(18, seccomp, "unconfined", want);
    check(19, seccomp, "unconfined", "");
    check(18, "container.seccomp.security.alpha.kubernetes.io/other", "unconfined", "");
}

#[test]
fn restricted_wants_it_said() {
    restricted(&["hostUsers"], Value::Null, "");
    restricted(
        &["securityContext", "runAsUser"],
        Value::from(0),
        "runAsUser=0 (pod must not set runAsUser=0)",
    );
    restricted(
        &["container", "securityContext", "runAsNonRoot"],
        Value::from(false),
        r#"runAsNonRoot != true (container "a" must not set securityContext.runAsNonRoot=false)"#,
    );
    restricted(
        &["container", "securityContext", "capabilities", "add"],
        Value::from(vec!["NET_BIND_SERVICE", "CHOWN"]),
        r#"unrestricted capabilities (container "a" must not include "CHOWN" in securityContext.capabilities.add)"#,
    );
    restricted(
        &["volumes"],
        object!([{"name": "a", "hostPath": {"path": "/"}}, {"name": "b", "nfs": {}}, {"name": "c", "image": {}}]),
        "restricted volume types (volumes \"a\", \"b\" use restricted volume types \"hostPath\", \"nfs\")",
    );
    restricted(
        &["container", "securityContext", "seccompProfile", "type"],
        Value::from("Unconfined"),
        "seccompProfile (container \"a\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
    );
    restricted(
        &["container", "securityContext", "procMount"],
        Value::from("Unmasked"),
        r#"procMount (container "a" must not set securityContext.procMount to "Unmasked")"#,
    );
}

#[test]
fn versions_have_their_own_rules() {
    let pod = |spec: Value| object!({"metadata": {}, "spec": spec});
    let windows = pod(object!({"os": {"name": "windows"}, "securityContext": {"runAsNonRoot": true},
        "containers": [{"name": "a"}]}));
    assert_eq!(evaluate(standard(Level::Restricted, 24), &windows).len(), 3);
    assert_eq!(evaluate(standard(Level::Restricted, 25), &windows), []);
    let mut own_users = hardened();
    own_users.set(&["hostUsers"], false);
    own_users.set(&["securityContext", "runAsNonRoot"], false);
    own_users.set(&["securityContext", "runAsUser"], 0);
    let own_users = pod(own_users);
    assert_eq!(evaluate(standard(Level::Restricted, 34), &own_users).len(), 2);
    assert_eq!(evaluate(standard(Level::Restricted, 35), &own_users), []);
    let sysctl = pod(object!({"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_keepalive_time"}]}}));
    assert_eq!(evaluate(standard(Level::Baseline, 28), &sysctl).len(), 1);
    assert_eq!(evaluate(standard(Level::Baseline, 29), &sysctl), []);
    let far = standard(Level::Baseline, 1000);
    assert_eq!(evaluate(far, &pod(object!({"hostPID": true}))).len(), 1, "as the latest");
}

#[test]
fn checks_are_in_the_order_in_which_they_are_told() {
    let places: Vec<_> = CHECKS.iter().map(|check| (check.level, check.id)).collect();
    assert!(places.is_sorted(), "{places:?}");
    for check in CHECKS {
        assert!(check.since.is_sorted_by(|a, b| a.0 < b.0), "{}", check.id);
        let replaced = CHECKS.iter().any(|other| other.id == check.replaces && other.level < check.level);
        assert!(check.replaces.is_empty() || replaced, "{}", check.id);
    }
}

fn policy(labels: &[(&str, &str)]) -> (String, Vec<String>) {
    let mut map = Map::new();
    for (mode, value) in labels {
        map.insert(format!("{PREFIX}{mode}"), *value);
    }
    let default = Policy::latest(Level::Baseline, Level::Privileged, Level::Privileged);
    let (policy, causes) = Policy::of_labels(Some(&map), default);
    let text = format!("{} {} {}", policy.enforce, policy.audit, policy.warn);
    (text, causes.iter().map(ToString::to_string).collect())
}

#[test]
fn labels_say_what_holds() {
    let check = |labels: &[(&str, &str)], want: &str| assert_eq!(policy(labels), (want.into(), Vec::new()));
    check(&[], "baseline:latest privileged:latest privileged:latest");
    check(
        &[("enforce", "restricted"), ("enforce-version", "v1.22")],
        "restricted:v1.22 privileged:latest restricted:v1.22",
    );
    check(
        &[("enforce", "restricted"), ("enforce-version", "v1.22"), ("warn-version", "v1.0")],
        "restricted:v1.22 privileged:latest restricted:v1.0",
    );
    check(
        &[
            ("enforce", "restricted"),
            ("warn", "privileged"),
            ("audit", "baseline"),
            ("audit-version", "latest"),
        ],
        "restricted:latest baseline:latest privileged:latest",
    );
}

#[test]
fn bad_labels_are_told_and_lock_rather_than_open() {
    let (held, causes) = policy(&[("enforce", "x"), ("audit", ""), ("warn", "X"), ("warn-version", "v1.05")]);
    assert_eq!(held, "restricted:latest privileged:latest privileged:latest");
    let level = "must be one of privileged, baseline, restricted";
    assert_eq!(
        causes,
        [
            format!("metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"x\": {level}"),
            format!("metadata.labels[pod-security.kubernetes.io/audit]: Invalid value: \"\": {level}"),
            format!("metadata.labels[pod-security.kubernetes.io/warn]: Invalid value: \"X\": {level}"),
            "metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: \"v1.05\": must be \"latest\" or \
             \"v1.x\""
                .to_owned(),
        ]
    );
    for text in ["", "v1.", "v2.0", "1.2", "v1.-1", "v1.+1", "v1.99999999999999999999", "Latest"] {
        assert_eq!(policy(&[("warn-version", text)]).1.len(), 1, "{text}");
    }
}

#[test]
fn what_tightens() {
    use Level::{Baseline, Privileged, Restricted};
    let check = |old: (Level, u64), new: (Level, u64), want: bool| {
        let policy = |(level, minor)| Policy {
            enforce: standard(level, minor),
            ..Policy::latest(Privileged, Privileged, Privileged)
        };
        assert_eq!(policy(new).tightens(&policy(old)), want, "{old:?} {new:?}");
    };
    check((Privileged, 0), (Baseline, 0), true);
    check((Restricted, 0), (Baseline, 0), false);
    check((Restricted, 0), (Baseline, 1), true);
    check((Restricted, 0), (Restricted, 0), false);
    check((Restricted, 0), (Privileged, 1), false);
}

#[test]
fn pods_that_are_there_are_told_together() {
    let mut survey = Survey::new(Standard::latest(Level::Baseline));
    let pod = |name: &str, spec: Value| object!({"metadata": {"name": name}, "spec": spec});
    for name in ["c", "a", "b"] {
        survey.add(&pod(name, object!({"hostPID": true})));
    }
    survey.add(&pod("good", object!({})));
    survey.add(&pod("bad", object!({"hostPID": true, "volumes": [{"name": "v", "hostPath": {}}]})));
    let warnings = survey.warnings("ns", 7);
    assert_eq!(
        warnings,
        [
            "new PodSecurity enforce level only checked against the first 5 of 7 existing pods",
            "existing pods in namespace \"ns\" violate the new PodSecurity enforce level \"baseline:latest\"",
            "a (and 2 other pods): host namespaces",
            "bad: host namespaces, hostPath volumes",
        ]
    );
}

#[test]
fn updates_that_count() {
    let pod = |containers: Value| object!({"spec": {"containers": containers, "ephemeralContainers": [{"name": "e"}]}});
    let old = pod(object!([{"name": "a", "image": "x"}]));
    assert!(!is_significant(&old, &old));
    assert!(is_significant(&pod(object!([{"name": "a", "image": "y"}])), &old));
    assert!(is_significant(&pod(object!([{"name": "a", "image": "x"}, {"name": "b"}])), &old));
    let mut more = old.clone();
    more.set(&["spec", "ephemeralContainers"], object!([{"name": "e"}, {"name": "f"}]));
    assert!(is_significant(&more, &old) && !is_significant(&old, &more));
}
