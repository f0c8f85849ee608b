//! Hashes the sources of the contract into `BUILD_ID`, so that a module and an engine of the same version refuse each
//! other if a layout has changed between their builds.

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
