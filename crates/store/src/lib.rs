//! Revisioned keys and bytes with transactions and watch.
