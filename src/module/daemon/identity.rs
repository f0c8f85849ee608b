//! The identity of a process of a group, and what it may use: user, groups, limits, folders, environment.

use std::path::{Path, PathBuf};

use nix::unistd::{Gid, Uid, User, chroot, initgroups, setgid, setgroups, setuid};
use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, setpriority_process, setrlimit, umask};
use wsgi_core::config::ProcessGroup;
use wsgi_core::messages::Message;
use wsgi_httpd::group_process::Alone;
use wsgi_httpd::process;

use super::accounts::{self, FoundUser};
use crate::log::log_message;

/// Makes this process one of the group. The error says what failed, and at which option. `segments`: the bytes of address
/// space that segments take, which are not counted for `virtual-memory-limit=`.
pub(super) fn take_on(alone: &Alone, group: &ProcessGroup, segments: u64) -> Result<(), String> {
    let is_root = rustix::process::geteuid().is_root();
    let account = Account::of(group)?;
    set_limits(group, segments)?;
    if let Some(folder) = &group.chroot {
        if is_root {
            chroot(Path::new(folder)).map_err(|errno| format!("chroot={folder}: {errno}"))?;
            std::env::set_current_dir("/").map_err(|error| format!("chroot={folder}: {error}"))?;
        } else {
            log_message(Message::GroupNeedsRoot, &[&group.name, &"chroot"]);
        }
    }
    if is_root {
        account.take_on(group)?;
    } else if group.user.is_some() && account.user.as_raw() != rustix::process::geteuid().as_raw() {
        log_message(Message::GroupNeedsRoot, &[&group.name, &"user"]);
    }
    if let Some(mask) = group.umask {
        umask(Mode::from_raw_mode(mask));
    }
    set_environment(alone, group, &account);
    // As under mod_wsgi, only another user than httpd's has its home folder: that of httpd's user often does not exist.
    let is_another = is_root && account.user.as_raw() != process::user();
    let own_home = account.home.as_deref().filter(|_| is_another);
    match (&group.home, own_home) {
        (Some(home), _) => {
            std::env::set_current_dir(home).map_err(|error| format!("home={home}: {error}"))?;
        }
        (None, Some(home)) => {
            let failed = |error| format!("home folder {} of the user: {error}", home.display());
            std::env::set_current_dir(home).map_err(failed)?;
        }
        (None, None) => {}
    }
    Ok(())
}

/// The user and groups of a process.
struct Account {
    user: Uid,
    group: Gid,
    name: Option<String>,
    home: Option<PathBuf>,
}

impl Account {
    fn of(group: &ProcessGroup) -> Result<Self, String> {
        let found = match &group.user {
            Some(written) => accounts::user("user", written)?,
            None => {
                let uid = Uid::from_raw(process::user());
                let entry = User::from_uid(uid).ok().flatten();
                FoundUser { uid, entry }
            }
        };
        let user = found.uid;
        if user.is_root() {
            return Err(String::from(
                "user=: Python does not run as root; name another user",
            ));
        }
        let gid = match &group.group {
            Some(written) => accounts::group("group", written)?,
            None => Gid::from_raw(process::group()),
        };
        if gid.as_raw() == 0 {
            return Err(String::from(
                "group=: Python does not run as the group of root; name another group",
            ));
        }
        Ok(Self {
            user,
            group: gid,
            name: found.entry.as_ref().map(|entry| entry.name.clone()),
            home: found.entry.map(|entry| entry.dir),
        })
    }

    /// Becomes this user, for good.
    fn take_on(&self, group: &ProcessGroup) -> Result<(), String> {
        setgid(self.group).map_err(|errno| format!("group {}: {errno}", self.group))?;
        if group.supplementary_groups.is_empty() {
            let name = self
                .name
                .as_deref()
                .and_then(|name| std::ffi::CString::new(name).ok());
            match name {
                Some(name) => initgroups(&name, self.group),
                None => setgroups(&[self.group]),
            }
            .map_err(|errno| format!("groups of the user: {errno}"))?;
        } else {
            let written = group.supplementary_groups.iter();
            let gids: Vec<Gid> = written
                .map(|name| accounts::group("supplementary-groups", name))
                .collect::<Result<_, _>>()?;
            setgroups(&gids).map_err(|errno| format!("supplementary-groups=: {errno}"))?;
        }
        setuid(self.user).map_err(|errno| format!("user {}: {errno}", self.user))?;
        if setuid(Uid::from_raw(0)).is_ok() {
            return Err(String::from("user=: the process could become root again"));
        }
        Ok(())
    }
}

/// Sets the limits of the kernel. Before the change of user, as it needs the rights of root to go up.
fn set_limits(group: &ProcessGroup, segments: u64) -> Result<(), String> {
    let set = |resource, option: &str, soft: u64, hard: u64| {
        let limit = Rlimit {
            current: Some(soft),
            maximum: Some(hard),
        };
        setrlimit(resource, limit).map_err(|errno| format!("{option}={soft}: {errno}"))
    };
    if let Some(limit) = group.cpu_time_limit {
        let soft = limit.as_secs();
        // The process gets a signal first, and has the time of an orderly end until it is killed.
        let hard = soft + 1 + group.shutdown_timeout().as_secs();
        set(Resource::Cpu, "cpu-time-limit", soft, hard)?;
    }
    if let Some(limit) = group.memory_limit {
        set(Resource::Data, "memory-limit", limit, limit)?;
    }
    if let Some(limit) = group.virtual_memory_limit {
        let limit = limit.saturating_add(segments);
        set(Resource::As, "virtual-memory-limit", limit, limit)?;
    }
    if let Some(priority) = group.cpu_priority {
        setpriority_process(None, priority)
            .map_err(|errno| format!("cpu-priority={priority}: {errno}"))?;
    }
    Ok(())
}

fn set_environment(alone: &Alone, group: &ProcessGroup, account: &Account) {
    if let Some(lang) = &group.lang {
        alone.set_variable("LANG", lang);
    }
    if let Some(locale) = &group.locale {
        alone.set_variable("LC_ALL", locale);
    }
    if group.lang.is_some() || group.locale.is_some() {
        let wanted = group.locale.as_deref().unwrap_or_default();
        if !alone.set_locale(wanted) {
            log_message(Message::GroupLocale, &[&group.name, &wanted]);
        }
    }
    if let Some(name) = &account.name {
        for variable in ["USER", "USERNAME", "LOGNAME"] {
            alone.set_variable(variable, name);
        }
    }
    if let Some(home) = account.home.as_deref().and_then(Path::to_str) {
        alone.set_variable("HOME", home);
    }
}
