//! Two sites in one httpd, as two users, with two minor versions of Python.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};

use harness::{Request, Server, another_venv, leave_out, maps, mpm_tests, ours_only, venv};
use nix::unistd::User;
use serde_json::Value;

use crate::daemon::{is_root, pid_of};

/// The sites: name, user, umask, locale.
const SITES: [(&str, &str, u32, &str); 2] = [
    ("one", "daemon", 0o027, "C.UTF-8"),
    ("two", "nobody", 0o077, "POSIX"),
];

mpm_tests! {
    fn each_has_its_own_and_none_reaches_the_other(mpm) {
        ours_only!("mod_wsgi has one Python");
        let Some((other_venv, other_version)) = another_venv() else {
            leave_out("second Python", module_path!(), "there is no virtual environment of another Python with an engine");
            return;
        };
        if !is_root() {
            leave_out("root", module_path!(), "only root can start processes as other users");
            return;
        }
        let users = SITES.map(|(_, user, ..)| User::from_name(user).unwrap().expect("this system has it"));
        let homes = [venv().to_owned(), other_venv];
        let mut builder = Server::builder(mpm).metrics_listener().conf("WSGISocketPrefix ${ROOT}/wsgi");
        for (((name, user, umask, locale), account), home) in SITES.into_iter().zip(&users).zip(&homes) {
            builder = builder
                .file(&format!("{name}/own.py"), format!("NAME = '{name}'\n"))
                .conf(&format!(
                    "<VirtualHost *>
                    ServerName {name}.test
                    WSGIDaemonProcess {name} user={user} group=#{gid} umask={umask:04o} locale={locale} home=${{ROOT}}/{name} \\
                        python-home={home} threads=3 display-name=%{{GROUP}}
                    WSGIScriptAlias /process ${{APPS}}/process.wsgi process-group={name} application-group=%{{GLOBAL}}
                    WSGIScriptAlias /try ${{APPS}}/neighbour.wsgi process-group={name} application-group=%{{GLOBAL}}
                    </VirtualHost>",
                    gid = account.gid,
                    home = home.display(),
                ));
        }
        let server = builder.start_with(|root| {
            for ((name, ..), account) in SITES.into_iter().zip(&users) {
                let folder = root.join(name);
                fs::write(folder.join("secret"), name).unwrap();
                for (path, mode) in [(folder.join("secret"), 0o600), (folder.clone(), 0o755)] {
                    chown(&path, Some(account.uid.as_raw()), Some(account.gid.as_raw())).unwrap();
                    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
                }
            }
        });
        let ask = |name: &str, target: &str| -> Value {
            let request = Request::get(target).header("Host", format!("{name}.test"));
            server.send(&request).expect(200).json()
        };
        let told = SITES.map(|(name, ..)| ask(name, "/process"));
        for ((((name, user, umask, locale), account), home), told) in SITES.into_iter().zip(&users).zip(&homes).zip(&told) {
            assert_eq!((&told["user"], &told["group"]), (&account.uid.as_raw().into(), &account.gid.as_raw().into()));
            assert_eq!((&told["name"], &told["home"]), (&user.into(), &account.dir.display().to_string().into()));
            assert_eq!((&told["umask"], &told["environ"]), (&umask.into(), &name.into()));
            let folder = server.root().join(name).display().to_string();
            assert_eq!((&told["folder"], &told["path"][0]), (&folder.as_str().into(), &folder.as_str().into()));
            assert_eq!(told["prefix"], home.display().to_string());
            let seen = ask(name, "/try");
            assert_eq!((&seen["own"], &seen["locale"]), (&name.into(), &locale.into()));
            let package = seen["django"].as_str().unwrap();
            assert!(package.starts_with(&home.display().to_string()), "{package}");
            // `ps` shows this line, and the user.
            let shown = fs::read(format!("/proc/{}/cmdline", told["pid"])).unwrap();
            assert!(shown.starts_with(format!("(wsgi:{name})").as_bytes()), "{shown:?}");
            assert_eq!(maps(pid_of(told)).matches("memfd:mod_wsgi_rs").count(), 1, "only its own numbers");
        }
        assert_eq!(told[1]["version"], serde_json::json!(other_version));
        assert_ne!(told[0]["version"], told[1]["version"]);
        let root = server.root().display();
        let before = server.scrape();
        for (at, (name, ..)) in SITES.into_iter().enumerate() {
            let (other, of_other) = (SITES[1 - at].0, pid_of(&told[1 - at]));
            let target = format!("/try?root={root}&other={of_other}&secret={root}/{other}/secret&parent={}", server.pid());
            let seen = ask(name, &target);
            let tried = seen["tried"].as_object().unwrap();
            // Two sockets, three segments, the other process and httpd's parent, and the other's files.
            assert!(tried.len() >= 2 + 3 + 2 * 7 + 3, "{tried:#?}");
            for (what, outcome) in tried {
                assert!(["EACCES", "EPERM"].map(Value::from).contains(outcome), "{name}: {what}: {outcome}");
            }
            let environ = seen["environ"].to_string();
            assert!(environ.contains(&format!("LEFT_BY_{name}")) && !environ.contains(&format!("LEFT_BY_{other}")), "{environ}");
        }
        for (name, ..) in SITES {
            let secret = fs::read_to_string(server.root().join(name).join("secret")).unwrap();
            assert_eq!(secret, name);
            for family in ["wsgi_children_started_total", "wsgi_children_exited_total"] {
                let labels = [("process_group", name)];
                assert_eq!(server.scrape().sum(family, &labels), before.sum(family, &labels), "{family}");
            }
        }
    }
}
