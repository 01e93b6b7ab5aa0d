//! Paths that are no resources: documents that clients keep, and how the server is.

use http::header::{ETAG, IF_NONE_MATCH};

use crate::client::{Answer, Call, YAML};
use crate::cluster::Cluster;
use crate::samples::DEFINITION;

fn tag(answer: &Answer) -> &str {
    answer.headers.get(ETAG).and_then(|v| v.to_str().ok()).expect("a tag")
}

#[tokio::test]
async fn openapi_documents_change_with_the_table() {
    let cluster = Cluster::start().await;
    let client = cluster.admin().await;
    let ask = async |path: &str, known: &str| client.send(Call::get(path).header(IF_NONE_MATCH, known)).await;
    let paths = ["/openapi/v2", "/openapi/v3", "/openapi/v3/apis/apps/v1", "/openapi/v3/version", "/apis"];
    let mut tags = Vec::new();
    for path in paths {
        let call = || {
            Call::get(path).accept("application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,*/*")
        };
        let answers = futures::future::join_all([client.send(call()), client.send(call())]).await;
        assert_eq!(answers[0].body, answers[1].body, "{path}");
        assert_eq!(answers[0].code, 200, "{path}");
        tags.push(tag(&answers[0]).to_owned());
    }
    for (path, known) in paths.iter().zip(&tags).take(4) {
        let answer = ask(path, &format!("\"x\", {known}")).await;
        assert_eq!((answer.code, answer.body.len(), tag(&answer)), (304, 0, known.as_str()), "{path}");
    }
    let hash = tags[2].trim_matches('"');
    let answer = client.get(&format!("/openapi/v3/apis/apps/v1?hash={hash}")).await;
    assert!(answer.headers["cache-control"].to_str().is_ok_and(|v| v.contains("immutable")));
    let answer = client.get("/openapi/v3/apis/apps/v1?hash=ABC").await;
    assert!(answer.headers["cache-control"].to_str().is_ok_and(|v| !v.contains("immutable")));
    let index = client.get("/openapi/v3").await.json();
    let place = index.str_at(&["paths", "apis/apps/v1", "serverRelativeURL"]);
    assert_eq!(place, Some(&*format!("/openapi/v3/apis/apps/v1?hash={hash}")));
    client.get("/openapi/v3/apis/nonsense/v1").await.refused(404, "NotFound").expect("no such document");

    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let made = client.send(Call::new(http::Method::POST, definitions).body(YAML, DEFINITION)).await;
    made.expect(201).expect("made");
    for (path, known) in paths.iter().zip(&tags).take(4) {
        let changed = matches!(*path, "/openapi/v2" | "/openapi/v3");
        assert_eq!(ask(path, known).await.code, if changed { 200 } else { 304 }, "{path}");
    }
    let custom = client.get("/openapi/v3/apis/parity.example.com/v1").await;
    custom.expect(200).expect("the new group has a document");
}
