//! The user that runs the tests, and the user that httpd's children become.

use nix::unistd::{Group, User, geteuid};

/// Whether root runs the tests.
pub(crate) fn is_root() -> bool {
    geteuid().is_root()
}

/// Returns the account that httpd usually has on this system, with the group of that account.
pub(crate) fn child_user() -> (String, String) {
    let user = ["www-data", "apache", "nobody"]
        .into_iter()
        .find_map(|name| User::from_name(name).expect("users can be looked up"))
        .expect("the system has one of the users www-data, apache, nobody");
    with_group(user)
}

/// Returns the name of a user that every system has, with that of the user's group.
pub(crate) fn account(name: &str) -> (String, String) {
    let user = User::from_name(name).expect("users can be looked up");
    with_group(user.unwrap_or_else(|| panic!("the system has no user {name}")))
}

fn with_group(user: User) -> (String, String) {
    let group = Group::from_gid(user.gid).expect("groups can be looked up");
    (user.name, group.expect("the user's group exists").name)
}
