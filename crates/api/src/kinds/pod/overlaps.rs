//! Volumes that are made of files: two sources may not both write one path, nor one write where the other has a directory.

use crate::Value;
use crate::kinds::check::{Check, filled, text};

/// A path in a volume, and what puts a file there.
struct File {
    path: String,
    source: String,
}

impl File {
    fn shown(&self) -> String {
        if self.source.is_empty() {
            format!("{:?}", self.path)
        } else {
            format!("{:?} ({})", self.path, self.source)
        }
    }

    fn meets(&self, other: &Self) -> bool {
        let (a, b) = (format!("{}/", self.path), format!("{}/", other.path));
        !self.path.is_empty() && !other.path.is_empty() && (a.starts_with(&b) || b.starts_with(&a))
    }
}

/// Warns of overlaps in the volumes of a pod or template; upstream tells of them without a path.
pub(super) fn warn(c: &mut Check, holder: &Value) {
    for volume in holder.array_at(&["spec", "volumes"]) {
        let name = text(volume, "name");
        for (field, label, named) in [
            ("configMap", "ConfigMap", "name"),
            ("secret", "Secret", "secretName"),
            ("downwardAPI", "DownwardAPI", ""),
        ] {
            let Some(source) = volume.get(field).filter(|source| !source.is_null()) else { continue };
            let label = if named.is_empty() {
                label.to_owned()
            } else {
                format!("{label} {:?}", text(source, named))
            };
            tell(c, name, &label, &items(source, ""));
        }
        if let Some(projected) = volume.get("projected").filter(|source| !source.is_null()) {
            let mut files = Vec::new();
            for source in projected.array_at(&["sources"]) {
                if source.as_object().is_some_and(crate::Map::is_empty) {
                    c.warn(format!("volume {name:?} (Projected) has no sources provided"));
                }
                files.extend(projection(source));
            }
            tell(c, name, "Projected", &files);
        }
    }
}

fn tell(c: &mut Check, volume: &str, label: &str, files: &[File]) {
    for (i, file) in files.iter().enumerate() {
        for other in files[..i].iter().filter(|other| file.meets(other)) {
            c.warn(format!(
                "volume {volume:?} ({label}): overlapping paths: {} with {}",
                file.shown(),
                other.shown()
            ));
        }
    }
}

fn file(path: &str, source: &str) -> File {
    File { path: path.trim_end_matches('/').to_owned(), source: source.to_owned() }
}

fn items(source: &Value, label: &str) -> Vec<File> {
    source.array_at(&["items"]).iter().map(|item| file(text(item, "path"), label)).collect()
}

fn projection(source: &Value) -> Vec<File> {
    let member = |field: &str| source.get(field).filter(|part| !part.is_null());
    for (field, label) in [("configMap", "ConfigMap"), ("secret", "Secret")] {
        if let Some(part) = member(field).filter(|part| part.get("items").is_some()) {
            return items(part, &format!("{label} {:?}", text(part, "name")));
        }
    }
    if let Some(part) = member("downwardAPI").filter(|part| part.get("items").is_some()) {
        items(part, "DownwardAPI")
    } else if let Some(part) = member("serviceAccountToken") {
        vec![file(text(part, "path"), "ServiceAccountToken")]
    } else if let Some(part) = member("clusterTrustBundle") {
        let name = part.str_at(&["name"]).unwrap_or_else(|| text(part, "signerName"));
        vec![file(text(part, "path"), &format!("ClusterTrustBundle {name:?}"))]
    } else if let Some(part) = member("podCertificate") {
        let parts = [
            ("certificateChainPath", "PodCertificate chain"),
            ("keyPath", "PodCertificate key"),
            ("credentialBundlePath", "PodCertificate credential bundle"),
        ];
        parts.iter().filter_map(|(field, label)| Some(file(filled(part, field)?, label))).collect()
    } else {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::check::testing::json;
    use crate::kinds::warnings::warned;

    #[test]
    fn overlaps() {
        let check = |volumes: &str, want: &[&str]| {
            let pod = json(&format!(r#"{{"spec": {{"volumes": {volumes}}}}}"#));
            assert_eq!(warned(|c| warn(c, &pod)), want, "{volumes}");
        };
        check(r#"[{"name": "v", "configMap": {"name": "c", "items": [{"path": "a"}, {"path": "b"}]}}]"#, &[]);
        check(
            r#"[{"name": "v", "configMap": {"name": "c", "items": [{"path": "a/b"}, {"path": "a/"}]}},
                {"name": "w", "secret": {"secretName": "s", "items": [{"path": "a"}, {"path": "a"}]}}]"#,
            &[
                r#"volume "v" (ConfigMap "c"): overlapping paths: "a" with "a/b""#,
                r#"volume "w" (Secret "s"): overlapping paths: "a" with "a""#,
            ],
        );
        check(
            r#"[{"name": "v", "projected": {"sources": [{}, {"serviceAccountToken": {"path": "t"}}, {"configMap": {"name":
                "c", "items": [{"path": "t/u"}]}}, {"podCertificate": {"keyPath": "t"}}, {"downwardAPI": {"items":
                [{"path": "d"}]}}, {"clusterTrustBundle": {"signerName": "s", "path": "d"}}]}}]"#,
            &[
                r#"volume "v" (Projected) has no sources provided"#,
                r#"volume "v" (Projected): overlapping paths: "t/u" (ConfigMap "c") with "t" (ServiceAccountToken)"#,
                r#"volume "v" (Projected): overlapping paths: "t" (PodCertificate key) with "t" (ServiceAccountToken)"#,
                r#"volume "v" (Projected): overlapping paths: "t" (PodCertificate key) with "t/u" (ConfigMap "c")"#,
                r#"volume "v" (Projected): overlapping paths: "d" (ClusterTrustBundle "s") with "d" (DownwardAPI)"#,
            ],
        );
    }
}
