//! Reads lightkube's resource modules as data: which paths the server answers, with which verbs.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::definitions::Kind;

/// Where a resource is, or one of its subresources when `subresource` is not empty.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Endpoint {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) plural: String,
    pub(super) subresource: String,
}

/// What the server answers there.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) namespaced: bool,
    pub(super) kind: Kind,
    /// Sorted names of the API's verbs.
    pub(super) verbs: Vec<&'static str>,
}

/// Reads all modules of the directory `resources`.
pub(super) fn read(dir: &Path) -> Result<BTreeMap<Endpoint, Answer>> {
    let mut answers = BTreeMap::new();
    for entry in std::fs::read_dir(dir).with_context(|| format!("list {}", dir.display()))? {
        let path = entry?.path();
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        for class in text.split("\nclass ").skip(1) {
            let (endpoint, answer) = read_class(class).with_context(|| format!("in {}", path.display()))?;
            answers.insert(endpoint, answer);
        }
    }
    ensure!(answers.len() > 100, "{} has only {} resources", dir.display(), answers.len());
    Ok(answers)
}

fn read_class(class: &str) -> Result<(Endpoint, Answer)> {
    let base = between(class, "(res.", ",").context("a class has a base")?;
    let kind = read_kind(class, " resource=res.ResourceDef(")?.context("a class has a resource")?;
    let parent = read_kind(class, " parent=res.ResourceDef(")?.unwrap_or_else(|| kind.clone());
    let plural = between(class, "plural='", "'").context("a class has a plural")?;
    let verbs = between(class, "verbs=[", "]").context("a class has verbs")?;
    let mut verbs: Vec<&str> = verbs.split(", ").filter_map(|v| verb(v.trim_matches('\''))).collect();
    verbs.sort_unstable();
    verbs.dedup();
    let endpoint = Endpoint {
        group: parent.group,
        version: parent.version,
        plural: plural.to_owned(),
        subresource: between(class, "action='", "'").unwrap_or_default().to_owned(),
    };
    Ok((endpoint, Answer { namespaced: base.starts_with("Namespaced"), kind, verbs }))
}

fn read_kind(class: &str, start: &str) -> Result<Option<Kind>> {
    let Some(text) = between(class, start, ")") else { return Ok(None) };
    let parts: Vec<String> = text.split(", ").map(|p| p.trim_matches('\'').to_owned()).collect();
    let [group, version, kind] =
        <[String; 3]>::try_from(parts).map_err(|p| anyhow::anyhow!("not group, version, kind: {p:?}"))?;
    Ok(Some(Kind { group, version, kind }))
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(start)?;
    rest.split_once(end).map(|(found, _)| found)
}

/// The API's verb for lightkube's; the verbs over all namespaces are the plain ones again.
fn verb(name: &str) -> Option<&'static str> {
    Some(match name {
        "post" => "create",
        "put" => "update",
        "get" => "get",
        "list" => "list",
        "watch" => "watch",
        "patch" => "patch",
        "delete" => "delete",
        "deletecollection" => "deletecollection",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_read() {
        let class = "DeploymentScale(res.NamespacedSubResource, m.Scale):\n    _api_info = res.ApiInfo(\n        \
            resource=res.ResourceDef('autoscaling', 'v1', 'Scale'),\n        \
            parent=res.ResourceDef('apps', 'v1', 'Deployment'),\n        plural='deployments',\n        \
            verbs=['get', 'global_list', 'patch', 'put'],\n        action='scale',\n    )\n";
        let (endpoint, answer) = read_class(class).expect("the class is whole");
        let got = (endpoint.group.as_str(), endpoint.plural.as_str(), endpoint.subresource.as_str());
        assert_eq!(got, ("apps", "deployments", "scale"));
        assert_eq!((answer.namespaced, answer.kind.kind.as_str()), (true, "Scale"));
        assert_eq!(answer.verbs, ["get", "patch", "update"]);
        assert!(read_class("Pod(res.NamespacedResource, m.Pod):\n").is_err());
    }
}
