//! The scheduler: a snapshot and a pod in, a decision and its reason out.
