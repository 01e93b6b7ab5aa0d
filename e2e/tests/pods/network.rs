//! Names and addresses inside pods.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use xebec_e2e::{Case, Cluster, PATIENCE, eventually};

use crate::{create, field, object, output_of, ready, shell};

pub(crate) const CASES: [Case; 2] =
    [("services are found by name and address", services), ("a pod's own names", own_names)];

fn service(name: &str, more: Value) -> Value {
    let spec = crate::merge(
        json!({"selector": {"case": "server"}, "ports": [{"name": "web", "port": 80, "targetPort": 8080}]}),
        more,
    );
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
}

fn services(cluster: &Cluster) -> Result<()> {
    object(cluster, &service("web", json!({})))?;
    object(cluster, &service("headless", json!({"clusterIP": "None"})))?;
    let serve = "echo welcome > /www/x; exec httpd -f -p 8080 -h /www";
    create(
        cluster,
        "server",
        json!({
            "hostname": "first", "subdomain": "headless", "containers": [shell(serve, json!({}))],
        }),
    )?;
    create(cluster, "client", json!({"containers": [shell("sleep 1000", json!({}))]}))?;
    ready(cluster, "server")?;
    ready(cluster, "client")?;
    let address = cluster.kubectl(&["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"])?;
    let pod = cluster.kubectl(&["get", "pod", "server", "-o", "jsonpath={.status.podIP}"])?;
    let check = |script: &str, want: &str| -> Result<()> {
        eventually(PATIENCE, || {
            let text = cluster.kubectl(&["exec", "client", "--", "sh", "-c", script])?;
            ensure!(text.contains(want), "{script}: {text:?} has no {want:?}");
            Ok(())
        })
    };
    check(&format!("wget -q -O - http://{address}/x"), "welcome")?;
    check("wget -q -O - http://web/x", "welcome")?;
    check("wget -q -O - http://web.default/x", "welcome")?;
    check("wget -q -O - http://web.default.svc.cluster.local/x", "welcome")?;
    check("wget -q -O - http://headless:8080/x", "welcome")?;
    check("nslookup web.default.svc.cluster.local", &address)?;
    check("nslookup first.headless.default.svc.cluster.local", &pod)?;
    check("nslookup kubernetes.default.svc.cluster.local", "10.43.0.1")?;
    check("nslookup absent.default.svc.cluster.local 2>&1; true", "NXDOMAIN")?;
    for place in ["services/web:web", "services/web:80", "services/headless:web", "pods/server:8080"] {
        let text =
            cluster.kubectl(&["get", "--raw", &format!("/api/v1/namespaces/default/{place}/proxy/x")])?;
        ensure!(text == "welcome\n", "the proxy of {place} says {text:?}");
    }
    let own = cluster.kubectl(&[
        "exec",
        "server",
        "--",
        "sh",
        "-c",
        "hostname; hostname -f; wget -q -O - http://web/x",
    ])?;
    ensure!(own == "first\nfirst.headless.default.svc.cluster.local\nwelcome\n", "{own:?}");
    Ok(())
}

fn own_names(cluster: &Cluster) -> Result<()> {
    let text = output_of(
        cluster,
        "own-names",
        json!({
            "hostname": "myself",
            "hostAliases": [{"ip": "10.1.2.3", "hostnames": ["far", "away"]}],
            "dnsConfig": {"options": [{"name": "ndots", "value": "2"}], "searches": ["more.example"]},
            "containers": [shell("cat /etc/hostname; hostname; grep 10.1.2.3 /etc/hosts; grep -c myself /etc/hosts; cat /etc/resolv.conf", json!({}))],
        }),
    )?;
    let want = "myself\nmyself\n10.1.2.3\tfar\taway\n1\nnameserver 10.43.0.10\n\
                search default.svc.cluster.local svc.cluster.local cluster.local more.example\noptions ndots:2\n";
    ensure!(text == want, "{text:?}");
    create(cluster, "plain-name", json!({"containers": [shell("hostname", json!({}))]}))?;
    field(cluster, "plain-name", ".status.phase", "Succeeded")?;
    ensure!(cluster.kubectl(&["logs", "plain-name"])? == "plain-name\n", "another host name");
    Ok(())
}
