//! Events: `Event` of audit.k8s.io/v1, one line of JSON each.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use xebec_api::time::Timestamp;
use xebec_api::{Status, Value, json};

use super::policy::{Decision, Level, Stage};
use crate::auth::User;
use crate::authz::Question;
use crate::http::body::Format;
use crate::http::route::{Route, Target};

/// A longer `User-Agent` is cut.
const MAX_AGENT: usize = 1024;

/// What is recorded of one request: filled on its way, written at its stages.
#[derive(Debug)]
pub(crate) struct Record {
    decision: Decision,
    id: String,
    uri: String,
    verb: String,
    user: Arc<User>,
    impersonated: Option<Arc<User>>,
    sources: Vec<IpAddr>,
    agent: String,
    target: Option<Target>,
    received: Timestamp,
    request: Option<(Bytes, Format)>,
    response: Option<Bytes>,
    annotations: BTreeMap<String, String>,
}

/// What is known of a request when its recording begins.
pub(crate) struct Begin<'a> {
    /// Its id.
    pub(crate) id: &'a str,
    /// Path and query.
    pub(crate) uri: &'a http::Uri,
    /// Its headers.
    pub(crate) headers: &'a HeaderMap,
    /// Where its connection comes from.
    pub(crate) source: Option<IpAddr>,
    /// Who asks, if that is known.
    pub(crate) user: Option<&'a Arc<User>>,
    /// What is asked.
    pub(crate) question: &'a Question<'a>,
    /// Where it goes.
    pub(crate) route: Option<&'a Route>,
    /// When it came.
    pub(crate) received: Timestamp,
}

/// How a request ended.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Outcome<'a> {
    /// It has not.
    UnderWay,
    /// With this code.
    Answered(u16),
    /// With this refusal.
    Refused(&'a Status),
    /// Its client has gone.
    Left,
    /// The server has failed at it, and says this.
    Panicked(&'a str),
}

impl Record {
    pub(super) fn new(begin: &Begin<'_>, decision: Decision) -> Self {
        let text = |name| begin.headers.get(name).and_then(|value| value.to_str().ok());
        let mut agent = text(http::header::USER_AGENT).unwrap_or_default().to_owned();
        if agent.len() > MAX_AGENT {
            agent.truncate(agent.floor_char_boundary(MAX_AGENT));
            agent.push_str("...TRUNCATED");
        }
        let forwarded = text("x-forwarded-for".parse().expect("a header's name")).unwrap_or_default();
        let sources = forwarded.split(',').filter_map(|ip| ip.trim().parse().ok()).chain(begin.source);
        let target = match begin.route {
            Some(Route::Resource(_, target)) => Some(target.clone()),
            Some(Route::Path(_)) | None => None,
        };
        Self {
            decision,
            id: begin.id.to_owned(),
            uri: begin.uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            verb: begin.question.verb.to_owned(),
            user: begin.user.cloned().unwrap_or_default(),
            impersonated: None,
            sources: sources.collect(),
            agent,
            target,
            received: begin.received,
            request: None,
            response: None,
            annotations: BTreeMap::new(),
        }
    }

    /// Whether the event of a stage is written.
    pub(super) const fn has(&self, stage: Stage) -> bool {
        !self.decision.omits.has(stage)
    }

    /// Whom the asker acts as.
    pub(crate) fn impersonates(&mut self, user: &Arc<User>) {
        self.impersonated = Some(user.clone());
    }

    /// The request's body, if it is recorded.
    pub(crate) fn request(&mut self, body: &Bytes, content_type: Option<&str>) {
        if self.decision.level >= Level::Request && !body.is_empty() {
            let kind = content_type.unwrap_or_default();
            let format = match kind.split(';').next().unwrap_or_default() {
                "application/apply-patch+yaml" => Format::Yaml,
                _ => Format::from_content_type(content_type).unwrap_or(Format::Json),
            };
            self.request = Some((body.clone(), format));
        }
    }

    /// The answer's body in JSON, if it is recorded.
    pub(crate) fn response(&mut self, body: impl FnOnce() -> Bytes) {
        if self.decision.level >= Level::RequestResponse {
            self.response = Some(body());
        }
    }

    /// The name of the object that the request makes, which its path has not.
    pub(crate) fn named(&mut self, name: &str) {
        if let Some(target) = self.target.as_mut().filter(|target| target.name.is_empty()) {
            name.clone_into(&mut target.name);
        }
    }

    /// Adds a fact. The first one of a name stays.
    pub(crate) fn annotate(&mut self, key: &str, value: String) {
        self.annotations.entry(key.to_owned()).or_insert(value);
    }

    /// The line of a stage.
    pub(super) fn line(&self, stage: Stage, outcome: Outcome<'_>, now: Timestamp) -> Vec<u8> {
        let mut out = Members::begin();
        out.text("kind", "Event");
        out.text("apiVersion", "audit.k8s.io/v1");
        out.text("level", self.decision.level.as_str());
        out.text("auditID", &self.id);
        out.text("stage", stage.as_str());
        out.text("requestURI", &self.uri);
        out.text("verb", &self.verb);
        out.value("user", &self.user.to_value());
        if let Some(user) = &self.impersonated {
            out.value("impersonatedUser", &user.to_value());
        }
        if !self.sources.is_empty() {
            let sources: Vec<String> = self.sources.iter().map(ToString::to_string).collect();
            out.value("sourceIPs", &Value::from(sources.iter().map(String::as_str).collect::<Vec<_>>()));
        }
        if !self.agent.is_empty() {
            out.text("userAgent", &self.agent);
        }
        if let Some(target) = &self.target {
            out.object("objectRef", |out| write_target(target, out));
        }
        write_status(outcome, &mut out);
        if stage != Stage::RequestReceived {
            self.write_bodies(outcome, &mut out);
        }
        out.text("requestReceivedTimestamp", &self.received.micro().to_string());
        out.text("stageTimestamp", &now.micro().to_string());
        if !self.annotations.is_empty() {
            out.object("annotations", |out| {
                self.annotations.iter().for_each(|(key, value)| out.text(key, value));
            });
        }
        out.end()
    }

    fn write_bodies(&self, outcome: Outcome<'_>, out: &mut Members) {
        if let Some((body, format)) = &self.request
            && let Ok(parsed) = format.parse(body)
        {
            out.value("requestObject", &self.kept(parsed.value));
        }
        let refusal = match outcome {
            Outcome::Refused(status) if self.decision.level >= Level::RequestResponse => {
                Some(status.to_value())
            }
            _ => None,
        };
        let response = self.response.as_ref().and_then(|body| json::from_slice(body).ok());
        if let Some(object) = refusal.or(response) {
            out.value("responseObject", &self.kept(object));
        }
    }

    fn kept(&self, mut object: Value) -> Value {
        if self.decision.omit_managed_fields
            && let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut)
        {
            metadata.remove("managedFields");
        }
        object
    }
}

fn write_target(target: &Target, out: &mut Members) {
    for (name, value) in [
        ("resource", &*target.resource),
        ("namespace", target.authorized_in()),
        ("name", &target.name),
        ("apiGroup", &target.group),
        ("apiVersion", &target.version),
        ("subresource", &target.subresource),
    ] {
        if !value.is_empty() {
            out.text(name, value);
        }
    }
}

fn write_status(outcome: Outcome<'_>, out: &mut Members) {
    let (status, reason, message, code) = match outcome {
        Outcome::UnderWay => return,
        Outcome::Answered(code) => ("", "", "", code),
        Outcome::Left => ("Success", "", "Connection closed early", 200),
        Outcome::Panicked(text) => {
            let message = format!("APIServer panic'd: {text}");
            return out.object("responseStatus", |out| {
                write_failure("Failure", "InternalError", &message, 500, out);
            });
        }
        Outcome::Refused(refusal) => {
            let mut value = refusal.to_value();
            if let Some(members) = value.as_object_mut() {
                members.remove("apiVersion");
                members.remove("kind");
            }
            return out.value("responseStatus", &value);
        }
    };
    out.object("responseStatus", |out| write_failure(status, reason, message, code, out));
}

fn write_failure(status: &str, reason: &str, message: &str, code: u16, out: &mut Members) {
    out.object("metadata", |_| {});
    for (name, value) in [("status", status), ("message", message), ("reason", reason)] {
        if !value.is_empty() {
            out.text(name, value);
        }
    }
    out.value("code", &Value::from(i64::from(code)));
}

/// A JSON object under way.
struct Members {
    out: Vec<u8>,
    first: bool,
}

impl Members {
    fn begin() -> Self {
        let mut out = Vec::with_capacity(1024);
        out.push(b'{');
        Self { out, first: true }
    }

    fn name(&mut self, name: &str) {
        if !std::mem::take(&mut self.first) {
            self.out.push(b',');
        }
        json::write_str(name, &mut self.out);
        self.out.push(b':');
    }

    fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        json::write_str(value, &mut self.out);
    }

    fn value(&mut self, name: &str, value: &Value) {
        self.name(name);
        json::write(value, &mut self.out);
    }

    fn object(&mut self, name: &str, members: impl FnOnce(&mut Self)) {
        self.name(name);
        self.out.push(b'{');
        self.first = true;
        members(self);
        self.first = false;
        self.out.push(b'}');
    }

    fn end(mut self) -> Vec<u8> {
        self.out.extend_from_slice(b"}\n");
        self.out
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::super::policy::Policy;
    use super::*;
    use crate::http::query::Query;

    fn record(level: &str, path: &str) -> Record {
        let policy = format!(
            "{{apiVersion: audit.k8s.io/v1, kind: Policy, omitManagedFields: true, rules: [{{level: {level}}}]}}"
        );
        let policy = Policy::read(&policy).expect("a policy");
        let uri: http::Uri = path.parse().expect("a path");
        let route = Route::read(&Method::POST, uri.path(), &Query::default()).expect("a route");
        let user = Arc::new(User::authenticated("jane", ["dev".to_owned()]));
        let Route::Resource(verb, target) = &route else { panic!("no resource") };
        let question = Question::about(verb.as_str(), target);
        let headers = [("user-agent", "kubectl"), ("x-forwarded-for", "10.0.0.1, nonsense")];
        let headers =
            headers.map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")));
        let begin = Begin {
            id: "id-1",
            uri: &uri,
            headers: &HeaderMap::from_iter(headers),
            source: Some([127, 0, 0, 1].into()),
            user: Some(&user),
            question: &question,
            route: Some(&route),
            received: Timestamp::from_unix(0),
        };
        Record::new(&begin, policy.decide(&user, &question))
    }

    fn line(record: &Record, stage: Stage, outcome: Outcome<'_>) -> Value {
        let line = record.line(stage, outcome, Timestamp::from_unix(1));
        assert_eq!(line.last(), Some(&b'\n'));
        json::from_slice(&line).expect("JSON")
    }

    const PATH: &str = "/apis/apps/v1/namespaces/n/deployments?dryRun=All";

    #[test]
    fn an_event() {
        let mut record = record("Metadata", PATH);
        record.request(&Bytes::from_static(b"{}"), None);
        record.response(|| panic!("nobody wants it"));
        record.named("web");
        record.impersonates(&Arc::new(User::authenticated("bob", [])));
        record.annotate("authorization.k8s.io/decision", "allow".into());
        record.annotate("authorization.k8s.io/decision", "forbid".into());
        let event = line(&record, Stage::ResponseComplete, Outcome::Answered(201));
        let want = concat!(
            r#"{"annotations":{"authorization.k8s.io/decision":"allow"},"apiVersion":"audit.k8s.io/v1","auditID":"id-1","#,
            r#""impersonatedUser":{"groups":["system:authenticated"],"username":"bob"},"kind":"Event","level":"Metadata","#,
            r#""objectRef":{"apiGroup":"apps","apiVersion":"v1","name":"web","namespace":"n","resource":"deployments"},"#,
            r#""requestReceivedTimestamp":"1970-01-01T00:00:00.000000Z","requestURI":"/apis/apps/v1/namespaces/n/deployments?dryRun=All","#,
            r#""responseStatus":{"code":201,"metadata":{}},"sourceIPs":["10.0.0.1","127.0.0.1"],"stage":"ResponseComplete","#,
            r#""stageTimestamp":"1970-01-01T00:00:01.000000Z","user":{"groups":["dev","system:authenticated"],"username":"jane"},"#,
            r#""userAgent":"kubectl","verb":"create"}"#,
        );
        assert_eq!(String::from_utf8(json::to_vec(&event)).expect("text"), want);
    }

    #[test]
    fn outcomes() {
        let record = record("RequestResponse", PATH);
        let refusal = Status::not_found("apps", "deployments", "web");
        let event = line(&record, Stage::ResponseComplete, Outcome::Refused(&refusal));
        let status = event.get("responseStatus").expect("a status");
        assert_eq!(status.str_at(&["status"]), Some("Failure"));
        assert_eq!(status.str_at(&["reason"]), Some("NotFound"));
        assert_eq!(status.str_at(&["details", "kind"]), Some("deployments"));
        assert_eq!((status.i64_at(&["code"]), status.get("kind")), (Some(404), None));
        assert_eq!(event.str_at(&["responseObject", "kind"]), Some("Status"));
        let event = line(&record, Stage::RequestReceived, Outcome::UnderWay);
        assert_eq!(event.get("responseStatus"), None);
        let event = line(&record, Stage::ResponseComplete, Outcome::Left);
        assert_eq!(event.str_at(&["responseStatus", "message"]), Some("Connection closed early"));
        let event = line(&record, Stage::Panic, Outcome::Panicked("oh"));
        assert_eq!(event.str_at(&["responseStatus", "message"]), Some("APIServer panic'd: oh"));
    }

    #[test]
    fn bodies() {
        let object = br#"{"kind":"Deployment","metadata":{"name":"a","managedFields":[{}]}}"#;
        for (level, request, response) in
            [("Metadata", false, false), ("Request", true, false), ("RequestResponse", true, true)]
        {
            let mut record = record(level, PATH);
            record.request(&Bytes::from_static(b"kind: Deployment\n"), Some("application/yaml"));
            record.response(|| Bytes::from_static(object));
            let event = line(&record, Stage::ResponseComplete, Outcome::Answered(201));
            let kind = |member| event.str_at(&[member, "kind"]);
            assert_eq!(kind("requestObject"), request.then_some("Deployment"), "{level}");
            assert_eq!(kind("responseObject"), response.then_some("Deployment"), "{level}");
            assert!(event.get("responseObject").is_none_or(|o| {
                o.object_at(&["metadata"]).is_some_and(|m| m.get("managedFields").is_none())
            }));
        }
    }
}
