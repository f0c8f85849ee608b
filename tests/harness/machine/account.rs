//! Who runs the tests, and which user the children become.

use std::fs;

/// Whether root runs the tests.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// httpd's usual account of this system, with that account's own group.
pub(crate) fn child_user() -> (String, String) {
    let users = fs::read_to_string("/etc/passwd").expect("the system has a user list");
    let groups = fs::read_to_string("/etc/group").expect("the system has a group list");
    for name in ["www-data", "apache", "nobody"] {
        let Some(user) = users.lines().map(fields).find(|user| user[0] == name) else {
            continue;
        };
        let group = groups
            .lines()
            .map(fields)
            .find(|group| group[2] == user[3])
            .expect("the user's group exists");
        return (name.to_owned(), group[0].to_owned());
    }
    panic!("the system has none of the users www-data, apache, nobody");
}

fn fields(line: &str) -> Vec<&str> {
    line.split(':').collect()
}
