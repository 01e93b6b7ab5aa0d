//! Custom resources whose versions differ by more than names and schemas: somebody converts between them.
//!
//! ```text
//!  records ──in another version?──▶ kept with the record? ──no──▶ Converter ──▶ Ready ──▶ answers, lists, events
//! ```
//!
//! A webhook converts, or this server does by what the definition declares ([`xebec_api::conversion`]).
//!
//! Converting may be a call, so that it is a step of its own, done for all objects of a list or of a batch of events at once;
//! what writes bytes afterwards is synchronous and finds the outcome in a [`Ready`]. An outcome is kept with its record as
//! long as there is room, so that a thousand watchers of a version are one call. Resources without a converter pay the look
//! at an empty option.

mod declared;
mod ready;
mod room;
mod webhook;

use xebec_api::error::Foreign;
use xebec_api::{Status, Value, conversion};

use self::declared::Declared;
pub(crate) use self::ready::{BATCH, Ready};
pub(crate) use self::room::{Hold, Room};
use self::webhook::Webhook;
use super::convert;
use super::table::Row;
use crate::core::Core;

/// Converted objects that are kept with their records, in bytes.
const KEPT: usize = 64 * 1024 * 1024;
/// Converted objects of all requests under way, in bytes.
const UNDER_WAY: usize = 256 * 1024 * 1024;

/// How much converted objects take, of all resources.
#[derive(Debug)]
pub struct Conversions {
    /// Those that are kept with their records.
    pub(super) kept: Room,
    /// Those of requests under way.
    pub(super) under_way: Room,
}

impl Default for Conversions {
    fn default() -> Self {
        Self { kept: Room::new(KEPT), under_way: Room::new(UNDER_WAY) }
    }
}

/// Who converts between the versions of one custom resource.
#[derive(Debug)]
pub(crate) enum Converter {
    /// A server of somebody's.
    Webhook(Webhook),
    /// This server, by what the definition declares.
    Declared(Declared),
}

impl Converter {
    /// The one that a definition names; `None`: versions differ by nothing but their names and schemas.
    pub(crate) fn of(definition: &Value) -> Option<Self> {
        if definition.str_at(&["spec", "conversion", "strategy"]) == Some("Webhook") {
            return Some(Self::Webhook(Webhook::read(definition)));
        }
        conversion::text_of(definition).map(|_| Self::Declared(Declared::read(definition)))
    }

    /// The objects, all of which are in other versions, in the version `to`, in their order.
    ///
    /// # Errors
    /// 500: one of them cannot be converted; in upstream's words.
    pub(crate) async fn convert(
        &self,
        core: &Core,
        row: &Row,
        objects: Vec<Value>,
        to: &str,
    ) -> Result<Vec<Value>, Status> {
        let known = |version: &str| row.def.versions.iter().any(|v| row.def.api_version(&v.name) == version);
        for object in &objects {
            let from = object.str_at(&["apiVersion"]).unwrap_or_default();
            if !known(from) {
                return Err(failed(format!("request to convert CR from an invalid group/version: {from}")));
            }
        }
        let converted = match self {
            Self::Webhook(webhook) => webhook.convert(core, row, objects, to).await.map_err(failed)?,
            Self::Declared(declared) => return declared.convert(row, objects, to).await.map_err(failed),
        };
        Ok(converted.into_iter().map(|object| convert::prune(object, row, to)).collect())
    }

    /// As [`Converter::convert`], for one object that may be in that version already.
    ///
    /// # Errors
    /// As there.
    pub(crate) async fn convert_one(
        &self,
        core: &Core,
        row: &Row,
        object: Value,
        to: &str,
    ) -> Result<Value, Status> {
        if object.str_at(&["apiVersion"]) == Some(to) {
            return Ok(object);
        }
        let converted = self.convert(core, row, vec![object], to).await?;
        let one = converted.into_iter().next();
        one.ok_or_else(|| Status::internal("a conversion of one object gave none"))
    }
}

/// The answer when an object cannot be converted: upstream has no reason for it.
fn failed(message: String) -> Status {
    tracing::warn!(message, "objects cannot be converted");
    Status::foreign(Foreign { code: 500, reason: String::new(), details: Vec::new() }, message)
}
