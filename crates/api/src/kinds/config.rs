//! ConfigMaps, Secrets and ServiceAccounts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Kind;
use super::fill::{each, fill, text};
use crate::Value;

pub(super) const CONFIG_MAP: Kind =
    Kind { resource: "configmaps", generation: false, unconditional_update: true, ..Kind::DEFAULT };

pub(super) const SECRET: Kind = Kind {
    resource: "secrets",
    generation: false,
    unconditional_update: true,
    defaults: |object, _| {
        merge_string_data(object);
        fill(object, &[text("type", "Opaque")]);
    },
    ..Kind::DEFAULT
};

pub(super) const SERVICE_ACCOUNT: Kind = Kind {
    resource: "serviceaccounts",
    generation: false,
    unconditional_update: true,
    prepare_create: clean_references,
    prepare_update: |object, _| clean_references(object),
    ..Kind::DEFAULT
};

/// Moves the texts of `stringData` to `data`, where they replace what is there. It is done with the defaults and not on
/// writing, so that everything that sees the object, admission included, sees `data` alone.
fn merge_string_data(object: &mut Value) {
    let Some(texts) = object.remove_at(&["stringData"]) else { return };
    for (key, value) in texts.as_object().into_iter().flat_map(crate::Map::iter) {
        let encoded = STANDARD.encode(value.as_str().unwrap_or_default());
        object.set(&["data", key], encoded);
    }
}

/// Of references to secrets only the name is kept.
fn clean_references(object: &mut Value) {
    each(object, "secrets[*]", &mut |reference| {
        if let Some(map) = reference.as_object_mut() {
            map.retain(|field, _| field == "name");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object;

    #[test]
    fn texts_become_data() {
        let mut secret = object!({"data": {"a": "eA==", "b": "eQ=="}, "stringData": {"b": "new", "c": ""}});
        (SECRET.defaults)(&mut secret, "v1");
        assert_eq!(secret, object!({"data": {"a": "eA==", "b": "bmV3", "c": ""}, "type": "Opaque"}));
    }

    #[test]
    fn references_keep_their_name() {
        let mut account = object!({"secrets": [{"name": "a", "uid": "1"}, 3]});
        clean_references(&mut account);
        assert_eq!(account, object!({"secrets": [{"name": "a"}, 3]}));
    }
}
