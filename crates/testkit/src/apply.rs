//! Manifests: what a test has its cluster hold.

use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::discovery::ApiResource;
use serde_json::Value;
use xebec_api::resource::Scope;

use crate::cluster::Cluster;
use crate::error::ApplyError;

/// Who owns the fields that a test applies.
const MANAGER: &str = "xebec-testkit";

impl Cluster {
    /// Applies manifests, as `kubectl apply --server-side --force-conflicts` does: YAML or JSON, any number of documents, in
    /// their order. An object without a namespace goes into `default`. Gives the objects as they are stored.
    ///
    /// # Errors
    /// One cannot be read, or is refused; those before it are applied.
    pub async fn apply(&self, manifests: &str) -> Result<Vec<DynamicObject>, ApplyError> {
        let mut applied = Vec::new();
        for (index, document) in documents(manifests).enumerate() {
            let number = index + 1;
            let object: Value = serde_saphyr::from_str(document)
                .map_err(|error| ApplyError::Unreadable { number, reason: error.to_string() })?;
            applied.push(self.apply_one(number, &object).await?);
        }
        Ok(applied)
    }

    async fn apply_one(&self, number: usize, object: &Value) -> Result<DynamicObject, ApplyError> {
        let text = |value: &Value, field: &'static str| {
            let text = value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
            text.ok_or(ApplyError::Incomplete { number, field })
        };
        let api_version = text(&object["apiVersion"], "apiVersion")?;
        let kind = text(&object["kind"], "kind")?;
        let name = text(&object["metadata"]["name"], "metadata.name")?;
        let (resource, scope) = self
            .find(&api_version, &kind)
            .ok_or_else(|| ApplyError::NoSuchKind { api_version, kind: kind.clone() })?;
        let client = self.steady_client();
        let api: Api<DynamicObject> = match scope {
            Scope::Cluster => Api::all_with(client, &resource),
            Scope::Namespaced => {
                let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
                Api::namespaced_with(client, namespace, &resource)
            }
        };
        let params = PatchParams::apply(MANAGER).force();
        let applied = api.patch(&name, &params, &Patch::Apply(object)).await;
        applied.map_err(|source| ApplyError::Refused { kind, name, source: Box::new(source) })
    }

    /// The resource of a kind, among those that are served now.
    fn find(&self, api_version: &str, kind: &str) -> Option<(ApiResource, Scope)> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let table = self.server().core().table.get();
        let row = table.rows().find(|row| {
            row.group() == group && row.kind_name() == kind && row.def.served(version).is_some()
        })?;
        let resource = ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            plural: row.resource().to_owned(),
        };
        Some((resource, row.def.scope))
    }
}

/// The documents of a text, without those that are empty or only comments.
fn documents(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    let split = std::iter::from_fn(move || {
        let text = rest?;
        let starts = text.match_indices("---").map(|(at, _)| at);
        let is_line = |at: &usize| {
            let before = *at == 0 || text.as_bytes()[at - 1] == b'\n';
            let after = text[at + 3..].chars().next();
            before && after.is_none_or(char::is_whitespace)
        };
        let mut starts = starts.filter(is_line);
        let Some(at) = starts.next() else { return rest.take() };
        rest = Some(&text[at + 3..]);
        Some(&text[..at])
    });
    split.filter(|document| {
        document.lines().map(str::trim).any(|line| !line.is_empty() && !line.starts_with('#'))
    })
}

#[cfg(test)]
mod tests {
    use super::documents;

    #[test]
    fn documents_are_told_apart() {
        for (text, want) in [
            ("", &[] as &[&str]),
            ("a: b", &["a: b"]),
            ("---\na: b\n---\nc: d\n", &["\na: b\n", "\nc: d\n"]),
            ("# only a comment\n---\na: b", &["\na: b"]),
            ("a: x---y\n----\nb: \"---\"\n", &["a: x---y\n----\nb: \"---\"\n"]),
            ("a: b\n--- # next\nc: d", &["a: b\n", " # next\nc: d"]),
        ] {
            assert_eq!(documents(text).collect::<Vec<_>>(), want, "{text:?}");
        }
    }
}
