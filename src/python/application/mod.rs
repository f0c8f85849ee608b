//! Applications: WSGI scripts loaded into interpreters.

pub(crate) mod endings;
pub(crate) mod free_threading;
pub(crate) mod gil_trial;
pub(crate) mod loads;
pub(crate) mod refusal;
pub(crate) mod script;
pub(crate) mod sources;
