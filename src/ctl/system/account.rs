//! Users and groups, asked from `id` so that directories other than /etc/passwd count too.

use std::process::{Command, Stdio};

use crate::output::failure::{Failure, Outcome};

/// Who the children of a server started by root run as.
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
    /// The account to drop to; without `user`, the one that the distribution made for httpd.
    pub(crate) fn find(user: Option<&str>, group: Option<&str>) -> Outcome<Account> {
        let user = match user {
            Some(user) => user,
            None => *SERVER_USERS
                .iter()
                .find(|user| id(&["-u", user]).is_some())
                .ok_or_else(|| {
                    Failure::new(
                        "root cannot serve: none of the users www-data, apache and nobody exists.",
                    )
                    .remedy("Name the user that the application shall run as: --user NAME")
                })?,
        };
        let unknown = || Failure::new(format!("--user {user}: there is no such user."));
        let uid = id(&["-u", user])
            .and_then(|uid| uid.parse().ok())
            .ok_or_else(unknown)?;
        if uid == 0 {
            return Err(Failure::new(
                "the application must not run as root, and httpd refuses it.",
            )
            .remedy("Name another user: --user NAME"));
        }
        let group = match group {
            Some(group) => group.to_owned(),
            None => id(&["-gn", user]).ok_or_else(unknown)?,
        };
        let gid = group_id(&group)
            .ok_or_else(|| Failure::new(format!("--group {group}: there is no such group.")))?;
        let mut gids: Vec<u32> = id(&["-G", user])
            .ok_or_else(unknown)?
            .split_whitespace()
            .filter_map(|gid| gid.parse().ok())
            .collect();
        gids.push(gid);
        Ok(Account {
            user: user.to_owned(),
            group,
            uid,
            gid,
            gids,
        })
    }
}

fn id(arguments: &[&str]) -> Option<String> {
    answer(Command::new("id").args(arguments))
}

fn group_id(name: &str) -> Option<u32> {
    let line = answer(Command::new("getent").args(["group", name])).or_else(|| {
        std::fs::read_to_string("/etc/group")
            .ok()?
            .lines()
            .find_map(|line| own_line(line, name))
    })?;
    line.split(':').nth(2)?.parse().ok()
}

/// The name of a group.
pub(crate) fn group_name(gid: u32) -> Option<String> {
    let line = answer(Command::new("getent").args(["group", &gid.to_string()]))?;
    Some(line.split(':').next()?.to_owned())
}

fn own_line(line: &str, name: &str) -> Option<String> {
    line.strip_prefix(name)?
        .starts_with(':')
        .then(|| line.to_owned())
}

fn answer(command: &mut Command) -> Option<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

/// In the order in which distributions are asked.
const SERVER_USERS: [&str; 3] = ["www-data", "apache", "nobody"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_serves_as_root() {
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
