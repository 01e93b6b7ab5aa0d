//! Two servers on one etcd: each answers as if it were the only one.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use xebec_api::{Value, meta, object};
use xebec_server::config::Settings;
use xebec_store::contract::EtcdProcess;
use xebec_store::limits::Limits;
use xebec_store::{Etcd, EtcdOptions, Health, Store};

use crate::client::{Call, Client, MERGE_PATCH};
use crate::cluster::Cluster;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PATIENCE: Duration = Duration::from_secs(60);

struct Pair {
    etcd: EtcdProcess,
    servers: [Cluster; 2],
    clients: [Client; 2],
}

async fn store(etcd: &EtcdProcess) -> Arc<dyn Store> {
    let options = EtcdOptions {
        address: etcd.address().parse().expect("an address"),
        tls: None,
        limits: Limits::default(),
        encryption: None,
        identity: Vec::new(),
        patience: PATIENCE,
    };
    Arc::new(Etcd::open(options).await.expect("open"))
}

async fn start() -> Pair {
    let etcd = EtcdProcess::start();
    let directories = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let (one, two) = (directories[0].path().join("pki"), directories[1].path().join("pki"));
    let [first, second] = directories;
    let first = Cluster::start_on(store(&etcd).await, first, Settings::default()).await;
    fs::create_dir(&two).expect("a directory");
    for entry in fs::read_dir(one).expect("keys") {
        let path = entry.expect("a key").path();
        fs::copy(&path, two.join(path.file_name().expect("a name"))).expect("copied");
    }
    let second = Cluster::start_on(store(&etcd).await, second, Settings::default()).await;
    let clients = [first.admin().await, second.admin().await];
    Pair { etcd, servers: [first, second], clients }
}

fn map(name: &str, text: &str) -> Value {
    object!({"metadata": {"name": name}, "data": {"text": text}})
}

/// What one server has acknowledged, the other shows, changes and deletes at once.
#[tokio::test]
async fn what_one_writes_the_other_has() {
    let pair = start().await;
    for round in 0..40 {
        let [one, two] = [&pair.clients[round % 2], &pair.clients[(round + 1) % 2]];
        let name = format!("m{round}");
        let path = format!("{MAPS}/{name}");
        let made = one.send(Call::post(MAPS, &map(&name, "one"))).await.expect(201).expect("made");
        let read = two.get(&path).await.expect(200).expect("it is there");
        assert_eq!(meta::resource_version(&read), meta::resource_version(&made));
        let changed = object!({"data": {"text": "two"}});
        let changed = one.send(Call::patch(&path, MERGE_PATCH, &changed)).await.expect(200).expect("changed");
        // By version, which the other has to know of.
        let mut replaced = changed.clone();
        replaced.set(&["data", "text"], "three");
        let replaced = two.send(Call::put(&path, &replaced)).await.expect(200).expect("replaced");
        // Back to what the first has seen last, which is no change only to who is behind.
        let back = object!({"data": {"text": "two"}});
        let back = one.send(Call::patch(&path, MERGE_PATCH, &back)).await.expect(200).expect("changed back");
        assert_ne!(meta::resource_version(&back), meta::resource_version(&replaced));
        assert_eq!(back.str_at(&["data", "text"]), Some("two"));
        let list = two.get(MAPS).await.expect(200).expect("a list");
        let listed = list.array_at(&["items"]).iter().find(|item| meta::name(item) == name).expect("listed");
        assert_eq!(listed.str_at(&["data", "text"]), Some("two"));
        two.send(Call::delete(&path)).await.expect(200).expect("deleted");
        one.get(&path).await.refused(404, "NotFound").expect("gone");
        let again = one.send(Call::post(MAPS, &map(&name, "again"))).await.expect(201).expect("made again");
        two.send(Call::post(MAPS, &map(&name, "twice"))).await.refused(409, "AlreadyExists").expect("taken");
        assert_ne!(meta::uid(&again), meta::uid(&made));
    }
}

/// A namespace that was made elsewhere takes objects; one that goes elsewhere does not.
#[tokio::test]
async fn decisions_rest_on_what_others_wrote() {
    let pair = start().await;
    for round in 0..20 {
        let [one, two] = [&pair.clients[round % 2], &pair.clients[(round + 1) % 2]];
        let name = format!("n{round}");
        let namespace = object!({"metadata": {"name": (name.as_str())}});
        one.send(Call::post("/api/v1/namespaces", &namespace)).await.expect(201).expect("made");
        let maps = format!("/api/v1/namespaces/{name}/configmaps");
        two.send(Call::post(&maps, &map("a", ""))).await.expect(201).expect("it is there");
        let stale = object!({"metadata": {"name": "a", "resourceVersion": "1"}});
        two.send(Call::put(format!("{maps}/a"), &stale)).await.refused(409, "Conflict").expect("too old");
    }
}

/// Pages and watches go on at another server.
#[tokio::test]
async fn what_one_began_the_other_goes_on_with() {
    let pair = start().await;
    let [one, two] = &pair.clients;
    let mut last = Value::Null;
    for number in 0..5 {
        let made = one.send(Call::post(MAPS, &map(&format!("m{number}"), ""))).await;
        last = made.expect(201).expect("made");
    }
    let page = one.get(&format!("{MAPS}?limit=2")).await.expect(200).expect("a page");
    let token = page.str_at(&["metadata", "continue"]).expect("there is more");
    let rest = two.get(&format!("{MAPS}?limit=10&continue={token}")).await.expect(200).expect("the rest");
    assert_eq!(rest.array_at(&["items"]).len(), 3);
    let version = meta::resource_version(&last);
    let exact = format!("{MAPS}?resourceVersion={version}&resourceVersionMatch=Exact");
    let exact = two.get(&exact).await.expect(200).expect("that state");
    assert_eq!(exact.str_at(&["metadata", "resourceVersion"]), Some(version));
    let mut watch =
        two.watch(&format!("{MAPS}?watch=true&resourceVersion={version}")).await.expect("a watch");
    let more = one.send(Call::post(MAPS, &map("more", ""))).await.expect(201).expect("made");
    let event = watch.next().await.expect("alive").expect("an event");
    assert_eq!(event.str_at(&["type"]), Some("ADDED"));
    assert_eq!(event.str_at(&["object", "metadata", "uid"]), Some(meta::uid(&more)));
}

/// A definition that one server takes is served by the other.
#[tokio::test]
async fn definitions_are_followed() {
    let pair = start().await;
    let [one, two] = &pair.clients;
    let definition = object!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "gadgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "gadgets", "singular": "gadget", "kind": "Gadget", "listKind": "GadgetList"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}
            }]
        }
    });
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    one.send(Call::post(path, &definition)).await.expect(201).expect("taken");
    let gadgets = "/apis/example.com/v1/namespaces/default/gadgets";
    let gadget = object!({"apiVersion": "example.com/v1", "kind": "Gadget", "metadata": {"name": "a"}});
    one.send(Call::post(gadgets, &gadget)).await.expect(201).expect("made");
    let served = async {
        while two.get(gadgets).await.expect(200).is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, served).await.expect("the other serves it");
    let list = two.get(gadgets).await.expect(200).expect("a list");
    assert_eq!(list.array_at(&["items"]).len(), 1);
}

/// Without etcd, what is known can be read by those who do not ask for the newest, and everybody else is told.
#[tokio::test]
async fn a_lost_etcd_is_told_of() {
    let mut pair = start().await;
    let [one, _] = &pair.clients;
    one.send(Call::post(MAPS, &map("a", ""))).await.expect(201).expect("made");
    pair.etcd.kill();
    let store = pair.servers[0].server.core().store.clone();
    let noticed = async {
        while matches!(store.health(), Health::Writable) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, noticed).await.expect("the loss is noticed");
    one.get(&format!("{MAPS}?resourceVersion=0")).await.expect(200).expect("what is known");
    one.get(MAPS).await.refused(503, "ServiceUnavailable").expect("not the newest");
    let text = one.send(Call::post(MAPS, &map("b", ""))).await.refused(503, "ServiceUnavailable");
    assert!(text.as_ref().is_ok_and(|text| text.contains("etcd cannot be reached")), "{text:?}");
    assert!(one.get("/readyz").await.text().contains("[-]etcd failed"));
    assert_eq!(one.get("/livez").await.text(), "ok");
    pair.etcd.restart();
    let back = async {
        while one.send(Call::post(MAPS, &map("b", ""))).await.expect(201).is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, back).await.expect("writing resumes");
    one.get(MAPS).await.expect(200).expect("the newest");
}
