//! Requests that a node's agent answers: logs, exec, attach, port-forward. The server finds the node and passes bytes on.

use http::header::{CONNECTION, HOST, HeaderValue, UPGRADE};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::BodyExt as _;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_util::sync::CancellationToken;
use xebec_api::{Reason, Status, Value, meta, object};

use crate::admission::{self, Subject};
use crate::auth::User;
use crate::core::Core;
use crate::http::body::{BoxError, RequestBody};
use crate::http::query::Query;
use crate::http::reply::{self, Reply, ReplyBody};
use crate::http::route::{Target, Verb};
use crate::nodes::NodeStream;
use crate::proxy;
use crate::registry::table::Served;
use crate::registry::{convert, read};
use crate::serve::Incoming;

/// Passes a request on to the agent of the node that the pod runs on.
///
/// # Errors
/// 404; 400 if the pod runs nowhere or the container is not named; 502 if the agent cannot be reached.
pub(crate) async fn handle(
    core: &Core,
    incoming: &mut Incoming,
    verb: Verb,
    target: &Target,
    served: &Served,
) -> Result<Reply, Status> {
    if target.subresource == "proxy" {
        return proxy::handle(core, incoming, target, served).await;
    }
    if target.resource != "pods" || !target.group.is_empty() {
        let text = format!("{}/{} is not implemented", target.resource, target.subresource);
        return Err(Status::new(Reason::NotImplemented, text));
    }
    let upgrade = target.subresource != "log";
    if upgrade && !incoming.request.headers().contains_key(UPGRADE) {
        return Err(Status::bad_request("Upgrade request required"));
    }
    // An upgrade runs commands in the container, whatever the method says.
    if upgrade && verb == Verb::Get {
        require_create(core, &incoming.context.user, target).await?;
    }
    let pod = find_pod(core, target).await?;
    if upgrade {
        let subject = Subject::below(core, &incoming.context, served, target, "CONNECT")?;
        admission::admit(core, &subject, &mut options(&target.subresource, &incoming.context.query)).await?;
    }
    let node = pod
        .str_at(&["spec", "nodeName"])
        .filter(|n| !n.is_empty())
        .ok_or_else(|| Status::bad_request(format!("pod {} does not have a host assigned", target.name)))?;
    let path = agent_path(incoming, target, &pod)?;
    let stream = core.nodes.connect(node).await.map_err(|error| unreachable(node, &error))?;
    let client = hyper::upgrade::on(&mut incoming.request);
    let request = agent_request(incoming, &path)?;
    let passed = pass(core, &incoming.shutdown, stream, client, request).await;
    let mut response = passed.map_err(|e| unreachable(node, &e))?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().remove(CONNECTION);
    }
    Ok(Reply::Response(response))
}

/// Passes a request on over a connection of its own, and if it is upgraded what follows, byte by byte.
pub(crate) async fn pass(
    core: &Core,
    shutdown: &CancellationToken,
    stream: Box<dyn NodeStream>,
    client: OnUpgrade,
    request: Request<RequestBody>,
) -> Result<Response<ReplyBody>, hyper::Error> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    core.tasks.spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection that requests are passed on by ended early");
        }
    });
    let mut response = sender.send_request(request).await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let agent = hyper::upgrade::on(&mut response);
        let shutdown = shutdown.clone();
        core.tasks.spawn(async move {
            tokio::select! {
                () = shutdown.cancelled() => {}
                result = tunnel(client, agent) => if let Err(error) = result {
                    tracing::debug!(%error, "stream ended early");
                }
            }
        });
        let (parts, _) = response.into_parts();
        return Ok(Response::from_parts(parts, reply::full(Vec::new())));
    }
    let (parts, body) = response.into_parts();
    Ok(Response::from_parts(parts, body.map_err(BoxError::from).boxed_unsync()))
}

/// The options of a connection, as webhooks see them.
fn options(subresource: &str, query: &Query) -> Value {
    let kind = match subresource {
        "exec" => "PodExecOptions",
        "attach" => "PodAttachOptions",
        _ => "PodPortForwardOptions",
    };
    let mut options = object!({"apiVersion": "v1", "kind": kind});
    for flag in ["stdin", "stdout", "stderr", "tty"] {
        if query.get(flag).is_some_and(|value| matches!(value, "1" | "true")) {
            options.set(&[flag], true);
        }
    }
    if let Some(container) = query.get("container") {
        options.set(&["container"], container);
    }
    let command: Vec<&str> = query.all("command").collect();
    if !command.is_empty() {
        options.set(&["command"], command);
    }
    let ports: Vec<Value> =
        query.all("ports").filter_map(|port| port.parse::<i64>().ok()).map(Value::Int).collect();
    if !ports.is_empty() {
        options.set(&["ports"], ports);
    }
    options
}

async fn tunnel(client: OnUpgrade, agent: OnUpgrade) -> Result<(), BoxError> {
    let (client, agent) = tokio::try_join!(client, agent)?;
    tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut TokioIo::new(agent)).await?;
    Ok(())
}

async fn require_create(core: &Core, user: &User, target: &Target) -> Result<(), Status> {
    let question = crate::authz::Question::about(Verb::Create.as_str(), target);
    core.authorizer.authorize(user, &question).await.map(drop)
}

async fn find_pod(core: &Core, target: &Target) -> Result<Value, Status> {
    let table = core.table.get();
    let row = table.row("", "pods").ok_or_else(Status::no_such_path)?;
    let snapshot = core.newest().await?;
    convert::stored_object(read::find(&snapshot, row, &target.namespace, &target.name)?)
}

fn unreachable(node: &str, error: &dyn std::fmt::Display) -> Status {
    Status::internal(format_args!("the agent of node {node:?} cannot be reached: {error}"))
}

/// The agent's path: `/exec/NAMESPACE/POD/CONTAINER`, the query as it came.
fn agent_path(incoming: &Incoming, target: &Target, pod: &Value) -> Result<String, Status> {
    let verb = match target.subresource.as_str() {
        "log" => "containerLogs",
        "portforward" => "portForward",
        other => other,
    };
    let mut path = format!("/{verb}/{}/{}", target.namespace, target.name);
    if target.subresource != "portforward" {
        path.push('/');
        path.push_str(&container(incoming.context.query.get("container"), pod)?);
    }
    if let Some(query) = incoming.request.uri().query() {
        path.push('?');
        path.push_str(query);
    }
    Ok(path)
}

/// The container that the request names, or the pod's only one.
fn container(named: Option<&str>, pod: &Value) -> Result<String, Status> {
    let names_in = |list: &str| -> Vec<String> {
        let containers = pod.array_at(&["spec", list]).iter();
        containers.filter_map(|c| c.str_at(&["name"])).map(str::to_owned).collect()
    };
    let main = names_in("containers");
    let all = [main.clone(), names_in("initContainers"), names_in("ephemeralContainers")].concat();
    let name = meta::name(pod);
    match named {
        Some(wanted) if all.iter().any(|n| n == wanted) => Ok(wanted.to_owned()),
        Some(wanted) => Err(Status::bad_request(format!("container {wanted} is not valid for pod {name}"))),
        None => match main.as_slice() {
            [only] => Ok(only.clone()),
            several => Err(Status::bad_request(format!(
                "a container name must be specified for pod {name}, choose one of: [{}]",
                several.join(" ")
            ))),
        },
    }
}

fn agent_request(incoming: &mut Incoming, path: &str) -> Result<Request<RequestBody>, Status> {
    let uri: Uri = path.parse().map_err(|_| Status::bad_request("the request's path cannot be passed on"))?;
    let mut request = Request::new(std::mem::take(incoming.request.body_mut()));
    *request.method_mut() = incoming.request.method().clone();
    *request.uri_mut() = uri;
    *request.headers_mut() = incoming.request.headers().clone();
    let headers = request.headers_mut();
    headers.remove(http::header::AUTHORIZATION);
    headers.insert(HOST, HeaderValue::from_static("node"));
    Ok(request)
}
