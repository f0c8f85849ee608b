//! Users, groups, paths and folders of the machine.

pub(crate) mod account;
pub(crate) mod paths;
pub(crate) mod private_folder;
pub(crate) mod readable;
