//! The plan: what follows from the configuration, the MPM and the machine.

// Which application groups the aliases of a server name.
pub mod alias_group;
// What the plan means for one application group.
pub mod group_plan;
// How much memory the server may have.
pub mod memory;
// What the MPM means for Python.
pub mod mpm_plan;
