//! Hashes the sources of the contract into `BUILD_ID`, so that a module and an engine of the same version refuse each
//! other if a layout has changed between their builds.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;

fn main() {
    let mut hasher = DefaultHasher::new();
    println!("cargo::rerun-if-changed=.");
    let files = std::fs::read_dir(".").expect("the folder of this package");
    let files = files.map(|file| file.expect("an entry of it").path());
    let is_source = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "rs");
    // In order, so that the same sources have the same hash.
    for file in files.filter(is_source).collect::<BTreeSet<_>>() {
        let source = std::fs::read(&file).expect("a source");
        source.hash(&mut hasher);
    }
    println!("cargo::rustc-env=WSGI_CONTRACT={:016x}", hasher.finish());
}
