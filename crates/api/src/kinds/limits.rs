//! LimitRanges and ResourceQuotas.

use super::Kind;
use super::fill::each;
use super::pod::resources::round_list;
use crate::Value;

pub(super) const LIMIT_RANGE: Kind = Kind {
    resource: "limitranges",
    generation: false,
    unconditional_update: true,
    create_on_update: true,
    defaults: |object, _| each(object, "spec.limits[*]", &mut item_defaults),
    ..Kind::DEFAULT
};

pub(super) const RESOURCE_QUOTA: Kind = Kind {
    resource: "resourcequotas",
    generation: false,
    unconditional_update: true,
    defaults: |object, _| {
        for list in ["spec.hard", "status.hard", "status.used"] {
            each(object, list, &mut round_list);
        }
    },
    ..Kind::DEFAULT
};

/// A container's default limit is the most that is allowed, its default request that limit, else the least.
fn item_defaults(item: &mut Value) {
    if item.str_at(&["type"]) == Some("Container") {
        for (to, from) in [("default", "max"), ("defaultRequest", "default"), ("defaultRequest", "min")] {
            let given = item.object_at(&[from]).cloned().unwrap_or_default();
            let target = item.entry(to).make_object();
            for (name, amount) in given {
                if !target.contains(&name) {
                    target.insert(name, amount);
                }
            }
        }
    }
    for list in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
        each(item, list, &mut round_list);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object;

    #[test]
    fn container_limits_follow_from_each_other() {
        let mut range = object!({"spec": {"limits": [
            {"type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "1", "memory": "1Mi"}},
            {"type": "Pod", "max": {"cpu": "4"}}
        ]}});
        (LIMIT_RANGE.defaults)(&mut range, "v1");
        let want = object!({"spec": {"limits": [
            {
                "type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "1", "memory": "1Mi"},
                "default": {"cpu": "2"}, "defaultRequest": {"cpu": "2", "memory": "1Mi"}
            },
            {"type": "Pod", "max": {"cpu": "4"}}
        ]}});
        assert_eq!(range, want);
    }
}
