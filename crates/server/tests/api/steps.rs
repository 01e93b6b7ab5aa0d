//! The steps of the walk: each asks for one thing and begins where the last one ended.

use std::collections::BTreeSet;

use http::Method;
use xebec_api::patch::merge;
use xebec_api::{Value, json, meta, object, protobuf};

use crate::client::{
    APPLY_PATCH, Answer, Call, JSON, JSON_PATCH, MERGE_PATCH, PROTOBUF, STRATEGIC_PATCH, Watch, YAML,
};
use crate::parity::{NAMESPACE, Walk, filled_in, root};
use crate::samples::SETTLED;
use crate::{Checked, ensure};

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
const METADATA: &str = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
const VERBS: [&str; 8] = ["create", "get", "list", "watch", "update", "patch", "delete", "deletecollection"];

pub(crate) async fn open_watch(walk: &Walk<'_>) -> Checked<Watch> {
    let list = walk.client.get(&walk.collection()).await.expect(200)?;
    let version = meta::resource_version(&list);
    ensure!(!version.is_empty(), "a list has no resourceVersion");
    walk.client.watch(&format!("{}&watch=true&resourceVersion={version}", walk.own())).await
}

pub(crate) async fn dry_run(walk: &Walk<'_>) -> Checked {
    let call = Call::post(format!("{}?dryRun=All", walk.collection()), &walk.object(1));
    let tried = walk.client.send(call).await.expect(201)?;
    ensure!(!meta::uid(&tried).is_empty(), "an object that is tried has no uid: {}", text(&tried));
    walk.client.get(&walk.path(1)).await.refused(404, "NotFound").map(|_| ())
}

pub(crate) async fn create(walk: &Walk<'_>) -> Checked {
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

pub(crate) async fn get(walk: &Walk<'_>) -> Checked {
    let answer = walk.client.send(Call::get(walk.path(1)).accept(YAML)).await;
    let yaml: Value = serde_saphyr::from_str(&answer.text()).map_err(|error| error.to_string())?;
    ensure!(yaml == walk.current().await?, "the object as YAML is another");
    let absent = walk.client.get(&format!("{}/absent", walk.collection())).await;
    let message = absent.refused(404, "NotFound")?;
    ensure!(message.ends_with("\"absent\" not found"), "{message}");
    Ok(())
}

pub(crate) async fn list(walk: &Walk<'_>) -> Checked {
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

pub(crate) async fn update(walk: &Walk<'_>) -> Checked {
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

pub(crate) async fn json_patch(walk: &Walk<'_>) -> Checked {
    let old = walk.current().await?;
    let patch = |op: &str| object!([{"op": op, "path": "/metadata/annotations/put", "value": "2"}]);
    let new = walk.patched(JSON_PATCH, &patch("replace")).await?;
    ensure!(meta::annotation(&new, "put") == Some("2"), "the change is not there: {}", text(&new));
    let failing = object!([{"op": "test", "path": "/metadata/annotations/put", "value": "3"}]);
    walk.client.send(Call::patch(walk.path(1), JSON_PATCH, &failing)).await.refused(422, "Invalid")?;
    only_metadata(walk, &old, &new)
}

pub(crate) async fn merge_patch(walk: &Walk<'_>) -> Checked {
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
pub(crate) async fn strategic_patch(walk: &Walk<'_>) -> Checked {
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

pub(crate) async fn server_side_apply(walk: &Walk<'_>) -> Checked {
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

pub(crate) async fn forms(walk: &Walk<'_>) -> Checked {
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
pub(crate) async fn encodings(walk: &Walk<'_>) -> Checked {
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

/// The built-in kinds whose status is written without their metadata.
const STATUS_ALONE: &[&str] = &[
    "apiservices",
    "flowschemas",
    "prioritylevelconfigurations",
    "resourceclaims",
    "validatingadmissionpolicies",
    "volumeattachments",
];

/// Who writes the status changes nothing else but metadata, and of some kinds not even that.
pub(crate) async fn status(walk: &Walk<'_>) -> Checked {
    let (path, object) = (format!("{}/status", walk.path(1)), walk.current().await?);
    if !walk.row.status {
        return walk.client.get(&path).await.refused(404, "NotFound").map(|_| ());
    }
    ensure!(
        walk.client.get(&path).await.expect(200)? == object,
        "the status subresource shows another object"
    );
    walk.client.send(Call::post(path.as_str(), &object)).await.refused(405, "MethodNotAllowed")?;
    let mut patch = filled_in(walk.sample.change, 1);
    patch.set(&["metadata", "annotations", "status"], "1");
    let patched = walk.client.send(Call::patch(path.as_str(), MERGE_PATCH, &patch)).await.expect(200)?;
    let alone = walk.row.custom || STATUS_ALONE.contains(&walk.row.resource.as_str());
    let annotated = meta::annotation(&patched, "status") == Some("1");
    ensure!(annotated != alone, "that metadata is changed with the status is {annotated}");
    only_metadata(walk, &object, &patched).map_err(|why| format!("through the status {why}"))?;
    let put = walk.client.send(Call::put(path, &patched)).await.expect(200)?;
    ensure!(put == patched, "an update of the status that changes nothing gives another object");
    let mut without = put.clone();
    without.remove_at(&["status"]);
    let kept = walk.client.send(Call::put(walk.path(1), &without)).await.expect(200)?;
    ensure!(kept == put, "an update of the object changes the status: {}", text(&kept));
    only_metadata(walk, &object, &put)
}

/// The number of replicas is read and written as a `Scale` too, wherever it stands in the object.
pub(crate) async fn scale(walk: &Walk<'_>) -> Checked {
    let path = format!("{}/scale", walk.path(1));
    if !walk.row.scale {
        return walk.client.get(&path).await.refused(404, "NotFound").map(|_| ());
    }
    let object = walk.current().await?;
    let mut scale = walk.client.get(&path).await.expect(200)?;
    ensure!(scale.str_at(&["apiVersion"]) == Some("autoscaling/v1"), "the scale is {}", text(&scale));
    ensure!(meta::uid(&scale) == meta::uid(&object), "the scale is of another object: {}", text(&scale));
    scale.set(&["spec", "replicas"], 5);
    let put = walk.client.send(Call::put(path.as_str(), &scale)).await.expect(200)?;
    ensure!(put.i64_at(&["spec", "replicas"]) == Some(5), "the scale is {}", text(&put));
    ensure!(walk.current().await?.i64_at(&["spec", "replicas"]) == Some(5), "the object is not scaled");
    walk.client.send(Call::put(path.as_str(), &scale)).await.refused(409, "Conflict")?;
    let patch = object!({"spec": {"replicas": 0}});
    let patched = walk.client.send(Call::patch(path.as_str(), MERGE_PATCH, &patch)).await.expect(200)?;
    ensure!(patched.i64_at(&["spec", "replicas"]) == Some(0), "the scale is {}", text(&patched));
    applied_scale(walk, &path).await?;
    let below = object!({"spec": {"replicas": (-1)}});
    walk.client.send(Call::patch(path, MERGE_PATCH, &below)).await.refused(422, "Invalid").map(|_| ())
}

/// Who applies a `Scale` owns the number in the object, takes it from nobody unasked, and keeps it from others.
async fn applied_scale(walk: &Walk<'_>, path: &str) -> Checked {
    let object = walk.current().await?;
    let name = meta::name(&object);
    let scale = |replicas: i64| {
        object!({
            "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": (name)},
            "spec": {"replicas": replicas}
        })
    };
    let apply = async |manager: &str, replicas: i64, force: bool| {
        let options = format!("{path}?fieldManager={manager}&force={force}");
        walk.client.send(Call::patch(options, APPLY_PATCH, &scale(replicas))).await
    };
    apply("first", 7, false).await.refused(409, "Conflict")?;
    let taken = apply("first", 7, true).await.expect(200)?;
    ensure!(taken.i64_at(&["spec", "replicas"]) == Some(7), "the scale is {}", text(&taken));
    let owners = |object: &Value| {
        let entries = object.array_at(&["metadata", "managedFields"]).iter();
        let below = entries.filter(|entry| entry.str_at(&["subresource"]) == Some("scale"));
        below.filter_map(|entry| entry.str_at(&["manager"]).map(str::to_owned)).collect::<Vec<_>>()
    };
    let object = walk.current().await?;
    ensure!(owners(&object) == ["first"], "the owners are {:?}: {}", owners(&object), text(&object));
    apply("second", 8, false).await.refused(409, "Conflict")?;
    apply("first", 6, false).await.expect(200).map(drop)?;
    ensure!(walk.current().await?.i64_at(&["spec", "replicas"]) == Some(6), "the object is not scaled");
    Ok(())
}

/// The specification changes, is counted, and nothing is lost on the way.
pub(crate) async fn change(walk: &Walk<'_>) -> Checked {
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
    let by_finalizers = matches!(
        walk.row.resource.as_str(),
        "persistentvolumeclaims" | "persistentvolumes" | "volumeattributesclasses"
    );
    by_finalizers || matches!(walk.row.resource.as_str(), "namespaces" | "customresourcedefinitions")
}

pub(crate) async fn delete(walk: &Walk<'_>) -> Checked {
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

pub(crate) async fn delete_collection(walk: &Walk<'_>) -> Checked {
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
pub(crate) async fn saw_everything(walk: &Walk<'_>, watch: &mut Watch) -> Checked {
    let wanted = [1, 2, 3].map(|n| meta::name(&walk.object(n)).to_owned());
    let mut events: Vec<(usize, String)> = Vec::new();
    let mut last = 0;
    while events.iter().filter(|(_, change)| change == "DELETED").count() < 4 {
        let event = watch.next().await?.ok_or("the watch has ended")?;
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
pub(crate) async fn verbs_of_discovery(walk: &Walk<'_>) -> Checked {
    let unknown: Vec<&String> = walk.row.verbs.iter().filter(|v| !VERBS.contains(&v.as_str())).collect();
    ensure!(unknown.is_empty(), "discovery has the verbs {unknown:?}");
    for verb in VERBS {
        let (collection, path) = (walk.collection(), walk.path(1));
        let call = match verb {
            "create" => Call::post(format!("{collection}?dryRun=All"), &walk.object(1)),
            "get" => Call::get(path),
            "list" => Call::get(collection),
            "watch" => Call::get(format!("{collection}?watch=true&timeoutSeconds=-1")),
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
pub(crate) async fn answer(walk: &Walk<'_>) -> Checked {
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
            _ if of == now || (is_zero(of) && now.is_null()) || (of.is_null() && is_zero(now)) => {}
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
