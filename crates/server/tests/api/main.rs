//! The API server on the real store, asked over real TLS and HTTP/2.

mod aggregation;
mod audit;
mod backend;
mod bounds;
mod classes;
mod client;
mod cluster;
mod conversions;
mod declared;
mod documents;
mod encryption;
mod escalation;
mod evictions;
mod faults;
mod flow;
mod hooks;
mod identity;
mod mutations;
mod nodes;
mod operations;
mod parity;
mod paths;
mod pod_security;
mod policies;
mod proxies;
mod rules;
mod runtime_classes;
mod samples;
mod shared;
mod special;
mod statuses;
mod steps;
mod versions;
mod warnings;
mod webhooks;

/// What is wrong, for the person who reads the failure.
type Checked<T = ()> = Result<T, String>;

/// Ends a check with a text when something does not hold.
macro_rules! ensure {
    ($holds:expr, $($text:tt)+) => {
        if !$holds {
            return Err(format!($($text)+));
        }
    };
}
use ensure;
