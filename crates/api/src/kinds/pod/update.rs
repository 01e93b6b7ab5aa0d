//! Rules for changing a pod: nearly everything stays as it was made.

use super::check::whole_pod;
use crate::error::Cause;
use crate::kinds::changes;
use crate::kinds::check::{self, Check, filled, is_set, number, same, text};
use crate::{Value, names};

/// What an update of a pod may change, in the words that clients are told.
const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
                         `spec.tolerations` (only additions to existing tolerations),\
                         `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// What is wrong with a changed pod.
pub(super) fn validate(new: &Value, old: &Value) -> Vec<Cause> {
    check::run(|c| {
        whole_pod(c, new);
        annotations(c, new, old);
        if let (Some(n), Some(o)) = (new.get("spec"), old.get("spec")) {
            c.within("spec", |c| spec(c, n, o));
        }
    })
}

fn annotations(c: &mut Check, new: &Value, old: &Value) {
    const MIRROR: &str = "kubernetes.io/config.mirror";
    const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
    let of = |pod: &Value| pod.object_at(&["metadata", "annotations"]).cloned().unwrap_or_default();
    let (new, old) = (of(new), of(old));
    let is_fixed = |key: &&str| *key == MIRROR || key.starts_with(APP_ARMOR);
    let what = |key: &str| if key == MIRROR { "mirror pod annotation" } else { "AppArmor annotations" };
    let mut refuse = |key: &str, may_not: &str| {
        let detail = format!("may not {may_not} {}", what(key));
        c.within("metadata", |c| c.at("annotations").key(key).forbidden(&detail));
    };
    for key in old.keys().filter(is_fixed).filter(|key| new.get(key) != old.get(key)) {
        refuse(key, "remove or update");
    }
    for key in new.keys().filter(is_fixed).filter(|key| !old.contains(key)) {
        refuse(key, "add");
    }
}

fn spec(c: &mut Check, new: &Value, old: &Value) {
    for list in ["containers", "initContainers"] {
        if new.array_at(&[list]).len() != old.array_at(&[list]).len() {
            return c.at(list).forbidden("pod updates may not add or remove containers");
        }
    }
    if !active_deadline(c, new, old) {
        return;
    }
    tolerations(c, new, old);
    scheduling_gates(c, new, old);
    if same(Some(new), Some(old)) {
        return;
    }
    let mut allowed = with_allowed_changes(new, old);
    if !old.array_at(&["schedulingGates"]).is_empty() {
        gated(c, &mut allowed, old);
    }
    if !same(Some(&allowed), Some(old)) {
        let changed = changes::describe(old, &allowed);
        c.here().forbidden(&format!("pod updates may not change fields other than {UPDATABLE}\n{changed}"));
    }
}

/// A deadline may come, or draw nearer. Whether it is worth looking further.
fn active_deadline(c: &mut Check, new: &Value, old: &Value) -> bool {
    const FIELD: &str = "activeDeadlineSeconds";
    match (number(new, FIELD), number(old, FIELD)) {
        (None, Some(_)) => {
            c.at(FIELD).invalid(Value::Null, "must not update from a positive integer to nil value");
        }
        (Some(seconds), _) if !(0..=i64::from(i32::MAX)).contains(&seconds) => {
            c.range(new, FIELD, 0, i32::MAX.into());
            return false;
        }
        (Some(seconds), Some(before)) if seconds > before => {
            c.at(FIELD).invalid(seconds, "must be less than or equal to previous value");
            return false;
        }
        _ => {}
    }
    true
}

fn tolerations(c: &mut Check, new: &Value, old: &Value) {
    let without_seconds = |toleration: &Value| {
        let mut copy = toleration.clone();
        drop(copy.remove_at(&["tolerationSeconds"]));
        copy
    };
    let kept: Vec<Value> = new.array_at(&["tolerations"]).iter().map(without_seconds).collect();
    let lost = |old: &Value| {
        let old = without_seconds(old);
        !kept.iter().any(|new| same(Some(new), Some(&old)))
    };
    if old.array_at(&["tolerations"]).iter().any(lost) {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        c.at("tolerations").forbidden(detail);
    }
}

fn scheduling_gates(c: &mut Check, new: &Value, old: &Value) {
    let before = old.array_at(&["schedulingGates"]);
    c.each(new, "schedulingGates", |c, gate| {
        let name = text(gate, "name");
        if !before.iter().any(|old| text(old, "name") == name) {
            let detail = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            c.at("name").forbidden(&detail);
        }
    });
}

/// The new specification with what may change as it was before.
fn with_allowed_changes(new: &Value, old: &Value) -> Value {
    let mut out = new.clone();
    for list in ["containers", "initContainers"] {
        let before = old.array_at(&[list]).to_vec();
        let after = out.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        for (container, old) in after.zip(&before) {
            restore(container, old, "image");
        }
    }
    for field in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        restore(&mut out, old, field);
    }
    const GRACE: &str = "terminationGracePeriodSeconds";
    if number(old, GRACE).is_some_and(|g| g < 0) && number(new, GRACE) == Some(1) {
        restore(&mut out, old, GRACE);
    }
    out
}

fn restore(new: &mut Value, old: &Value, field: &str) {
    match old.get(field) {
        Some(value) if new.as_object().is_some() => new.set(&[field], value.clone()),
        _ => drop(new.remove_at(&[field])),
    }
}

/// What waits to be scheduled may still be told more exactly where to run.
fn gated(c: &mut Check, new: &mut Value, old: &Value) {
    let selector = |spec: &Value| spec.object_at(&["nodeSelector"]).cloned().unwrap_or_default();
    let (after, before) = (selector(new), selector(old));
    if before.iter().any(|(key, value)| after.get(key) != Some(value)) {
        let detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        c.at("nodeSelector").invalid(after, detail);
    }
    restore(new, old, "nodeSelector");
    node_affinity(c, new, old);
    if new.object_at(&["affinity"]).is_some() || old.object_at(&["affinity"]).is_some() {
        match old.at(&["affinity", "nodeAffinity"]) {
            Some(value) if new.as_object().is_some() => new.set(&["affinity", "nodeAffinity"], value.clone()),
            _ => drop(new.remove_at(&["affinity", "nodeAffinity"])),
        }
    }
}

fn node_affinity(c: &mut Check, new: &Value, old: &Value) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    const PATH: [&str; 4] = ["affinity", "nodeAffinity", REQUIRED, "nodeSelectorTerms"];
    let (after, before) = (new.array_at(&PATH), old.array_at(&PATH));
    if before.is_empty() {
        return;
    }
    c.within(&PATH.join("."), |c| {
        if after.len() != before.len() {
            let detail = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
            return c.here().invalid(after.to_vec(), detail);
        }
        for (i, (new, old)) in after.iter().zip(before).enumerate() {
            if !has_only_additions(new, old) {
                let detail = "only additions are allowed (no mutations or deletions)";
                c.here().index(i).invalid(new.clone(), detail);
            }
        }
    });
}

fn has_only_additions(new: &Value, old: &Value) -> bool {
    const LISTS: [&str; 2] = ["matchExpressions", "matchFields"];
    let empty = |term: &Value| LISTS.iter().all(|list| term.array_at(&[list]).is_empty());
    let extends = |list: &str| {
        let (new, old) = (new.array_at(&[list]), old.array_at(&[list]));
        new.len() >= old.len() && old.iter().zip(new).all(|(o, n)| same(Some(o), Some(n)))
    };
    // A term without requirements matches nothing: adding to it would let the pod run.
    (!empty(old) || empty(new)) && LISTS.iter().all(|list| extends(list))
}

/// What is wrong with a changed status.
pub(super) fn validate_status(new: &Value, old: &Value) -> Vec<Cause> {
    check::run(|c| {
        annotations(c, new, old);
        c.field(new, "status", |c, status| {
            let before = old.get("status").unwrap_or(&Value::Null);
            c.each(status, "conditions", |c, condition| {
                let observed = number(condition, "observedGeneration");
                if observed.is_some_and(|g| g < 0) {
                    c.at("observedGeneration").invalid(observed, "must be a non-negative integer");
                }
                c.at("Type").obeys(text(condition, "type"), names::qualified);
            });
            nominated(c, status, before, old);
            let observed = number(status, "observedGeneration");
            if observed.is_some_and(|g| g < 0) {
                c.at("observedGeneration").invalid(observed, "must be a non-negative integer");
            }
            // A kubelet that rejects a pod leaves the class out.
            if is_set(status, "qosClass") {
                c.immutable(status, before, "qosClass");
            }
            let spec = old.get("spec").unwrap_or(&Value::Null);
            terminated_stay(c, status, before, spec);
            addresses(c, status);
        });
    })
}

fn nominated(c: &mut Check, status: &Value, before: &Value, old: &Value) {
    const FIELD: &str = "nominatedNodeName";
    if same(status.get(FIELD), before.get(FIELD)) {
        return;
    }
    c.name(status, FIELD, names::dns_subdomain);
    let bound = old.str_at(&["spec", "nodeName"]).is_some_and(|n| !n.is_empty());
    if bound && filled(status, FIELD).is_some() {
        c.at(FIELD).forbidden("may not be set on pods that are already bound to a node");
    }
}

/// A container that ended and shall not run again stays ended.
fn terminated_stay(c: &mut Check, status: &Value, before: &Value, spec: &Value) {
    let all_rerun =
        ["containers", "initContainers"].iter().flat_map(|list| spec.array_at(&[list])).any(|container| {
            let rules = container.array_at(&["restartPolicyRules"]);
            rules.iter().any(|rule| text(rule, "action") == "RestartAllContainers")
        });
    if all_rerun {
        return;
    }
    for (i, old) in before.array_at(&["containerStatuses"]).iter().enumerate() {
        let Some(ended) = old.at(&["state", "terminated"]).filter(|t| !t.is_null()) else { continue };
        let name = text(old, "name");
        let runs = |new: &&Value| {
            text(new, "name") == name && !is_set(new.get("state").unwrap_or(&Value::Null), "terminated")
        };
        let again = status.array_at(&["containerStatuses"]).iter().any(|new| runs(&new));
        let container = spec.array_at(&["containers"]).iter().find(|c| text(c, "name") == name);
        let code = number(ended, "exitCode").unwrap_or(0);
        if again && !container.is_some_and(|container| may_restart(container, spec, code)) {
            let spot = c.at("containerStatuses").index(i).field("state");
            spot.forbidden("may not be transitioned to non-terminated state");
        }
    }
}

fn may_restart(container: &Value, spec: &Value, code: i64) -> bool {
    for rule in container.array_at(&["restartPolicyRules"]) {
        let listed = rule.array_at(&["exitCodes", "values"]).iter().any(|v| v.as_i64() == Some(code));
        let wanted = rule.str_at(&["exitCodes", "operator"]) == Some("In");
        if listed == wanted && text(rule, "action") == "Restart" {
            return true;
        }
    }
    match filled(container, "restartPolicy").or(filled(spec, "restartPolicy")) {
        Some("Never") => false,
        Some("OnFailure") => code != 0,
        _ => true,
    }
}

fn addresses(c: &mut Check, status: &Value) {
    for list in ["podIPs", "hostIPs"] {
        let mut families = Vec::new();
        for (i, entry) in status.array_at(&[list]).iter().enumerate() {
            match crate::kinds::address::ip(text(entry, "ip")) {
                Ok(address) => families.push(address.is_ipv4()),
                Err(fault) => c.at(list).index(i).invalid(text(entry, "ip"), &fault),
            }
        }
        if families.len() > 2 || families.windows(2).any(|pair| pair[0] == pair[1]) {
            let detail = "may specify no more than one IP for each IP family";
            c.at(list).invalid(status.array_at(&[list]).to_vec(), detail);
        }
    }
}

/// What is wrong with containers that are added to a running pod to look into it (`ephemeralcontainers`).
pub(super) fn validate_ephemeral(new: &Value, old: &Value) -> Vec<Cause> {
    const LIST: [&str; 2] = ["spec", "ephemeralContainers"];
    check::run(|c| {
        whole_pod(c, new);
        annotations(c, new, old);
        for before in old.array_at(&LIST) {
            let name = text(before, "name");
            let kept = new.array_at(&LIST).iter().find(|container| text(container, "name") == name);
            let fault = match kept {
                None => format!("existing ephemeral containers {name:?} may not be removed\n"),
                Some(now) if !same(Some(now), Some(before)) => {
                    let changed = changes::describe(before, now);
                    format!("existing ephemeral containers {name:?} may not be changed\n{changed}")
                }
                Some(_) => continue,
            };
            c.within("spec", |c| c.at("ephemeralContainers").forbidden(&fault));
        }
    })
}
