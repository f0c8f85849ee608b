//! Keeps the module mapped once it is loaded: httpd unloads modules at each restart, and threads of a child that is
//! ending may still run its code. Also records the compiler and the commit that the module is built from.

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    // Each loaded copy must use its own record: an earlier copy stays mapped and exports the same name.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-Bsymbolic");
    println!("cargo::rerun-if-changed=build.rs");

    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| String::from("rustc"));
    // "rustc 1.95.0 (...)"
    let version = first_line(Command::new(rustc).arg("--version"));
    let version = version.as_deref().and_then(|line| line.split(' ').nth(1));
    println!(
        "cargo::rustc-env=WSGI_RUSTC={}",
        version.unwrap_or("unknown")
    );

    let revision = first_line(Command::new("git").args(["rev-parse", "--short=12", "HEAD"]));
    let revision = revision.as_deref().unwrap_or("unknown");
    println!("cargo::rustc-env=WSGI_REVISION={revision}");
    // git appends to this file at each commit; without git there is no such file.
    let log = first_line(Command::new("git").args(["rev-parse", "--git-path", "logs/HEAD"]));
    if let Some(log) = log.filter(|log| Path::new(log).exists()) {
        println!("cargo::rerun-if-changed={log}");
    }
}

fn first_line(command: &mut Command) -> Option<String> {
    let output = command
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.lines()
        .next()
        .filter(|line| !line.is_empty())
        .map(String::from)
}
