//! Serves the Django example in examples/django: makes its virtual environment, database, static files and demo user,
//! then becomes `wsgictl serve`. `make serve` has already installed and built the prerequisites.
//!
//! PORT (8000), HOST (127.0.0.1) and MPM (event) may be set; arguments are passed on to wsgictl serve.
//!
//! All files are in target/demo. If root runs it, they are in a folder under /var/tmp: the server's user often may not
//! enter root's checkout, so the application and the module are copied there. That user owns only the files that it
//! writes.

use super::{environments, pythons};
use crate::system::{
    Project, beside, copy_engines, is_root, output, own_folder, put, remove_folder, run, say,
    server_user, set_mode,
};
use anyhow::{Context, Result};
use std::env;
use std::fs;
use std::os::unix::fs::lchown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) fn serve(project: &Project, arguments: &[String]) -> Result<()> {
    let python = pythons::preferred()?;
    let state = project.state("demo");
    own_folder(&state)?;
    let venv = state.join("venv");
    environments::make(
        &venv,
        &python.program,
        &project.root.join("examples/django/requirements.txt"),
    )?;
    let app = copy_application(project, &state)?;
    let module = if is_root() {
        copy_module(project, &state)?
    } else {
        project.release().join("mod_wsgi_rs.so")
    };
    let (data, files) = (state.join("data"), state.join("static"));
    writable_folder(&data, 0o700)?;
    writable_folder(&files, 0o755)?;

    let set = |name: &str, default: &str| env::var(name).unwrap_or_else(|_| default.into());
    let (host, port, mpm) = (
        set("HOST", "127.0.0.1"),
        set("PORT", "8000"),
        set("MPM", "event"),
    );
    let mut prepare = if is_root() {
        as_user(server_user()?, &venv)
    } else {
        Command::new(venv.join("bin/python"))
    };
    prepare
        .arg(app.join("manage.py"))
        .args(["prepare", "--demo-user", "admin"])
        .current_dir("/");
    run(prepare
        .env("GUESTBOOK_DATA", &data)
        .env("GUESTBOOK_STATIC", &files))?;
    say(format!(
        "the admin is at http://{host}:{port}/admin/: user admin, password admin"
    ));
    say(
        "warning: everyone knows that password; this is for a demonstration on your own machine only",
    );

    let mut wsgictl = project.command(project.release().join("wsgictl"));
    wsgictl
        .env("GUESTBOOK_DATA", &data)
        .env("GUESTBOOK_STATIC", &files);
    wsgictl
        .arg("serve")
        .arg(app.join("app.wsgi"))
        .arg("--module")
        .arg(module)
        .arg("--python")
        .arg(&venv);
    wsgictl
        .arg("--static")
        .arg(format!("/static={}", files.display()))
        .arg("--metrics");
    wsgictl
        .args(["--host", &host, "--port", &port, "--mpm", &mpm])
        .args(arguments);
    Err(wsgictl.exec()).context("cannot start wsgictl; make build builds it")
}

fn as_user(user: &str, venv: &Path) -> Command {
    let mut command = Command::new("runuser");
    command
        .args(["-u", user, "--"])
        .arg(venv.join("bin/python"));
    command
}

/// Copies the application, so that its data never gets into the checkout and root's checkout may stay closed.
fn copy_application(project: &Project, state: &Path) -> Result<PathBuf> {
    let app = state.join("app");
    let new = beside(&app);
    remove_folder(&new)?;
    run(Command::new("cp")
        .arg("-R")
        .arg(project.root.join("examples/django"))
        .arg(&new))?;
    for left in ["data", "static-files"] {
        remove_folder(&new.join(left))?;
    }
    let compiled = [
        "-name",
        "__pycache__",
        "-prune",
        "-exec",
        "rm",
        "-rf",
        "{}",
        "+",
    ];
    run(Command::new("find").arg(&new).args(compiled))?;
    run(Command::new("chmod").args(["-R", "u=rwX,go=rX"]).arg(&new))?;
    remove_folder(&app)?;
    fs::rename(&new, &app)?;
    Ok(app)
}

fn copy_module(project: &Project, state: &Path) -> Result<PathBuf> {
    let folder = state.join("module");
    own_folder(&folder)?;
    copy_engines(&project.release(), &folder)?;
    let module = folder.join("mod_wsgi_rs.so");
    put(&project.release().join("mod_wsgi_rs.so"), &module)?;
    Ok(module)
}

/// Makes a folder that belongs to the server's user. The folder above it is ours, so no other user puts a link there.
fn writable_folder(path: &Path, mode: u32) -> Result<()> {
    fs::create_dir_all(path)?;
    if is_root() {
        let number = |option: &str| -> Result<u32> {
            Ok(output(Command::new("id").args([option, server_user()?]))?.parse()?)
        };
        lchown(path, Some(number("-u")?), Some(number("-g")?))?;
    }
    set_mode(path, mode)
}
