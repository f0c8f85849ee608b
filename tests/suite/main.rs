//! All tests of the real server, in one program: a module a topic.

/// Which URL reaches which script, and what refuses.
mod mapping;
