//! Users and groups as options name them: by name, or by number as `#33`.

use nix::unistd::{Gid, Group, Uid, User};

/// A user. A number need not have an entry in the system's directory.
pub(super) struct FoundUser {
    pub(super) uid: Uid,
    pub(super) entry: Option<User>,
}

/// Returns the number of an account that is written as `#number`.
fn number(written: &str) -> Option<u32> {
    written.strip_prefix('#')?.parse().ok()
}

/// Finds the user that `option` names.
pub(super) fn user(option: &str, written: &str) -> Result<FoundUser, String> {
    let failed = |errno| format!("{option}={written}: {errno}");
    if let Some(number) = number(written) {
        let uid = Uid::from_raw(number);
        let entry = User::from_uid(uid).map_err(failed)?;
        return Ok(FoundUser { uid, entry });
    }
    match User::from_name(written).map_err(failed)? {
        Some(entry) => Ok(FoundUser {
            uid: entry.uid,
            entry: Some(entry),
        }),
        None => Err(format!("{option}={written}: there is no such user")),
    }
}

/// Finds the group that `option` names.
pub(super) fn group(option: &str, written: &str) -> Result<Gid, String> {
    if let Some(number) = number(written) {
        return Ok(Gid::from_raw(number));
    }
    match Group::from_name(written) {
        Ok(Some(group)) => Ok(group.gid),
        Ok(None) => Err(format!("{option}={written}: there is no such group")),
        Err(errno) => Err(format!("{option}={written}: {errno}")),
    }
}
