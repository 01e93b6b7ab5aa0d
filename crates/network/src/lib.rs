//! Pod links, service addresses, cluster DNS.
