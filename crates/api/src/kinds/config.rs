//! ConfigMaps, Secrets and ServiceAccounts.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Kind;
use super::check::{Check, is_true, run, text};
use super::fill::{each, fill, text as default_text};
use crate::{Map, Value, json, meta, names};

pub(super) const CONFIG_MAP: Kind = Kind {
    resource: "configmaps",
    generation: false,
    unconditional_update: true,
    validate: |object| run(|c| config_map(c, object)),
    validate_update: |object, old| {
        run(|c| {
            stays(c, object, old, &["data", "binaryData"]);
            config_map(c, object);
        })
    },
    ..Kind::DEFAULT
};

pub(super) const SECRET: Kind = Kind {
    resource: "secrets",
    generation: false,
    unconditional_update: true,
    defaults: |object, _| {
        merge_string_data(object);
        fill(object, &[default_text("type", "Opaque")]);
    },
    validate: |object| run(|c| secret(c, object)),
    validate_update: |object, old| {
        run(|c| {
            c.immutable(object, old, "type");
            stays(c, object, old, &["data"]);
            secret(c, object);
        })
    },
    ..Kind::DEFAULT
};

pub(super) const SERVICE_ACCOUNT: Kind = Kind {
    resource: "serviceaccounts",
    returned_when_deleted: true,
    generation: false,
    unconditional_update: true,
    prepare_create: clean_references,
    prepare_update: |object, _| clean_references(object),
    warnings: |object, old| {
        let has = |object: &Value| meta::annotation(object, MOUNTABLE).is_some();
        let newly = has(object) && !old.is_some_and(has);
        let text = "deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets";
        newly.then(|| format!("metadata.annotations[{MOUNTABLE}]: {text}")).into_iter().collect()
    },
    ..Kind::DEFAULT
};

const MOUNTABLE: &str = "kubernetes.io/enforce-mountable-secrets";

/// How much one object holds, in bytes.
const MAX_SIZE: usize = 1024 * 1024;

/// Moves the texts of `stringData` to `data`, where they replace what is there. It is done with the defaults and not on
/// writing, so that everything that sees the object, admission included, sees `data` alone.
fn merge_string_data(object: &mut Value) {
    let Some(texts) = object.remove_at(&["stringData"]) else { return };
    for (key, value) in texts.as_object().into_iter().flat_map(Map::iter) {
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

/// What is marked as immutable stays, the mark included.
fn stays(c: &mut Check, object: &Value, old: &Value, fields: &[&str]) {
    const DETAIL: &str = "field is immutable when `immutable` is set";
    if !is_true(old, "immutable") {
        return;
    }
    if !is_true(object, "immutable") {
        c.at("immutable").forbidden(DETAIL);
    }
    let data = |object: &Value, field: &str| object.object_at(&[field]).cloned().unwrap_or_default();
    for field in fields.iter().filter(|field| data(object, field) != data(old, field)) {
        c.at(field).forbidden(DETAIL);
    }
}

fn bytes(value: &Value) -> Vec<u8> {
    let text: String =
        value.as_str().unwrap_or_default().chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    STANDARD.decode(text).unwrap_or_default()
}

fn config_map(c: &mut Check, object: &Value) {
    let mut size = 0;
    c.entries(object, "data", |c, key, value| {
        c.here().obeys(key, names::config_key);
        if object.at(&["binaryData", key]).is_some() {
            c.here().invalid(key, "duplicate of key present in binaryData");
        }
        size += value.as_str().map_or(0, str::len);
    });
    c.entries(object, "binaryData", |c, key, value| {
        c.here().obeys(key, names::config_key);
        size += bytes(value).len();
    });
    if size > MAX_SIZE {
        c.here().too_long(MAX_SIZE);
    }
}

fn secret(c: &mut Check, object: &Value) {
    const ACCOUNT: &str = "kubernetes.io/service-account.name";
    let mut size = 0;
    c.entries(object, "data", |c, key, value| {
        c.here().obeys(key, names::config_key);
        size += bytes(value).len();
    });
    if size > MAX_SIZE {
        c.at("data").too_long(MAX_SIZE);
    }
    let has = |key: &str| object.object_at(&["data"]).is_some_and(|data| data.contains(key));
    let mut require = |key: &str| {
        if !has(key) {
            c.at("data").key(key).required("");
        }
    };
    match text(object, "type") {
        "kubernetes.io/tls" => ["tls.crt", "tls.key"].into_iter().for_each(require),
        "kubernetes.io/basic-auth" if !has("username") && !has("password") => {
            ["username", "password"].into_iter().for_each(require);
        }
        "kubernetes.io/ssh-auth" => {
            let key = object.at(&["data", "ssh-privatekey"]);
            if key.is_none_or(|key| bytes(key).is_empty()) {
                c.at("data").key("ssh-privatekey").required("");
            }
        }
        "kubernetes.io/dockercfg" => {
            require(".dockercfg");
            json_data(c, object, ".dockercfg");
        }
        "kubernetes.io/dockerconfigjson" => {
            require(".dockerconfigjson");
            json_data(c, object, ".dockerconfigjson");
        }
        "kubernetes.io/service-account-token"
            if meta::annotation(object, ACCOUNT).is_none_or(str::is_empty) =>
        {
            c.at("metadata.annotations").key(ACCOUNT).required("");
        }
        _ => {}
    }
}

/// The value of the key is a JSON object; it is not shown when it is not.
fn json_data(c: &mut Check, object: &Value, key: &str) {
    let Some(value) = object.at(&["data", key]) else { return };
    let fault = match json::from_slice(&bytes(value)) {
        Ok(Value::Object(_) | Value::Null) => return,
        Ok(_) => "json: cannot unmarshal into an object".to_owned(),
        Err(error) => error.to_string(),
    };
    c.at("data").key(key).invalid("<secret contents redacted>", &fault);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::check::testing::{cases, lines};
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

    #[test]
    fn config_maps() {
        let cases_of = |text: &str| cases(&object!({}), text, CONFIG_MAP.validate);
        cases_of(CONFIG_MAPS);
        let long = object!({"data": {"a": ("x".repeat(MAX_SIZE + 1))}});
        assert_eq!(
            lines(&(CONFIG_MAP.validate)(&long)),
            ["<root>: Too long: may not be more than 1048576 bytes"]
        );
        let fixed = object!({"immutable": true, "data": {"a": "b"}});
        cases(&fixed, FIXED_MAPS, |object| (CONFIG_MAP.validate_update)(object, &fixed));
    }

    const CONFIG_MAPS: &str = r#"
data = {"a.b": "c"}
binaryData = {"d": "eA=="}

data = {"a": "b"}
binaryData = {"a": "eA=="}
! data[a]: Invalid value: "a": duplicate of key present in binaryData

data = {"..": "b"}
! data[..]: Invalid value: "..": must not start with '..'
"#;

    const FIXED_MAPS: &str = r#"
metadata = {"labels": {"a": "b"}}

immutable =
data = {"a": ""}
binaryData = {"a": ""}
! immutable: Forbidden: field is immutable when `immutable` is set
! data: Forbidden: field is immutable when `immutable` is set
! binaryData: Forbidden: field is immutable when `immutable` is set
! data[a]: Invalid value: "a": duplicate of key present in binaryData
"#;

    #[test]
    fn secrets() {
        cases(&object!({"type": "Opaque"}), SECRETS, SECRET.validate);
        let old = object!({"type": "Opaque"});
        cases(&old, CHANGED_SECRETS, |object| (SECRET.validate_update)(object, &old));
    }

    const SECRETS: &str = r#"
data = {"a": "eA=="}

type = "anything/else"

data = {"a b": "eA=="}
! data[a b]: Invalid value: "a b": a valid config key must consist of alphanumeric characters, '-', '_' or '.'
  (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')

type = "kubernetes.io/tls"
data = {"tls.crt": "", "tls.key": ""}

type = "kubernetes.io/tls"
! data[tls.crt]: Required value
! data[tls.key]: Required value

type = "kubernetes.io/basic-auth"
data = {"username": ""}

type = "kubernetes.io/basic-auth"
! data[username]: Required value
! data[password]: Required value

type = "kubernetes.io/ssh-auth"
data = {"ssh-privatekey": ""}
! data[ssh-privatekey]: Required value

type = "kubernetes.io/dockerconfigjson"
data = {".dockerconfigjson": "e30="}

type = "kubernetes.io/dockerconfigjson"
! data[.dockerconfigjson]: Required value

type = "kubernetes.io/dockercfg"
data = {".dockercfg": "W10="}
! data[.dockercfg]: Invalid value: "<secret contents redacted>": json: cannot unmarshal into an object

type = "kubernetes.io/service-account-token"
metadata = {"annotations": {"kubernetes.io/service-account.name": "a"}}

type = "kubernetes.io/service-account-token"
! metadata.annotations[kubernetes.io/service-account.name]: Required value
"#;

    const CHANGED_SECRETS: &str = r#"
data = {"a": "eA=="}

type = "x"
! type: Invalid value: "x": field is immutable
"#;

    #[test]
    fn warned_of() {
        let old = object!({"metadata": {"annotations": {"kubernetes.io/enforce-mountable-secrets": "true"}}});
        assert_eq!((SERVICE_ACCOUNT.warnings)(&old, None).len(), 1);
        assert_eq!((SERVICE_ACCOUNT.warnings)(&old, Some(&old)).len(), 0);
    }
}
