//! What a container's program is given: variables, arguments, user, directory.

use anyhow::{Result, ensure};
use serde_json::json;
use xebec_e2e::{Case, Cluster};

use crate::{IMAGE, object, output_of, shell};

pub(crate) const CASES: [Case; 2] =
    [("variables from everywhere", variables), ("command and arguments", commands)];

fn variables(cluster: &Cluster) -> Result<()> {
    object(
        cluster,
        &json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "variables"}, "data": {"COLOUR": "blue", "n": "1"},
        }),
    )?;
    object(
        cluster,
        &json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "variables"}, "stringData": {"WORD": "secret"},
        }),
    )?;
    let field = |path: &str| json!({"fieldRef": {"fieldPath": path}});
    let more = json!({
        "envFrom": [{"configMapRef": {"name": "variables"}, "prefix": "MAP_"}, {"secretRef": {"name": "variables"}},
                    {"configMapRef": {"name": "absent", "optional": true}}],
        "env": [
            {"name": "NAME", "valueFrom": field("metadata.name")},
            {"name": "SPACE", "valueFrom": field("metadata.namespace")},
            {"name": "CASE", "valueFrom": field("metadata.labels['case']")},
            {"name": "ACCOUNT", "valueFrom": field("spec.serviceAccountName")},
            {"name": "NODE", "valueFrom": field("spec.nodeName")},
            {"name": "IP", "valueFrom": field("status.podIP")},
            {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
            {"name": "ONE", "valueFrom": {"configMapKeyRef": {"name": "variables", "key": "n"}}},
            {"name": "NONE", "valueFrom": {"secretKeyRef": {"name": "variables", "key": "x", "optional": true}}},
            {"name": "JOINED", "value": "$(NAME)-$(MAP_COLOUR)-$$(NAME)-$(UNKNOWN)"},
        ],
        "resources": {"limits": {"cpu": "250m"}},
    });
    let script = "echo $MAP_COLOUR $WORD $NAME $SPACE $CASE $ACCOUNT $CPU $ONE ${NONE-unset}; echo \"$JOINED\"; \
                  [ \"$NODE\" ] && [ \"$IP\" = \"$(hostname -i | tr -d ' ')\" ] && echo $KUBERNETES_SERVICE_HOST $KUBERNETES_SERVICE_PORT";
    let text = output_of(cluster, "variables", json!({"containers": [shell(script, more)]}))?;
    let want = "blue secret variables default variables default 250 1 unset\n\
                variables-blue-$(NAME)-$(UNKNOWN)\n10.43.0.1 443\n";
    ensure!(text == want, "{text:?} is not {want:?}");
    Ok(())
}

fn commands(cluster: &Cluster) -> Result<()> {
    let check = |name: &str, more: serde_json::Value, want: &str| -> Result<()> {
        let container = crate::merge(json!({"name": "main", "image": IMAGE}), more);
        let text = output_of(cluster, name, json!({"containers": [container]}))?;
        ensure!(text == want, "{name}: {text:?} is not {want:?}");
        Ok(())
    };
    // The image's command is a shell, which without input ends at once.
    check("command-image", json!({}), "")?;
    check("command-args", json!({"args": ["echo", "hello"]}), "hello\n")?;
    check(
        "command-own",
        json!({"command": ["echo", "$(A)"], "args": ["b c"], "env": [{"name": "A", "value": "a"}]}),
        "a b c\n",
    )?;
    check("command-directory", json!({"command": ["pwd"], "workingDir": "/made/here"}), "/made/here\n")
}
