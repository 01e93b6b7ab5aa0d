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
use xebec_api::{Value, meta};

use crate::Checked;
use crate::client::{Call, Client, YAML};
use crate::cluster::Cluster;
use crate::samples::{ANSWERED, DEFINITION, STORED, Sample};
use crate::steps::{
    answer, change, create, delete, delete_collection, dry_run, encodings, forms, get, json_patch, list,
    merge_patch, open_watch, saw_everything, scale, server_side_apply, status, strategic_patch, update,
    verbs_of_discovery,
};

pub(crate) const NAMESPACE: &str = "parity";
/// The group versions and resources of Kubernetes 1.36.
const BUILT_IN: usize = 68;

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
pub(crate) struct Row {
    pub(crate) api_version: String,
    pub(crate) resource: String,
    pub(crate) kind: String,
    pub(crate) namespaced: bool,
    pub(crate) verbs: BTreeSet<String>,
    pub(crate) custom: bool,
    pub(crate) status: bool,
    pub(crate) scale: bool,
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
            scale: names.contains(&format!("{}/scale", text(resource, "name"))),
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

pub(crate) fn root(api_version: &str) -> String {
    if api_version.contains('/') { format!("/apis/{api_version}") } else { format!("/api/{api_version}") }
}

/// One row, and the object that walks it.
pub(crate) struct Walk<'a> {
    pub(crate) client: &'a Client,
    pub(crate) row: &'a Row,
    pub(crate) sample: &'a Sample,
    /// Tells the walk's objects from those of another that sees the same ones, as the two kinds of events do.
    pub(crate) number: usize,
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
            forms, encodings, status, scale, change, delete, delete_collection, verbs_of_discovery
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
    pub(crate) fn object(&self, n: u8) -> Value {
        let mut object = filled_in(self.sample.object, n);
        object.set(&["apiVersion"], self.row.api_version.as_str());
        object.set(&["kind"], self.row.kind.as_str());
        if !self.row.verbs.contains("get") {
            return object;
        }
        object.set(&["metadata", "labels", "walk"], self.number.to_string());
        object
    }

    pub(crate) fn collection(&self) -> String {
        let root = root(&self.row.api_version);
        let resource = &self.row.resource;
        if self.row.namespaced {
            format!("{root}/namespaces/{NAMESPACE}/{resource}")
        } else {
            format!("{root}/{resource}")
        }
    }

    /// The collection, of which only the walk's objects.
    pub(crate) fn own(&self) -> String {
        format!("{}?labelSelector=walk%3D{}", self.collection(), self.number)
    }

    pub(crate) fn path(&self, n: u8) -> String {
        let object = self.object(n);
        let name = if meta::name(&object).is_empty() { "a" } else { meta::name(&object) };
        format!("{}/{name}", self.collection())
    }

    /// The object `a` as it is now.
    pub(crate) async fn current(&self) -> Checked<Value> {
        self.client.get(&self.path(1)).await.expect(200)
    }

    pub(crate) async fn patched(&self, kind: &str, patch: &Value) -> Checked<Value> {
        self.client.send(Call::patch(self.path(1), kind, patch)).await.expect(200)
    }

    pub(crate) fn group(&self) -> &str {
        self.row.api_version.split_once('/').map_or("", |(group, _)| group)
    }

    pub(crate) fn kind(&self) -> &'static Kind {
        kinds::of(self.group(), &self.row.resource)
    }
}

/// The object or patch that a sample's text is for object number `n`.
pub(crate) fn filled_in(text: &str, n: u8) -> Value {
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
