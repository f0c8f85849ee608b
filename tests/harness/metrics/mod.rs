//! Pages of metrics, and a real Prometheus.

pub(crate) mod exposition;
pub(crate) mod prometheus;
