//! How many threads of a child a group may hold.
