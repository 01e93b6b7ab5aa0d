//! API servers behind this one: who answers for a group and version, and what is told of it.

use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, AUTHORIZATION, HeaderName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use xebec_api::{Value, meta, object};
use xebec_server::config::Settings;

use crate::backend::{Backend, GROUP_VERSION, Seen};
use crate::client::{Call, Client, MERGE_PATCH};
use crate::cluster::Cluster;
use crate::proxies::Loopback;
use crate::{Checked, ensure};

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const FLUNDERS: &str = "/apis/wardle.example.com/v1alpha1/namespaces/default/flunders";
const NAME: &str = "v1alpha1.wardle.example.com";
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

async fn cluster() -> Cluster {
    Cluster::start_among(Settings::default(), Arc::new(Loopback)).await
}

async fn backend(cluster: &Cluster, is_modern: bool) -> Backend {
    Backend::start(cluster.keys.front_proxy_ca_pem(), is_modern).await
}

fn api_service(bundle: &str) -> Value {
    object!({
        "metadata": {"name": NAME},
        "spec": {
            "group": "wardle.example.com", "version": "v1alpha1", "caBundle": bundle,
            "groupPriorityMinimum": 2000, "versionPriority": 200,
            "service": {"namespace": "default", "name": "sample-api", "port": 7443}
        }
    })
}

/// The service that the API service leads to, with an endpoint.
async fn serve(admin: &Client, port: u16) -> Checked {
    let service = object!({"metadata": {"name": "sample-api"}, "spec": {"ports": [{"port": 7443}]}});
    admin.send(Call::post("/api/v1/namespaces/default/services", &service)).await.expect(201)?;
    let slice = object!({
        "metadata": {"name": "sample-api-1", "labels": {"kubernetes.io/service-name": "sample-api"}},
        "addressType": "IPv4", "ports": [{"name": "", "port": (i64::from(port))}],
        "endpoints": [{"addresses": ["10.42.0.7"], "conditions": {"ready": true}}]
    });
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    admin.send(Call::post(slices, &slice)).await.expect(201).map(drop)
}

/// Waits until the API service says so of its availability.
async fn told(admin: &Client, status: &str, reason: &str) -> Checked<Value> {
    let mut last = Value::Null;
    let waiting = async {
        loop {
            let found = admin.get(&format!("{SERVICES}/{NAME}/status")).await.expect(200)?;
            let mut conditions = found.array_at(&["status", "conditions"]).iter();
            last = conditions.find(|c| c.str_at(&["type"]) == Some("Available")).cloned().unwrap_or_default();
            if last.str_at(&["status"]) == Some(status) && last.str_at(&["reason"]) == Some(reason) {
                return Ok(last.clone());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(15), waiting).await.unwrap_or_else(|_| Err(format!("{last:?}")))
}

/// Waits until `holds`.
async fn until<F: Future<Output = Checked<bool>>>(what: &str, holds: impl Fn() -> F) -> Checked {
    for _ in 0..2_000 {
        if holds().await? {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Err(format!("never: {what}"))
}

fn flunder(name: &str) -> Value {
    object!({"apiVersion": GROUP_VERSION, "kind": "Flunder", "metadata": {"name": name}})
}

fn header(seen: &Seen, name: &str) -> Vec<String> {
    seen.headers.get_all(name).iter().map(|v| String::from_utf8_lossy(v.as_bytes()).into_owned()).collect()
}

#[tokio::test]
async fn requests_are_passed_on_with_who_asks() -> Checked {
    let cluster = cluster().await;
    let admin = cluster.admin().await;
    let server = backend(&cluster, true).await;
    serve(&admin, server.address.port()).await?;
    let made = admin.send(Call::post(SERVICES, &api_service(&server.bundle))).await;
    ensure!(made.warnings().is_empty(), "{:?}", made.warnings());
    made.expect(201)?;
    let available = told(&admin, "True", "Passed").await?;
    assert_eq!(available.str_at(&["message"]), Some("all checks passed"));
    assert!(available.str_at(&["lastTransitionTime"]).is_some());

    let call = Call::post(FLUNDERS, &flunder("a"))
        .header(HeaderName::from_static("x-remote-user"), "somebody-else")
        .header(HeaderName::from_static("x-remote-extra-a"), "b");
    let made = admin.send(call).await;
    let id = made.headers.get("audit-id").cloned();
    assert_eq!(meta::uid(&made.expect(201)?), "made-elsewhere");
    let seen = server.seen(FLUNDERS).pop().ok_or("the server was asked")?;
    assert_eq!(header(&seen, "x-remote-user"), ["admin"]);
    assert_eq!(header(&seen, "x-remote-group"), ["system:masters", "system:authenticated"]);
    assert_eq!(header(&seen, "x-remote-extra-a"), Vec::<String>::new());
    assert_eq!(seen.headers.get("audit-id"), id.as_ref());
    assert_eq!(admin.get(FLUNDERS).await.expect(200)?.array_at(&["items"]).len(), 1);
    let mut watch = admin.watch(&format!("{FLUNDERS}?watch=true")).await?;
    let event = watch.next().await?.ok_or("an event")?;
    assert_eq!(event.str_at(&["object", "metadata", "name"]), Some("a"));
    admin.send(Call::delete(format!("{FLUNDERS}/a"))).await.expect(200)?;
    assert_eq!(admin.get(FLUNDERS).await.expect(200)?.array_at(&["items"]).len(), 0);

    let stranger = cluster.user("stranger", None).await;
    let before = server.seen(FLUNDERS).len();
    stranger.get(FLUNDERS).await.refused(403, "Forbidden")?;
    assert_eq!(server.seen(FLUNDERS).len(), before, "who may not is not passed on");
    let call = Call::get(FLUNDERS)
        .header(HeaderName::from_static("impersonate-user"), "jane")
        .header(HeaderName::from_static("impersonate-group"), "system:masters");
    admin.send(call).await.expect(200)?;
    let seen = server.seen(FLUNDERS).pop().ok_or("the server was asked")?;
    assert_eq!(header(&seen, "x-remote-user"), ["jane"]);
    assert!(seen.headers.get("impersonate-user").is_none() && seen.headers.get(AUTHORIZATION).is_none());
    assert_eq!(admin.get("/apis/wardle.example.com/v1alpha1/nothing").await.text(), "404 page not found\n");

    admin.send(Call::delete(format!("{SERVICES}/{NAME}"))).await.expect(200)?;
    admin.get(FLUNDERS).await.expect(404).map(drop)
}

#[tokio::test]
async fn upgrades_are_passed_on() -> Checked {
    let cluster = cluster().await;
    let admin = cluster.admin().await;
    let server = backend(&cluster, true).await;
    serve(&admin, server.address.port()).await?;
    admin.send(Call::post(SERVICES, &api_service(&server.bundle))).await.expect(201)?;
    told(&admin, "True", "Passed").await?;
    let path = format!("{FLUNDERS}/a/exec?command=x");
    let mut stream = cluster.upgrade("echo", &path).await?;
    stream.write_all(b"there and back").await.map_err(|e| e.to_string())?;
    let mut back = [0; 14];
    stream.read_exact(&mut back).await.map_err(|e| e.to_string())?;
    assert_eq!(&back, b"there and back");
    let seen = server.seen(&path).pop().ok_or("the server was asked")?;
    assert_eq!(header(&seen, "x-remote-user"), ["admin"]);
    assert_eq!(header(&seen, "upgrade"), ["echo"]);
    Ok(())
}

#[tokio::test]
async fn what_is_told_of_others_resources() -> Checked {
    for is_modern in [true, false] {
        let cluster = cluster().await;
        let admin = cluster.admin().await;
        let server = backend(&cluster, is_modern).await;
        serve(&admin, server.address.port()).await?;
        admin.send(Call::post(SERVICES, &api_service(&server.bundle))).await.expect(201)?;
        told(&admin, "True", "Passed").await?;
        let all = admin.send(Call::get("/apis").header(ACCEPT, AGGREGATED)).await.expect(200)?;
        let groups = all.array_at(&["items"]);
        let name = |group: &&Value| group.str_at(&["metadata", "name"]) == Some("wardle.example.com");
        let version =
            groups.iter().find(name).ok_or("the group is there")?.array_at(&["versions"])[0].clone();
        assert_eq!(version.str_at(&["freshness"]), Some("Current"));
        let resource = &version.array_at(&["resources"])[0];
        assert_eq!(resource.str_at(&["resource"]), Some("flunders"));
        assert_eq!(resource.str_at(&["responseKind", "kind"]), Some("Flunder"));
        let group = admin.get("/apis/wardle.example.com").await.expect(200)?;
        assert_eq!(group.str_at(&["preferredVersion", "groupVersion"]), Some(GROUP_VERSION));
        let listed = admin.get(&format!("/apis/{GROUP_VERSION}")).await.expect(200)?;
        assert_eq!(listed.array_at(&["resources"])[0].str_at(&["name"]), Some("flunders"));
        let swagger = admin.get("/openapi/v2").await.expect(200)?;
        let names = ["Flunder", "Spec", "Unused"].map(|name| format!("com.example.wardle.{name}"));
        let is_there = names.each_ref().map(|name| swagger.at(&["definitions", name]).is_some());
        assert_eq!(is_there, [true, true, false]);
        let paths = [FLUNDERS, "/other/", "/api/v1/pods"].map(|path| swagger.at(&["paths", path]).is_some());
        assert_eq!(paths, [true, false, true]);
        let protobuf = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
        let protobuf = admin.send(Call::get("/openapi/v2").accept(protobuf)).await;
        let name = names[0].as_bytes();
        assert!(protobuf.body.windows(name.len()).any(|window| window == name), "{}", protobuf.code);
        let index = admin.get("/openapi/v3").await.expect(200)?;
        let url = index.str_at(&["paths", &format!("apis/{GROUP_VERSION}"), "serverRelativeURL"]);
        assert_eq!(url.is_some(), is_modern, "who has no version 3 is not told of");
        if let Some(url) = url {
            let document = admin.get(url).await.expect(200)?;
            assert_eq!(document.str_at(&["info", "title"]), Some("wardle"));
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_not_there_is_called_so() -> Checked {
    let cluster = cluster().await;
    let admin = cluster.admin().await;
    admin.send(Call::post(SERVICES, &api_service(""))).await.expect(201)?;
    let condition = told(&admin, "False", "ServiceNotFound").await?;
    assert_eq!(condition.str_at(&["message"]), Some(r#"service/sample-api in "default" is not present"#));
    let answer = admin.get(FLUNDERS).await;
    assert_eq!((answer.code, answer.text().as_str()), (503, "service unavailable\n"));
    let all = admin.send(Call::get("/apis").header(ACCEPT, AGGREGATED)).await.expect(200)?;
    let stale = all.array_at(&["items"]).iter().flat_map(|group| group.array_at(&["versions"]));
    assert_eq!(stale.filter(|v| v.str_at(&["freshness"]) == Some("Stale")).count(), 1);
    // Nobody listens at the endpoint, and then somebody does whose certificate is of another authority.
    serve(&admin, 1).await?;
    let condition = told(&admin, "False", "FailedDiscoveryCheck").await?;
    let message = condition.str_at(&["message"]).unwrap_or_default();
    let url = "https://10.42.0.7:1/apis/wardle.example.com/v1alpha1";
    assert!(message.starts_with(&format!("failing or missing response from {url}: ")), "{message}");
    let server = backend(&cluster, true).await;
    let slice = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/sample-api-1";
    let port = object!({"ports": [{"name": "", "port": (i64::from(server.address.port()))}]});
    admin.send(Call::patch(slice, MERGE_PATCH, &port)).await.expect(200)?;
    until("the certificate is refused", async || {
        let condition = told(&admin, "False", "FailedDiscoveryCheck").await?;
        Ok(condition.str_at(&["message"]).is_some_and(|text| text.contains("certificate")))
    })
    .await?;
    let bundle = object!({"spec": {"caBundle": (server.bundle.as_str())}});
    admin.send(Call::patch(format!("{SERVICES}/{NAME}"), MERGE_PATCH, &bundle)).await.expect(200)?;
    told(&admin, "True", "Passed").await?;
    admin.get(FLUNDERS).await.expect(200).map(drop)
}

fn definition(group: &str) -> Value {
    object!({
        "metadata": {"name": (format!("flunders.{group}"))},
        "spec": {
            "group": group, "scope": "Namespaced",
            "names": {"plural": "flunders", "singular": "flunder", "kind": "Flunder"},
            "versions": [{
                "name": "v1alpha1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object"}}
            }]
        }
    })
}

#[tokio::test]
async fn what_is_served_here_has_api_services() -> Checked {
    let cluster = cluster().await;
    let admin = cluster.admin().await;
    let all = admin.get(SERVICES).await.expect(200)?;
    let named = |name: &str| all.array_at(&["items"]).iter().find(|item| meta::name(item) == name).cloned();
    let core = named("v1.").ok_or("the core group is there")?;
    assert_eq!(core.i64_at(&["spec", "groupPriorityMinimum"]), Some(18_000));
    let condition = &core.array_at(&["status", "conditions"])[0];
    assert_eq!(condition.str_at(&["reason"]), Some("Local"));
    assert!(condition.str_at(&["lastTransitionTime"]).is_some());
    let label = ["metadata", "labels", "kube-aggregator.kubernetes.io/automanaged"];
    assert_eq!(core.str_at(&label), Some("onstart"));
    assert!(named("v2.autoscaling").is_some() && named("v1.apiregistration.k8s.io").is_none());

    let is_there = async |code: u16| Ok(admin.get(&format!("{SERVICES}/{NAME}")).await.code == code);
    admin.send(Call::post(DEFINITIONS, &definition("wardle.example.com"))).await.expect(201)?;
    until("the definition's API service is there", || is_there(200)).await?;
    let path = format!("{SERVICES}/{NAME}");
    let spec = object!({"spec": {"versionPriority": 7}});
    admin.send(Call::patch(&*path, MERGE_PATCH, &spec)).await.expect(200)?;
    until("it is put back", async || {
        let found = admin.get(&path).await.expect(200)?;
        Ok(found.i64_at(&["spec", "versionPriority"]) == Some(100))
    })
    .await?;
    admin.send(Call::delete(&*path)).await.expect(200)?;
    until("it is made again", || is_there(200)).await?;
    let definition = format!("{DEFINITIONS}/flunders.wardle.example.com");
    let free = object!({"metadata": {"finalizers": null}});
    admin.send(Call::delete(&*definition)).await.expect(200)?;
    admin.send(Call::patch(&*definition, MERGE_PATCH, &free)).await.expect(200)?;
    until("it goes with the definition", || is_there(404)).await
}

#[tokio::test]
async fn somebody_elses_api_service_takes_a_custom_resources_group() -> Checked {
    let cluster = cluster().await;
    let admin = cluster.admin().await;
    let server = backend(&cluster, true).await;
    serve(&admin, server.address.port()).await?;
    admin.send(Call::post(SERVICES, &api_service(&server.bundle))).await.expect(201)?;
    told(&admin, "True", "Passed").await?;
    admin.send(Call::post(DEFINITIONS, &definition("wardle.example.com"))).await.expect(201)?;
    assert_eq!(
        meta::uid(&admin.send(Call::post(FLUNDERS, &flunder("a"))).await.expect(201)?),
        "made-elsewhere"
    );
    admin.send(Call::delete(format!("{SERVICES}/{NAME}"))).await.expect(200)?;
    assert_eq!(admin.get(FLUNDERS).await.expect(200)?.array_at(&["items"]).len(), 0, "the definition's own");
    // This group cannot be given away: nobody could take it back.
    let mut own = api_service(&server.bundle);
    own.set(&["metadata", "name"], "v1.apiregistration.k8s.io");
    own.set(&["spec", "group"], "apiregistration.k8s.io");
    own.set(&["spec", "version"], "v1");
    admin.send(Call::post(SERVICES, &own)).await.expect(201)?;
    admin.get(SERVICES).await.expect(200).map(drop)
}

#[tokio::test]
async fn groups_are_in_the_order_of_their_priorities() -> Checked {
    let cluster = cluster().await;
    let admin = cluster.admin().await;
    for (group, priority) in [("first.example.com", 19_000), ("last.example.com", 1)] {
        let mut service = api_service("");
        service.set(&["metadata", "name"], format!("v1alpha1.{group}"));
        service.set(&["spec", "group"], group);
        service.set(&["spec", "groupPriorityMinimum"], priority);
        admin.send(Call::post(SERVICES, &service)).await.expect(201)?;
    }
    admin.send(Call::post(DEFINITIONS, &definition("middle.example.com"))).await.expect(201)?;
    let listed = admin.get("/apis").await.expect(200)?;
    let names: Vec<&str> =
        listed.array_at(&["groups"]).iter().filter_map(|group| group.str_at(&["name"])).collect();
    assert_eq!(&names[..4], ["apiregistration.k8s.io", "first.example.com", "apps", "events.k8s.io"]);
    assert_eq!(&names[names.len() - 2..], ["middle.example.com", "last.example.com"]);
    Ok(())
}

#[tokio::test]
async fn servers_are_told_whom_to_believe() -> Checked {
    let cluster = cluster().await;
    let admin = cluster.admin().await;
    let path = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
    let found = admin.get(path).await.expect(200)?;
    let entry = |key: &str| found.str_at(&["data", key]).unwrap_or_default().to_owned();
    assert_eq!(entry("client-ca-file"), cluster.keys.ca_pem());
    assert_eq!(entry("requestheader-client-ca-file"), cluster.keys.front_proxy_ca_pem());
    assert_ne!(entry("client-ca-file"), entry("requestheader-client-ca-file"));
    assert_eq!(entry("requestheader-allowed-names"), r#"["front-proxy-client"]"#);
    assert_eq!(entry("requestheader-username-headers"), r#"["X-Remote-User"]"#);
    Ok(())
}
