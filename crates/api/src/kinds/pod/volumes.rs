//! Rules for the volumes of a pod.

use std::collections::{BTreeMap, BTreeSet};

use super::projected;
use crate::kinds::check::{Check, Rules, filled, is_set, is_true, number, text};
use crate::kinds::claims::claim_template;
use crate::kinds::syntax::{local_path, no_backsteps};
use crate::names::Fault;
use crate::quantity::Quantity;
use crate::{Map, Value, names};

/// A kind of volume: its member, members that must be there, and further rules.
pub(in crate::kinds) struct Source {
    pub(in crate::kinds) name: &'static str,
    pub(in crate::kinds) required: &'static [&'static str],
    pub(in crate::kinds) rules: Rules,
}

/// A row of a table of sources.
pub(in crate::kinds) const fn source(
    name: &'static str,
    required: &'static [&'static str],
    rules: Rules,
) -> Source {
    Source { name, required, rules }
}

/// All sources, in the order in which a second one is found to be one too many.
const SOURCES: &[Source] = &[
    source("emptyDir", &[], |c, v| {
        if text(v, "sizeLimit").parse::<Quantity>().is_ok_and(|q| q.signum() < 0) {
            c.at("sizeLimit").forbidden("SizeLimit field must be a valid resource quantity");
        }
    }),
    source("hostPath", &["path"], host_path),
    source("gitRepo", &["repository"], |c, v| c.name(v, "directory", local_path)),
    source("gcePersistentDisk", &["pdName"], partition),
    source("awsElasticBlockStore", &["volumeID"], partition),
    source("secret", &["secretName"], key_files),
    source("nfs", &["server", "path"], nfs),
    source("iscsi", &["targetPortal", "iqn"], iscsi),
    source("glusterfs", &["endpoints", "path"], |_, _| ()),
    source("flocker", &[], flocker),
    source("persistentVolumeClaim", &["claimName"], |_, _| ()),
    source("rbd", &["monitors", "image"], |_, _| ()),
    source("cinder", &["volumeID"], secret_name),
    source("cephfs", &["monitors"], |_, _| ()),
    source("quobyte", &[], quobyte),
    source("downwardAPI", &[], |c, v| {
        file_mode(c, v, "defaultMode");
        v.array_at(&["items"]).iter().for_each(|file| projected::downward_file(c, file));
    }),
    source("fc", &[], fibre_channel),
    source("flexVolume", &["driver"], flex_options),
    source("configMap", &["name"], key_files),
    source("azureFile", &["secretName", "shareName"], |_, _| ()),
    source("vsphereVolume", &["volumePath"], |_, _| ()),
    source("photonPersistentDisk", &["pdID"], |_, _| ()),
    source("portworxVolume", &["volumeID"], |_, _| ()),
    source("azureDisk", &["diskName", "diskURI"], azure_disk),
    source("storageos", &["volumeName"], |c, v| {
        c.name(v, "volumeName", names::dns_label);
        c.name(v, "volumeNamespace", names::dns_label);
        secret_name(c, v);
    }),
    source("projected", &[], |c, v| {
        file_mode(c, v, "defaultMode");
        projected::sources(c, v);
    }),
    source("scaleIO", &["gateway", "system", "volumeName"], |_, _| ()),
    source("csi", &[], |c, v| {
        driver_name(c, v, "driver");
        c.some(v, "nodePublishSecretRef", |c, secret| c.require_name(secret, "name", names::dns_subdomain));
    }),
    source("ephemeral", &[], |c, v| {
        if is_set(v, "volumeClaimTemplate") {
            c.field(v, "volumeClaimTemplate", claim_template);
        } else {
            c.at("volumeClaimTemplate").required("");
        }
    }),
    source("image", &[], |c, v| pull_policy(c, v, "pullPolicy")),
];

/// Checks the volumes of a specification; gives those that are sound, by name. The pod's name is empty in a template.
pub(super) fn check<'v>(
    c: &mut Check,
    spec: &'v Value,
    pod: &str,
    is_pod: bool,
) -> BTreeMap<&'v str, &'v Value> {
    let volumes = spec.array_at(&["volumes"]);
    let claimed: BTreeSet<String> = volumes
        .iter()
        .filter(|v| !pod.is_empty() && is_set(v, "ephemeral"))
        .map(|v| format!("{pod}-{}", text(v, "name")))
        .collect();
    let mut sound = BTreeMap::new();
    c.each(spec, "volumes", |c, volume| {
        let before = c.count();
        sources(c, volume, SOURCES);
        if is_pod {
            c.some(volume, "image", |c, image| {
                c.require(image, "reference");
            });
        }
        claim_name_of(c, volume, pod);
        c.require_name(volume, "name", names::dns_label);
        let name = text(volume, "name");
        if sound.contains_key(name) {
            c.at("name").duplicate(name);
        }
        if c.count() == before {
            sound.insert(name, volume);
        }
        let claim = volume.str_at(&["persistentVolumeClaim", "claimName"]).unwrap_or_default();
        if claimed.contains(claim) {
            let detail = "must not reference a PVC that gets created for an ephemeral volume";
            c.at("persistentVolumeClaim").field("claimName").invalid(claim, detail);
        }
    });
    sound
}

/// Checks that a volume has one source, and that source's rules.
pub(in crate::kinds) fn sources(c: &mut Check, volume: &Value, table: &[Source]) {
    let mut chosen = false;
    for source in table.iter().filter(|s| is_set(volume, s.name)) {
        if std::mem::replace(&mut chosen, true) {
            // Upstream names these two in its own way here.
            let name = match source.name {
                "downwardAPI" => "downwarAPI",
                "cephfs" => "cephFS",
                name => name,
            };
            c.at(name).forbidden("may not specify more than 1 volume type");
            continue;
        }
        // Upstream spells this one path otherwise than the field.
        let shown = if source.name == "gcePersistentDisk" { "persistentDisk" } else { source.name };
        let value = volume.get(source.name).unwrap_or(&Value::Null);
        let walk = |c: &mut Check, value: &Value| {
            for field in source.required {
                if filled(value, field).is_none() && value.array_at(&[field]).is_empty() {
                    c.at(field).required("");
                }
            }
            (source.rules)(c, value);
        };
        c.within(shown, |c| walk(c, value));
    }
    if !chosen {
        c.here().required("must specify a volume type");
    }
}

/// The claim made for an ephemeral volume takes its name from the pod's and the volume's.
fn claim_name_of(c: &mut Check, volume: &Value, pod: &str) {
    let name = text(volume, "name");
    if !is_set(volume, "ephemeral") || pod.is_empty() || name.is_empty() {
        return;
    }
    let claim = format!("{pod}-{name}");
    if let Err(fault) = names::dns_subdomain(&claim) {
        c.at("name").invalid(name, &format!("PVC name {claim:?}: {fault}"));
    }
}

/// The permission bits of a file.
pub(super) fn file_mode(c: &mut Check, object: &Value, name: &str) {
    let mode = number(object, name);
    if mode.is_some_and(|m| !(0..=0o777).contains(&m)) {
        c.at(name).invalid(mode, "must be a number between 0 and 0777 (octal), both inclusive");
    }
}

fn key_files(c: &mut Check, source: &Value) {
    file_mode(c, source, "defaultMode");
    c.each(source, "items", key_file);
}

/// A key and the file that it becomes.
pub(super) fn key_file(c: &mut Check, item: &Value) {
    c.require(item, "key");
    c.require(item, "path");
    c.name(item, "path", crate::kinds::syntax::local_file);
    file_mode(c, item, "mode");
}

/// When an image is pulled.
pub(super) fn pull_policy(c: &mut Check, object: &Value, name: &str) {
    c.require_one_of(object, name, &["Always", "IfNotPresent", "Never"]);
}

/// The name of a CSI driver.
pub(in crate::kinds) fn driver_name(c: &mut Check, object: &Value, name: &str) {
    let Some(driver) = c.require(object, name) else { return };
    if driver.len() > 63 {
        c.at(name).too_long(63);
    }
    c.at(name).obeys(driver, |driver| names::dns_subdomain(&driver.to_ascii_lowercase()));
}

pub(in crate::kinds) fn host_path(c: &mut Check, source: &Value) {
    const TYPES: [&str; 8] =
        ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];
    if filled(source, "path").is_some() {
        c.name(source, "path", no_backsteps);
        c.one_of_if_set(source, "type", &TYPES);
    }
}

pub(in crate::kinds) fn partition(c: &mut Check, source: &Value) {
    let partition = number(source, "partition");
    if partition.is_some_and(|p| !(0..=255).contains(&p)) {
        c.at("partition").invalid(partition, "must be between 1 and 255, inclusive");
    }
}

pub(in crate::kinds) fn nfs(c: &mut Check, source: &Value) {
    let path = text(source, "path");
    if !path.starts_with('/') {
        c.at("path").invalid(path, "must be an absolute path");
    }
}

pub(in crate::kinds) fn iscsi(c: &mut Check, source: &Value) {
    c.name(source, "iqn", initiator);
    c.range(source, "lun", 0, 255);
    let chap = is_true(source, "chapAuthDiscovery") || is_true(source, "chapAuthSession");
    if chap && !is_set(source, "secretRef") {
        c.at("secretRef").required("");
    }
    if let Some(name) = source.str_at(&["initiatorName"]) {
        c.at("initiatorname").obeys(name, initiator);
    }
}

/// A name of an iSCSI node: `iqn.2001-04.com.example:disk`, `eui.` or `naa.` and hexadecimal digits.
fn initiator(text: &str) -> Result<(), Fault> {
    let word = |t: &str, len: usize| t.len() == len && t.bytes().all(|b| b.is_ascii_alphanumeric());
    let ok = match text.get(..3) {
        Some("iqn") => is_iqn(text),
        Some("eui") => text.get(4..).is_some_and(|rest| word(rest, 16)),
        Some("naa") => text.get(4..).is_some_and(|rest| word(rest, 32)),
        _ => return Err("must be valid format starting with iqn, eui, or naa".into()),
    };
    if ok { Ok(()) } else { Err("must be valid format".into()) }
}

fn is_iqn(text: &str) -> bool {
    let Some((authority, own)) = text.split_once(':') else { return false };
    let Some((date, domain)) = authority.strip_prefix("iqn.").and_then(|a| a.split_once('.')) else {
        return false;
    };
    let dated = date.len() == 7
        && date.bytes().enumerate().all(|(i, b)| if i == 4 { b == b'-' } else { b.is_ascii_digit() });
    let named =
        !domain.is_empty() && domain.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'));
    dated && named && !own.is_empty() && !own.contains([',', ';', '*', '&', '$', '|', ' ', '\t', '\n'])
}

pub(in crate::kinds) fn flocker(c: &mut Check, source: &Value) {
    match (filled(source, "datasetName"), filled(source, "datasetUUID")) {
        (None, None) => c.here().required("one of datasetName and datasetUUID is required"),
        (Some(_), Some(_)) => {
            c.here().invalid("resource", "datasetName and datasetUUID can not be specified simultaneously");
        }
        _ => {}
    }
    if text(source, "datasetName").contains('/') {
        c.at("datasetName").invalid(text(source, "datasetName"), "must not contain '/'");
    }
}

/// The secret that is named has a name.
fn secret_name(c: &mut Check, source: &Value) {
    c.some(source, "secretRef", |c, secret| {
        c.require(secret, "name");
    });
}

pub(in crate::kinds) fn quobyte(c: &mut Check, source: &Value) {
    const REGISTRY: &str = "must be a host:port pair or multiple pairs separated by commas";
    let registry = text(source, "registry");
    if registry.is_empty() {
        c.at("registry").required(REGISTRY);
    } else if text(source, "tenant").len() >= 65 {
        c.at("tenant").required("must be a UUID and may not exceed a length of 64 characters");
    } else if registry.split(',').any(|pair| !pair.contains(':')) {
        c.at("registry").invalid(registry, REGISTRY);
    }
    c.require(source, "volume");
}

pub(in crate::kinds) fn fibre_channel(c: &mut Check, source: &Value) {
    let names = source.array_at(&["targetWWNs"]);
    let ids = source.array_at(&["wwids"]);
    if names.is_empty() && ids.is_empty() {
        c.at("targetWWNs").required("must specify either targetWWNs or wwids, but not both");
    }
    if !names.is_empty() {
        if !ids.is_empty() {
            let detail = "targetWWNs and wwids can not be specified simultaneously";
            c.at("targetWWNs").invalid(names.to_vec(), detail);
        }
        if is_set(source, "lun") {
            c.range(source, "lun", 0, 255);
        } else {
            c.at("lun").required("lun is required if targetWWNs is specified");
        }
    }
}

pub(in crate::kinds) fn flex_options(c: &mut Check, source: &Value) {
    for key in source.object_at(&["options"]).into_iter().flat_map(Map::keys) {
        let namespace = format!(".{}", key.split('/').next().unwrap_or_default().to_ascii_lowercase());
        if namespace.ends_with(".kubernetes.io") || namespace.ends_with(".k8s.io") {
            c.at("options").key(key).invalid(key, "kubernetes.io and k8s.io namespaces are reserved");
        }
    }
}

pub(in crate::kinds) fn azure_disk(c: &mut Check, source: &Value) {
    c.one_of_if_set(source, "cachingMode", &["None", "ReadOnly", "ReadWrite"]);
    c.one_of_if_set(source, "kind", &["Dedicated", "Managed", "Shared"]);
    let uri = text(source, "diskURI");
    let (prefix, form) = match source.str_at(&["kind"]) {
        None => return,
        Some("Managed") => (
            "/subscriptions/",
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}",
        ),
        Some(_) => {
            ("https://", "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd")
        }
    };
    if !uri.starts_with(prefix) {
        c.at("diskURI").not_supported(uri, &[form]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::check::run;
    use crate::kinds::check::testing::{json, lines};

    fn check_volumes(volumes: &str, want: &[&str]) {
        let spec = json(&format!("{{\"volumes\": {volumes}}}"));
        let causes = run(|c| drop(check(c, &spec, "pod", true)));
        assert_eq!(lines(&causes), want, "{volumes}");
    }

    #[test]
    fn volumes_have_names_and_one_source() {
        check_volumes(r#"[{"name": "a", "emptyDir": {}}, {"name": "b", "configMap": {"name": "c"}}]"#, &[]);
        check_volumes(r#"[{"name": "a"}]"#, &["volumes[0]: Required value: must specify a volume type"]);
        check_volumes(r#"[{"emptyDir": {}}]"#, &["volumes[0].name: Required value"]);
        check_volumes(
            r#"[{"name": "a", "emptyDir": {}, "secret": {}}]"#,
            &["volumes[0].secret: Forbidden: may not specify more than 1 volume type"],
        );
        check_volumes(
            r#"[{"name": "a", "emptyDir": {}}, {"name": "a", "emptyDir": {}}]"#,
            &[r#"volumes[1].name: Duplicate value: "a""#],
        );
        check_volumes(
            r#"[{"name": "e", "ephemeral": {"volumeClaimTemplate": {"spec": {"accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}}}}}},
                {"name": "c", "persistentVolumeClaim": {"claimName": "pod-e"}}]"#,
            &[
                r#"volumes[1].persistentVolumeClaim.claimName: Invalid value: "pod-e": must not reference a PVC that gets created for an ephemeral volume"#,
            ],
        );
    }

    #[test]
    fn each_source_has_its_rules() {
        let check =
            |source: &str, want: &[&str]| check_volumes(&format!(r#"[{{"name": "a", {source}}}]"#), want);
        check(
            r#""emptyDir": {"sizeLimit": "-1"}"#,
            &["volumes[0].emptyDir.sizeLimit: Forbidden: SizeLimit field must be a valid resource quantity"],
        );
        check(r#""hostPath": {"path": "/a", "type": "Socket"}"#, &[]);
        check(r#""hostPath": {}"#, &["volumes[0].hostPath.path: Required value"]);
        check(
            r#""hostPath": {"path": "/a/.."}"#,
            &[r#"volumes[0].hostPath.path: Invalid value: "/a/..": must not contain '..'"#],
        );
        check(
            r#""hostPath": {"path": "/a", "type": "x"}"#,
            &[
                r#"volumes[0].hostPath.type: Unsupported value: "x": supported values: "", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket""#,
            ],
        );
        check(
            r#""secret": {"secretName": "s", "defaultMode": 511, "items": [{"key": "k", "path": "p"}]}"#,
            &[],
        );
        check(
            r#""secret": {"defaultMode": 512, "items": [{"path": "/p"}]}"#,
            &[
                "volumes[0].secret.secretName: Required value",
                "volumes[0].secret.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive",
                "volumes[0].secret.items[0].key: Required value",
                r#"volumes[0].secret.items[0].path: Invalid value: "/p": must be a relative path"#,
            ],
        );
        check(
            r#""configMap": {"name": "c", "items": [{"key": "k", "path": "..p"}]}"#,
            &[r#"volumes[0].configMap.items[0].path: Invalid value: "..p": must not start with '..'"#],
        );
        check(r#""nfs": {"server": "s", "path": "/p"}"#, &[]);
        check(
            r#""nfs": {"server": "s", "path": "p"}"#,
            &[r#"volumes[0].nfs.path: Invalid value: "p": must be an absolute path"#],
        );
        check(r#""iscsi": {"targetPortal": "t", "iqn": "iqn.2001-04.com.example:disk"}"#, &[]);
        check(
            r#""iscsi": {"targetPortal": "t", "iqn": "x", "lun": 256}"#,
            &[
                r#"volumes[0].iscsi.iqn: Invalid value: "x": must be valid format starting with iqn, eui, or naa"#,
                "volumes[0].iscsi.lun: Invalid value: 256: must be between 0 and 255, inclusive",
            ],
        );
        check(
            r#""gcePersistentDisk": {"partition": -1}"#,
            &[
                "volumes[0].persistentDisk.pdName: Required value",
                "volumes[0].persistentDisk.partition: Invalid value: -1: must be between 1 and 255, inclusive",
            ],
        );
        check(r#""rbd": {"monitors": ["m"], "image": "i"}"#, &[]);
        check(r#""rbd": {"image": "i"}"#, &["volumes[0].rbd.monitors: Required value"]);
        check(r#""fc": {"wwids": ["a"]}"#, &[]);
        check(
            r#""fc": {"targetWWNs": ["a"]}"#,
            &["volumes[0].fc.lun: Required value: lun is required if targetWWNs is specified"],
        );
        check(
            r#""flexVolume": {"driver": "d", "options": {"k8s.io/x": "y"}}"#,
            &[
                r#"volumes[0].flexVolume.options[k8s.io/x]: Invalid value: "k8s.io/x": kubernetes.io and k8s.io namespaces are reserved"#,
            ],
        );
        check(r#""csi": {"driver": "A.b"}"#, &[]);
        check(r#""csi": {}"#, &["volumes[0].csi.driver: Required value"]);
        check(r#""ephemeral": {}"#, &["volumes[0].ephemeral.volumeClaimTemplate: Required value"]);
        check(r#""image": {"reference": "a", "pullPolicy": "Always"}"#, &[]);
        check(
            r#""image": {"pullPolicy": "x"}"#,
            &[
                r#"volumes[0].image.pullPolicy: Unsupported value: "x": supported values: "Always", "IfNotPresent", "Never""#,
                "volumes[0].image.reference: Required value",
            ],
        );
        check(
            r#""azureDisk": {"diskName": "d", "diskURI": "x", "kind": "Managed"}"#,
            &[
                r#"volumes[0].azureDisk.diskURI: Unsupported value: "x": supported values: "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}""#,
            ],
        );
        check(r#""quobyte": {"registry": "a:1", "volume": "v"}"#, &[]);
        check(
            r#""flocker": {}"#,
            &["volumes[0].flocker: Required value: one of datasetName and datasetUUID is required"],
        );
    }
}
