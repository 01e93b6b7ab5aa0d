//! The parameters of requests: which there are, and which operations take which.

use super::writer::Object;

/// A query or path parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parameter {
    pub(super) name: &'static str,
    ty: &'static str,
    in_path: bool,
    description: String,
}

/// What the query parameters mean: name, type, description.
const QUERY: &[(&str, &str, &str)] = &[
    (
        "allowWatchBookmarks",
        "boolean",
        "Send bookmarks on a watch, so that it can resume from a recent revision.",
    ),
    ("command", "string", "The command to run, one argument a parameter; no shell reads it."),
    ("container", "string", "The container; needed when the pod has more than one."),
    ("continue", "string", "The token of the page to go on from, as the page before gave it."),
    ("dryRun", "string", "`All`: do everything but store the result."),
    ("fieldManager", "string", "Who changes the fields; up to 128 printable characters."),
    (
        "fieldValidation",
        "string",
        "What becomes of unknown and duplicate fields: `Ignore` drops them, `Warn` drops them with a warning, `Strict` refuses the request.",
    ),
    ("fieldSelector", "string", "Only objects whose fields match."),
    ("follow", "boolean", "Go on as lines are written."),
    ("force", "boolean", "Take over fields that another manager owns. Only for server-side apply."),
    ("gracePeriodSeconds", "integer", "How long the object has to end by itself; 0 ends it at once."),
    (
        "ignoreStoreReadErrorWithClusterBreakingPotential",
        "boolean",
        "Delete an object that cannot be read, without any of the usual checks.",
    ),
    ("insecureSkipTLSVerifyBackend", "boolean", "Do not check the certificate of the node."),
    ("labelSelector", "string", "Only objects whose labels match."),
    ("limit", "integer", "At most so many objects; a token to go on from comes with them."),
    ("limitBytes", "integer", "At most so many bytes."),
    ("orphanDependents", "boolean", "Old form of propagationPolicy."),
    ("path", "string", "The path of the request to pass on."),
    ("ports", "integer", "The ports to forward."),
    ("pretty", "string", "`true`: indented output."),
    ("previous", "boolean", "The lines of the container before this one."),
    (
        "propagationPolicy",
        "string",
        "What becomes of dependents: `Orphan` keeps them, `Background` deletes them later, `Foreground` before the object.",
    ),
    ("resourceVersion", "string", "The revision to read at, or to start a watch from."),
    ("resourceVersionMatch", "string", "How resourceVersion is meant: `Exact` or `NotOlderThan`."),
    ("sendInitialEvents", "boolean", "Start a watch with events for what is there, then a bookmark."),
    ("sinceSeconds", "integer", "Only lines of the last so many seconds."),
    ("stderr", "boolean", "Take part in the standard error stream."),
    ("stdin", "boolean", "Take part in the standard input stream."),
    ("stdout", "boolean", "Take part in the standard output stream."),
    ("stream", "string", "Which stream: `All`, `Stdout` or `Stderr`."),
    ("tailLines", "integer", "Only the last so many lines."),
    ("timeoutSeconds", "integer", "End the request after so many seconds."),
    ("timestamps", "boolean", "Put the time before each line."),
    ("tty", "boolean", "Give the command a terminal."),
    ("watch", "boolean", "Stream changes instead of a list."),
];

pub(super) const LIST: &[&str] = &[
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
];
pub(super) const CHANGE: &[&str] = &["dryRun", "fieldManager", "fieldValidation"];
pub(super) const PATCH: &[&str] = &["dryRun", "fieldManager", "fieldValidation", "force"];
pub(super) const DELETE: &[&str] = &[
    "dryRun",
    "gracePeriodSeconds",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "orphanDependents",
    "propagationPolicy",
];
pub(super) const DELETE_COLLECTION: &[&str] = &[
    "continue",
    "dryRun",
    "fieldSelector",
    "gracePeriodSeconds",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "labelSelector",
    "limit",
    "orphanDependents",
    "propagationPolicy",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
];
pub(super) const LOG: &[&str] = &[
    "container",
    "follow",
    "insecureSkipTLSVerifyBackend",
    "limitBytes",
    "previous",
    "sinceSeconds",
    "stream",
    "tailLines",
    "timestamps",
];

/// The parameters of a stream, by the kind of its options.
pub(super) fn of_options(kind: &str) -> &'static [&'static str] {
    match kind {
        "PodExecOptions" => &["command", "container", "stderr", "stdin", "stdout", "tty"],
        "PodAttachOptions" => &["container", "stderr", "stdin", "stdout", "tty"],
        "PodPortForwardOptions" => &["ports"],
        "NodeProxyOptions" | "PodProxyOptions" | "ServiceProxyOptions" => &["path"],
        _ => &[],
    }
}

impl Parameter {
    /// The query parameter of this name.
    pub(super) fn query(name: &str) -> Self {
        let found = QUERY.iter().find(|(n, ..)| *n == name);
        let (name, ty, description) = *found.expect("only parameters of the table are used");
        Self { name, ty, in_path: false, description: description.to_owned() }
    }

    /// A part of the path.
    pub(super) fn path(name: &'static str, description: impl Into<String>) -> Self {
        Self { name, ty: "string", in_path: true, description: description.into() }
    }

    /// Writes all but the type, which the two dialects put differently.
    pub(super) fn write(&self, out: &mut Object<'_>, write_type: impl FnOnce(&mut Object<'_>, &str)) {
        out.text("description", &self.description);
        out.text("in", if self.in_path { "path" } else { "query" });
        out.text("name", self.name);
        if self.in_path {
            out.flag("required", true);
        }
        write_type(out, self.ty);
    }
}
