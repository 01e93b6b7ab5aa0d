//! Isolated execution of pods: rootless OCI containers and gVisor.
