//! Ingresses and their classes.

use super::check::{Check, filled, is_set, number, run, text};
use super::fill::{Given, absent, fill};
use super::networking::NETWORKING;
use super::service::rules::ingress_names;
use super::syntax::{port_name, prefixed_path, wildcard_subdomain};
use super::{Kind, address};
use crate::{Value, meta, names};

pub(super) const INGRESS: Kind = Kind {
    resource: "ingresses",
    validate: |object| {
        run(|c| {
            c.field(object, "spec", ingress);
            let class = object.str_at(&["spec", "ingressClassName"]);
            if let (Some(named), Some(class)) = (meta::annotation(object, CLASS), class)
                && named != class
            {
                let detail = "must match `ingressClassName` when both are specified";
                c.at("annotations").field(CLASS).invalid(named, detail);
            }
        })
    },
    validate_update: |object, _| run(|c| c.field(object, "spec", ingress)),
    validate_status: |object, old| {
        let before = old.array_at(&["status", "loadBalancer", "ingress"]);
        run(|c| {
            c.field(object, "status", |c, status| {
                c.field(status, "loadBalancer", |c, balancer| {
                    c.each(balancer, "ingress", |c, ingress| ingress_names(c, ingress, before));
                });
            });
        })
    },
    warnings: |object, old| {
        let class = object.at(&["spec", "ingressClassName"]).is_some();
        let deprecated = old.is_none() && !class && meta::annotation(object, CLASS).is_some();
        let text = format!("annotation {CLASS:?} is deprecated, please use 'spec.ingressClassName' instead");
        deprecated.then_some(text).into_iter().collect()
    },
    ..NETWORKING
};

pub(super) const INGRESS_CLASS: Kind = Kind {
    resource: "ingressclasses",
    defaults: |object, _| fill(object, &[absent("spec.parameters.scope", Given::Text("Cluster"))]),
    validate: |object| run(|c| c.field(object, "spec", class)),
    validate_update: |object, old| {
        run(|c| {
            if let (Some(new), Some(old)) = (object.get("spec"), old.get("spec")) {
                c.within("spec", |c| c.immutable(new, old, "controller"));
            }
            c.field(object, "spec", class);
        })
    },
    ..NETWORKING
};

const CLASS: &str = "kubernetes.io/ingress.class";
const MAX_CONTROLLER: usize = 250;

fn ingress(c: &mut Check, spec: &Value) {
    let rules = spec.array_at(&["rules"]);
    if rules.is_empty() && !is_set(spec, "defaultBackend") {
        let rules = spec.get("rules").cloned().unwrap_or_default();
        c.here().invalid(rules, "either `defaultBackend` or `rules` must be specified");
    }
    c.some(spec, "defaultBackend", backend);
    c.each(spec, "rules", |c, rule| {
        if let Some(name) = filled(rule, "host") {
            if address::ip(name).is_ok() {
                c.at("host").invalid(name, "must be a DNS name, not an IP address");
            }
            c.at("host").obeys(name, host);
        }
        c.some(rule, "http", |c, http| {
            if http.array_at(&["paths"]).is_empty() {
                c.at("paths").required("");
            }
            c.each(http, "paths", path);
        });
    });
    c.each(spec, "tls", |c, tls| {
        c.each(tls, "hosts", |c, name| c.here().obeys(name.as_str().unwrap_or_default(), host));
        c.name(tls, "secretName", names::dns_subdomain);
    });
    if let Some(class) = spec.str_at(&["ingressClassName"]) {
        c.at("ingressClassName").obeys(class, names::dns_subdomain);
    }
}

/// A host, perhaps with a wildcard as its first label.
fn host(text: &str) -> Result<(), names::Fault> {
    if text.contains('*') { wildcard_subdomain(text) } else { names::dns_subdomain(text) }
}

fn path(c: &mut Check, entry: &Value) {
    if !is_set(entry, "pathType") {
        return c.at("pathType").required("pathType must be specified");
    }
    let path = text(entry, "path");
    let absolute = |c: &mut Check| {
        if !path.starts_with('/') {
            c.at("path").invalid(path, "must be an absolute path");
        }
    };
    match text(entry, "pathType") {
        "Exact" | "Prefix" => {
            absolute(c);
            for part in ["//", "/./", "/../", "%2f", "%2F"].iter().filter(|part| path.contains(**part)) {
                c.at("path").invalid(path, &format!("must not contain '{part}'"));
            }
            for end in ["/..", "/."].iter().filter(|end| path.ends_with(**end)) {
                c.at("path").invalid(path, &format!("cannot end with '{end}'"));
            }
        }
        "ImplementationSpecific" if path.is_empty() => {}
        "ImplementationSpecific" => absolute(c),
        _ => c.one_of(entry, "pathType", &["Exact", "ImplementationSpecific", "Prefix"]),
    }
    c.field(entry, "backend", backend);
}

fn backend(c: &mut Check, backend: &Value) {
    match (is_set(backend, "resource"), is_set(backend, "service")) {
        (true, true) => c.here().invalid("", "cannot set both resource and service backends"),
        (false, false) => c.here().invalid("", "resource or service backend is required"),
        (true, false) => c.field(backend, "resource", reference),
        (false, true) => {
            let port = backend.at(&["service", "port"]).unwrap_or(&Value::Null);
            c.field(backend, "service", |c, service| c.require_name(service, "name", names::dns_label));
            match (filled(port, "name"), number(port, "number").filter(|n| *n != 0)) {
                (Some(_), Some(_)) => c.here().invalid("", "cannot set both port name & port number"),
                (None, None) => c.here().required("port name or number is required"),
                _ => c.within("service.port", |c| {
                    c.name(port, "name", port_name);
                    if number(port, "number") != Some(0) {
                        c.range(port, "number", 1, 65_535);
                    }
                }),
            }
        }
    }
}

/// A reference to an object of any kind.
fn reference(c: &mut Check, target: &Value) {
    if let Some(group) = target.str_at(&["apiGroup"]) {
        c.at("apiGroup").obeys(group, names::dns_subdomain);
    }
    c.require_name(target, "kind", names::path_segment);
    c.require_name(target, "name", names::path_segment);
}

fn class(c: &mut Check, spec: &Value) {
    let controller = text(spec, "controller");
    if controller.len() > MAX_CONTROLLER {
        c.at("controller").too_long(MAX_CONTROLLER);
    }
    c.require_name(spec, "controller", prefixed_path);
    c.some(spec, "parameters", |c, parameters| {
        reference(c, parameters);
        let namespace = parameters.str_at(&["namespace"]);
        match (parameters.str_at(&["scope"]), namespace) {
            (None, _) => c.at("scope").required(""),
            (Some("Namespace"), None) => {
                c.at("namespace").required("`parameters.scope` is set to 'Namespace'");
            }
            (Some("Namespace"), Some(namespace)) => c.at("namespace").obeys(namespace, names::dns_label),
            (Some("Cluster"), Some(_)) => {
                c.at("namespace").forbidden("`parameters.scope` is set to 'Cluster'");
            }
            (Some("Cluster"), None) => {}
            (Some(_), _) => c.one_of(parameters, "scope", &["Cluster", "Namespace"]),
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::check::testing::cases;
    use crate::object;

    #[test]
    fn ingresses() {
        cases(&object!({}), INGRESSES, INGRESS.validate);
        cases(&object!({}), STATUSES, |object| (INGRESS.validate_status)(object, &Value::Null));
        let named = object!({"metadata": {"annotations": {"kubernetes.io/ingress.class": "a"}}});
        assert_eq!((INGRESS.warnings)(&named, None).len(), 1);
        assert_eq!((INGRESS.warnings)(&named, Some(&named)).len(), 0);
    }

    const INGRESSES: &str = r#"
spec = {"defaultBackend": {"service": {"name": "a", "port": {"number": 80}}}, "ingressClassName": "c"}

spec = {"rules": [{"host": "*.a.b", "http": {"paths": [{"path": "/x", "pathType": "Prefix", "backend": {"service":
  {"name": "a", "port": {"name": "http"}}}}]}}], "tls": [{"hosts": ["*.a.b", "a.b"], "secretName": "s"}]}

spec = {}
! spec: Invalid value: null: either `defaultBackend` or `rules` must be specified

spec = {"rules": [{"host": "1.2.3.4"}]}
! spec.rules[0].host: Invalid value: "1.2.3.4": must be a DNS name, not an IP address

spec = {"rules": [{"http": {}}]}
! spec.rules[0].http.paths: Required value

spec = {"rules": [{"http": {"paths": [{"path": "x"}, {"pathType": "x", "backend": {}}]}}]}
! spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified
! spec.rules[0].http.paths[1].pathType: Unsupported value: "x": supported values: "Exact", "ImplementationSpecific", "Prefix"
! spec.rules[0].http.paths[1].backend: Invalid value: "": resource or service backend is required

spec = {"rules": [{"http": {"paths": [{"path": "x//y/..", "pathType": "Exact", "backend": {"resource": {"kind": "a", "name": "b"}}}]}}]}
! spec.rules[0].http.paths[0].path: Invalid value: "x//y/..": must be an absolute path
! spec.rules[0].http.paths[0].path: Invalid value: "x//y/..": must not contain '//'
! spec.rules[0].http.paths[0].path: Invalid value: "x//y/..": cannot end with '/..'

spec = {"defaultBackend": {"resource": {}, "service": {}}}
! spec.defaultBackend: Invalid value: "": cannot set both resource and service backends

spec = {"defaultBackend": {"service": {"port": {"number": 80, "name": "a"}}}}
! spec.defaultBackend.service.name: Required value
! spec.defaultBackend: Invalid value: "": cannot set both port name & port number

spec = {"defaultBackend": {"service": {"name": "a"}}}
! spec.defaultBackend: Required value: port name or number is required

spec = {"defaultBackend": {"service": {"name": "a", "port": {"number": 70000}}}}
! spec.defaultBackend.service.port.number: Invalid value: 70000: must be between 1 and 65535, inclusive

spec = {"defaultBackend": {"resource": {"kind": "a/b"}}}
! spec.defaultBackend.resource.kind: Invalid value: "a/b": may not contain '/'
! spec.defaultBackend.resource.name: Required value

metadata = {"annotations": {"kubernetes.io/ingress.class": "a"}}
spec = {"defaultBackend": {"resource": {"kind": "a", "name": "b"}}, "ingressClassName": "b"}
! annotations.kubernetes.io/ingress.class: Invalid value: "a": must match `ingressClassName` when both are specified
"#;

    const STATUSES: &str = r#"
status = {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}, {"hostname": "a.b"}]}}

status = {"loadBalancer": {"ingress": [{"ip": "x"}]}}
! status.loadBalancer.ingress[0].ip: Invalid value: "x": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)
"#;

    #[test]
    fn classes() {
        cases(&object!({"spec": {"controller": "a.b/c"}}), CLASSES, INGRESS_CLASS.validate);
        let old = object!({"spec": {"controller": "a.b/c"}});
        let new = object!({"spec": {"controller": "a.b/d"}});
        assert_eq!((INGRESS_CLASS.validate_update)(&new, &old).len(), 1);
    }

    const CLASSES: &str = r#"
spec.parameters = {"kind": "a", "name": "b", "scope": "Namespace", "namespace": "c"}

spec.controller = "x"
! spec.controller: Invalid value: "x": must be a domain-prefixed path (such as "acme.io/foo")

spec.controller =
! spec.controller: Required value

spec.parameters = {"scope": "Namespace"}
! spec.parameters.kind: Required value
! spec.parameters.name: Required value
! spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'

spec.parameters = {"kind": "a", "name": "b", "scope": "Cluster", "namespace": "c"}
! spec.parameters.namespace: Forbidden: `parameters.scope` is set to 'Cluster'

spec.parameters = {"kind": "a", "name": "b", "scope": "x"}
! spec.parameters.scope: Unsupported value: "x": supported values: "Cluster", "Namespace"
"#;
}
