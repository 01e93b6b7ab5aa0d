//! Rules for a service's addresses, and for changing them: the first one stays, a second may come and go.

use super::rules::is_headless;
use super::{has_health_port, is_cluster, service_type};
use crate::Value;
use crate::kinds::address;
use crate::kinds::check::{Check, filled, same, text};

const FIXED: &str = "may not change once set";

/// Checks the addresses and families of a service; addresses that were there before may be of older forms.
pub(super) fn addresses(c: &mut Check, spec: &Value, old: &Value) {
    if !is_cluster(spec) {
        return;
    }
    let ips = spec.array_at(&["clusterIPs"]);
    let all = || Value::Array(ips.to_vec());
    match filled(spec, "clusterIP") {
        Some(_) if ips.is_empty() => c.at("clusterIPs").required(""),
        Some(first) if ips[0].as_str() != Some(first) => {
            c.at("clusterIPs").invalid(all(), "first value must match `clusterIP`");
        }
        None if !ips.is_empty() => {
            c.at("clusterIPs").invalid(all(), "must be empty when `clusterIP` is not specified");
        }
        _ => {}
    }
    families(c, spec);
    let before = c.count();
    let known = old.array_at(&["clusterIPs"]);
    c.each(spec, "clusterIPs", |c, ip| {
        let text = ip.as_str().unwrap_or_default();
        let none_first = text == "None" && ips.first() == Some(ip);
        if !none_first && !known.contains(ip) {
            c.here().obeys(text, |ip| address::ip(ip).map(|_| ()));
        }
    });
    if ips.len() > 1 && ips[0].as_str() == Some("None") {
        c.at("clusterIPs").invalid(all(), "'None' must be the first and only value");
    }
    if ips.len() > 2 {
        c.at("clusterIPs").invalid(all(), "may only hold up to 2 values");
    }
    if c.count() > before {
        return;
    }
    let is_v6 = |ip: &Value| ip.as_str().unwrap_or_default().contains(':');
    if ips.len() > 1 && is_v6(&ips[0]) == is_v6(&ips[1]) {
        c.at("clusterIPs").invalid(all(), "may specify no more than one IP for each IP family");
    }
    if is_headless(spec) {
        return;
    }
    for (i, (ip, family)) in ips.iter().zip(spec.array_at(&["ipFamilies"])).enumerate() {
        if let Some(family) = family.as_str().filter(|f| (*f == "IPv6") != is_v6(ip)) {
            let detail = format!("expected an {family} value as indicated by `ipFamilies[{i}]`");
            c.at("clusterIPs").index(i).invalid(ip.clone(), &detail);
        }
    }
}

fn families(c: &mut Check, spec: &Value) {
    const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];
    let all = spec.array_at(&["ipFamilies"]);
    for (i, family) in all.iter().enumerate() {
        let name = family.as_str().unwrap_or_default();
        if !FAMILIES.contains(&name) {
            c.at("ipFamilies").index(i).not_supported(name, &FAMILIES);
        }
        if all[..i].contains(family) {
            c.at("ipFamilies").index(i).duplicate(name);
        }
    }
    c.one_of_if_set(spec, "ipFamilyPolicy", &["PreferDualStack", "RequireDualStack", "SingleStack"]);
}

/// Checks what changed.
pub(super) fn check(c: &mut Check, service: &Value, old: &Value) {
    let (Some(new), Some(old)) = (service.get("spec"), old.get("spec")) else { return };
    c.within("spec", |c| {
        if is_cluster(new) && is_cluster(old) {
            changed_list(c, new, old, "clusterIPs", "clusterIP", |new, old| {
                is_headless(new) && is_headless(old)
            });
            changed_list(c, new, old, "ipFamilies", "ipFamily", |new, old| {
                is_headless(new) || is_headless(old)
            });
        }
        let balanced = |spec: &Value| service_type(spec) == "LoadBalancer";
        let class = "loadBalancerClass";
        if balanced(new) && balanced(old) && !same(new.get(class), old.get(class)) {
            c.at(class).invalid(new.get(class).cloned().unwrap_or_default(), FIXED);
        }
        let port = "healthCheckNodePort";
        if has_health_port(new) && has_health_port(old) && !same(new.get(port), old.get(port)) {
            c.at(port).forbidden("field is immutable");
        }
    });
}

/// A list whose first element stays; the second may go only when a single family is asked for.
fn changed_list(
    c: &mut Check,
    new: &Value,
    old: &Value,
    list: &str,
    one: &str,
    free: fn(&Value, &Value) -> bool,
) {
    let (now, then) = (new.array_at(&[list]), old.array_at(&[list]));
    // Nothing was allocated before, or nothing is asked for now and the server gives what was.
    if free(new, old) || then.is_empty() {
        return;
    }
    let all = || Value::Array(now.to_vec());
    if now.is_empty() {
        return c.at(list).index(0).invalid(all(), &format!("primary {one} can not be unset"));
    }
    if now.len() == then.len() {
        for (i, _) in now.iter().zip(then).enumerate().filter(|(_, (now, then))| now != then) {
            c.at(list).index(i).invalid(all(), FIXED);
        }
        return;
    }
    if now[0] != then[0] {
        c.at(list).index(0).invalid(all(), FIXED);
    }
    if now.len() == 1 && text(new, "ipFamilyPolicy") != "SingleStack" {
        let detail = format!("must be set to 'SingleStack' when releasing the secondary {one}");
        c.at("ipFamilyPolicy").invalid(new.get("ipFamilyPolicy").cloned().unwrap_or_default(), &detail);
    }
}

#[cfg(test)]
mod tests {
    use crate::kinds::check::testing::{json, lines, with};
    use crate::kinds::service::SERVICE;

    #[test]
    fn addresses_agree() {
        let check = |fields: &str, want: &[&str]| {
            let mut service = json(&format!("{{\"spec\": {{\"ports\": [{{\"port\": 80}}], {fields}}}}}"));
            (SERVICE.defaults)(&mut service, "v1");
            (SERVICE.prepare_create)(&mut service);
            assert_eq!(lines(&(SERVICE.validate)(&service)), want, "{fields}");
        };
        check(r#""clusterIP": "10.0.0.1""#, &[]);
        check(
            r#""clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"], "ipFamilies": ["IPv4", "IPv6"]"#,
            &[],
        );
        check(
            r#""clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.2"]"#,
            &[r#"spec.clusterIPs: Invalid value: ["10.0.0.2"]: first value must match `clusterIP`"#],
        );
        check(
            r#""clusterIPs": ["10.0.0.2"]"#,
            &[
                r#"spec.clusterIPs: Invalid value: ["10.0.0.2"]: must be empty when `clusterIP` is not specified"#,
            ],
        );
        check(
            r#""clusterIP": "x""#,
            &[
                r#"spec.clusterIPs[0]: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"#,
            ],
        );
        check(
            r#""clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "10.0.0.2"]"#,
            &[
                r#"spec.clusterIPs: Invalid value: ["10.0.0.1","10.0.0.2"]: may specify no more than one IP for each IP family"#,
            ],
        );
        check(
            r#""clusterIP": "10.0.0.1", "ipFamilies": ["IPv6"]"#,
            &[
                r#"spec.clusterIPs[0]: Invalid value: "10.0.0.1": expected an IPv6 value as indicated by `ipFamilies[0]`"#,
            ],
        );
        check(
            r#""ipFamilies": ["IPv4", "IPv4", "x"], "ipFamilyPolicy": "x""#,
            &[
                r#"spec.ipFamilies[1]: Duplicate value: "IPv4""#,
                r#"spec.ipFamilies[2]: Unsupported value: "x": supported values: "IPv4", "IPv6""#,
                r#"spec.ipFamilyPolicy: Unsupported value: "x": supported values: "PreferDualStack", "RequireDualStack", "SingleStack""#,
            ],
        );
    }

    #[test]
    fn addresses_stay() {
        let mut base = json(
            r#"{"spec": {"ports": [{"port": 80}], "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"],
                "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "PreferDualStack"}}"#,
        );
        (SERVICE.defaults)(&mut base, "v1");
        let check = |changes: &[(&str, &str)], want: &[&str]| {
            let mut new = with(&base, changes);
            (SERVICE.prepare_update)(&mut new, &base);
            assert_eq!(lines(&(SERVICE.validate_update)(&new, &base)), want, "{changes:?}");
        };
        check(&[], &[]);
        check(&[("spec.clusterIP", ""), ("spec.clusterIPs", "")], &[]);
        check(
            &[("spec.clusterIP", r#""10.0.0.2""#), ("spec.clusterIPs", r#"["10.0.0.2", "fd00::1"]"#)],
            &[r#"spec.clusterIPs[0]: Invalid value: ["10.0.0.2","fd00::1"]: may not change once set"#],
        );
        let single = [("spec.clusterIPs", r#"["10.0.0.1"]"#), ("spec.ipFamilies", r#"["IPv4"]"#)];
        check(
            &single,
            &[
                r#"spec.ipFamilyPolicy: Invalid value: "PreferDualStack": must be set to 'SingleStack' when releasing the secondary clusterIP"#,
                r#"spec.ipFamilyPolicy: Invalid value: "PreferDualStack": must be set to 'SingleStack' when releasing the secondary ipFamily"#,
            ],
        );
        check(&[single[0], single[1], ("spec.ipFamilyPolicy", r#""SingleStack""#)], &[]);
        check(&[("spec.type", r#""ExternalName""#), ("spec.externalName", r#""a.b""#)], &[]);
    }
}
