//! Pod Security Standards: what a pod may ask for at the levels `baseline` and `restricted`, in each version of Kubernetes
//! (v1.0 to v1.36; a later one is as the latest).
//!
//! It owns the checks ([`evaluate`]) and what a namespace's labels ask for ([`Policy`]); who is refused or warned is decided
//! by the server's admission. A pod and a workload's template are the same here: an object with `metadata` and `spec`.
//!
//! ```text
//! level, version ─▶ checks in force (of "restricted" also those of "baseline" that it does not replace) ─▶ violations
//! ```
//!
//! Reasons and details have upstream's words, and stand in upstream's order: clients match on them.

mod baseline;
mod policy;
mod restricted;
mod survey;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;

use crate::Value;

pub use self::policy::{Level, PREFIX, Policy, Standard, Version};
pub use self::survey::Survey;

/// What a pod does that a standard forbids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// In a word, `host namespaces`.
    pub reason: String,
    /// Who does it and what to do about it; may be empty.
    pub detail: String,
}

impl Violation {
    fn new(reason: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { reason: reason.into(), detail: detail.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, " ({})", self.detail) }
    }
}

/// All violations as one text.
#[must_use]
pub fn together(violations: &[Violation]) -> String {
    violations.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

type Find = fn(&Pod<'_>) -> Option<Violation>;

/// One check of the standards.
struct Check {
    id: &'static str,
    level: Level,
    /// The check of a lower level that is left out where this one is in force; empty if there is none.
    replaces: &'static str,
    /// From which minor version on it is so; ascending.
    since: &'static [(u64, Find)],
}

impl Check {
    fn at(&self, version: Version) -> Option<Find> {
        let begun = self.since.iter().rev().find(|(minor, _)| Version::Minor(*minor) <= version);
        begun.map(|(_, find)| *find)
    }
}

const fn check(id: &'static str, level: Level, since: &'static [(u64, Find)]) -> Check {
    Check { id, level, replaces: "", since }
}

/// In the order in which violations are told: of each level by name.
const CHECKS: &[Check] = &[
    check("appArmorProfile", Level::Baseline, &[(0, baseline::app_armor)]),
    check("capabilities_baseline", Level::Baseline, &[(0, baseline::capabilities)]),
    check("hostNamespaces", Level::Baseline, &[(0, baseline::host_namespaces)]),
    check("hostPathVolumes", Level::Baseline, &[(0, baseline::host_paths)]),
    check("hostPorts", Level::Baseline, &[(0, baseline::host_ports)]),
    check("hostProbesAndHostLifecycle", Level::Baseline, &[(34, baseline::handler_hosts)]),
    check("privileged", Level::Baseline, &[(0, baseline::privileged)]),
    check(
        "procMount",
        Level::Baseline,
        &[(0, baseline::proc_mount), (35, baseline::proc_mount_of_host_users)],
    ),
    check("seLinuxOptions", Level::Baseline, &[(0, baseline::selinux), (31, baseline::selinux_with_engines)]),
    check(
        "seccompProfile_baseline",
        Level::Baseline,
        &[(0, baseline::seccomp_annotations), (19, baseline::seccomp)],
    ),
    check(
        "sysctls",
        Level::Baseline,
        &[
            (0, baseline::sysctls),
            (27, baseline::sysctls_1_27),
            (29, baseline::sysctls_1_29),
            (32, baseline::sysctls_1_32),
        ],
    ),
    check("windowsHostProcess", Level::Baseline, &[(0, baseline::host_process)]),
    check(
        "allowPrivilegeEscalation",
        Level::Restricted,
        &[(8, restricted::escalation), (25, |pod| restricted::unless_windows(pod, restricted::escalation))],
    ),
    Check {
        id: "capabilities_restricted",
        level: Level::Restricted,
        replaces: "capabilities_baseline",
        since: &[
            (22, restricted::capabilities),
            (25, |pod| restricted::unless_windows(pod, restricted::capabilities)),
        ],
    },
    Check {
        id: "procMount_restricted",
        level: Level::Restricted,
        replaces: "procMount",
        since: &[(35, baseline::proc_mount)],
    },
    Check {
        id: "restrictedVolumes",
        level: Level::Restricted,
        replaces: "hostPathVolumes",
        since: &[(0, restricted::volumes)],
    },
    check(
        "runAsNonRoot",
        Level::Restricted,
        &[(0, restricted::non_root), (35, |pod| restricted::if_host_users(pod, restricted::non_root))],
    ),
    check(
        "runAsUser",
        Level::Restricted,
        &[(23, restricted::user), (35, |pod| restricted::if_host_users(pod, restricted::user))],
    ),
    Check {
        id: "seccompProfile_restricted",
        level: Level::Restricted,
        replaces: "seccompProfile_baseline",
        since: &[(19, restricted::seccomp), (25, |pod| restricted::unless_windows(pod, restricted::seccomp))],
    },
];

/// What of a pod, or of a workload's template, a standard forbids.
#[must_use]
pub fn evaluate(standard: Standard, pod: &Value) -> Vec<Violation> {
    static NOTHING: Value = Value::Null;
    let part = |field: &str| pod.get(field).unwrap_or(&NOTHING);
    let pod = Pod { metadata: part("metadata"), spec: part("spec") };
    in_force(standard).filter_map(|find| find(&pod)).collect()
}

fn in_force(standard: Standard) -> impl Iterator<Item = Find> {
    let Standard { level, version } = standard;
    let all = move || CHECKS.iter().filter(move |check| check.level <= level);
    let is_replaced = move |id: &str| all().any(|check| check.replaces == id && check.at(version).is_some());
    all().filter(move |check| !is_replaced(check.id)).filter_map(move |check| check.at(version))
}

/// Whether an update of a pod may change what the standards say of it: containers come, or images change.
#[must_use]
pub fn is_significant(new: &Value, old: &Value) -> bool {
    let differs = |list: &str| {
        let (new, old) = (new.array_at(&["spec", list]), old.array_at(&["spec", list]));
        new.len() != old.len() || new.iter().zip(old).any(|(new, old)| new.get("image") != old.get("image"))
    };
    let before = old.array_at(&["spec", "ephemeralContainers"]);
    let is_new = |container: &Value| {
        let same = before.iter().find(|old| old.get("name") == container.get("name"));
        same.is_none_or(|old| old.get("image") != container.get("image"))
    };
    differs("containers")
        || differs("initContainers")
        || new.array_at(&["spec", "ephemeralContainers"]).iter().any(is_new)
}

/// What is looked at of a pod.
struct Pod<'a> {
    metadata: &'a Value,
    spec: &'a Value,
}

impl<'a> Pod<'a> {
    /// All containers: those of the beginning first, those that were added last.
    fn containers(&self) -> impl Iterator<Item = &'a Value> + use<'a> {
        let spec = self.spec;
        ["initContainers", "containers", "ephemeralContainers"]
            .into_iter()
            .flat_map(|list| spec.array_at(&[list]))
    }

    /// The names of the containers of which something is true.
    fn containers_that(&self, mut is: impl FnMut(&'a Value) -> bool) -> Names<'a> {
        Names(self.containers().filter(|container| is(container)).map(name).collect())
    }

    /// Who does something: the pod as such, containers.
    fn setters(&self, mut is: impl FnMut(&'a Value) -> bool) -> Setters<'a> {
        Setters { pod: is(self.spec), containers: self.containers_that(is) }
    }

    fn annotations(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let all = self.metadata.object_at(&["annotations"]).into_iter().flat_map(crate::Map::iter);
        all.filter_map(|(key, value)| Some((key, value.as_str()?)))
    }

    /// Whether its users are none of the host.
    fn has_own_users(&self) -> bool {
        self.spec.bool_at(&["hostUsers"]) == Some(false)
    }

    fn is_windows(&self) -> bool {
        self.spec.str_at(&["os", "name"]) == Some("windows")
    }
}

fn name(container: &Value) -> &str {
    container.str_at(&["name"]).unwrap_or_default()
}

/// A field of the security context of a pod or a container, if it is set.
fn security<'a>(holder: &'a Value, field: &str) -> Option<&'a Value> {
    holder.at(&["securityContext", field]).filter(|value| !value.is_null())
}

/// Names of containers.
struct Names<'a>(Vec<&'a str>);

impl Names<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A verb as it goes with so many.
    fn uses(&self) -> &'static str {
        plural(self.0.len(), "uses", "use")
    }
}

impl fmt::Display for Names<'_> {
    /// `container "a"`, `containers "a", "b"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", plural(self.0.len(), "container", "containers"), quoted(&self.0))
    }
}

/// Who does something.
struct Setters<'a> {
    pod: bool,
    containers: Names<'a>,
}

impl Setters<'_> {
    fn is_empty(&self) -> bool {
        !self.pod && self.containers.is_empty()
    }
}

impl fmt::Display for Setters<'_> {
    /// `pod and container "a"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pod {
            f.write_str("pod")?;
        }
        match (self.pod, self.containers.is_empty()) {
            (_, true) => Ok(()),
            (true, false) => write!(f, " and {}", self.containers),
            (false, false) => self.containers.fmt(f),
        }
    }
}

const fn plural<'a>(count: usize, one: &'a str, many: &'a str) -> &'a str {
    if count == 1 { one } else { many }
}

/// `"a", "b"`.
fn quoted<T: AsRef<str>>(items: &[T]) -> String {
    items.iter().map(|item| format!("\"{}\"", item.as_ref())).collect::<Vec<_>>().join(", ")
}

/// Values that are told once each, in their order.
#[derive(Default)]
struct Values(BTreeSet<String>);

impl Values {
    fn add(&mut self, value: impl Into<String>) {
        self.0.insert(value.into());
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn quoted(&self) -> String {
        quoted(&self.0.iter().collect::<Vec<_>>())
    }

    fn plain(&self) -> String {
        self.0.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
    }
}
