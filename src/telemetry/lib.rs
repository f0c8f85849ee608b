//! The shared segment, in which every child counts and from which any child, a helper process and `wsgictl` read.

#![deny(unsafe_code)]

pub mod catalogue;
