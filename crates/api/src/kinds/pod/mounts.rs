//! Rules for what a container mounts, and for block devices it uses.

use std::collections::HashSet;

use super::check::Pod;
use crate::Value;
use crate::kinds::check::{Check, filled, is_set, is_true, text};
use crate::kinds::syntax::{local_path, no_backsteps};

/// Checks the mounts of a container.
pub(super) fn mounts(c: &mut Check, pod: &Pod<'_>, container: &Value) {
    let devices = container.array_at(&["volumeDevices"]);
    let privileged = container.bool_at(&["securityContext", "privileged"]) == Some(true);
    let mut paths = HashSet::new();
    for (i, mount) in container.array_at(&["volumeMounts"]).iter().enumerate() {
        c.within("volumeMounts", |c| {
            c.within_index(i, |c| {
                volume_of(c, pod, mount);
                let path = text(mount, "mountPath");
                c.require(mount, "mountPath");
                if !paths.insert(path) {
                    c.at("mountPath").invalid(path, "must be unique");
                }
                let name = text(mount, "name");
                if devices.iter().any(|d| text(d, "name") == name) {
                    c.at("name").invalid(name, "must not already exist in volumeDevices");
                }
                if devices.iter().any(|d| text(d, "devicePath") == path) {
                    c.at("mountPath").invalid(path, "must not already exist as a path in volumeDevices");
                }
                if let (Some(expression), true) =
                    (filled(mount, "subPathExpr"), filled(mount, "subPath").is_some())
                {
                    c.at("subPathExpr").invalid(expression, "subPathExpr and subPath are mutually exclusive");
                }
            });
            // Upstream names these below the list, not below its element.
            c.name(mount, "subPath", local_path);
            c.name(mount, "subPathExpr", local_path);
            propagation(c, mount, privileged);
        });
    }
}

fn volume_of(c: &mut Check, pod: &Pod<'_>, user: &Value) {
    let name = text(user, "name");
    c.require(user, "name");
    if !pod.volumes.contains_key(name) {
        c.at("name").not_found(name);
    }
}

fn propagation(c: &mut Check, mount: &Value, privileged: bool) {
    c.one_of_if_set(mount, "mountPropagation", &["Bidirectional", "HostToContainer", "None"]);
    let mode = mount.str_at(&["mountPropagation"]);
    if mode == Some("Bidirectional") && !privileged {
        let detail = "Bidirectional mount propagation is available only to privileged containers";
        c.at("mountPropagation").forbidden(detail);
    }
    c.one_of_if_set(mount, "recursiveReadOnly", &["Disabled", "Enabled", "IfPossible"]);
    if matches!(mount.str_at(&["recursiveReadOnly"]), Some("Enabled" | "IfPossible")) {
        if !is_true(mount, "readOnly") {
            c.at("recursiveReadOnly").forbidden("may only be specified when readOnly is true");
        }
        if mode.is_some_and(|mode| mode != "None") {
            let detail = "may only be specified when mountPropagation is None or not specified";
            c.at("recursiveReadOnly").forbidden(detail);
        }
    }
}

/// Checks the block devices of a container.
pub(super) fn devices(c: &mut Check, pod: &Pod<'_>, container: &Value) {
    let mounts = container.array_at(&["volumeMounts"]);
    let (mut names, mut paths) = (HashSet::new(), HashSet::new());
    c.each(container, "volumeDevices", |c, device| {
        let (name, path) = (text(device, "name"), text(device, "devicePath"));
        c.require(device, "name");
        if !name.is_empty() && !names.insert(name) {
            c.at("name").invalid(name, "must be unique");
        }
        match pod.volumes.get(name) {
            None => c.at("name").not_found(name),
            Some(volume) if !is_set(volume, "persistentVolumeClaim") && !is_set(volume, "ephemeral") => {
                let detail =
                    "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                c.at("name").invalid(name, detail);
            }
            Some(_) => {}
        }
        c.require(device, "devicePath");
        if no_backsteps(path).is_err() {
            c.at("devicePath").invalid(path, "can not contain backsteps ('..')");
        }
        if !paths.insert(path) {
            c.at("devicePath").invalid(path, "must be unique");
        }
        if mounts.iter().any(|m| text(m, "name") == name) {
            c.at("name").invalid(name, "must not already exist in volumeMounts");
        }
        if mounts.iter().any(|m| text(m, "mountPath") == path) {
            c.at("devicePath").invalid(path, "must not already exist as a path in volumeMounts");
        }
    });
}
