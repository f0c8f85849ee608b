//! Children and processes of groups: the order in which they are replaced, and threads that outlive a panic.

pub mod rolling;
pub mod steady;
pub mod supervision;
