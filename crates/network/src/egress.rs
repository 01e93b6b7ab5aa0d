//! The pods' way out.

/// The node's link to the world outside, while there is one.
pub(crate) const EGRESS_LINK: &str = "xout0";
