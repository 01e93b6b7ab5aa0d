//! What a kind does with other objects when it is written: allocate an address, bring objects along, refuse.
//!
//! All hooks but the guard are synchronous: they read one snapshot of the store and add to the transaction that the write will be. If
//! something they relied on has changed by then, the transaction fails and the write is tried again from the start.

use std::fmt::Debug;
use std::pin::Pin;

use xebec_api::{Cause, Status, Value};
use xebec_store::{Snapshot, Txn};

use super::write::Part;
use crate::core::{Context, Core};

/// One write under way.
#[derive(Debug)]
pub struct Write<'a> {
    /// The server.
    pub core: &'a Core,
    /// The request.
    pub context: &'a Context,
    /// The state that the write is decided on.
    pub snapshot: &'a Snapshot,
    /// The object as it was, if it was there.
    pub old: Option<&'a Value>,
    /// What is committed together with the object.
    pub txn: Txn,
}

/// Ends with the refusal of a write that is not allowed.
pub type Guard<'a> = Pin<Box<dyn Future<Output = Result<(), Status>> + Send + 'a>>;

/// A kind's hooks. The default does nothing, which is what a custom resource does.
pub trait Strategy: Send + Sync + Debug {
    /// Before a new object is validated: completes it.
    ///
    /// # Errors
    /// The object cannot be completed.
    fn create(&self, _write: &mut Write<'_>, _object: &mut Value) -> Result<(), Status> {
        Ok(())
    }

    /// Before a changed object is validated.
    ///
    /// # Errors
    /// The change cannot be made.
    fn update(&self, _write: &mut Write<'_>, _object: &mut Value) -> Result<(), Status> {
        Ok(())
    }

    /// Before a changed status is validated.
    ///
    /// # Errors
    /// The change cannot be made.
    fn update_status(&self, _write: &mut Write<'_>, _object: &mut Value) -> Result<(), Status> {
        Ok(())
    }

    /// What the write needs to be allowed besides its verb, given the object as it is to become. Asked before it is validated.
    fn guard<'a>(&'a self, _write: &'a Write<'a>, _object: &'a Value, _part: Part<'a>) -> Option<Guard<'a>> {
        None
    }

    /// What is wrong with an object besides what its kind's rules say, when it is made or, given what it was, updated.
    fn faults(&self, _object: &Value, _old: Option<&Value>) -> Vec<Cause> {
        Vec::new()
    }

    /// Before an object goes for good ([`Write::old`]): gives back what it held.
    ///
    /// # Errors
    /// The object may not go.
    fn delete(&self, _write: &mut Write<'_>) -> Result<(), Status> {
        Ok(())
    }

    /// Seconds that deletion waits for somebody to end what the object stands for; `None`: it goes at once.
    fn grace(&self, _object: &Value, _wanted: Option<i64>) -> Option<i64> {
        None
    }

    /// Whether an object that is being deleted must stay for a reason of its kind's own.
    fn holds(&self, _object: &Value) -> bool {
        false
    }

    /// When deletion has begun, but the object waits.
    fn deleting(&self, _object: &mut Value) {}

    /// After a change of the object is committed.
    fn committed(&self, _core: &Core) {}
}

#[derive(Debug)]
struct Custom;

impl Strategy for Custom {}

/// The strategy of a resource.
#[must_use]
pub fn of(group: &str, resource: &str) -> &'static dyn Strategy {
    super::special::strategy(group, resource).unwrap_or(&Custom)
}
