//! Serves the OpenAPI documents of what the table holds.

use xebec_api::Status;

use crate::core::Core;
use crate::http::reply::Reply;
use crate::registry::Table;
use crate::serve::Incoming;

/// Answers `/openapi/…`.
///
/// # Errors
/// 404 for documents that there are not.
pub(crate) fn handle(
    _core: &Core,
    _table: &Table,
    _path: &[&str],
    _incoming: &Incoming,
) -> Result<Reply, Status> {
    Err(Status::no_such_path())
}
