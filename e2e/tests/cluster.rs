//! One cluster, from its first start to its end, with the real kubectl.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use xebec_e2e::{Case, Cluster, PATIENCE, eventually};

const CASES: [Case; 10] = [
    ("the node is ready", node_is_ready),
    ("an application runs and answers", application_answers),
    ("a deployment is scaled and rolled", deployment_is_changed),
    ("a custom resource is served", custom_resource),
    ("bad input is refused with a reason", bad_input),
    ("a token of a service account is good until the account goes", tokens),
    ("a killed server comes back and adopts its pods", killed_server),
    ("a stopped cluster goes on where it stopped", restart),
    ("a namespace goes with everything in it", namespace_goes),
    ("a purge leaves nothing", purge),
];

fn main() -> ExitCode {
    xebec_e2e::run(&CASES)
}

fn node_is_ready(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(&["wait", "--for=condition=Ready", "node", "--all", "--timeout=30s"])?;
    let version = cluster.kubectl(&["version"])?;
    ensure!(version.contains("Server Version: v1.36"), "{version}");
    Ok(())
}

fn application_answers(cluster: &Cluster) -> Result<()> {
    cluster.xebec(&["image", "import", &cluster.path("image.tar").display().to_string()])?;
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/hello/hello.yaml");
    cluster.kubectl(&["apply", "-f", manifest])?;
    cluster.kubectl(&["rollout", "status", "deployment/hello", "--timeout=60s"])?;
    answers(cluster)?;
    api_is_behind_its_service(cluster)
}

/// What is shown as the API's address is where pods reach it.
fn api_is_behind_its_service(cluster: &Cluster) -> Result<()> {
    let endpoints = cluster.get(&["endpointslices", "-l", "kubernetes.io/service-name=kubernetes"])?;
    let slice = &endpoints["items"][0];
    let ip = slice["endpoints"][0]["addresses"][0].as_str().context("an address of the API")?;
    let port = slice["ports"][0]["port"].as_u64().context("a port of the API")?;
    let table = cluster.kubectl(&["get", "endpoints", "kubernetes"])?;
    ensure!(table.contains(&format!("{ip}:{port}")), "{table}");
    let connect = format!("nc -w 5 {ip} {port} </dev/null");
    cluster.kubectl(&["exec", "deployment/hello", "--", "sh", "-c", &connect]).map(drop)
}

fn answers(_: &Cluster) -> Result<()> {
    eventually(PATIENCE, || {
        let mut stream = TcpStream::connect("127.0.0.1:30080")?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        ensure!(text.contains("Hello from Xebec."), "the application answers {text:?}");
        Ok(())
    })
}

fn deployment_is_changed(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(&["scale", "deployment/hello", "--replicas=2"])?;
    eventually(PATIENCE, || {
        let pods = cluster.get(&["pods", "-l", "app=hello"])?;
        let count = pods["items"].as_array().map_or(0, Vec::len);
        ensure!(count == 2, "{count} pods");
        Ok(())
    })?;
    cluster.kubectl(&["set", "env", "deployment/hello", "COLOUR=blue"])?;
    cluster.kubectl(&["rollout", "status", "deployment/hello", "--timeout=60s"])?;
    let history = cluster.kubectl(&["rollout", "history", "deployment/hello"])?;
    ensure!(history.contains('2'), "{history}");
    cluster.kubectl(&["rollout", "undo", "deployment/hello"])?;
    cluster.kubectl(&["rollout", "status", "deployment/hello", "--timeout=60s"])?;
    let deployment = cluster.get(&["deployment", "hello"])?;
    let env = &deployment["spec"]["template"]["spec"]["containers"][0]["env"];
    ensure!(env.is_null(), "the environment is still {env}");
    answers(cluster)
}

fn custom_resource(cluster: &Cluster) -> Result<()> {
    let definition = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget, shortNames: [wd]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    additionalPrinterColumns: [{name: Size, type: string, jsonPath: .spec.size}]
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            required: [size]
            properties: {size: {type: string, enum: [S, L]}, count: {type: integer, default: 1}}
          status: {type: object, properties: {done: {type: boolean}}}
"#;
    cluster.kubectl_with(&["apply", "-f", "-"], definition)?;
    cluster.kubectl(&["wait", "--for=condition=Established", "crd/widgets.example.com", "--timeout=30s"])?;
    let widget = "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: a}\nspec: {size: S}\n";
    cluster.kubectl_with(&["apply", "-f", "-"], widget)?;
    let table = cluster.kubectl(&["get", "wd"])?;
    ensure!(table.contains("SIZE") && table.contains('S'), "{table}");
    let stored = cluster.get(&["widget", "a"])?;
    ensure!(stored["spec"]["count"] == 1, "the default is missing: {stored}");
    let refused = cluster.kubectl_with(&["apply", "-f", "-"], &widget.replace("size: S", "size: M"));
    let text = format!("{:#}", refused.err().context("a wrong size is taken")?);
    ensure!(text.contains("Unsupported value: \"M\""), "{text}");
    cluster.kubectl(&["delete", "crd", "widgets.example.com", "--timeout=30s"])?;
    // kubectl remembers what there was; a cache of its own makes it ask.
    let fresh = format!("--cache-dir={}", cluster.path("fresh-cache").display());
    let unknown = cluster.kubectl_fails(&["get", "widgets", &fresh])?;
    ensure!(unknown.contains("the server doesn't have a resource type \"widgets\""), "{unknown}");
    Ok(())
}

fn bad_input(cluster: &Cluster) -> Result<()> {
    let check = |document: &str, want: &str| -> Result<()> {
        let refused = cluster.kubectl_with(&["create", "--validate=strict", "-f", "-"], document);
        let text = format!("{:#}", refused.err().with_context(|| format!("taken: {document}"))?);
        ensure!(text.contains(want), "{text:?} does not say {want:?}");
        Ok(())
    };
    check("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\nodd: 1\n", "unknown field \"odd\"")?;
    check("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: A}\n", "metadata.name: Invalid value: \"A\"")?;
    check("apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {}\n", "spec.containers: Required value")?;
    check("apiVersion: v1\nkind: Nonsense\nmetadata: {name: a}\n", "no matches for kind \"Nonsense\"")?;
    let missing = cluster.kubectl_fails(&["get", "pod", "absent"])?;
    ensure!(missing.contains("pods \"absent\" not found"), "{missing}");
    let forbidden =
        cluster.kubectl_fails(&["get", "pods", "--token=nonsense", "--client-certificate=/dev/null"]);
    ensure!(forbidden.is_ok(), "a nonsensical token is taken");
    Ok(())
}

fn tokens(cluster: &Cluster) -> Result<()> {
    cluster.kubectl_with(
        &["apply", "-f", "-"],
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: robot}\n",
    )?;
    let token = cluster.kubectl(&["create", "token", "robot"])?;
    let ask = |token: &str| {
        let review = format!(
            "{{\"apiVersion\":\"authentication.k8s.io/v1\",\"kind\":\"TokenReview\",\"spec\":{{\"token\":\"{}\"}}}}",
            token.trim()
        );
        let answer = "jsonpath={.status.authenticated} {.status.user.username}";
        cluster.kubectl_with(&["create", "-o", answer, "-f", "-"], &review)
    };
    let who = ask(&token)?;
    ensure!(who == "true system:serviceaccount:default:robot", "{who}");
    cluster.kubectl(&["delete", "serviceaccount", "robot"])?;
    let who = ask(&token)?;
    // What is not authenticated is not said, as upstream leaves it out.
    ensure!(who.trim().is_empty(), "the token outlives its account: {who}");
    Ok(())
}

fn killed_server(cluster: &Cluster) -> Result<()> {
    let before = cluster.get(&["pods", "-l", "app=hello"])?;
    let status = cluster.status()?;
    let server = status["pids"]["server"].as_u64().context("the server's process id")?;
    ensure!(Command::new("kill").args(["-9", &server.to_string()]).status()?.success(), "kill failed");
    eventually(PATIENCE, || {
        let now = cluster.status()?["pids"]["server"].as_u64();
        ensure!(now.is_some() && now != Some(server), "the server is not back");
        Ok(())
    })?;
    let after = eventually(PATIENCE, || cluster.get(&["pods", "-l", "app=hello"]))?;
    let names = |list: &serde_json::Value| -> Vec<String> {
        let items = list["items"].as_array().cloned().unwrap_or_default();
        items
            .iter()
            .map(|p| {
                format!("{} {}", p["metadata"]["name"], p["status"]["containerStatuses"][0]["restartCount"])
            })
            .collect()
    };
    ensure!(names(&before) == names(&after), "{:?} became {:?}", names(&before), names(&after));
    answers(cluster)
}

fn restart(cluster: &Cluster) -> Result<()> {
    cluster.kubectl_with(
        &["apply", "-f", "-"],
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: kept}\ndata: {a: b}\n",
    )?;
    cluster.xebec(&["down"])?;
    ensure!(cluster.status().is_err(), "the cluster still runs");
    cluster.start()?;
    ensure!(cluster.get(&["configmap", "kept"])?["data"]["a"] == "b", "the object is gone");
    cluster.kubectl(&["rollout", "status", "deployment/hello", "--timeout=60s"])?;
    answers(cluster)
}

fn namespace_goes(cluster: &Cluster) -> Result<()> {
    let objects = "apiVersion: v1\nkind: Namespace\nmetadata: {name: brief}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: brief}\n";
    cluster.kubectl_with(&["apply", "-f", "-"], objects)?;
    cluster.kubectl(&["delete", "namespace", "brief", "--timeout=60s"])?;
    let gone = cluster.kubectl_fails(&["get", "namespace", "brief"])?;
    ensure!(gone.contains("not found"), "{gone}");
    Ok(())
}

fn purge(cluster: &Cluster) -> Result<()> {
    cluster.xebec(&["down", "--purge"])?;
    let left = std::fs::read_dir(cluster.data()).map_or(0, Iterator::count);
    ensure!(left == 0, "{left} entries are left in {}", cluster.data().display());
    let other = cluster.xebec(&["down", "--purge", "--data-dir", "/usr"]);
    let text = format!("{:#}", other.err().context("a directory of somebody else's is purged")?);
    ensure!(text.contains("not a data directory of Xebec"), "{text}");
    Ok(())
}
