//! OpenAPI 2.0 (Swagger): one document for everything.

use std::collections::BTreeSet;

use super::operations::{Answer, Operation, Path, paths};
use super::parameters::Parameter;
use super::types::{self, Context, write_kind, write_reference};
use super::writer::{self, Object, array, object};
use super::{Dialect, Documents, Part, bearer_token};
use crate::builtin::Docs;

pub(super) fn document(documents: &Documents<'_>, docs: &Docs) -> Vec<u8> {
    let parts: Vec<Part> = documents.parts().into_iter().collect();
    let paths: Vec<Path> = parts.iter().flat_map(|part| paths(documents, part)).collect();
    let group_versions: BTreeSet<(String, String)> = parts
        .iter()
        .filter_map(|part| match part {
            Part::GroupVersion(group, version) => Some((group.clone(), version.clone())),
            _ => None,
        })
        .collect();
    let context = Context { dialect: Dialect::V2, docs, group_versions: &group_versions };
    writer::document(|out| {
        out.object("definitions", |out| types::write_all(out, documents, &parts, &paths, context));
        documents.info(out);
        out.object("paths", |out| {
            for path in &paths {
                out.object(&path.path, |out| write_path(out, path, context));
            }
        });
        out.array("security", [()], |out, ()| object(out, |out| out.texts("BearerToken", [])));
        out.object("securityDefinitions", bearer_token);
        out.text("swagger", "2.0");
    })
}

fn write_path(out: &mut Object<'_>, path: &Path, context: Context<'_>) {
    for operation in &path.operations {
        out.object(operation.method, |out| write_operation(out, operation, context));
    }
    if !path.parameters.is_empty() {
        out.array("parameters", &path.parameters, write_parameter);
    }
}

fn write_parameter(out: &mut Vec<u8>, parameter: &Parameter) {
    object(out, |out| {
        parameter.write(out, |out, ty| out.text("type", ty));
        out.flag("uniqueItems", true);
    });
}

fn write_operation(out: &mut Object<'_>, operation: &Operation, context: Context<'_>) {
    let consumes = operation.body.as_ref().map_or(["*/*"].as_slice(), |b| b.consumes);
    out.texts("consumes", consumes.iter().copied());
    out.text("description", &operation.description);
    out.text("operationId", &operation.id);
    write_parameters(out, operation, context);
    out.texts("produces", operation.produces.iter().copied());
    out.object("responses", |out| {
        for (code, description) in operation.codes {
            out.object(&code.to_string(), |out| {
                out.text("description", description);
                out.object("schema", |out| match &operation.answer {
                    Answer::Type(name) => write_reference(out, name, context),
                    Answer::Text => out.text("type", "string"),
                });
            });
        }
        out.object("401", |out| out.text("description", "Unauthorized"));
    });
    out.texts("schemes", ["https"]);
    out.texts("tags", [operation.tag.as_str()]);
    if let Some(action) = operation.action {
        out.text("x-kubernetes-action", action);
    }
    if let Some([group, version, kind]) = &operation.kind {
        write_kind(out.member("x-kubernetes-group-version-kind"), (group, version, kind));
    }
}

/// In version 2 the body is a parameter among the others.
fn write_parameters(out: &mut Object<'_>, operation: &Operation, context: Context<'_>) {
    let body = operation.body.as_ref();
    if body.is_none() && operation.parameters.is_empty() {
        return;
    }
    let written = body.map(|body| {
        let mut text = Vec::new();
        object(&mut text, |out| {
            out.text("in", "body");
            out.text("name", "body");
            if body.required {
                out.flag("required", true);
            }
            out.object("schema", |out| write_reference(out, &body.ty, context));
        });
        text
    });
    let queries = operation.parameters.iter().map(|parameter| {
        let mut text = Vec::new();
        write_parameter(&mut text, parameter);
        text
    });
    let all = written.into_iter().chain(queries);
    array(out.member("parameters"), all, |out, text| out.extend_from_slice(&text));
}
