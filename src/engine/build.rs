//! Keeps an opened engine mapped, as Python cannot be unloaded from a process.

fn main() {
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
