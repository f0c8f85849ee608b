//! The private folder that holds the configuration.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rustix::process::getuid;

use crate::output::failure::{Failure, Outcome};
use crate::system::account::Account;

/// Returns the default folder for the configuration: one for each user, address and port.
pub(crate) fn default_root(host: IpAddr, port: u16) -> PathBuf {
    base().join(format!("{host}-{port}").replace(':', "_"))
}

/// Returns the folder that holds all those folders of this user.
pub(crate) fn base() -> PathBuf {
    let uid = getuid();
    // The children of a server started by root could not enter root's runtime folder.
    let runtime = std::env::var_os("XDG_RUNTIME_DIR")
        .filter(|_| !uid.is_root())
        .map(PathBuf::from);
    match runtime.filter(|dir| dir.is_absolute() && dir.is_dir()) {
        Some(runtime) => runtime.join("wsgictl"),
        None => std::env::temp_dir().join(format!("wsgictl-{}", uid.as_raw())),
    }
}

/// Fails unless `dir` belongs to this user and no other user may write to it. A folder that does not exist passes.
pub(crate) fn check_own(dir: &Path) -> Outcome<()> {
    // Links are not followed, as in `private`.
    let Ok(meta) = dir.symlink_metadata() else {
        return Ok(());
    };
    let shown = dir.display();
    let problem = if !meta.is_dir() {
        String::from("is not a folder")
    } else if meta.uid() != getuid().as_raw() {
        format!("belongs to another user (uid {})", meta.uid())
    } else if meta.mode() & 0o022 != 0 {
        let mode = meta.mode() & 0o7777;
        format!("may be written to by others (mode {mode:04o})")
    } else {
        return Ok(());
    };
    Err(Failure::new(format!(
        "no running server found: {shown}, where wsgictl serve keeps its servers, {problem}, so wsgictl has not looked into it."
    ))
    .remedy("Remove it, or name the file of the server: --segment PATH/mod_wsgi_rs.segment"))
}

/// The users who may enter the private folder besides its owner.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Guests<'a> {
    /// The server runs as the user who owns it.
    Nobody,
    /// The account of httpd's children.
    Account(&'a Account),
    /// httpd's children, and the application as another user. All users may then pass through, but not list the folder.
    Several,
}

/// Makes `root`, and with `parent_too` also the folder above it, with permissions so that only this user may write
/// there and only `guests` may enter.
pub(crate) fn prepare(root: &Path, guests: Guests<'_>, parent_too: bool) -> Outcome<()> {
    if let Some(parent) = root.parent() {
        if parent_too {
            private(parent, guests)?;
        } else {
            fs::create_dir_all(parent).map_err(|error| cannot_make(parent, &error))?;
        }
    }
    private(root, guests)
}

/// Writes a file that the server's user can read. A reader never sees half of it.
pub(crate) fn write(path: &Path, text: &str, account: Option<&Account>) -> Outcome<()> {
    let fresh = path.with_extension("new");
    let write = || {
        let _ = fs::remove_file(&fresh);
        fs::write(&fresh, text)?;
        fs::set_permissions(
            &fresh,
            Permissions::from_mode(if account.is_some() { 0o640 } else { 0o600 }),
        )?;
        if let Some(account) = account {
            chown(&fresh, None, Some(account.gid))?;
        }
        fs::rename(&fresh, path)
    };
    write().map_err(|error| Failure::new(format!("cannot write {}: {error}", path.display())))
}

fn private(dir: &Path, guests: Guests<'_>) -> Outcome<()> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(cannot_make(dir, &error)),
    }
    // Links are not followed: in a folder that everyone may write to, a link or another user's folder may be a trap.
    let meta = dir
        .symlink_metadata()
        .map_err(|error| cannot_make(dir, &error))?;
    let elsewhere = "Name another place for the configuration: --server-root DIR";
    if !meta.is_dir() {
        return Err(Failure::new(format!("{} is not a folder.", dir.display())).remedy(elsewhere));
    }
    if meta.uid() != getuid().as_raw() {
        let owner = meta.uid();
        return Err(Failure::new(format!(
            "{} belongs to another user (uid {owner}).",
            dir.display()
        ))
        .remedy(elsewhere));
    }
    let open = || {
        let mode = match guests {
            Guests::Nobody => 0o700,
            Guests::Account(account) => {
                chown(dir, None, Some(account.gid))?;
                0o750
            }
            Guests::Several => 0o711,
        };
        fs::set_permissions(dir, Permissions::from_mode(mode))
    };
    open().map_err(|error| cannot_make(dir, &error))
}

fn cannot_make(dir: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("cannot make the folder {}: {error}", dir.display()))
        .remedy("Name another place for the configuration: --server-root DIR")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn the_folder_is_private_and_may_be_used_again() {
        let top = tempfile::tempdir().expect("a folder");
        let root = top.path().join("wsgictl-0/127.0.0.1-8000");
        for _ in 0..2 {
            prepare(&root, Guests::Nobody, true).expect("prepared");
            assert_eq!(root.metadata().expect("metadata").mode() & 0o777, 0o700);
            assert_eq!(
                root.parent()
                    .expect("a parent")
                    .metadata()
                    .expect("metadata")
                    .mode()
                    & 0o777,
                0o700
            );
        }
        let conf = root.join("httpd.conf");
        for text in ["first", "second"] {
            write(&conf, text, None).expect("written");
            assert_eq!(fs::read_to_string(&conf).expect("read"), text);
            assert_eq!(conf.metadata().expect("metadata").mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn a_link_in_its_place_is_not_followed() {
        let top = tempfile::tempdir().expect("a folder");
        let (real, link) = (top.path().join("real"), top.path().join("link"));
        fs::create_dir(&real).expect("a folder");
        symlink(&real, &link).expect("a link");
        let failure = prepare(&link, Guests::Nobody, false)
            .expect_err("refused")
            .to_string();
        assert!(
            failure.contains("is not a folder") && failure.contains("--server-root"),
            "{failure}"
        );
    }

    #[test]
    fn every_address_has_its_own_folder() {
        let name = |host: &str, port| {
            let root = default_root(host.parse().expect("an address"), port);
            root.file_name()
                .map(|name| name.to_string_lossy().into_owned())
        };
        assert_eq!(name("127.0.0.1", 8000).as_deref(), Some("127.0.0.1-8000"));
        assert_eq!(name("::1", 80).as_deref(), Some("__1-80"));
    }
}
