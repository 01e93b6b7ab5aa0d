//! OpenAPI 3.0: one document for each group and version.

use std::collections::BTreeSet;

use super::operations::{Answer, Operation, Path, paths};
use super::parameters::Parameter;
use super::types::{self, Context, write_kind, write_reference};
use super::writer::{self, Object, object};
use super::{Dialect, Documents, Part, bearer_token};
use crate::builtin::Docs;

pub(super) fn document(documents: &Documents<'_>, part: &Part, docs: &Docs) -> Vec<u8> {
    let paths = paths(documents, part);
    let mut group_versions = BTreeSet::from([(String::new(), "v1".to_owned())]);
    if let Part::GroupVersion(group, version) = part {
        group_versions.insert((group.clone(), version.clone()));
    }
    let context = Context { dialect: Dialect::V3, docs, group_versions: &group_versions };
    writer::document(|out| {
        out.object("components", |out| {
            out.object("schemas", |out| {
                types::write_all(out, documents, std::slice::from_ref(part), &paths, context);
            });
            out.object("securitySchemes", bearer_token);
        });
        documents.info(out);
        out.text("openapi", "3.0.0");
        out.object("paths", |out| {
            for path in &paths {
                out.object(&path.path, |out| write_path(out, path, context));
            }
        });
    })
}

fn write_path(out: &mut Object<'_>, path: &Path, context: Context<'_>) {
    for operation in &path.operations {
        out.object(operation.method, |out| write_operation(out, operation, context));
    }
    write_parameters(out, &path.parameters);
}

fn write_parameters(out: &mut Object<'_>, parameters: &[Parameter]) {
    if parameters.is_empty() {
        return;
    }
    out.array("parameters", parameters, |out, parameter| {
        object(out, |out| {
            parameter.write(out, |out, ty| {
                out.object("schema", |out| {
                    out.text("type", ty);
                    out.flag("uniqueItems", true);
                });
            });
        });
    });
}

fn write_operation(out: &mut Object<'_>, operation: &Operation, context: Context<'_>) {
    out.text("description", &operation.description);
    out.text("operationId", &operation.id);
    write_parameters(out, &operation.parameters);
    if let Some(body) = &operation.body {
        out.object("requestBody", |out| {
            write_content(out, body.consumes, |out| write_reference(out, &body.ty, context));
            if body.required {
                out.flag("required", true);
            }
        });
    }
    out.object("responses", |out| {
        for (code, description) in operation.codes {
            out.object(&code.to_string(), |out| {
                write_content(out, operation.produces, |out| match &operation.answer {
                    Answer::Type(name) => write_reference(out, name, context),
                    Answer::Text => out.text("type", "string"),
                });
                out.text("description", description);
            });
        }
        out.object("401", |out| out.text("description", "Unauthorized"));
    });
    out.texts("tags", [operation.tag.as_str()]);
    if let Some(action) = operation.action {
        out.text("x-kubernetes-action", action);
    }
    if let Some([group, version, kind]) = &operation.kind {
        write_kind(out.member("x-kubernetes-group-version-kind"), (group, version, kind));
    }
}

fn write_content(out: &mut Object<'_>, types: &[&str], schema: impl Fn(&mut Object<'_>)) {
    out.object("content", |out| {
        for ty in types {
            out.object(ty, |out| out.object("schema", &schema));
        }
    });
}
