//! The object model of the Kubernetes API, free of IO.
