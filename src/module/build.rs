//! Keeps the module mapped once it was loaded: httpd unloads modules at each restart, and threads of a child that
//! ends may still be inside.

fn main() {
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
