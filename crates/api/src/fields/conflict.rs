//! Fields that an apply would take from other managers.

use std::fmt;

use super::element::{Element, PathText};
use super::entries::ManagerId;
use super::set::FieldSet;
use crate::FieldPath;
use crate::error::{Cause, CauseKind, Details, Reason, Status};

/// The fields, by the manager that owns each.
#[derive(Debug, thiserror::Error)]
pub struct Conflicts {
    pub(super) by_manager: Vec<(ManagerId, FieldSet)>,
}

impl Conflicts {
    /// How many fields there are; one that two managers own counts twice.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_manager.iter().map(|(_, set)| set.len()).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_manager.iter().all(|(_, set)| set.is_empty())
    }

    fn for_each(&self, visit: &mut dyn FnMut(&ManagerId, &[Element])) {
        for (manager, set) in &self.by_manager {
            set.for_each(&mut |path| visit(manager, path));
        }
    }

    /// 409, each field a cause.
    #[must_use]
    pub fn status(&self) -> Status {
        let mut causes = Vec::new();
        self.for_each(&mut |manager, path| {
            causes.push(Cause {
                kind: CauseKind::FieldManagerConflict,
                field: FieldPath::new(&PathText(path).to_string()),
                message: format!("conflict with {manager}"),
            });
        });
        let mut status = Status::new(Reason::Conflict, self.to_string());
        status.details = Some(Box::new(Details { causes, ..Details::default() }));
        status
    }
}

impl fmt::Display for Conflicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines: Vec<String> = Vec::new();
        if self.len() == 1 {
            self.for_each(&mut |manager, path| {
                lines.push(format!(
                    "Apply failed with 1 conflict: conflict with {manager}: {}",
                    PathText(path)
                ));
            });
            return f.write_str(&lines.concat());
        }
        for (manager, set) in &self.by_manager {
            lines.push(format!("conflicts with {manager}:"));
            set.for_each(&mut |path| lines.push(format!("- {}", PathText(path))));
        }
        write!(f, "Apply failed with {} conflicts: {}", self.len(), lines.join("\n"))
    }
}
