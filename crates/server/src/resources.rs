//! From a verb on a resource to the code that does it: the same for every row of the table.

use http::StatusCode;
use xebec_api::resource::Verbs;
use xebec_api::structural::{self, Decoded, Strictness};
use xebec_api::{Reason, Status, Value, builtin};

use crate::authz::Question;
use crate::bounds::too_many;
use crate::core::{Context, Core};
use crate::http::body::{self, Format};
use crate::http::query::{At, ListOptions, invalid_options};
use crate::http::reply::Reply;
use crate::http::route::{Target, Verb};
use crate::registry::decode::{self, Expected};
use crate::registry::delete::{self, Deleted};
use crate::registry::patch::{Patch, PatchKind};
use crate::registry::table::Served;
use crate::registry::write::{self, Part, Replace, Tracking};
use crate::registry::{read, special, watch};
use crate::serve::{Incoming, content_type};
use crate::{streams, subresources};

const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";

/// Whether a request is a stream to a node or a service, which bounds for requests do not hold for.
#[must_use]
pub(crate) fn is_stream(target: &Target) -> bool {
    matches!(target.subresource.as_str(), "log" | "exec" | "attach" | "portforward" | "proxy")
}

/// Does what a request on a resource asks for.
///
/// # Errors
/// The answer to a request that failed.
pub(crate) async fn handle(
    core: &Core,
    incoming: &mut Incoming,
    verb: Verb,
    target: &Target,
) -> Result<Reply, Status> {
    let served = core.table.get().served(&target.group, &target.version, &target.resource)?;
    check_scope(&served, verb, target)?;
    if !is_stream(target) {
        // The kind of `scale` is built in, whatever the resource is.
        let built_in = !served.row.custom || target.subresource == "scale";
        incoming.accept = incoming.accept.settle(built_in)?;
        if !served.row.def.verbs.has(Verbs::GET) {
            incoming.accept = incoming.accept.only_whole()?;
        }
    }
    if !is_stream(target) {
        check_write_options(&incoming.context, verb)?;
    }
    if !target.subresource.is_empty() {
        return below(core, incoming, verb, target, served).await;
    }
    let needed = needed_verbs(verb);
    if !served.row.def.verbs.has(needed) {
        return Err(Status::method_not_allowed(&target.group, &target.resource, verb.as_str()));
    }
    if let Some(result) = special::instead(core, incoming, verb, target, &served).await {
        return result;
    }
    match verb {
        Verb::Get => {
            let at = single_version(&incoming.context)?;
            let bytes = read::get(core, &served, &target.namespace, &target.name, at).await?;
            Ok(Reply::Object(StatusCode::OK, bytes, served))
        }
        Verb::List => {
            let options = ListOptions::from_query(&incoming.context.query)?;
            let page = read::list(core, &served, &target.namespace, &options).await?;
            Ok(Reply::List(page, served))
        }
        Verb::Watch => open_watch(core, incoming, target, served).await,
        Verb::Create => create(core, incoming, target, &served).await,
        Verb::Update => update(core, incoming, target, &served, Part::Main).await,
        Verb::Patch => patch(core, incoming, target, &served, Part::Main).await,
        Verb::Delete => delete_one(core, incoming, target, &served).await,
        Verb::DeleteCollection => delete_collection(core, incoming, target, &served).await,
    }
}

/// What is wrong with the options of a write; those of patches and deletions are looked at where they are read.
fn check_write_options(context: &Context, verb: Verb) -> Result<(), Status> {
    let kind = match verb {
        Verb::Create => "CreateOptions",
        Verb::Update => "UpdateOptions",
        _ => return Ok(()),
    };
    let causes = context.query.write_faults();
    if causes.is_empty() { Ok(()) } else { Err(invalid_options(kind, causes)) }
}

const fn needed_verbs(verb: Verb) -> Verbs {
    match verb {
        Verb::Get => Verbs::GET,
        Verb::List => Verbs::LIST,
        Verb::Watch => Verbs::WATCH,
        Verb::Create => Verbs::CREATE,
        Verb::Update => Verbs::UPDATE,
        Verb::Patch => Verbs::PATCH,
        Verb::Delete => Verbs::DELETE,
        Verb::DeleteCollection => Verbs::DELETE_COLLECTION,
    }
}

/// A namespaced resource is written in a namespace, a cluster-scoped one outside of any.
fn check_scope(served: &Served, verb: Verb, target: &Target) -> Result<(), Status> {
    let namespaced = served.row.def.is_namespaced();
    if !namespaced && !target.namespace.is_empty() {
        return Err(Status::no_such_path());
    }
    let across = matches!(verb, Verb::List | Verb::Watch);
    if namespaced && target.namespace.is_empty() && !across {
        return Err(Status::no_such_path());
    }
    Ok(())
}

fn single_version(context: &Context) -> Result<At, Status> {
    match context.query.get("resourceVersion") {
        None => Ok(At::Newest),
        Some("0") => Ok(At::Any),
        Some(text) => crate::http::query::parse_version(text).map(At::NotOlderThan),
    }
}

async fn open_watch(
    core: &Core,
    incoming: &mut Incoming,
    target: &Target,
    served: Served,
) -> Result<Reply, Status> {
    let mut options = ListOptions::from_query(&incoming.context.query)?;
    if !target.name.is_empty() {
        // The old form `watch/pods/NAME`.
        options.fields.requirements.push(xebec_api::selector::FieldRequirement {
            field: "metadata.name".into(),
            value: target.name.clone(),
            equal: true,
        });
    }
    let permit = incoming.watches.clone().try_acquire_owned().map_err(|_| {
        too_many(&format!("{} watches are open, which is the limit", core.settings.max_watches))
    })?;
    let sent = incoming.events.clone();
    let how = watch::How {
        core: incoming.core.clone(),
        accept: incoming.accept,
        shutdown: incoming.shutdown.clone(),
        permit,
        sent,
    };
    let open = watch::open(served, &target.namespace, &options, how).await?;
    Ok(Reply::Watch(Box::new(open)))
}

/// What a write is about.
pub(crate) fn write_target<'a>(served: &'a Served, target: &'a Target, part: Part<'a>) -> write::Target<'a> {
    let namespaced = served.row.def.is_namespaced();
    let namespace = if namespaced { target.namespace.as_str() } else { "" };
    write::Target { served, namespace, name: &target.name, part }
}

async fn create(
    core: &Core,
    incoming: &mut Incoming,
    target: &Target,
    served: &Served,
) -> Result<Reply, Status> {
    let object = read_object(incoming, served).await?;
    incoming.context.makes(xebec_api::meta::name(&object));
    let written =
        write::create(core, &incoming.context, write_target(served, target, Part::Main), object).await?;
    Ok(Reply::Object(StatusCode::CREATED, written.bytes, served.clone()))
}

async fn update(
    core: &Core,
    incoming: &mut Incoming,
    target: &Target,
    served: &Served,
    part: Part<'_>,
) -> Result<Reply, Status> {
    let object = read_object(incoming, served).await?;
    let about = write_target(served, target, part);
    let mut replace = Replace::new(object.clone());
    match write::change(core, &incoming.context, about, &mut replace).await {
        Err(status)
            if status.reason == Reason::NotFound
                && served.row.kind.create_on_update
                && part == Part::Main =>
        {
            may_create(core, &incoming.context, target).await?;
            let mut object = object;
            object.set(&["metadata", "name"], target.name.as_str());
            let written = write::create(core, &incoming.context, about, object).await?;
            Ok(Reply::Object(StatusCode::CREATED, written.bytes, served.clone()))
        }
        result => result.map(|written| Reply::Object(StatusCode::OK, written.bytes, served.clone())),
    }
}

/// Who may change an object may not therefore make one: what comes to a creation needs that permission too.
async fn may_create(core: &Core, context: &Context, target: &Target) -> Result<(), Status> {
    let question = Question::about(Verb::Create.as_str(), target);
    core.authorizer.authorize(&context.user, &question).await.map(drop)
}

async fn patch(
    core: &Core,
    incoming: &mut Incoming,
    target: &Target,
    served: &Served,
    part: Part<'_>,
) -> Result<Reply, Status> {
    let kind = PatchKind::from_content_type(content_type(incoming.request.headers()), served)?;
    let bytes = body::read(std::mem::take(incoming.request.body_mut())).await?;
    let about = write_target(served, target, part);
    let mut patch = Patch::read(kind, &bytes, about, &incoming.context)?;
    match write::change(core, &incoming.context, about, &mut patch).await {
        Err(status)
            if status.reason == Reason::NotFound && kind == PatchKind::Apply && part == Part::Main =>
        {
            may_create(core, &incoming.context, target).await?;
            let object = patch.new_object(about)?;
            let written =
                write::create_tracked(core, &incoming.context, about, object, Tracking::Applied).await?;
            Ok(Reply::Object(StatusCode::CREATED, written.bytes, served.clone()))
        }
        result => result.map(|written| Reply::Object(StatusCode::OK, written.bytes, served.clone())),
    }
}

async fn read_object(incoming: &mut Incoming, served: &Served) -> Result<Value, Status> {
    let format = Format::from_content_type(content_type(incoming.request.headers()))?;
    let bytes = body::read(std::mem::take(incoming.request.body_mut())).await?;
    let api_version = served.api_version();
    decode::body(&bytes, format, &Expected::of(served, &api_version), &incoming.context)
}

pub(crate) async fn read_options(incoming: &mut Incoming) -> Result<delete::Options, Status> {
    let bytes = body::read(std::mem::take(incoming.request.body_mut())).await?;
    let body = if bytes.is_empty() {
        None
    } else {
        let format = Format::from_content_type(content_type(incoming.request.headers()))?;
        delete_options(format.parse(&bytes)?.value)?
    };
    delete::Options::read(body.as_ref(), &incoming.context)
}

/// Makes `DeleteOptions` out of a tree. Every group and version has this kind, and all mean the same; fields that it does
/// not have are dropped without a word, whatever `fieldValidation` says, as upstream does.
fn delete_options(mut body: Value) -> Result<Option<Value>, Status> {
    if body.is_null() {
        return Ok(None);
    }
    let unrecognized =
        |why: &str| Err(Status::bad_request(format!("the DeleteOptions are unrecognized: {why}")));
    let Some(options) = body.as_object() else {
        return unrecognized(&format!("expected an object, got {}", body.type_name()));
    };
    let is_text = |value: &&Value| value.is_null() || value.as_str().is_some();
    let mut identity = ["apiVersion", "kind"].iter().filter_map(|key| options.get(key));
    if let Some(other) = identity.find(|value| !is_text(value)) {
        return unrecognized(&format!("apiVersion and kind are strings, got {}", other.type_name()));
    }
    let text = |key: &str| body.str_at(&[key]).unwrap_or_default();
    if !matches!(text("kind"), "" | "DeleteOptions") || text("apiVersion").matches('/').count() > 1 {
        return unrecognized(&format!(
            "no kind {:?} is expected in version {:?}",
            text("kind"),
            text("apiVersion")
        ));
    }
    let ty = builtin::definition(DELETE_OPTIONS).ok_or_else(|| Status::internal("no type DeleteOptions"))?;
    let schema = builtin::schema();
    let Decoded { mistyped, .. } = structural::decode(&mut body, schema.at(ty), Strictness::BuiltIn);
    if let Some(first) = mistyped.first() {
        return unrecognized(&first.message);
    }
    Ok(Some(body))
}

async fn delete_one(
    core: &Core,
    incoming: &mut Incoming,
    target: &Target,
    served: &Served,
) -> Result<Reply, Status> {
    let options = read_options(incoming).await?;
    let about = write_target(served, target, Part::Main);
    match delete::delete(core, &incoming.context, about, &options).await? {
        Deleted::Gone(bytes) if served.row.kind.returned_when_deleted => {
            Ok(Reply::Object(StatusCode::OK, bytes, served.clone()))
        }
        Deleted::Gone(bytes) => {
            let last = xebec_api::json::from_slice(&bytes).map_err(Status::internal)?;
            Ok(Reply::ok(delete::success(served, &last)))
        }
        Deleted::Waiting(bytes) => {
            let code = if options.waits { StatusCode::ACCEPTED } else { StatusCode::OK };
            Ok(Reply::Object(code, bytes, served.clone()))
        }
    }
}

async fn delete_collection(
    core: &Core,
    incoming: &mut Incoming,
    target: &Target,
    served: &Served,
) -> Result<Reply, Status> {
    let options = read_options(incoming).await?;
    let list = ListOptions::from_query(&incoming.context.query)?;
    let page = read::list(core, served, &target.namespace, &list).await?;
    for record in &page.records {
        let object = crate::registry::convert::stored_object(record)?;
        let about = write::Target {
            served,
            namespace: xebec_api::meta::namespace(&object),
            name: xebec_api::meta::name(&object),
            part: Part::Main,
        };
        match delete::delete(core, &incoming.context, about, &options).await {
            Ok(_) => {}
            Err(status) if status.reason == Reason::NotFound => {}
            Err(status) => return Err(status),
        }
    }
    Ok(Reply::List(page, served.clone()))
}

/// A request on a subresource.
async fn below(
    core: &Core,
    incoming: &mut Incoming,
    verb: Verb,
    target: &Target,
    served: Served,
) -> Result<Reply, Status> {
    let Some(subresource) = served.version().subresource(&target.subresource) else {
        return Err(Status::no_such_path());
    };
    if !subresource.verbs.has(needed_verbs(verb)) && !is_stream(target) {
        let name = format!("{}/{}", target.resource, target.subresource);
        return Err(Status::method_not_allowed(&target.group, &name, verb.as_str()));
    }
    if is_stream(target) {
        return streams::handle(core, incoming, verb, target, &served).await;
    }
    let own_kind = subresource.kind == served.row.def.names.kind && subresource.group_version.is_none();
    let part = if target.subresource == "status" { Part::Status } else { Part::Other(&target.subresource) };
    match verb {
        Verb::Get if own_kind => {
            let bytes = read::get(core, &served, &target.namespace, &target.name, At::Newest).await?;
            Ok(Reply::Object(StatusCode::OK, bytes, served))
        }
        Verb::Update if own_kind => update(core, incoming, target, &served, part).await,
        Verb::Patch if own_kind => patch(core, incoming, target, &served, part).await,
        _ => subresources::handle(core, incoming, verb, target, &served).await,
    }
}
