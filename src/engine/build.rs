//! Keeps the engine mapped once it was opened: Python cannot be unloaded from a process.

fn main() {
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
