//! In which order groups and versions are told of: by the priorities of API services, and those that upstream has for its own
//! groups.

use std::cmp::Reverse;

/// What orders a group and version; the larger number comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Priority {
    /// Of the group: the largest of its versions' counts.
    pub(crate) group: i64,
    /// Of the version among those of its group.
    pub(crate) version: i64,
}

/// Groups and versions of custom resources.
pub(super) const CUSTOM: Priority = Priority { group: 1000, version: 100 };

/// The groups of Kubernetes and their priorities. All their versions that are served here are the first of upstream's but that
/// of `autoscaling`, which has two.
const GROUPS: [(&str, i64); 20] = [
    ("", 18_000),
    ("apps", 17_800),
    ("events.k8s.io", 17_750),
    ("authentication.k8s.io", 17_700),
    ("authorization.k8s.io", 17_600),
    ("autoscaling", 17_500),
    ("batch", 17_400),
    ("certificates.k8s.io", 17_300),
    ("networking.k8s.io", 17_200),
    ("policy", 17_100),
    ("rbac.authorization.k8s.io", 17_000),
    ("storage.k8s.io", 16_800),
    ("apiextensions.k8s.io", 16_700),
    ("admissionregistration.k8s.io", 16_700),
    ("scheduling.k8s.io", 16_600),
    ("coordination.k8s.io", 16_500),
    ("node.k8s.io", 16_300),
    ("discovery.k8s.io", 16_200),
    ("resource.k8s.io", 16_200),
    ("flowcontrol.apiserver.k8s.io", 16_100),
];

impl Priority {
    /// The priority of what Kubernetes has itself. `None`: no API service is made for it.
    pub(crate) fn built_in(group: &str, version: &str) -> Option<Self> {
        let of_group = GROUPS.iter().find(|(name, _)| *name == group)?.1;
        let of_version = match (group, version) {
            ("", "v1") => 1,
            ("autoscaling", "v2") => 30,
            ("flowcontrol.apiserver.k8s.io" | "resource.k8s.io", "v1") => 21,
            _ => 15,
        };
        Some(Self { group: of_group, version: of_version })
    }

    /// The priority of what this server answers and no API service tells of: that of API services themselves comes first.
    pub(crate) fn of_local(group: &str, version: &str) -> Self {
        if group == super::GROUP {
            return Self { group: 20_000, version: 15 };
        }
        Self::built_in(group, version).unwrap_or(CUSTOM)
    }
}

/// How versions compare: `v2` > `v1` > `v1beta2` > `v1beta1` > `v1alpha1` > anything else.
fn stability(version: &str) -> (u8, u32, u32) {
    let parse = |text: &str| text.parse::<u32>().ok();
    let Some(rest) = version.strip_prefix('v') else { return (0, 0, 0) };
    for (level, word) in [(2, "beta"), (1, "alpha")] {
        if let Some((major, minor)) = rest.split_once(word) {
            return match (parse(major), parse(minor)) {
                (Some(major), Some(minor)) => (level, major, minor),
                _ => (0, 0, 0),
            };
        }
    }
    parse(rest).map_or((0, 0, 0), |major| (3, major, 0))
}

/// Sorts the versions of a group; of those with the same priority the stable and new ones come first.
pub(crate) fn sort_versions<T>(versions: &mut [T], of: impl Fn(&T) -> (i64, &str)) {
    versions.sort_by(|a, b| {
        let key = |one| {
            let (priority, version) = of(one);
            (Reverse(priority), Reverse(stability(version)), version)
        };
        key(a).cmp(&key(b))
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_priority_and_then_by_stability() {
        let mut versions =
            ["v1alpha1", "v1", "foo", "bar", "v2beta1", "v10", "v1beta2", "v2"].map(|v| (100, v));
        versions[2].0 = 200;
        sort_versions(&mut versions, |v| *v);
        assert_eq!(
            versions.map(|(_, v)| v),
            ["foo", "v10", "v2", "v1", "v2beta1", "v1beta2", "v1alpha1", "bar"]
        );
    }
}
