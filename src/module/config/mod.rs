//! The configuration of httpd, as far as it is ours: read, worked out by the parent, inherited by its children.

pub(crate) mod inherited;
pub(crate) mod placement;
pub(crate) mod plan;
pub(crate) mod read;

/// The module, for whose types httpd keeps our configurations. When each of its functions is called stands at
/// [`Module`](wsgi_httpd::module::Module).
pub struct Wsgi;
