//! StatefulSets: pods with names and claims of their own.

use super::{TEMPLATE, rules};
use crate::kinds::check::{Check, text};
use crate::kinds::claims::{claim_defaults, claim_spec};
use crate::kinds::fill::{Given, Row, absent, each, fill, text as default_text};
use crate::kinds::pod::defaults::template;
use crate::kinds::warnings::{claim, warned};
use crate::{Value, names, object};

const SPEC: &[Row] = &[
    default_text("spec!.podManagementPolicy", "OrderedReady"),
    default_text("spec.persistentVolumeClaimRetentionPolicy!.whenDeleted", "Retain"),
    default_text("spec.persistentVolumeClaimRetentionPolicy.whenScaled", "Retain"),
    absent("spec.replicas", Given::Int(1)),
    absent("spec.revisionHistoryLimit", Given::Int(10)),
];

pub(super) fn defaults(object: &mut Value) {
    fill(object, SPEC);
    if object.str_at(&["spec", "updateStrategy", "type"]).is_none_or(str::is_empty) {
        fill(
            object,
            &[
                default_text("spec.updateStrategy!.type", "RollingUpdate"),
                absent("spec.updateStrategy.rollingUpdate", Given::Object),
            ],
        );
    }
    if object.str_at(&["spec", "updateStrategy", "type"]) == Some("RollingUpdate") {
        fill(object, &[absent("spec.updateStrategy.rollingUpdate.partition", Given::Int(0))]);
    }
    template(object, TEMPLATE);
    each(object, "spec.volumeClaimTemplates[*]", &mut |claim| {
        fill(claim, &[default_text("apiVersion", "v1"), default_text("kind", "PersistentVolumeClaim")]);
        claim_defaults(claim);
    });
}

/// How many pods may be missing while a set rolls is off by default, so it does not come into a set.
pub(super) fn drop_disabled(object: &mut Value, old: Option<&Value>) {
    const FIELD: [&str; 4] = ["spec", "updateStrategy", "rollingUpdate", "maxUnavailable"];
    if old.and_then(|old| old.at(&FIELD)).is_none() {
        drop(object.remove_at(&FIELD));
    }
}

/// Checks the specification of a set. What cannot change is checked in new sets only.
pub(super) fn check(c: &mut Check, spec: &Value, new: bool) {
    if let Some(policy) = c.require(spec, "podManagementPolicy")
        && !matches!(policy, "OrderedReady" | "Parallel")
    {
        c.at("podManagementPolicy").invalid(policy, "must be 'OrderedReady' or 'Parallel'");
    }
    update_strategy(c, spec);
    c.some(spec, "persistentVolumeClaimRetentionPolicy", |c, policy| {
        c.one_of(policy, "whenDeleted", &["Retain", "Delete"]);
        c.one_of(policy, "whenScaled", &["Retain", "Delete"]);
    });
    if new {
        c.each(spec, "volumeClaimTemplates", |c, claim| {
            c.field(claim, "spec", |c, spec| claim_spec(c, spec, false));
        });
    }
    c.non_negative(spec, "replicas");
    c.non_negative(spec, "minReadySeconds");
    c.some(spec, "ordinals", |c, ordinals| c.non_negative(ordinals, "start"));
    if new {
        c.name(spec, "serviceName", names::dns_label);
    }
    rules::selected(c, &as_pods_see_it(spec), "StatefulSet", "statefulset", true);
}

fn update_strategy(c: &mut Check, spec: &Value) {
    let strategy = spec.get("updateStrategy").unwrap_or(&Value::Null);
    c.within("updateStrategy", |c| match text(strategy, "type") {
        "" => c.here().required(""),
        "OnDelete" => {
            if let Some(rolling) = strategy.get("rollingUpdate").filter(|r| !r.is_null()) {
                let detail = "only allowed for updateStrategy 'RollingUpdate'";
                c.at("rollingUpdate").invalid(rolling.clone(), detail);
            }
        }
        "RollingUpdate" => c.some(strategy, "rollingUpdate", |c, rolling| {
            c.non_negative(rolling, "partition");
            rules::count_or_percent(c, rolling, "maxUnavailable");
            let value = rolling.get("maxUnavailable");
            if value.is_some_and(|v| v.as_i64() == Some(0) || v.as_str() == Some("0%")) {
                c.at("maxUnavailable").invalid(value.cloned().unwrap_or_default(), "cannot be 0");
            }
            rules::at_most_all(c, rolling, "maxUnavailable");
        }),
        _ => c.here().invalid(strategy.clone(), "must be 'RollingUpdate' or 'OnDelete'"),
    });
}

/// The specification with a template as the controller makes pods of it: names are its own, claims become volumes.
fn as_pods_see_it(spec: &Value) -> Value {
    let mut out = spec.clone();
    each(&mut out, "template.spec", &mut |pod| {
        for field in ["subdomain", "hostname"] {
            drop(pod.remove_at(&[field]));
        }
        let mut volumes: Vec<Value> = Vec::new();
        let claims = spec.array_at(&["volumeClaimTemplates"]);
        let name_of = |claim: &Value| claim.str_at(&["metadata", "name"]).unwrap_or_default().to_owned();
        for name in claims.iter().map(name_of) {
            volumes.push(
                object!({"name": (name.as_str()), "persistentVolumeClaim": {"claimName": (name.as_str())}}),
            );
        }
        let own = |volume: &&Value| !claims.iter().any(|claim| name_of(claim) == text(volume, "name"));
        volumes.extend(pod.array_at(&["volumes"]).iter().filter(own).cloned());
        if pod.as_object().is_some() && !claims.is_empty() {
            pod.set(&["volumes"], volumes);
        }
    });
    out
}

/// Checks a changed set.
pub(super) fn check_update(c: &mut Check, object: &Value, old: &Value) {
    const FREE: [&str; 7] = [
        "replicas",
        "template",
        "updateStrategy",
        "minReadySeconds",
        "ordinals",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
    ];
    c.field(object, "spec", |c, spec| check(c, spec, false));
    if let (Some(new), Some(old)) = (object.get("spec"), old.get("spec"))
        && !rules::same_but(new, old, &FREE)
    {
        c.at("spec").forbidden(
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                 'minReadySeconds' are forbidden",
        );
    }
}

/// Checks the counts of a changed status.
pub(super) fn check_status(c: &mut Check, object: &Value, old: &Value) {
    let counts = ["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"];
    rules::status_counts(c, object, old, &counts, "status.readyReplicas");
}

/// What the client should be warned of.
pub(super) fn warnings(object: &Value) -> Vec<String> {
    warned(|c| {
        c.field(object, "spec", |c, spec| {
            c.each(spec, "volumeClaimTemplates", |c, template| c.field(template, "spec", claim));
            if spec.i64_at(&["revisionHistoryLimit"]).is_some_and(|limit| limit < 0) {
                c.at("revisionHistoryLimit")
                    .warn("a negative value retains all historical revisions; a value >= 0 is recommended");
            }
        });
    })
}
