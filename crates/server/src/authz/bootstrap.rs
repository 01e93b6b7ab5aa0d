//! The roles that every cluster begins with, as upstream defines them, and those of Xebec's own components.
//!
//! They are written at every start where they are missing or have lost a rule, unless an object says
//! `rbac.authorization.kubernetes.io/autoupdate: "false"`.

use xebec_api::{Value, object};

use super::Rule;

const READ: &str = "get list watch";
const WRITE: &str = "create delete deletecollection patch update";
const ALL: &str = "create delete deletecollection get list patch update watch";

/// A role of a component, bound to a user or group.
#[derive(Clone, Debug)]
pub struct Role {
    /// The role's name, `system:kube-scheduler`.
    pub name: String,
    /// What it allows.
    pub rules: Vec<Rule>,
    /// `User` or `Group`.
    pub subject_kind: &'static str,
    /// Whom it is bound to.
    pub subject: String,
}

/// All bootstrap objects: cluster roles and cluster role bindings.
#[must_use]
pub fn bootstrap_objects(components: &[Role]) -> Vec<Value> {
    let mut out = vec![
        role("cluster-admin", &[], &Rule::full_authority()),
        role("system:discovery", &[], &[Rule::on_paths(&DISCOVERY_PATHS)]),
        role("system:public-info-viewer", &[], &[Rule::on_paths(&PUBLIC_PATHS)]),
        role("system:basic-user", &[], &basic_user()),
        role("system:service-account-issuer-discovery", &[], &[Rule::on_paths(&ISSUER_PATHS)]),
        aggregate("admin", &[]),
        aggregate("edit", &["admin"]),
        aggregate("view", &["edit"]),
        role("system:aggregate-to-admin", &["admin"], &to_admin()),
        role("system:aggregate-to-edit", &["edit"], &to_edit()),
        role("system:aggregate-to-view", &["view"], &to_view()),
        binding("cluster-admin", &[("Group", "system:masters")]),
        binding("system:discovery", &[("Group", "system:authenticated")]),
        binding("system:basic-user", &[("Group", "system:authenticated")]),
        binding(
            "system:public-info-viewer",
            &[("Group", "system:authenticated"), ("Group", "system:unauthenticated")],
        ),
        binding("system:service-account-issuer-discovery", &[("Group", "system:serviceaccounts")]),
    ];
    for component in components {
        out.push(role(&component.name, &[], &component.rules));
        out.push(binding(&component.name, &[(component.subject_kind, &component.subject)]));
    }
    aggregate_rules(&mut out);
    out
}

const DISCOVERY_PATHS: [&str; 11] = [
    "/api",
    "/api/*",
    "/apis",
    "/apis/*",
    "/healthz",
    "/livez",
    "/openapi",
    "/openapi/*",
    "/readyz",
    "/version",
    "/version/",
];
const PUBLIC_PATHS: [&str; 5] = ["/healthz", "/livez", "/readyz", "/version", "/version/"];
const ISSUER_PATHS: [&str; 2] = ["/.well-known/openid-configuration", "/openid/v1/jwks"];

fn basic_user() -> Vec<Rule> {
    vec![
        Rule::on("create", "authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews"),
        Rule::on("create", "authentication.k8s.io", "selfsubjectreviews"),
    ]
}

fn to_admin() -> Vec<Rule> {
    vec![
        Rule::on(ALL, "rbac.authorization.k8s.io", "roles rolebindings"),
        Rule::on("create", "authorization.k8s.io", "localsubjectaccessreviews"),
    ]
}

fn to_edit() -> Vec<Rule> {
    vec![
        Rule::on(READ, "", "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy"),
        Rule::on("impersonate", "", "serviceaccounts"),
        Rule::on(WRITE, "", "pods pods/attach pods/exec pods/portforward pods/proxy"),
        Rule::on("create", "", "pods/eviction serviceaccounts/token"),
        Rule::on(
            WRITE,
            "",
            "configmaps events persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets \
             serviceaccounts services services/proxy",
        ),
        Rule::on(
            WRITE,
            "apps",
            "daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale statefulsets \
             statefulsets/scale",
        ),
        Rule::on(WRITE, "autoscaling", "horizontalpodautoscalers"),
        Rule::on(WRITE, "batch", "cronjobs jobs"),
        Rule::on(WRITE, "policy", "poddisruptionbudgets"),
        Rule::on(WRITE, "networking.k8s.io", "ingresses networkpolicies"),
        Rule::on(ALL, "coordination.k8s.io", "leases"),
    ]
}

fn to_view() -> Vec<Rule> {
    vec![
        Rule::on(
            READ,
            "",
            "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods replicationcontrollers \
             replicationcontrollers/scale serviceaccounts services services/status bindings events limitranges \
             namespaces/status pods/log pods/status replicationcontrollers/status resourcequotas \
             resourcequotas/status namespaces",
        ),
        Rule::on(READ, "discovery.k8s.io", "endpointslices"),
        Rule::on(READ, "events.k8s.io", "events"),
        Rule::on(
            READ,
            "apps",
            "controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status \
             replicasets replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status",
        ),
        Rule::on(READ, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
        Rule::on(READ, "batch", "cronjobs cronjobs/status jobs jobs/status"),
        Rule::on(READ, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
        Rule::on(READ, "networking.k8s.io", "ingresses ingresses/status networkpolicies"),
    ]
}

fn metadata(name: &str) -> Value {
    object!({
        "name": name,
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"}
    })
}

fn aggregation_label(to: &str) -> String {
    format!("rbac.authorization.k8s.io/aggregate-to-{to}")
}

fn role(name: &str, aggregate_to: &[&str], rules: &[Rule]) -> Value {
    let mut metadata = metadata(name);
    for to in aggregate_to {
        metadata.set(&["labels", &aggregation_label(to)], "true");
    }
    let rules: Vec<Value> = rules.iter().map(Rule::to_value).collect();
    object!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": (metadata), "rules": (rules)
    })
}

/// A role that gathers those with the label of its name, and may itself be gathered.
fn aggregate(name: &str, aggregate_to: &[&str]) -> Value {
    let mut out = role(name, aggregate_to, &[]);
    let mut selector = Value::object();
    selector.set(&["matchLabels", &aggregation_label(name)], "true");
    out.set(&["aggregationRule", "clusterRoleSelectors"], vec![selector]);
    out
}

/// Aggregated roles begin with the rules of the bootstrap roles that they gather, as the controller that keeps them would
/// have it: in the order of names. Who is gathered by others comes first.
fn aggregate_rules(objects: &mut [Value]) {
    for name in ["view", "edit", "admin"] {
        let label = aggregation_label(name);
        let gathers = |o: &&Value| o.str_at(&["metadata", "labels", &label]) == Some("true");
        let mut gathered: Vec<&Value> = objects.iter().filter(gathers).collect();
        gathered.sort_by_key(|role| xebec_api::meta::name(role).to_owned());
        let rules: Vec<Value> = gathered.iter().flat_map(|o| o.array_at(&["rules"])).cloned().collect();
        let own = |o: &&mut Value| xebec_api::meta::name(o) == name && o.get("aggregationRule").is_some();
        if let Some(role) = objects.iter_mut().find(own) {
            role.set(&["rules"], rules);
        }
    }
}

fn binding(role: &str, subjects: &[(&str, &str)]) -> Value {
    let group = "rbac.authorization.k8s.io";
    let subjects: Vec<Value> = subjects
        .iter()
        .map(|(kind, name)| object!({"kind": (*kind), "apiGroup": group, "name": (*name)}))
        .collect();
    object!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": (metadata(role)),
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
        "subjects": (subjects)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aggregated_roles_gather_their_rules() {
        let objects = bootstrap_objects(&[]);
        let count = |name: &str| {
            let role = objects.iter().find(|o| xebec_api::meta::name(o) == name).expect(name);
            role.array_at(&["rules"]).len()
        };
        assert_eq!(count("view"), to_view().len());
        assert_eq!(count("edit"), to_view().len() + to_edit().len());
        assert_eq!(count("admin"), to_view().len() + to_edit().len() + to_admin().len());
    }
}
