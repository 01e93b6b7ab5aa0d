//! Claims, volumes and their attributes stay while they are used (StorageObjectInUseProtection), and claims grow only where
//! their class lets them (PersistentVolumeClaimResize). Who takes the finalizers away again are controllers.

use xebec_api::quota::amounts;
use xebec_api::{Status, Value, meta};

use super::{Attributes, Operation, find};
use crate::core::Core;

/// What holds each kind.
const FINALIZERS: [(&str, &str, &str); 3] = [
    ("", "persistentvolumeclaims", "kubernetes.io/pvc-protection"),
    ("", "persistentvolumes", "kubernetes.io/pv-protection"),
    ("storage.k8s.io", "volumeattributesclasses", "kubernetes.io/vac-protection"),
];

pub(super) fn mutate(attributes: &Attributes<'_>, object: &mut Value) {
    if attributes.operation != Operation::Create {
        return;
    }
    let held = FINALIZERS.iter().find(|(group, resource, _)| attributes.is(group, resource));
    let Some((_, _, finalizer)) = held else { return };
    if meta::finalizers(object).any(|known| known == *finalizer) {
        return;
    }
    let all: Vec<&str> = meta::finalizers(object).chain([*finalizer]).collect();
    let all = Value::from(all);
    object.set(&["metadata", "finalizers"], all);
}

pub(super) fn validate(
    core: &Core,
    attributes: &Attributes<'_>,
    claim: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    let Some(old) = old.filter(|_| attributes.operation == Operation::Update) else { return Ok(()) };
    if !attributes.is("", "persistentvolumeclaims") || !grows(claim, old) {
        return Ok(());
    }
    if old.str_at(&["status", "phase"]) != Some("Bound") {
        return Err(attributes.refuse(claim, "Only bound persistent volume claims can be expanded"));
    }
    let (name, before) = (class(claim), class(old));
    let may = !name.is_empty() && name == before && {
        let class = find(core, "storage.k8s.io", "storageclasses", "", name);
        class.is_ok_and(|class| class.bool_at(&["allowVolumeExpansion"]) == Some(true))
    };
    if may {
        return Ok(());
    }
    let why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize";
    Err(attributes.refuse(claim, why))
}

fn grows(claim: &Value, old: &Value) -> bool {
    let size = |claim: &Value| amounts(claim.at(&["spec", "resources", "requests"])).get("storage").copied();
    match (size(claim), size(old)) {
        (Some(new), Some(old)) => new > old,
        (Some(new), None) => new.signum() > 0,
        (None, _) => false,
    }
}

fn class(claim: &Value) -> &str {
    let former = meta::annotation(claim, "volume.beta.kubernetes.io/storage-class");
    former.or_else(|| claim.str_at(&["spec", "storageClassName"])).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use xebec_api::object;

    #[test]
    fn what_grows() {
        let claim = |size: &str| object!({"spec": {"resources": {"requests": {"storage": size}}}});
        assert!(grows(&claim("2Gi"), &claim("1Gi")) && grows(&claim("1Gi"), &object!({})));
        assert!(!grows(&claim("1Gi"), &claim("1024Mi")) && !grows(&claim("1Gi"), &claim("2Gi")));
        assert!(!grows(&object!({}), &claim("1Gi")));
    }
}
