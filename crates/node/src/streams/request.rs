//! What a request asks for: paths and query parameters, as the API server passes them on.

use std::time::{Duration, SystemTime};

use crate::logs::{LogOptions, LogTime, StreamFilter};

use super::pods::{ContainerRef, PodRef, Run};
use super::status::Refusal;

/// Most ports of one port-forward request that names them in its query.
const MAX_PORTS: usize = 64;

/// Most arguments of a command.
const MAX_ARGUMENTS: usize = 4096;

/// What is to be done, and with what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// `/containerLogs/NAMESPACE/POD/CONTAINER`
    Logs(ContainerRef),
    /// `/exec/NAMESPACE/POD/CONTAINER`
    Exec(ContainerRef),
    /// `/attach/NAMESPACE/POD/CONTAINER`
    Attach(ContainerRef),
    /// `/portForward/NAMESPACE/POD`
    PortForward(PodRef),
    /// `/healthz`
    Health,
    /// `/pods`
    Pods,
    /// `/configz`
    Config,
}

impl Action {
    /// Reads a path.
    pub(crate) fn parse(path: &str) -> Option<Self> {
        match path.strip_suffix('/').unwrap_or(path) {
            "/healthz" => return Some(Self::Health),
            "/pods" => return Some(Self::Pods),
            "/configz" => return Some(Self::Config),
            _ => {}
        }
        let mut segments = path.strip_prefix('/')?.split('/');
        let mut next = || segments.next().filter(|segment| !segment.is_empty()).map(str::to_owned);
        let verb = next()?;
        let pod = PodRef { namespace: next()?, name: next()? };
        let action = if verb == "portForward" {
            Self::PortForward(pod)
        } else {
            let container = ContainerRef { pod, container: next()? };
            match verb.as_str() {
                "containerLogs" => Self::Logs(container),
                "exec" => Self::Exec(container),
                "attach" => Self::Attach(container),
                _ => return None,
            }
        };
        segments.next().is_none().then_some(action)
    }
}

/// Which streams of a process a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Streams {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    pub(crate) tty: bool,
}

impl Streams {
    /// Reads `stdin`, `stdout`, `stderr` and `tty`. With a terminal there is no separate error output.
    pub(crate) fn parse(query: &str) -> Result<Self, Refusal> {
        let flag = |name| pairs(query).find(|(key, _)| key == name).is_some_and(|(_, value)| is_true(&value));
        let tty = flag("tty");
        let streams =
            Self { stdin: flag("stdin"), stdout: flag("stdout"), stderr: flag("stderr") && !tty, tty };
        if streams.stdin || streams.stdout || streams.stderr {
            Ok(streams)
        } else {
            Err(Refusal::bad_request("you must specify at least 1 of stdin, stdout, stderr"))
        }
    }
}

/// Reads the command of an `exec`.
pub(crate) fn command(query: &str) -> Result<Vec<String>, Refusal> {
    let command: Vec<_> = pairs(query)
        .filter(|(key, _)| key == "command")
        .map(|(_, value)| value)
        .take(MAX_ARGUMENTS + 1)
        .collect();
    match command.len() {
        0 => Err(Refusal::bad_request("you must specify a command")),
        1..=MAX_ARGUMENTS => Ok(command),
        _ => Err(Refusal::bad_request(format!("a command has at most {MAX_ARGUMENTS} arguments"))),
    }
}

/// Reads the ports of a port-forward request that names them in its query.
pub(crate) fn ports(query: &str) -> Result<Vec<u16>, Refusal> {
    let mut ports = Vec::new();
    for (_, value) in pairs(query).filter(|(key, _)| key == "ports" || key == "port") {
        for text in value.split(',') {
            let port = text.parse().ok().filter(|port| *port != 0);
            ports.push(port.ok_or_else(|| {
                Refusal::bad_request(format!("{text:?} is no port: write a number from 1 to 65535"))
            })?);
            if ports.len() > MAX_PORTS {
                return Err(Refusal::bad_request(format!(
                    "at most {MAX_PORTS} ports can be forwarded at once"
                )));
            }
        }
    }
    if ports.is_empty() {
        return Err(Refusal::bad_request("query parameter \"ports\" is required"));
    }
    Ok(ports)
}

/// Reads what part of a log is wanted, and of which run; `now` is what `sinceSeconds` counts back from.
pub(crate) fn log_options(query: &str, now: SystemTime) -> Result<(LogOptions, Run), Refusal> {
    let mut options = LogOptions::default();
    let mut run = Run::Current;
    let mut sinces = 0;
    for (key, value) in pairs(query) {
        match key.as_str() {
            "follow" => options.follow = is_true(&value),
            "previous" if is_true(&value) => run = Run::Previous,
            "timestamps" => options.timestamps = is_true(&value),
            "tailLines" => options.tail_lines = Some(number(&key, &value, 0)?),
            "limitBytes" => options.limit_bytes = Some(number(&key, &value, 1)?),
            "sinceSeconds" => {
                let seconds = Duration::from_secs(number(&key, &value, 1)?);
                // A time before all times leaves nothing out.
                options.since = now.checked_sub(seconds).and_then(LogTime::from_system);
                sinces += 1;
            }
            "sinceTime" => {
                let rule = "must be a time such as 2026-01-31T12:00:00Z";
                options.since = Some(LogTime::parse(&value).ok_or_else(|| invalid(&key, &value, rule))?);
                sinces += 1;
            }
            "stream" => options.stream = stream(&value)?,
            _ => {}
        }
    }
    if sinces > 1 {
        return Err(invalid_options("at most one of `sinceTime` or `sinceSeconds` may be specified"));
    }
    Ok((options, run))
}

fn stream(value: &str) -> Result<StreamFilter, Refusal> {
    match value {
        "" | "All" => Ok(StreamFilter::All),
        "Stdout" | "stdout" => Ok(StreamFilter::Stdout),
        "Stderr" | "stderr" => Ok(StreamFilter::Stderr),
        _ => Err(invalid("stream", value, "supported values: \"All\", \"Stderr\", \"Stdout\"")),
    }
}

fn number(key: &str, value: &str, least: u64) -> Result<u64, Refusal> {
    let wide: i64 = value
        .parse()
        .map_err(|_| Refusal::bad_request(format!("{key} must be a whole number, not {value:?}")))?;
    match u64::try_from(wide) {
        Ok(number) if number >= least => Ok(number),
        _ if least == 0 => Err(invalid(key, value, "must be greater than or equal to 0")),
        _ => Err(invalid(key, value, "must be greater than 0")),
    }
}

fn invalid(key: &str, value: &str, rule: &str) -> Refusal {
    invalid_options(&format!("{key}: Invalid value: {value:?}: {rule}"))
}

fn invalid_options(what: &str) -> Refusal {
    Refusal::invalid(format!("PodLogOptions is invalid: {what}"))
}

fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    form_urlencoded::parse(query.as_bytes()).map(|(key, value)| (key.into_owned(), value.into_owned()))
}

/// A flag is set unless its value says otherwise.
fn is_true(value: &str) -> bool {
    value != "0" && !value.eq_ignore_ascii_case("false")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> PodRef {
        PodRef { namespace: "default".into(), name: "web".into() }
    }

    fn container() -> ContainerRef {
        ContainerRef { pod: pod(), container: "app".into() }
    }

    #[test]
    fn paths() {
        let check = |path, expected| assert_eq!(Action::parse(path), expected, "{path}");
        check("/containerLogs/default/web/app", Some(Action::Logs(container())));
        check("/exec/default/web/app", Some(Action::Exec(container())));
        check("/attach/default/web/app", Some(Action::Attach(container())));
        check("/portForward/default/web", Some(Action::PortForward(pod())));
        for bad in ["", "/", "/exec", "/exec/default/web", "/exec/default//app", "/exec/default/web/app/x"] {
            check(bad, None);
        }
        check("/portForward/default/web/app", None);
        check("/healthz", Some(Action::Health));
        check("/pods/", Some(Action::Pods));
        check("/configz", Some(Action::Config));
        check("/pods/default", None);
        check("/run/default/web/app", None);
        check("exec/default/web/app", None);
    }

    #[test]
    fn streams() {
        let check = |query, expected: Option<[bool; 4]>| {
            let expected =
                expected.map(|[stdin, stdout, stderr, tty]| Streams { stdin, stdout, stderr, tty });
            assert_eq!(Streams::parse(query).ok(), expected, "{query}");
        };
        check("stdin=true&stdout=1&stderr=", Some([true, true, true, false]));
        check("stdout=true&stderr=true&tty=true", Some([false, true, false, true]));
        check("stdin=false&stdout=0&stderr=FALSE", None);
        check("stderr=true&tty=true", None);
        check("", None);
    }

    #[test]
    fn commands_and_ports() {
        assert_eq!(
            command("command=sh&stdin=1&command=-c&command=echo%20a+b").unwrap(),
            ["sh", "-c", "echo a b"]
        );
        assert!(command("stdin=1").is_err());
        assert!(command(&"command=x&".repeat(MAX_ARGUMENTS + 1)).is_err());
        let check =
            |query, expected: Option<&[u16]>| assert_eq!(ports(query).ok().as_deref(), expected, "{query}");
        check("ports=80", Some(&[80]));
        check("ports=80,443&ports=8080", Some(&[80, 443, 8080]));
        for bad in ["", "ports=", "ports=0", "ports=65536", "ports=80,,81", "ports=http"] {
            check(bad, None);
        }
        check(&format!("ports={}", vec!["1"; MAX_PORTS + 1].join(",")), None);
    }

    #[test]
    fn log_queries() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let read = |query| log_options(query, now);
        let query =
            "follow=true&previous=1&timestamps=&tailLines=0&limitBytes=5&sinceSeconds=60&stream=Stderr";
        let expected = LogOptions {
            follow: true,
            timestamps: true,
            tail_lines: Some(0),
            limit_bytes: Some(5),
            since: LogTime::parse("1970-01-01T00:00:40Z"),
            stream: StreamFilter::Stderr,
        };
        assert_eq!(read(query).unwrap(), (expected, Run::Previous));
        let defaults = (LogOptions::default(), Run::Current);
        assert_eq!(read("follow=false&previous=false&container=app").unwrap(), defaults);
        assert_eq!(read("sinceSeconds=9223372036854775807").unwrap(), defaults);
        let since = read("sinceTime=2026-01-31T12:00:00%2B02:00").unwrap().0.since;
        assert_eq!(since, LogTime::parse("2026-01-31T10:00:00Z"));
        let check = |query, expected: &str| {
            let refusal = read(query).unwrap_err();
            assert!(format!("{refusal:?}").contains(expected), "{refusal:?}");
        };
        check("tailLines=-1", "greater than or equal to 0");
        check("tailLines=x", "whole number");
        check("limitBytes=0", "greater than 0");
        check("sinceSeconds=0", "greater than 0");
        check("sinceTime=yesterday", "2026-01-31T12:00:00Z");
        check("sinceTime=2026-01-31T12:00:00Z&sinceSeconds=1", "at most one");
        check("stream=both", "supported values");
    }
}
