//! The commands that build, test and serve, one file each.

pub(crate) mod bench;
pub(crate) mod build;
pub(crate) mod environments;
pub(crate) mod lint;
pub(crate) mod mutants;
pub(crate) mod pythons;
pub(crate) mod reference;
pub(crate) mod serve;
pub(crate) mod test;
