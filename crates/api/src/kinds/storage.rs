//! The group `storage.k8s.io`.

use super::Kind;
use super::fill::{Given, Row, absent, each, fill};
use super::pod::defaults::SOURCES;
use crate::Value;

const STORAGE: Kind = Kind { group: "storage.k8s.io", generation: false, ..Kind::DEFAULT };

pub(super) const STORAGE_CLASS: Kind = Kind {
    resource: "storageclasses",
    unconditional_update: true,
    defaults: |object, _| fill(object, CLASS),
    ..STORAGE
};

pub(super) const VOLUME_ATTRIBUTES_CLASS: Kind =
    Kind { resource: "volumeattributesclasses", unconditional_update: true, ..STORAGE };

pub(super) const CSI_DRIVER: Kind = Kind {
    resource: "csidrivers",
    generation: true,
    defaults: |object, _| driver_defaults(object),
    ..STORAGE
};

pub(super) const CSI_NODE: Kind = Kind { resource: "csinodes", ..STORAGE };

pub(super) const CSI_STORAGE_CAPACITY: Kind = Kind { resource: "csistoragecapacities", ..STORAGE };

pub(super) const VOLUME_ATTACHMENT: Kind = Kind {
    resource: "volumeattachments",
    defaults: |object, _| each(object, "spec.source.inlineVolumeSpec", &mut |spec| fill(spec, SOURCES)),
    ..STORAGE
};

const CLASS: &[Row] =
    &[absent("reclaimPolicy", Given::Text("Delete")), absent("volumeBindingMode", Given::Text("Immediate"))];

const DRIVER: &[Row] = &[
    absent("spec!.attachRequired", Given::Bool(true)),
    absent("spec.podInfoOnMount", Given::Bool(false)),
    absent("spec.storageCapacity", Given::Bool(false)),
    absent("spec.fsGroupPolicy", Given::Text("ReadWriteOnceWithFSType")),
    absent("spec.requiresRepublish", Given::Bool(false)),
    absent("spec.seLinuxMount", Given::Bool(false)),
];

fn driver_defaults(object: &mut Value) {
    fill(object, DRIVER);
    if object.object_at(&["spec"]).is_some() && object.array_at(&["spec", "volumeLifecycleModes"]).is_empty()
    {
        object.set(&["spec", "volumeLifecycleModes"], vec!["Persistent"]);
    }
}
