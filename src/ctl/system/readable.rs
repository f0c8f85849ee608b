//! Checks that the server's user can reach a file: every folder on the way must let it through.
//!
//! httpd started by root reads its configuration as root, but its children load Python as another user. The usual
//! surprise is a project under a home folder of mode 0700.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::output::failure::{Failure, Outcome};
use crate::system::account::Account;

/// Fails if `account` cannot reach `path`, and names the place that stops it. `what` describes the path in the message.
pub(crate) fn require(account: &Account, path: &Path, what: &str) -> Outcome<()> {
    let obstacle = obstacle(account, path, LINKS).map_err(|error| {
        Failure::new(format!("cannot check {what} {}: {error}", path.display()))
    })?;
    let Some(Obstacle { place, mode }) = obstacle else {
        return Ok(());
    };
    let shown = path.display();
    let user = &account.user;
    let stops = place.display();
    let letter = if place.is_dir() { "x" } else { "r" };
    let problem = if place == path {
        format!(
            "the server runs as user {user}, which may not read {what} {shown} (mode {mode:04o})."
        )
    } else {
        format!(
            "the server runs as user {user}, which cannot reach {what} {shown}: \
             the folder {stops} does not let it through (mode {mode:04o})."
        )
    };
    Err(Failure::new(problem).remedy(format!(
        "Move it to a place that every user can read, such as /srv; or open this one: chmod o+{letter} {stops}; \
         or run wsgictl as an ordinary user; or name another user: --user NAME"
    )))
}

/// The place that stops an account, and its mode.
#[derive(Debug, PartialEq, Eq)]
struct Obstacle {
    place: PathBuf,
    mode: u32,
}

/// Follows `path` as the kernel would, through at most `links` symbolic links.
fn obstacle(account: &Account, path: &Path, links: u32) -> io::Result<Option<Obstacle>> {
    let path = std::path::absolute(path)?;
    let mut steps: Vec<&Path> = path.ancestors().collect();
    steps.reverse();
    for step in steps {
        if step.symlink_metadata()?.is_symlink() {
            if links == 0 {
                return Err(io::Error::other("too many symbolic links"));
            }
            let target = step
                .parent()
                .unwrap_or(Path::new("/"))
                .join(std::fs::read_link(step)?);
            if let Some(found) = obstacle(account, &target, links - 1)? {
                return Ok(Some(found));
            }
            continue;
        }
        let meta = step.metadata()?;
        let need = if meta.is_dir() { ENTER } else { READ };
        if !granted(account, &meta, need) && !asked(account, step, need) {
            return Ok(Some(Obstacle {
                place: step.to_owned(),
                mode: meta.mode() & 0o7777,
            }));
        }
    }
    Ok(None)
}

/// Returns whether the mode bits allow `need`.
fn granted(account: &Account, meta: &Metadata, need: u32) -> bool {
    let shift = match () {
        () if account.uid == 0 => return true,
        () if account.uid == meta.uid() => 6,
        () if account.gids.contains(&meta.gid()) => 3,
        () => 0,
    };
    (meta.mode() >> shift) & need == need
}

/// Returns whether the kernel allows `need`: it also knows access control lists. Called only if the mode bits refuse.
fn asked(account: &Account, place: &Path, need: u32) -> bool {
    let test = if need == READ { "-r" } else { "-x" };
    Command::new("runuser")
        .args(["-u", &account.user, "--", "test", test])
        .arg(place)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

const READ: u32 = 4;
const ENTER: u32 = 1;
/// Most symbolic links that Linux follows.
const LINKS: u32 = 40;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    /// Returns a user that owns nothing.
    fn stranger() -> Account {
        Account {
            user: "no-such-user".into(),
            group: "none".into(),
            uid: 54_321,
            gid: 54_321,
            gids: vec![54_321],
        }
    }

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
    }

    /// Returns a folder that strangers may enter, with `home/site/app.wsgi` in it.
    fn project() -> (tempfile::TempDir, PathBuf) {
        let top = tempfile::tempdir().expect("a folder");
        let site = top.path().join("home/site");
        fs::create_dir_all(&site).expect("folders");
        let script = site.join("app.wsgi");
        fs::write(&script, "").expect("a file");
        for path in [top.path(), &top.path().join("home"), &site] {
            mode(path, 0o711);
        }
        mode(&script, 0o644);
        (top, script)
    }

    #[test]
    fn a_readable_path_is_no_problem() {
        let (_top, script) = project();
        assert_eq!(
            obstacle(&stranger(), &script, LINKS).expect("checked"),
            None
        );
    }

    #[test]
    fn the_folder_that_stops_is_named_with_the_remedy() {
        let (top, script) = project();
        let home = top.path().join("home");
        mode(&home, 0o700);
        let failure = require(&stranger(), &script, "the script")
            .expect_err("refused")
            .to_string();
        assert!(
            failure.contains(&format!(
                "the folder {} does not let it through (mode 0700)",
                home.display()
            )),
            "{failure}"
        );
        assert!(
            failure.contains(&format!("chmod o+x {}", home.display())),
            "{failure}"
        );
    }

    #[test]
    fn an_unreadable_file_is_named() {
        let (_top, script) = project();
        mode(&script, 0o640);
        let failure = require(&stranger(), &script, "the script")
            .expect_err("refused")
            .to_string();
        assert!(failure.contains("may not read the script"), "{failure}");
        assert!(failure.contains("chmod o+r"), "{failure}");
    }

    #[test]
    fn both_ends_of_a_symbolic_link_count() {
        let (top, script) = project();
        let link = top.path().join("link.wsgi");
        symlink(&script, &link).expect("a link");
        assert_eq!(obstacle(&stranger(), &link, LINKS).expect("checked"), None);
        mode(&top.path().join("home"), 0o700);
        let found = obstacle(&stranger(), &link, LINKS)
            .expect("checked")
            .expect("an obstacle");
        assert_eq!(
            found,
            Obstacle {
                place: top.path().join("home"),
                mode: 0o700
            }
        );
    }

    #[test]
    fn the_first_class_that_fits_decides() {
        let (top, script) = project();
        let meta = script.metadata().expect("metadata");
        mode(&script, 0o044);
        let mut account = stranger();
        account.uid = meta.uid();
        let owner_is_refused = account.uid != 0;
        assert_eq!(
            granted(&account, &script.metadata().expect("metadata"), READ),
            !owner_is_refused
        );
        account.uid = 54_321;
        account.gids.push(meta.gid());
        mode(&script, 0o604);
        assert!(!granted(
            &account,
            &script.metadata().expect("metadata"),
            READ
        ));
        drop(top);
    }
}
