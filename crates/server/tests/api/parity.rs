//! Every row of the resource table, and a custom resource, does the same: what one can be asked, all can be asked.
//!
//! Rows walk side by side. On a row each step is a function that asks for one thing and begins where the last one ended:
//! the object `a` is made, read, changed in every way and deleted; `b` comes by server-side apply, `c` as protobuf, and
//! both go as a collection. A watch from before the first step must have seen all of it.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::future::join_all;
use http::Method;
use xebec_api::kinds::{self, Kind};
use xebec_api::patch::merge;
use xebec_api::{Value, json, meta, object, protobuf};

use crate::client::{
    APPLY_PATCH, Answer, Call, Client, JSON, JSON_PATCH, MERGE_PATCH, PROTOBUF, STRATEGIC_PATCH, Watch, YAML,
};
use crate::cluster::Cluster;
use crate::samples::{ANSWERED, DEFINITION, SETTLED, STORED, Sample};
use crate::{Checked, ensure};

const NAMESPACE: &str = "parity";
/// The group versions and resources of Kubernetes 1.36.
const BUILT_IN: usize = 68;
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
const METADATA: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
const VERBS: [&str; 8] = ["create", "get", "list", "watch", "update", "patch", "delete", "deletecollection"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_row_does_the_same() {
    let cluster = Cluster::start().await;
    let client = cluster.admin().await;
    prepare(&client).await;
    let rows = discovered(&client).await;
    let built_in = rows.iter().filter(|row| !row.custom).count();
    assert_eq!((built_in, rows.len()), (BUILT_IN, BUILT_IN + 1), "rows that discovery shows");
    let named = |row: &Row| (row.api_version.clone(), row.resource.clone());
    let walked = STORED.iter().chain(ANSWERED).map(|s| (s.api_version.to_owned(), s.resource.to_owned()));
    assert_eq!(rows.iter().map(named).collect::<BTreeSet<_>>(), walked.collect(), "rows that have a sample");
    assert_eq!(table_rows(), rows.iter().filter(|row| !row.custom).map(named).collect(), "rows of the table");

    let find = |sample: &Sample| {
        let mut rows = rows.iter();
        rows.find(|row| row.api_version == sample.api_version && row.resource == sample.resource)
    };
    let walks = STORED.iter().enumerate().map(|(number, sample)| {
        let walk =
            Walk { client: &client, row: find(sample).expect("a row for each sample"), sample, number };
        async move { walk.stored().await.map_err(|why| walk.failure(&why)) }
    });
    let answers = ANSWERED.iter().map(|sample| {
        let row = find(sample).expect("a row for each sample");
        let walk = Walk { client: &client, row, sample, number: 0 };
        async move { walk.answered().await.map_err(|why| walk.failure(&why)) }
    });
    let (walks, answers) = tokio::join!(join_all(walks), join_all(answers));
    let failures: Vec<String> = walks.into_iter().chain(answers).filter_map(Result::err).collect();
    assert!(failures.is_empty(), "{} rows fail:\n{}", failures.len(), failures.join("\n"));
}

/// What the samples need: a namespace with the account of its pods, a pod to bind, and the custom resource.
async fn prepare(client: &Client) {
    let in_namespace = |resource: &str| format!("/api/v1/namespaces/{NAMESPACE}/{resource}");
    let pod = "{metadata: {name: bound}, spec: {containers: [{name: a, image: a}]}}";
    for (path, text) in [
        ("/api/v1/namespaces".to_owned(), format!("{{metadata: {{name: {NAMESPACE}}}}}")),
        (in_namespace("serviceaccounts"), "{metadata: {name: default}}".to_owned()),
        (in_namespace("pods"), pod.to_owned()),
        ("/apis/apiextensions.k8s.io/v1/customresourcedefinitions".to_owned(), DEFINITION.to_owned()),
    ] {
        let answer = client.send(Call::new(Method::POST, path).body(YAML, text)).await;
        assert_eq!(answer.code, 201, "{}", answer.text());
    }
}

/// A resource as discovery shows it.
struct Row {
    api_version: String,
    resource: String,
    kind: String,
    namespaced: bool,
    verbs: BTreeSet<String>,
    custom: bool,
    status: bool,
}

async fn discovered(client: &Client) -> Vec<Row> {
    let groups = client.get("/apis").await.json();
    let versions = groups.array_at(&["groups"]).iter().flat_map(|group| group.array_at(&["versions"]));
    let mut api_versions: Vec<String> =
        versions.filter_map(|version| version.str_at(&["groupVersion"]).map(str::to_owned)).collect();
    api_versions.push("v1".to_owned());
    let mut rows = Vec::new();
    for api_version in api_versions {
        let list = client.get(&root(&api_version)).await.json();
        let text = |resource: &Value, field: &str| resource.str_at(&[field]).unwrap_or_default().to_owned();
        let names: BTreeSet<String> = list.array_at(&["resources"]).iter().map(|r| text(r, "name")).collect();
        let resources = list.array_at(&["resources"]).iter().filter(|r| !text(r, "name").contains('/'));
        rows.extend(resources.map(|resource| Row {
            api_version: api_version.clone(),
            resource: text(resource, "name"),
            kind: text(resource, "kind"),
            namespaced: resource.bool_at(&["namespaced"]) == Some(true),
            verbs:
                resource.array_at(&["verbs"]).iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            custom: api_version.contains("parity"),
            status: names.contains(&format!("{}/status", text(resource, "name"))),
        }));
    }
    rows
}

/// The rows that the code generator made, one for each version.
fn table_rows() -> BTreeSet<(String, String)> {
    let rows = xebec_api::builtin::resources();
    let each = rows.iter().flat_map(|row| {
        let resource = row.names.plural.to_string();
        row.versions.iter().map(move |version| (row.api_version(&version.name), resource.clone()))
    });
    each.collect()
}

fn root(api_version: &str) -> String {
    if api_version.contains('/') { format!("/apis/{api_version}") } else { format!("/api/{api_version}") }
}

/// One row, and the object that walks it.
struct Walk<'a> {
    client: &'a Client,
    row: &'a Row,
    sample: &'a Sample,
    /// Tells the walk's objects from those of another that sees the same ones, as the two kinds of events do.
    number: usize,
}

macro_rules! in_turn {
    ($walk:ident: $($step:ident),+) => {{
        $($step($walk).await.map_err(|why| format!("{}: {why}", stringify!($step)))?;)+
        Ok(())
    }};
}

impl Walk<'_> {
    async fn stored(&self) -> Checked {
        let mut watch = open_watch(self).await?;
        let walk = self;
        let walked: Checked = in_turn!(walk:
            dry_run, create, get, list, update, json_patch, merge_patch, strategic_patch, server_side_apply,
            forms, encodings, status, change, delete, delete_collection, verbs_of_discovery
        );
        walked?;
        saw_everything(self, &mut watch).await.map_err(|why| format!("watch: {why}"))
    }

    async fn answered(&self) -> Checked {
        let walk = self;
        in_turn!(walk: answer, verbs_of_discovery)
    }

    fn failure(&self, why: &str) -> String {
        format!("{} {}: {why}", self.row.api_version, self.row.resource)
    }

    /// The sample number `n`, 1 for `a`.
    fn object(&self, n: u8) -> Value {
        let mut object = filled_in(self.sample.object, n);
        object.set(&["apiVersion"], self.row.api_version.as_str());
        object.set(&["kind"], self.row.kind.as_str());
        if !self.row.verbs.contains("get") {
            return object;
        }
        object.set(&["metadata", "labels", "walk"], self.number.to_string());
        object
    }

    fn collection(&self) -> String {
        let root = root(&self.row.api_version);
        let resource = &self.row.resource;
        if self.row.namespaced {
            format!("{root}/namespaces/{NAMESPACE}/{resource}")
        } else {
            format!("{root}/{resource}")
        }
    }

    /// The collection, of which only the walk's objects.
    fn own(&self) -> String {
        format!("{}?labelSelector=walk%3D{}", self.collection(), self.number)
    }

    fn path(&self, n: u8) -> String {
        let object = self.object(n);
        let name = if meta::name(&object).is_empty() { "a" } else { meta::name(&object) };
        format!("{}/{name}", self.collection())
    }

    /// The object `a` as it is now.
    async fn current(&self) -> Checked<Value> {
        self.client.get(&self.path(1)).await.expect(200)
    }

    async fn patched(&self, kind: &str, patch: &Value) -> Checked<Value> {
        self.client.send(Call::patch(self.path(1), kind, patch)).await.expect(200)
    }

    fn group(&self) -> &str {
        self.row.api_version.split_once('/').map_or("", |(group, _)| group)
    }

    fn kind(&self) -> &'static Kind {
        kinds::of(self.group(), &self.row.resource)
    }
}

/// The object or patch that a sample's text is for object number `n`.
fn filled_in(text: &str, n: u8) -> Value {
    let id = char::from(b'a' + n - 1).to_string();
    let text = text.replace("$ID", &id).replace("$NS", NAMESPACE).replace("$N", &n.to_string());
    let text = if text.contains("$CSR") { text.replace("$CSR", signing_request()) } else { text };
    serde_saphyr::from_str(&text).expect("samples are YAML")
}

fn signing_request() -> &'static str {
    static REQUEST: LazyLock<String> = LazyLock::new(make_signing_request);
    &REQUEST
}

fn make_signing_request() -> String {
    let key = rcgen::KeyPair::generate().expect("a key");
    let request = rcgen::CertificateParams::default().serialize_request(&key).expect("a request");
    STANDARD.encode(request.pem().expect("PEM"))
}

async fn open_watch(walk: &Walk<'_>) -> Checked<Watch> {
    let list = walk.client.get(&walk.collection()).await.expect(200)?;
    let version = meta::resource_version(&list);
    ensure!(!version.is_empty(), "a list has no resourceVersion");
    walk.client.watch(&format!("{}&watch=true&resourceVersion={version}", walk.own())).await
}

async fn dry_run(walk: &Walk<'_>) -> Checked {
    let call = Call::post(format!("{}?dryRun=All", walk.collection()), &walk.object(1));
    let tried = walk.client.send(call).await.expect(201)?;
    ensure!(!meta::uid(&tried).is_empty(), "an object that is tried has no uid: {}", text(&tried));
    walk.client.get(&walk.path(1)).await.refused(404, "NotFound").map(|_| ())
}

async fn create(walk: &Walk<'_>) -> Checked {
    let made = walk.client.send(Call::post(walk.collection(), &walk.object(1))).await.expect(201)?;
    let metadata = |field: &str| made.at(&["metadata", field]).is_some();
    for field in ["uid", "creationTimestamp", "resourceVersion", "managedFields"] {
        ensure!(metadata(field), "a new object has no {field}: {}", text(&made));
    }
    ensure!(
        (made.str_at(&["apiVersion"]), made.str_at(&["kind"]))
            == (Some(&walk.row.api_version), Some(&walk.row.kind)),
        "another kind comes back: {}",
        text(&made)
    );
    ensure!(
        made.i64_at(&["metadata", "generation"]) == walk.kind().generation.then_some(1),
        "the generation of a new object is {:?}",
        made.i64_at(&["metadata", "generation"])
    );
    let missing = lost(&walk.object(1), &made);
    ensure!(missing.is_empty(), "the object has lost {missing:?}: {}", text(&made));
    ensure!(walk.current().await? == made, "what was answered is not what is stored");
    walk.client
        .send(Call::post(walk.collection(), &walk.object(1)))
        .await
        .refused(409, "AlreadyExists")
        .map(|_| ())
}

async fn get(walk: &Walk<'_>) -> Checked {
    let answer = walk.client.send(Call::get(walk.path(1)).accept(YAML)).await;
    let yaml: Value = serde_saphyr::from_str(&answer.text()).map_err(|error| error.to_string())?;
    ensure!(yaml == walk.current().await?, "the object as YAML is another");
    let absent = walk.client.get(&format!("{}/absent", walk.collection())).await;
    let message = absent.refused(404, "NotFound")?;
    ensure!(message.ends_with("\"absent\" not found"), "{message}");
    Ok(())
}

async fn list(walk: &Walk<'_>) -> Checked {
    let object = walk.current().await?;
    let (name, list_kind) = (meta::name(&object), format!("{}List", walk.row.kind));
    let everywhere = format!("{}/{}", root(&walk.row.api_version), walk.row.resource);
    let number = walk.number;
    for (path, found) in [
        (walk.own(), true),
        (format!("{everywhere}?labelSelector=walk%20in%20(none,{number}),other!%3Dthing"), true),
        (format!("{}?labelSelector=walk%3Dnone", walk.collection()), false),
        (format!("{}&fieldSelector=metadata.name%3D{name}", walk.own()), true),
        (format!("{}&fieldSelector=metadata.name!%3D{name}", walk.own()), false),
    ] {
        let list = walk.client.get(&path).await.expect(200)?;
        ensure!(list.str_at(&["kind"]) == Some(&list_kind), "{path} is a {:?}", list.str_at(&["kind"]));
        let wanted: &[Value] = if found { std::slice::from_ref(&object) } else { &[] };
        ensure!(list.array_at(&["items"]) == wanted, "{path} is {}", text(&list));
    }
    let unknown = walk.client.get(&format!("{}?fieldSelector=absent%3Da", walk.collection())).await;
    let message = unknown.refused(400, "BadRequest")?;
    ensure!(message == "field label not supported: absent", "{message}");
    Ok(())
}

async fn update(walk: &Walk<'_>) -> Checked {
    let old = walk.current().await?;
    let mut new = old.clone();
    new.set(&["metadata", "annotations", "put"], "1");
    let changed = walk.client.send(Call::put(walk.path(1), &new)).await.expect(200)?;
    ensure!(meta::annotation(&changed, "put") == Some("1"), "the change is not there: {}", text(&changed));
    ensure!(meta::resource_version(&changed) != meta::resource_version(&old), "no new resourceVersion");
    let stale = walk.client.send(Call::put(walk.path(1), &new)).await;
    let message = stale.refused(409, "Conflict")?;
    ensure!(message.contains("the object has been modified"), "{message}");
    let same = walk.client.send(Call::put(walk.path(1), &changed)).await.expect(200)?;
    ensure!(same == changed, "an update that changes nothing gives another object: {}", text(&same));
    only_metadata(walk, &old, &changed)
}

async fn json_patch(walk: &Walk<'_>) -> Checked {
    let old = walk.current().await?;
    let patch = |op: &str| object!([{"op": op, "path": "/metadata/annotations/put", "value": "2"}]);
    let new = walk.patched(JSON_PATCH, &patch("replace")).await?;
    ensure!(meta::annotation(&new, "put") == Some("2"), "the change is not there: {}", text(&new));
    let failing = object!([{"op": "test", "path": "/metadata/annotations/put", "value": "3"}]);
    walk.client.send(Call::patch(walk.path(1), JSON_PATCH, &failing)).await.refused(422, "Invalid")?;
    only_metadata(walk, &old, &new)
}

async fn merge_patch(walk: &Walk<'_>) -> Checked {
    let old = walk.current().await?;
    let patch = object!({"metadata": {
        "annotations": {"put": null, "merge": "1"}, "finalizers": ["example.com/first"]
    }});
    let new = walk.patched(MERGE_PATCH, &patch).await?;
    let annotation = |name| meta::annotation(&new, name);
    ensure!((annotation("put"), annotation("merge")) == (None, Some("1")), "{}", text(&new));
    let mut stale = patch;
    stale.set(&["metadata", "resourceVersion"], meta::resource_version(&old));
    walk.client.send(Call::patch(walk.path(1), MERGE_PATCH, &stale)).await.refused(409, "Conflict")?;
    only_metadata(walk, &old, &new)
}

/// Finalizers are a set in the schema of every built-in kind: what merge patch replaces, strategic merge patch merges.
async fn strategic_patch(walk: &Walk<'_>) -> Checked {
    let old = walk.current().await?;
    let add = object!({"metadata": {"finalizers": ["example.com/second"]}});
    if walk.row.custom {
        let refused = walk.client.send(Call::patch(walk.path(1), STRATEGIC_PATCH, &add)).await;
        refused.refused(415, "UnsupportedMediaType")?;
        return walk.patched(MERGE_PATCH, &object!({"metadata": {"finalizers": null}})).await.map(|_| ());
    }
    let new = walk.patched(STRATEGIC_PATCH, &add).await?;
    let finalizers: BTreeSet<&str> =
        meta::finalizers(&new).filter(|f| f.starts_with("example.com/")).collect();
    ensure!(
        finalizers.iter().eq(&["example.com/first", "example.com/second"]),
        "the finalizers are {finalizers:?}"
    );
    let remove = object!({"metadata": {
        "$deleteFromPrimitiveList/finalizers": ["example.com/first", "example.com/second"]
    }});
    let new = walk.patched(STRATEGIC_PATCH, &remove).await?;
    ensure!(
        !meta::finalizers(&new).any(|f| f.starts_with("example.com/")),
        "a finalizer stays: {}",
        text(&new)
    );
    only_metadata(walk, &old, &new)
}

async fn server_side_apply(walk: &Walk<'_>) -> Checked {
    let path = |n: u8, options: &str| format!("{}?fieldManager={options}", walk.path(n));
    let apply = async |n: u8, options: &str, config: &Value| {
        walk.client.send(Call::patch(path(n, options), APPLY_PATCH, config)).await
    };
    let made = apply(2, "one", &walk.object(2)).await.expect(201)?;
    let again = apply(2, "one", &walk.object(2)).await.expect(200)?;
    ensure!(
        made == again,
        "to apply the same again gives another object: {} and {}",
        text(&made),
        text(&again)
    );
    let mut config = object!({
        "apiVersion": (walk.row.api_version.as_str()), "kind": (walk.row.kind.as_str()),
        "metadata": {"name": (meta::name(&made)), "annotations": {"applied": "1"}}
    });
    let annotated = apply(2, "two", &config).await.expect(200)?;
    ensure!(meta::annotation(&annotated, "applied") == Some("1"), "the change is not there");
    ensure!(meta::labels(&annotated) == meta::labels(&made), "another manager's label is gone");
    config.set(&["metadata", "annotations", "applied"], "2");
    let message = apply(2, "three", &config).await.refused(409, "Conflict")?;
    ensure!(message.contains("conflict with \"two\": .metadata.annotations.applied"), "{message}");
    let forced = apply(2, "three&force=true", &config).await.expect(200)?;
    ensure!(meta::annotation(&forced, "applied") == Some("2"), "the change is not there");
    config.remove_at(&["metadata", "annotations"]);
    let released = apply(2, "three", &config).await.expect(200)?;
    ensure!(meta::annotation(&released, "applied").is_none(), "what nobody owns stays: {}", text(&released));
    only_metadata(walk, &made, &released)
}

async fn forms(walk: &Walk<'_>) -> Checked {
    let object = walk.current().await?;
    let one = walk.client.send(Call::get(walk.path(1)).accept(TABLE)).await.expect(200)?;
    let many = walk.client.send(Call::get(walk.own()).accept(TABLE)).await.expect(200)?;
    for table in [one, many] {
        let columns = table.array_at(&["columnDefinitions"]);
        ensure!(table.str_at(&["kind"]) == Some("Table"), "a {:?} is no Table", table.str_at(&["kind"]));
        ensure!(columns.first().and_then(|c| c.str_at(&["name"])).is_some(), "no columns: {}", text(&table));
        let rows = table.array_at(&["rows"]);
        let even = |row: &Value| row.array_at(&["cells"]).len() == columns.len();
        ensure!(
            !rows.is_empty() && rows.iter().all(even),
            "rows are not as long as the columns: {}",
            text(&table)
        );
        let own = |row: &Value| row.at(&["object", "metadata"]) == object.get("metadata");
        ensure!(rows.iter().any(own), "no row has the object's metadata: {}", text(&table));
    }
    let partial = walk.client.send(Call::get(walk.path(1)).accept(METADATA)).await.expect(200)?;
    let wanted = object!({
        "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
        "metadata": (object.get("metadata").cloned().unwrap_or_default())
    });
    ensure!(partial == wanted, "the metadata alone is {}", text(&partial));
    let list = walk.client.send(Call::get(walk.own()).accept(METADATA_LIST)).await.expect(200)?;
    ensure!(list.str_at(&["kind"]) == Some("PartialObjectMetadataList"), "{}", text(&list));
    let item = |item: &Value| item.get("metadata") == object.get("metadata");
    ensure!(list.array_at(&["items"]).iter().any(item), "the list of metadata has no such object");
    Ok(())
}

/// Protobuf says the same as JSON, and an object may come as protobuf; custom resources have JSON and YAML only.
async fn encodings(walk: &Walk<'_>) -> Checked {
    let object = walk.current().await?;
    let one = walk.client.send(Call::get(walk.path(1)).accept(PROTOBUF)).await;
    if walk.row.custom {
        one.refused(406, "NotAcceptable")?;
        let body = Call::new(Method::POST, walk.collection()).body(PROTOBUF, b"k8s\0".as_slice());
        walk.client.send(body).await.refused(415, "UnsupportedMediaType")?;
        let yaml = serde_saphyr::to_string(&walk.object(3)).map_err(|error| error.to_string())?;
        let made = walk.client.send(Call::new(Method::POST, walk.collection()).body(YAML, yaml)).await;
        return made.expect(201).map(|_| ());
    }
    same(&object, &decoded(&one)?)?;
    let items = decoded(&walk.client.send(Call::get(walk.own()).accept(PROTOBUF)).await)?;
    let mut items = items.array_at(&["items"]).iter();
    let mut item =
        items.find(|item| meta::name(item) == meta::name(&object)).cloned().ok_or("not in the list")?;
    item.set(&["apiVersion"], walk.row.api_version.as_str());
    item.set(&["kind"], walk.row.kind.as_str());
    same(&object, &item)?;
    let bytes = protobuf::encode_object(&walk.object(3)).ok_or("the kind has no protobuf form")?;
    let call = Call::new(Method::POST, walk.collection()).body(PROTOBUF, bytes).accept(PROTOBUF);
    let made = walk.client.send(call).await;
    ensure!(made.code == 201, "{}", made.instead_of(201));
    let missing = lost(&walk.object(3), &decoded(&made)?);
    ensure!(missing.is_empty(), "protobuf has lost {missing:?}");
    Ok(())
}

async fn status(walk: &Walk<'_>) -> Checked {
    let (path, object) = (format!("{}/status", walk.path(1)), walk.current().await?);
    if !walk.row.status {
        return walk.client.get(&path).await.refused(404, "NotFound").map(|_| ());
    }
    ensure!(
        walk.client.get(&path).await.expect(200)? == object,
        "the status subresource shows another object"
    );
    walk.client.send(Call::post(path.as_str(), &object)).await.refused(405, "MethodNotAllowed")?;
    let patch = object!({"metadata": {"annotations": {"status": "1"}}, "spec": {"odd": null}});
    let patched = walk.client.send(Call::patch(path.as_str(), MERGE_PATCH, &patch)).await.expect(200)?;
    ensure!(meta::annotation(&patched, "status") == Some("1"), "metadata cannot be changed with the status");
    let put = walk.client.send(Call::put(path, &patched)).await.expect(200)?;
    ensure!(put == patched, "an update of the status that changes nothing gives another object");
    only_metadata(walk, &object, &put)
}

/// The specification changes, is counted, and nothing is lost on the way.
async fn change(walk: &Walk<'_>) -> Checked {
    let old = walk.current().await?;
    let patch = filled_in(walk.sample.change, 1);
    let wanted = merge::apply(old.clone(), patch.clone()).map_err(|error| format!("{error:?}"))?;
    let new = walk.client.send(Call::put(walk.path(1), &wanted)).await.expect(200)?;
    let missing = lost(&patch, &new);
    ensure!(missing.is_empty(), "the object has lost {missing:?}: {}", text(&new));
    let changes = walk.sample.change != SETTLED;
    ensure!(changes == (new != old), "the object is {}", text(&new));
    let count = |object: &Value| object.i64_at(&["metadata", "generation"]);
    let counted = i64::from(changes && walk.kind().generation);
    ensure!(
        count(&new) == count(&old).map(|before| before + counted),
        "from {:?} to {:?}",
        count(&old),
        count(&new)
    );
    Ok(())
}

/// Kinds that stay until somebody has cleaned up what belongs to them.
fn is_held(walk: &Walk<'_>) -> bool {
    matches!(walk.row.resource.as_str(), "namespaces" | "customresourcedefinitions")
}

async fn delete(walk: &Walk<'_>) -> Checked {
    let held = object!({"metadata": {"finalizers": ["example.com/held"]}});
    walk.patched(MERGE_PATCH, &held).await?;
    let wrong = object!({"preconditions": {"uid": "another"}});
    let call = Call::delete(walk.path(1)).body(JSON, json::to_vec(&wrong));
    walk.client.send(call).await.refused(409, "Conflict")?;
    let waiting = walk.client.send(Call::delete(walk.path(1))).await.expect(200)?;
    ensure!(waiting.str_at(&["kind"]) == Some(&walk.row.kind), "an object that waits: {}", text(&waiting));
    ensure!(meta::is_deleting(&waiting), "no deletionTimestamp: {}", text(&waiting));
    let orphans = meta::finalizers(&waiting).any(|finalizer| finalizer == meta::ORPHAN_FINALIZER);
    ensure!(orphans == walk.kind().orphan_by_default, "whether dependents are orphaned: {orphans}");
    let_go(walk, 1).await?;
    gone(walk, 1).await?;

    walk.client.send(Call::post(walk.collection(), &walk.object(1))).await.expect(201)?;
    let object = walk.current().await?;
    let call = Call::delete(format!("{}?propagationPolicy=Background", walk.path(1)));
    let answer = walk.client.send(call).await.expect(200)?;
    if is_held(walk) {
        ensure!(meta::is_deleting(&answer), "the answer is {}", text(&answer));
        let_go(walk, 1).await?;
    } else if walk.kind().returned_when_deleted {
        ensure!(meta::uid(&answer) == meta::uid(&object), "the answer is {}", text(&answer));
        let (last, before) = (meta::resource_version(&answer), meta::resource_version(&object));
        ensure!(last != before, "the object that is gone has the resourceVersion of the living");
    } else {
        ensure!(answer == deleted_status(walk, &object), "the answer is {}", text(&answer));
    }
    gone(walk, 1).await
}

fn deleted_status(walk: &Walk<'_>, object: &Value) -> Value {
    let mut details = object!({
        "name": (meta::name(object)), "kind": (walk.row.resource.as_str()), "uid": (meta::uid(object))
    });
    if !walk.group().is_empty() {
        details.set(&["group"], walk.group());
    }
    object!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Success", "details": (details)})
}

/// Takes away what holds an object that is being deleted: finalizers, and what only the namespace controller may empty.
async fn let_go(walk: &Walk<'_>, n: u8) -> Checked {
    let path = walk.path(n);
    let none = object!({"metadata": {"finalizers": null}});
    let mut object = walk.client.send(Call::patch(path.as_str(), MERGE_PATCH, &none)).await.expect(200)?;
    if walk.row.resource == "namespaces" {
        object.set(&["spec", "finalizers"], Vec::<Value>::new());
        walk.client.send(Call::put(format!("{path}/finalize"), &object)).await.expect(200)?;
    }
    Ok(())
}

async fn gone(walk: &Walk<'_>, n: u8) -> Checked {
    walk.client.get(&walk.path(n)).await.refused(404, "NotFound")?;
    walk.client.send(Call::delete(walk.path(n))).await.refused(404, "NotFound").map(|_| ())
}

async fn delete_collection(walk: &Walk<'_>) -> Checked {
    if walk.row.verbs.contains("deletecollection") {
        let call = Call::delete(format!("{}&propagationPolicy=Background", walk.own()));
        let list = walk.client.send(call).await.expect(200)?;
        let kind = format!("{}List", walk.row.kind);
        ensure!(list.str_at(&["kind"]) == Some(&kind), "the answer is {}", text(&list));
        ensure!(list.array_at(&["items"]).len() == 2, "not two were deleted: {}", text(&list));
    } else {
        for n in [2, 3] {
            walk.client.send(Call::delete(walk.path(n))).await.expect(200)?;
        }
    }
    for n in [2, 3] {
        if is_held(walk) {
            let_go(walk, n).await?;
        }
        gone(walk, n).await?;
    }
    Ok(())
}

/// `a` twice, `b` and `c`: each came first, changed, and went last, in the order of its versions.
async fn saw_everything(walk: &Walk<'_>, watch: &mut Watch) -> Checked {
    let wanted = [1, 2, 3].map(|n| meta::name(&walk.object(n)).to_owned());
    let mut events: Vec<(usize, String)> = Vec::new();
    let mut last = 0;
    while events.iter().filter(|(_, change)| change == "DELETED").count() < 4 {
        let event = watch.next().await.ok_or("the watch has ended")?;
        let object = event.get("object").cloned().unwrap_or_default();
        let which = wanted.iter().position(|name| name == meta::name(&object));
        let which = which.ok_or_else(|| format!("an event is {}", text(&event)))?;
        let version =
            meta::resource_version(&object).parse().map_err(|_| format!("an event is {}", text(&event)))?;
        ensure!(version > last, "version {version} comes after {last}");
        ensure!(object.str_at(&["kind"]) == Some(&walk.row.kind), "an event is {}", text(&event));
        last = version;
        events.push((which, event.str_at(&["type"]).unwrap_or_default().to_owned()));
    }
    let lives = |which: usize| -> Vec<&str> {
        let mut changes: Vec<&str> =
            events.iter().filter(|(at, _)| *at == which).map(|(_, change)| change.as_str()).collect();
        changes.dedup();
        changes
    };
    let (life, quick) = (["ADDED", "MODIFIED", "DELETED"], ["ADDED", "DELETED"]);
    let second: &[&str] = if is_held(walk) { &life } else { &quick };
    ensure!(lives(0) == [life.as_slice(), second].concat(), "of a it saw {:?}", lives(0));
    ensure!(lives(1) == life, "of b it saw {:?}", lives(1));
    ensure!(lives(2) == second, "of c it saw {:?}", lives(2));
    Ok(())
}

/// What is not in discovery is refused as such, and nothing else is.
async fn verbs_of_discovery(walk: &Walk<'_>) -> Checked {
    let unknown: Vec<&String> = walk.row.verbs.iter().filter(|v| !VERBS.contains(&v.as_str())).collect();
    ensure!(unknown.is_empty(), "discovery has the verbs {unknown:?}");
    for verb in VERBS {
        let (collection, path) = (walk.collection(), walk.path(1));
        let call = match verb {
            "create" => Call::post(format!("{collection}?dryRun=All"), &walk.object(1)),
            "get" => Call::get(path),
            "list" => Call::get(collection),
            "watch" => Call::get(format!("{collection}?watch=true&timeoutSeconds=0")),
            "update" => Call::put(format!("{path}?dryRun=All"), &walk.object(1)),
            "patch" => Call::patch(format!("{path}?dryRun=All"), MERGE_PATCH, &object!({})),
            "delete" => Call::delete(format!("{path}?dryRun=All")),
            _ => Call::delete(format!("{collection}?dryRun=All&labelSelector=absent")),
        };
        let answer = walk.client.send(call).await;
        let served = walk.row.verbs.contains(verb);
        ensure!((answer.code != 405) == served, "{verb}: {} though discovery says {served}", answer.code);
        if !served {
            answer.refused(405, "MethodNotAllowed")?;
        }
        ensure!(answer.code < 500, "{verb}: {}", answer.text());
    }
    Ok(())
}

/// A review or a binding is answered with what it asks for.
async fn answer(walk: &Walk<'_>) -> Checked {
    if walk.row.resource == "componentstatuses" {
        let list = walk.client.get(&walk.collection()).await.expect(200)?;
        ensure!(!list.array_at(&["items"]).is_empty(), "no component has a status");
        return Ok(());
    }
    let answer = walk.client.send(Call::post(walk.collection(), &walk.object(1))).await.expect(201)?;
    if walk.row.resource == "bindings" {
        let pod = format!("/api/v1/namespaces/{NAMESPACE}/pods/bound");
        let pod = walk.client.get(&pod).await.expect(200)?;
        ensure!(pod.str_at(&["spec", "nodeName"]) == Some("a"), "the pod is not bound: {}", text(&pod));
        return Ok(());
    }
    ensure!(answer.str_at(&["kind"]) == Some(&walk.row.kind), "the answer is {}", text(&answer));
    ensure!(answer.get("status").is_some(), "the answer has no status: {}", text(&answer));
    Ok(())
}

/// Nothing but metadata differs, and the generation has not counted.
fn only_metadata(walk: &Walk<'_>, old: &Value, new: &Value) -> Checked {
    let without = |object: &Value| {
        let mut object = object.clone();
        object.remove_at(&["metadata"]);
        object
    };
    ensure!(without(old) == without(new), "more than metadata changed: {} to {}", text(old), text(new));
    if walk.row.resource == "deployments" {
        // Replica sets copy a deployment's annotations, so they count as its specification.
        return Ok(());
    }
    let generation = new.i64_at(&["metadata", "generation"]);
    ensure!(
        generation == walk.kind().generation.then_some(1),
        "the generation is {generation:?}: {}",
        text(new)
    );
    Ok(())
}

fn decoded(answer: &Answer) -> Checked<Value> {
    protobuf::decode_object(&answer.body)
        .map_err(|error| format!("{error}: {} {}", answer.code, answer.text()))
}

/// Neither of two objects has what the other has not; zeros are nothing, since protobuf does not tell them apart.
fn same(json: &Value, protobuf: &Value) -> Checked {
    let (missing, more) = (lost(json, protobuf), lost(protobuf, json));
    ensure!(missing.is_empty(), "protobuf lacks {missing:?}");
    ensure!(more.is_empty(), "JSON lacks {more:?}");
    Ok(())
}

/// The paths of what `of` has and `now` has not, or has otherwise.
fn lost(of: &Value, now: &Value) -> Vec<String> {
    fn walk(of: &Value, now: &Value, path: &str, out: &mut Vec<String>) {
        match (of, now) {
            (Value::Object(of), _) => {
                for (name, value) in of.iter() {
                    walk(value, now.get(name).unwrap_or(&Value::Null), &format!("{path}.{name}"), out);
                }
            }
            (Value::Array(of), Value::Array(now)) if of.len() == now.len() => {
                for (i, (of, now)) in of.iter().zip(now).enumerate() {
                    walk(of, now, &format!("{path}[{i}]"), out);
                }
            }
            _ if of == now || (is_zero(of) && now.is_null()) => {}
            _ => out.push(path.to_owned()),
        }
    }
    let mut out = Vec::new();
    walk(of, now, "", &mut out);
    out
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) | Value::Int(0) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

fn text(value: &Value) -> String {
    String::from_utf8_lossy(&json::to_vec(value)).into_owned()
}
