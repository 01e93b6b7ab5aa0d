//! Rules for projected volumes: several sources in one directory.

use std::collections::BTreeSet;

use super::env::{field_reference, resource_reference};
use super::volumes::{file_mode, key_file};
use crate::Value;
use crate::kinds::check::{Check, filled, is_set, number, text};
use crate::kinds::syntax::local_file;

/// Fields of a pod that a file can hold.
const FILE_FIELDS: [&str; 5] =
    ["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

/// Checks the sources of a projected volume.
pub(super) fn sources(c: &mut Check, volume: &Value) {
    let mut paths = BTreeSet::new();
    for (i, source) in volume.array_at(&["sources"]).iter().enumerate() {
        for kind in ["secret", "configMap"] {
            let Some(part) = source.get(kind).filter(|p| !p.is_null()) else { continue };
            in_source(c, i, kind, |c| {
                c.require(part, "name");
                c.each(part, "items", key_file);
            });
            for item in part.array_at(&["items"]) {
                once(c, &mut paths, text(item, "path"), text(part, "name"));
            }
        }
        if let Some(part) = source.get("downwardAPI") {
            for file in part.array_at(&["items"]) {
                in_source(c, i, "downwardAPI", |c| downward_file(c, file));
                once(c, &mut paths, text(file, "path"), text(file, "path"));
            }
        }
        if let Some(part) = source.get("serviceAccountToken").filter(|p| !p.is_null()) {
            in_source(c, i, "serviceAccountToken", |c| token_lifetime(c, part));
            // Upstream names the path below the volume, not below the source.
            c.require_name(part, "path", local_file);
        }
        if let Some(part) = source.get("clusterTrustBundle").filter(|p| !p.is_null()) {
            in_source(c, i, "clusterTrustBundle", |c| trust_bundle(c, part));
            once(c, &mut paths, text(part, "path"), text(part, "path"));
        }
        let kinds = [
            "secret",
            "configMap",
            "downwardAPI",
            "serviceAccountToken",
            "clusterTrustBundle",
            "podCertificate",
        ];
        if kinds.iter().filter(|kind| is_set(source, kind)).count() > 1 {
            c.at("sources").index(i).forbidden("may not specify more than 1 volume type per source");
        }
    }
}

fn in_source(c: &mut Check, index: usize, kind: &str, walk: impl FnOnce(&mut Check)) {
    c.within("sources", |c| c.within_index(index, |c| c.within(kind, walk)));
}

/// Each path of the directory comes from one source.
fn once<'v>(c: &mut Check, paths: &mut BTreeSet<&'v str>, path: &'v str, shown: &str) {
    if !path.is_empty() && !paths.insert(path) {
        c.here().invalid(shown, "conflicting duplicate paths");
    }
}

fn token_lifetime(c: &mut Check, token: &Value) {
    let seconds = number(token, "expirationSeconds").unwrap_or(0);
    if seconds < 600 {
        c.at("expirationSeconds").invalid(seconds, "may not specify a duration less than 10 minutes");
    }
    if seconds > 1 << 32 {
        c.at("expirationSeconds").invalid(seconds, "may not specify a duration larger than 2^32 seconds");
    }
}

fn trust_bundle(c: &mut Check, part: &Value) {
    match (is_set(part, "name"), is_set(part, "signerName")) {
        (true, true) => c.here().invalid(part.clone(), "only one of name and signerName may be used"),
        (false, false) => c.here().required("either name or signerName must be specified"),
        (true, false) => {
            if filled(part, "name").is_none() {
                c.at("name").required("must be a valid object name");
            }
            if let Some(selector) = part.get("labelSelector").filter(|s| !s.is_null()) {
                let detail = "labelSelector must be unset if name is specified";
                c.at("labelSelector").invalid(selector.clone(), detail);
            }
        }
        (false, true) => {
            if filled(part, "signerName").is_none() {
                c.at("signerName").required("must be a valid signer name");
            }
            c.selector(part, "labelSelector");
        }
    }
    c.require_name(part, "path", local_file);
}

/// A file with a field of the pod, or an amount of one of its containers.
pub(super) fn downward_file(c: &mut Check, file: &Value) {
    c.require_name(file, "path", local_file);
    match (is_set(file, "fieldRef"), is_set(file, "resourceFieldRef")) {
        (false, false) => c.here().required("one of fieldRef and resourceFieldRef is required"),
        (false, true) => c.field(file, "resourceFieldRef", |c, r| resource_reference(c, r, true)),
        (true, both) => {
            c.field(file, "fieldRef", |c, r| field_reference(c, r, &FILE_FIELDS));
            if both {
                c.here()
                    .invalid("resource", "fieldRef and resourceFieldRef can not be specified simultaneously");
            }
        }
    }
    file_mode(c, file, "mode");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::check::run;
    use crate::kinds::check::testing::{json, lines};

    #[test]
    fn each_source() {
        let check = |text: &str, want: &[&str]| {
            let volume = json(&format!("{{\"sources\": {text}}}"));
            assert_eq!(lines(&run(|c| c.within("projected", |c| sources(c, &volume)))), want, "{text}");
        };
        check(r#"[{"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}]"#, &[]);
        check(
            r#"[{"serviceAccountToken": {"expirationSeconds": 10}}]"#,
            &[
                "projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 10: may not specify a duration less than 10 minutes",
                "projected.path: Required value",
            ],
        );
        check(r#"[{"secret": {"name": "s", "items": [{"key": "a", "path": "p"}]}}]"#, &[]);
        check(
            r#"[{"secret": {"items": [{"key": "a", "path": "p"}]}}, {"configMap": {"name": "c", "items": [{"key": "a", "path": "p"}]}}]"#,
            &[
                "projected.sources[0].secret.name: Required value",
                r#"projected: Invalid value: "c": conflicting duplicate paths"#,
            ],
        );
        check(
            r#"[{"secret": {"name": "s"}, "configMap": {"name": "c"}}]"#,
            &["projected.sources[0]: Forbidden: may not specify more than 1 volume type per source"],
        );
        check(
            r#"[{"downwardAPI": {"items": [{"path": "l", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.labels"}},
                {"path": "m", "resourceFieldRef": {"containerName": "a", "resource": "limits.cpu"}}]}}]"#,
            &[],
        );
        check(
            r#"[{"downwardAPI": {"items": [{"path": "l"}]}}]"#,
            &[
                "projected.sources[0].downwardAPI: Required value: one of fieldRef and resourceFieldRef is required",
            ],
        );
        check(r#"[{"clusterTrustBundle": {"name": "a", "path": "p"}}]"#, &[]);
        check(
            r#"[{"clusterTrustBundle": {"path": "p"}}]"#,
            &[
                "projected.sources[0].clusterTrustBundle: Required value: either name or signerName must be specified",
            ],
        );
    }
}
