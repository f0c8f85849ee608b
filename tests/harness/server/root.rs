//! The folder of a server, and the start of httpd in it.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command};

use crate::machine::httpd::Site;
use crate::machine::stage;

/// Starts httpd in a server root.
pub(super) fn spawn(root: &Path, single_process: bool) -> Child {
    let output = File::create(root.join("output.log")).unwrap();
    let mut command = Command::new(&Site::get().httpd);
    command.arg("-f").arg(root.join("httpd.conf"));
    command.arg(if single_process { "-X" } else { "-DFOREGROUND" });
    // The Python settings of the suite must not reach the server.
    for name in [
        "PYTHONHOME",
        "PYTHONPATH",
        "PYTHONSTARTUP",
        "PYTHONWARNINGS",
        "PYTHONUTF8",
        "VIRTUAL_ENV",
    ] {
        command.env_remove(name);
    }
    command
        .env("LC_ALL", "C")
        .stdout(output.try_clone().unwrap())
        .stderr(output);
    // httpd's prefork signals its whole process group when it stops; the test must not be in that group.
    command.process_group(0);
    command.spawn().expect("httpd can be started")
}

/// Writes a file.
pub(super) fn put(path: &Path, content: &[u8]) {
    stage::open_folder(path.parent().expect("a file lies in a folder"));
    // The file is written under another name and then renamed, so that a running server never sees half a file.
    let aside = path.with_file_name(".aside");
    fs::write(&aside, content).unwrap();
    stage::chmod(&aside, 0o644);
    fs::rename(&aside, path).unwrap();
}
