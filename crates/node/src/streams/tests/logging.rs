use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use http::StatusCode;
use http_body_util::BodyExt as _;

use super::client::{Agent, refusal, text};
use super::pods::LocalPods;

fn append(path: &Path, output: &str, line: &str) {
    let mut file = OpenOptions::new().create(true).append(true).open(path).unwrap();
    writeln!(file, "2026-01-31T12:00:00.000000000Z {output} F {line}").unwrap();
}

fn agent(directory: &Path) -> Agent {
    let mut pods = LocalPods::new();
    pods.log.path = directory.join("0.log");
    Agent::new(pods)
}

#[tokio::test]
async fn logs_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let agent = agent(directory.path());
    let path = &agent.pods.log.path;
    assert_eq!(text(agent.get("/containerLogs/default/web/app").await).await, "");
    append(path, "stdout", "one");
    append(path, "stderr", "two");
    let check = async |query: &str, expected: &str| {
        let response = agent.get(&format!("/containerLogs/default/web/app?{query}")).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/plain");
        assert_eq!(text(response).await, expected, "{query}");
    };
    check("", "one\ntwo\n").await;
    check("tailLines=1&timestamps=true", "2026-01-31T12:00:00.000000000Z two\n").await;
    check("stream=Stdout", "one\n").await;
    check("limitBytes=2", "on").await;
    check("sinceTime=2026-01-31T12:00:01Z", "").await;
}

#[tokio::test]
async fn logs_are_followed() {
    let directory = tempfile::tempdir().unwrap();
    let agent = agent(directory.path());
    let path = &agent.pods.log.path;
    append(path, "stdout", "old");
    let response = agent.get("/containerLogs/default/web/app?follow=true").await;
    let mut body = response.into_body();
    let mut next = async || body.frame().await.map(|frame| frame.unwrap().into_data().unwrap());
    assert_eq!(next().await.unwrap(), "old\n");
    append(path, "stdout", "new");
    assert_eq!(next().await.unwrap(), "new\n");
    agent.pods.log.ended.cancel();
    assert_eq!(next().await, None);
}

#[tokio::test]
async fn a_client_that_vanishes_ends_its_log() {
    let directory = tempfile::tempdir().unwrap();
    let agent = agent(directory.path());
    drop(agent.get("/containerLogs/default/web/app?follow=true").await);
    agent.service.idle().await;
}

#[tokio::test]
async fn shutdown_ends_followed_logs() {
    let directory = tempfile::tempdir().unwrap();
    let agent = agent(directory.path());
    let response = agent.get("/containerLogs/default/web/app?follow=true").await;
    let body = tokio::spawn(text(response));
    assert!(agent.service.shutdown(Duration::from_secs(60)).await);
    assert_eq!(body.await.unwrap(), "");
}

#[tokio::test]
async fn refusals_say_why() {
    let agent = Agent::new(LocalPods::new());
    let check = async |path: &str, code: StatusCode, expected: &str| {
        let (got, message) = refusal(agent.get(path).await).await;
        assert_eq!((got, message.as_str()), (code, expected), "{path}");
    };
    check(
        "/containerLogs/default/web/waiting",
        StatusCode::BAD_REQUEST,
        r#"container "waiting" in pod "web" is waiting to start: ContainerCreating"#,
    )
    .await;
    check(
        "/containerLogs/default/web/app?previous=true",
        StatusCode::BAD_REQUEST,
        r#"previous terminated container "app" in pod "web" not found"#,
    )
    .await;
    check("/containerLogs/default/no/app", StatusCode::NOT_FOUND, r#"pods "no" not found"#).await;
    check("/containerLogs/default/web/no", StatusCode::NOT_FOUND, r#"container not found ("no")"#).await;
    check(
        "/containerLogs/default/web/app?tailLines=-1",
        StatusCode::UNPROCESSABLE_ENTITY,
        r#"PodLogOptions is invalid: tailLines: Invalid value: "-1": must be greater than or equal to 0"#,
    )
    .await;
    check(
        "/run/default/web/app",
        StatusCode::NOT_FOUND,
        "the node's agent has no such path: /run/default/web/app",
    )
    .await;
    check("/exec/default/web/app?command=x&stdout=1", StatusCode::BAD_REQUEST, "Upgrade request required")
        .await;
    check("/portForward/default/web", StatusCode::BAD_REQUEST, "Upgrade request required").await;
    check("/exec/default/web/app?stdout=1", StatusCode::BAD_REQUEST, "you must specify a command").await;
    check(
        "/exec/default/web/app?command=x",
        StatusCode::BAD_REQUEST,
        "you must specify at least 1 of stdin, stdout, stderr",
    )
    .await;
}

#[tokio::test]
async fn the_node_tells_of_itself() {
    let agent = Agent::new(LocalPods::new());
    let get = async |path: &str| text(agent.get(path).await).await;
    assert_eq!(get("/healthz").await, "ok");
    assert_eq!(get("/configz").await, r#"{"kubeletconfig":{"maxPods":3}}"#);
    let pods = get("/pods").await;
    assert!(pods.contains(r#""kind":"PodList""#) && pods.contains(r#""name":"web""#), "{pods}");
}
