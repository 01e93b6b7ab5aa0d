//! The API server: request pipeline, discovery, admission.
