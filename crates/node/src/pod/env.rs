//! The environment of a container: image, services, `envFrom`, `env` with references, and `$(NAME)` in it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvVar, ObjectFieldSelector, Pod, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use xebec_sandbox::config;

/// What a container's environment is made from.
#[derive(Debug, Default)]
pub struct Sources {
    /// `NAME=value` of the image.
    pub image: Vec<String>,
    /// Variables of services.
    pub services: BTreeMap<String, String>,
    /// Data of ConfigMaps by name.
    pub config_maps: BTreeMap<String, BTreeMap<String, String>>,
    /// Data of Secrets by name.
    pub secrets: BTreeMap<String, BTreeMap<String, String>>,
}

/// Surroundings that downward references may name.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// The pod's address.
    pub pod: String,
    /// The node's.
    pub host: String,
    /// How much the node has for its pods, for containers without limits.
    pub allocatable: BTreeMap<String, Quantity>,
}

/// A variable that cannot be set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    /// A ConfigMap or Secret is not there.
    #[error("{kind} {name:?} not found")]
    NoObject {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// It has no such key.
    #[error("couldn't find key {key} in {kind} {name}")]
    NoKey {
        /// `ConfigMap` or `Secret`.
        kind: &'static str,
        /// Its name.
        name: String,
        /// The key.
        key: String,
    },
    /// A field that cannot be referred to.
    #[error("field {0:?} cannot be used in the environment")]
    Field(String),
}

/// The environment in the order in which it is set; of variables of the same name the last stays.
///
/// # Errors
/// A reference to something that is not there.
pub fn environment(
    container: &Container,
    pod: &Pod,
    sources: &Sources,
    around: &Surroundings,
) -> Result<Vec<config::EnvVar>, EnvError> {
    let mut out = Environment::default();
    for pair in &sources.image {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        out.set(name, value.to_owned());
    }
    for (name, value) in &sources.services {
        out.set(name, value.clone());
    }
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let (kind, name, optional, data) = match (&from.config_map_ref, &from.secret_ref) {
            (Some(r), _) => ("configmap", &r.name, r.optional, sources.config_maps.get(&r.name)),
            (_, Some(r)) => ("secret", &r.name, r.optional, sources.secrets.get(&r.name)),
            _ => continue,
        };
        match data {
            Some(data) => {
                data.iter().for_each(|(key, value)| out.set(&format!("{prefix}{key}"), value.clone()));
            }
            None if optional == Some(true) => {}
            None => return Err(EnvError::NoObject { kind, name: name.clone() }),
        }
    }
    for variable in container.env.iter().flatten() {
        if let Some(value) = value(variable, container, pod, sources, around, &out)? {
            out.set(&variable.name, value);
        }
    }
    Ok(out.variables)
}

#[derive(Default)]
struct Environment {
    variables: Vec<config::EnvVar>,
}

impl Environment {
    fn set(&mut self, name: &str, value: String) {
        match self.variables.iter_mut().find(|v| v.name == name) {
            Some(variable) => variable.value = value,
            None => self.variables.push(config::EnvVar { name: name.to_owned(), value }),
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.variables.iter().find(|v| v.name == name).map(|v| v.value.as_str())
    }
}

fn value(
    variable: &EnvVar,
    container: &Container,
    pod: &Pod,
    sources: &Sources,
    around: &Surroundings,
    so_far: &Environment,
) -> Result<Option<String>, EnvError> {
    let Some(from) = &variable.value_from else {
        let text = variable.value.as_deref().unwrap_or_default();
        return Ok(Some(expand(text, |name| so_far.get(name).map(str::to_owned))));
    };
    if let Some(field) = &from.field_ref {
        return field_value(field, pod, around).map(Some);
    }
    if let Some(resource) = &from.resource_field_ref {
        return resource_value(resource, container, around).map(Some);
    }
    let (kind, object, name, key, optional, data) = match (&from.config_map_key_ref, &from.secret_key_ref) {
        (Some(r), _) => {
            ("ConfigMap", "configmap", &r.name, &r.key, r.optional, sources.config_maps.get(&r.name))
        }
        (_, Some(r)) => ("Secret", "secret", &r.name, &r.key, r.optional, sources.secrets.get(&r.name)),
        _ => return Ok(None),
    };
    match (data, optional == Some(true)) {
        (Some(data), optional) => match data.get(key) {
            Some(value) => Ok(Some(value.clone())),
            None if optional => Ok(None),
            None => Err(EnvError::NoKey { kind, name: name.clone(), key: key.clone() }),
        },
        (None, true) => Ok(None),
        (None, false) => Err(EnvError::NoObject { kind: object, name: name.clone() }),
    }
}

/// Replaces `$(NAME)` by the variable's value; `$$` stands for `$`, and what names no variable stays.
#[must_use]
pub fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|r| r.split_once(')')) {
            match lookup(name) {
                Some(value) => out.push_str(&value),
                None => out.extend(["$(", name, ")"]),
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

/// The text of a field of the pod, for variables and files.
///
/// # Errors
/// The field cannot be referred to.
pub fn field_value(
    field: &ObjectFieldSelector,
    pod: &Pod,
    around: &Surroundings,
) -> Result<String, EnvError> {
    let meta = &pod.metadata;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let entry = |map: &Option<BTreeMap<String, String>>, key: &str| {
        map.as_ref().and_then(|m| m.get(key)).cloned().unwrap_or_default()
    };
    let spec = pod.spec.as_ref();
    let path = field.field_path.as_str();
    if let Some((map, key)) = path.strip_suffix("']").and_then(|p| p.split_once("['")) {
        return match map {
            "metadata.labels" => Ok(entry(&meta.labels, key)),
            "metadata.annotations" => Ok(entry(&meta.annotations, key)),
            _ => Err(EnvError::Field(path.into())),
        };
    }
    Ok(match path {
        "metadata.name" => text(&meta.name),
        "metadata.namespace" => text(&meta.namespace),
        "metadata.uid" => text(&meta.uid),
        "metadata.labels" => lines(meta.labels.as_ref()),
        "metadata.annotations" => lines(meta.annotations.as_ref()),
        "spec.nodeName" => spec.and_then(|s| s.node_name.clone()).unwrap_or_default(),
        "spec.serviceAccountName" => spec.and_then(|s| s.service_account_name.clone()).unwrap_or_default(),
        "status.podIP" | "status.podIPs" => around.pod.clone(),
        "status.hostIP" | "status.hostIPs" => around.host.clone(),
        _ => return Err(EnvError::Field(path.into())),
    })
}

/// `key="value"`, a line each.
fn lines(map: Option<&BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map.into_iter().flatten().map(|(k, v)| format!("{k}={v:?}")).collect();
    lines.join("\n")
}

/// A limit or request of the container, in units of the divisor. What has no limit is limited by the node.
///
/// # Errors
/// No such resource.
pub fn resource_value(
    selector: &ResourceFieldSelector,
    container: &Container,
    around: &Surroundings,
) -> Result<String, EnvError> {
    let bad = || EnvError::Field(selector.resource.clone());
    let (list, name) = selector.resource.split_once('.').ok_or_else(bad)?;
    let resources = container.resources.as_ref();
    let own = |amounts: Option<&BTreeMap<String, Quantity>>| amounts.and_then(|m| m.get(name).cloned());
    let amount = match list {
        "limits" => own(resources.and_then(|r| r.limits.as_ref())).or_else(|| own(Some(&around.allocatable))),
        "requests" => own(resources.and_then(|r| r.requests.as_ref())),
        _ => return Err(bad()),
    };
    let amount = amount.and_then(|q| crate::quantity::millis(&q.0)).unwrap_or(0);
    let divisor = selector.divisor.as_ref().map(|q| q.0.as_str()).filter(|d| !matches!(*d, "" | "0"));
    let divisor = divisor.and_then(crate::quantity::millis).unwrap_or(1000).max(1);
    Ok((amount.max(0) as u128).div_ceil(divisor as u128).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{
        ConfigMapEnvSource, ConfigMapKeySelector, EnvFromSource, EnvVarSource, ResourceRequirements,
    };

    #[test]
    fn references_are_replaced() {
        let lookup = |name: &str| (name == "A").then(|| "1".to_owned());
        for (text, want) in [
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$$(A)", "$(A)"),
            ("$(B)", "$(B)"),
            ("$A $ $(", "$A $ $("),
            ("", ""),
        ] {
            assert_eq!(expand(text, lookup), want, "{text}");
        }
    }

    #[test]
    fn later_variables_win_and_may_refer_to_earlier_ones() {
        let variable = |name: &str, value: &str| EnvVar {
            name: name.into(),
            value: Some(value.into()),
            ..EnvVar::default()
        };
        let key = |optional| EnvVarSource {
            config_map_key_ref: Some(ConfigMapKeySelector {
                name: "c".into(),
                key: "absent".into(),
                optional,
            }),
            ..EnvVarSource::default()
        };
        let from = EnvFromSource {
            config_map_ref: Some(ConfigMapEnvSource { name: "c".into(), optional: None }),
            prefix: Some("P_".into()),
            ..EnvFromSource::default()
        };
        let mut container = Container {
            env: Some(vec![
                variable("PATH", "$(PATH):/x"),
                variable("B", "$(P_k)"),
                EnvVar { name: "O".into(), value_from: Some(key(Some(true))), ..EnvVar::default() },
            ]),
            env_from: Some(vec![from]),
            ..Container::default()
        };
        let sources = Sources {
            image: vec!["PATH=/bin".into()],
            config_maps: BTreeMap::from([(
                "c".to_owned(),
                BTreeMap::from([("k".to_owned(), "v".to_owned())]),
            )]),
            ..Sources::default()
        };
        let got =
            environment(&container, &Pod::default(), &sources, &Surroundings::default()).expect("all there");
        let got: Vec<String> = got.iter().map(|v| format!("{}={}", v.name, v.value)).collect();
        assert_eq!(got, ["PATH=/bin:/x", "P_k=v", "B=v"]);
        container.env =
            Some(vec![EnvVar { name: "O".into(), value_from: Some(key(None)), ..EnvVar::default() }]);
        let error =
            environment(&container, &Pod::default(), &sources, &Surroundings::default()).expect_err("no key");
        assert_eq!(error.to_string(), "couldn't find key absent in ConfigMap c");
    }

    #[test]
    fn amounts_are_the_containers_or_the_nodes() {
        let limits = BTreeMap::from([("memory".to_owned(), Quantity("1Mi".into()))]);
        let resources = ResourceRequirements { limits: Some(limits), ..ResourceRequirements::default() };
        let container = Container { resources: Some(resources), ..Container::default() };
        let node = |name: &str, amount: &str| (name.to_owned(), Quantity(amount.into()));
        let allocatable = BTreeMap::from([node("cpu", "3"), node("memory", "2Mi")]);
        let around = Surroundings { allocatable, ..Surroundings::default() };
        let check = |resource: &str, divisor: &str, want: &str| {
            let selector = ResourceFieldSelector {
                resource: resource.into(),
                divisor: (!divisor.is_empty()).then(|| Quantity(divisor.into())),
                ..ResourceFieldSelector::default()
            };
            let got = resource_value(&selector, &container, &around).unwrap_or_else(|e| e.to_string());
            assert_eq!(got, want, "{resource} in {divisor:?}");
        };
        check("limits.memory", "", "1048576");
        check("limits.memory", "1Ki", "1024");
        check("limits.cpu", "1m", "3000");
        check("limits.cpu", "", "3");
        check("requests.cpu", "", "0");
        check("cpu", "", "field \"cpu\" cannot be used in the environment");
    }
}
