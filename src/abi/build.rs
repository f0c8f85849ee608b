//! Gives every state of the contract an identity: module and engine of two builds of one version must not meet when
//! a layout has changed in between.

use std::hash::{DefaultHasher, Hash, Hasher};

fn main() {
    let mut hasher = DefaultHasher::new();
    for file in ["lib.rs", "host.rs", "engine.rs", "guard.rs", "keys.rs"] {
        println!("cargo::rerun-if-changed={file}");
        match std::fs::read(file) {
            Ok(source) => source.hash(&mut hasher),
            Err(error) => panic!("{file}: {error}"),
        }
    }
    println!("cargo::rustc-env=WSGI_CONTRACT={:016x}", hasher.finish());
}
