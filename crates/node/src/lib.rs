//! The node agent: pod lifecycle, probes, volumes, logs and streams.
