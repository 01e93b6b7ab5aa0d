//! What becomes of zero values: Go writes them all, and JSON shows some.

use super::super::{decode, encode};
use super::{Int, Msg, Part, Text, definition, read, tree, wire};

#[test]
fn zeros_on_the_wire() {
    let check = |name: &str, fields: &[(u8, Part<'_>)], want: &str| {
        let got = decode(&wire(fields), definition(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(got, tree(want), "{name}");
    };
    // A value that JSON leaves out, one that it shows, a pointer.
    let port = "api.core.v1.ContainerPort";
    check(
        port,
        &[(1, Text("")), (2, Int(0)), (3, Int(0)), (4, Text("")), (5, Text(""))],
        r#"{"containerPort":0}"#,
    );
    check(port, &[(2, Int(80)), (3, Int(443))], r#"{"containerPort":443,"hostPort":80}"#);
    check(port, &[], r#"{"containerPort":0}"#);
    let deployment = "api.apps.v1.DeploymentSpec";
    let shown = r#""strategy":{},"template":{"metadata":{},"spec":{"containers":[]}}"#;
    check(deployment, &[(1, Int(0)), (5, Int(0)), (7, Int(0))], &format!(r#"{{"replicas":0,{shown}}}"#));
    check(deployment, &[], &format!("{{{shown}}}"));
    check(deployment, &[(2, Msg(&[]))], &format!(r#"{{"selector":{{}},{shown}}}"#));
    // Structs are shown, also where nothing was sent of them.
    check("api.core.v1.Container", &[(1, Text("a")), (8, Msg(&[]))], r#"{"name":"a","resources":{}}"#);
    check("api.core.v1.Container", &[(1, Text("a"))], r#"{"name":"a","resources":{}}"#);
    check("api.core.v1.Service", &[], r#"{"metadata":{},"spec":{},"status":{"loadBalancer":{}}}"#);
    check("api.networking.v1.NetworkPolicySpec", &[], r#"{"podSelector":{}}"#);
    check("api.core.v1.ServicePort", &[(3, Int(80))], r#"{"port":80,"targetPort":0}"#);
    check(
        "api.core.v1.ResourceFieldSelector",
        &[(2, Text("limits.cpu"))],
        r#"{"divisor":"0","resource":"limits.cpu"}"#,
    );
    // Lists: left out, or shown where JSON has `null`.
    check("api.rbac.v1.Role", &[(1, Msg(&[]))], r#"{"metadata":{},"rules":[]}"#);
    check("api.rbac.v1.PolicyRule", &[], r#"{"verbs":[]}"#);
    // The zero time is `null` in JSON, which is nothing.
    let condition = "api.core.v1.PodCondition";
    check(condition, &[(1, Text("Ready")), (3, Msg(&[]))], r#"{"status":"","type":"Ready"}"#);
    check(
        condition,
        &[(3, Msg(&[(1, Int(-62_135_596_800)), (2, Int(0))])), (4, Msg(&[(1, Int(0)), (2, Int(5))]))],
        r#"{"lastTransitionTime":"1970-01-01T00:00:00Z","status":"","type":""}"#,
    );
    // Pointers to zero.
    check(
        "api.core.v1.SecurityContext",
        &[(2, Int(0)), (6, Int(0))],
        r#"{"privileged":false,"readOnlyRootFilesystem":false}"#,
    );
    check(
        "api.core.v1.SecretVolumeSource",
        &[(1, Text("s")), (3, Int(0)), (4, Int(0))],
        r#"{"defaultMode":0,"optional":false,"secretName":"s"}"#,
    );
}

#[test]
fn what_is_no_pointer_is_always_written() {
    let check = |name: &str, json: &str, path: &[u64], want: &str| {
        assert_eq!(read(&encode(&tree(json), definition(name)), path), want, "{name} {json} at {path:?}");
    };
    check("api.core.v1.ContainerPort", "{}", &[2], "0");
    check("api.core.v1.ContainerPort", "{}", &[4], r#""""#);
    check("api.apps.v1.DeploymentSpec", "{}", &[1], "");
    check("api.apps.v1.DeploymentSpec", r#"{"replicas":0}"#, &[1], "0");
    check("api.apps.v1.DeploymentSpec", "{}", &[3, 1, 8], r#""""#);
    check("api.core.v1.ServicePort", "{}", &[4, 1], "0");
    check("api.core.v1.ResourceFieldSelector", "{}", &[3, 1], r#""0""#);
    check("api.core.v1.Volume", "{}", &[2], r#""""#);
    check("api.core.v1.Container", r#"{"args":[],"env":null}"#, &[4], "");
    check("api.admissionregistration.v1.WebhookClientConfig", "{}", &[2], "");
    check("api.admissionregistration.v1.WebhookClientConfig", r#"{"caBundle":""}"#, &[2], r#""""#);
    check("apimachinery.pkg.apis.meta.v1.APIResource", "{}", &[4], "");
}

#[test]
fn values_of_other_types_are_left_out() {
    let odd = tree(r#"{"containerPort":"x","hostPort":[1],"name":{"a":1},"strange":1}"#);
    let name = "api.core.v1.ContainerPort";
    assert_eq!(encode(&odd, definition(name)), encode(&tree("{}"), definition(name)));
}
