//! Users and groups from the C library, which knows other directories than /etc/passwd, too.

use std::ffi::CString;

use nix::errno::Errno;
use nix::unistd::{Gid, Group, User, getgrouplist};

use crate::output::failure::{Failure, Outcome};

/// The user and group of the children of a server that root starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) user: String,
    pub(crate) group: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// All groups of the user, and `gid`.
    pub(crate) gids: Vec<u32>,
}

impl Account {
    /// Finds the account to drop to; without `user`, the one that the distribution made for httpd.
    pub(crate) fn find(user: Option<&str>, group: Option<&str>) -> Outcome<Account> {
        let user = match user {
            None => server_user()?,
            Some(name) => user_of_name(name)?
                .ok_or_else(|| Failure::new(format!("--user {name}: there is no such user.")))?,
        };
        if user.uid.is_root() {
            return Err(Failure::new(
                "the application must not run as root, and httpd refuses it.",
            )
            .remedy("Name another user: --user NAME"));
        }
        let cannot = |error| cannot_look_up(&user.name, error);
        let group = match group {
            None => Group::from_gid(user.gid).map_err(cannot)?.ok_or_else(|| {
                let what = format!("the group {} of user {} has no name.", user.gid, user.name);
                Failure::new(what).remedy("Name a group: --group NAME")
            })?,
            Some(name) => Group::from_name(name)
                .map_err(|error| cannot_look_up(name, error))?
                .ok_or_else(|| Failure::new(format!("--group {name}: there is no such group.")))?,
        };
        let name = CString::new(user.name.as_str()).map_err(|_| cannot(Errno::EINVAL))?;
        let mut gids = getgrouplist(&name, user.gid).map_err(cannot)?;
        gids.push(group.gid);
        Ok(Account {
            user: user.name,
            group: group.name,
            uid: user.uid.as_raw(),
            gid: group.gid.as_raw(),
            gids: gids.into_iter().map(Gid::as_raw).collect(),
        })
    }
}

impl Account {
    /// Returns the names of user and group.
    pub(crate) fn names(&self) -> (String, String) {
        (self.user.clone(), self.group.clone())
    }
}

/// Returns the first of [`SERVER_USERS`] that this system has.
fn server_user() -> Outcome<User> {
    for name in SERVER_USERS {
        if let Some(user) = user_of_name(name)? {
            return Ok(user);
        }
    }
    let names = "root cannot serve: none of the users www-data, apache and nobody exists.";
    Err(Failure::new(names).remedy("Name the user that the application shall run as: --user NAME"))
}

fn user_of_name(name: &str) -> Outcome<Option<User>> {
    User::from_name(name).map_err(|error| cannot_look_up(name, error))
}

fn cannot_look_up(name: &str, error: Errno) -> Failure {
    Failure::new(format!("cannot look up {name}: {}.", error.desc()))
}

/// Returns the name of a group, if it has one.
pub(crate) fn group_name(gid: u32) -> Option<String> {
    let group = Group::from_gid(Gid::from_raw(gid)).ok()??;
    Some(group.name)
}

/// Users of httpd in common distributions, in the order in which they are tried.
const SERVER_USERS: [&str; 3] = ["www-data", "apache", "nobody"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_application_never_runs_as_root() {
        let failure = Account::find(Some("root"), None).expect_err("refused");
        assert!(
            failure.to_string().contains("must not run as root"),
            "{failure}"
        );
    }

    #[test]
    fn unknown_names_are_named() {
        let failure = Account::find(Some("no-such-user"), None).expect_err("refused");
        assert_eq!(
            failure.to_string(),
            "--user no-such-user: there is no such user."
        );
        let failure = Account::find(Some("nobody"), Some("no-such-group")).expect_err("refused");
        assert_eq!(
            failure.to_string(),
            "--group no-such-group: there is no such group."
        );
    }

    #[test]
    fn an_account_has_its_own_group_among_its_groups() {
        let account = Account::find(Some("nobody"), None).expect("every system has nobody");
        assert!(
            account.uid != 0 && account.gids.contains(&account.gid),
            "{account:?}"
        );
    }
}
