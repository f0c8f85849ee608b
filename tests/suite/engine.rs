//! The module without Python: the parent has no Python, and one clear line says why the configured Python cannot be
//! used.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use harness::{Server, embedded_only, eventually, maps, module, mpm_tests, ours_only};

mpm_tests! {
    fn the_parent_maps_no_python(mpm) {
        ours_only!("mod_wsgi links libpython");
        let server = Server::builder(mpm).app("/hello", "hello.wsgi").start();
        for _ in 0..3 {
            server.get("/hello").expect(200);
            let parent = maps(server.pid());
            assert!(parent.contains("module") || parent.contains("wsgi"), "the module itself is mapped");
            for name in ["libpython", "wsgi_engine"] {
                assert!(!parent.contains(name), "the parent maps {name}");
            }
            // Spare children may end during this check.
            eventually("all children map their engine", || {
                let children = server.children();
                let mapped = children.iter().all(|child| maps(*child).contains("wsgi_engine"));
                (mapped && !children.is_empty()).then_some(())
            });
            server.graceful_restart();
        }
    }

    fn no_engine(mpm) {
        ours_only!("mod_wsgi has no engines");
        embedded_only!("a process that cannot start is started again, and its requests wait");
        let server = Server::builder(mpm).one_child().module_without_engines().app("/hello", "hello.wsgi").start();
        let record = server.expect_log("(?i)wsgi_engine");
        assert_eq!(record.module, "wsgi");
        python_is_out_static_files_are_in(&server, "(?i)wsgi_engine");
    }

    fn python_homes_that_do_not_work(mpm) {
        ours_only!("mod_wsgi goes on with a warning, and its children may exit without end");
        embedded_only!("a process that cannot start is started again, and its requests wait");
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path();
        open(base, 0o755);
        let make = |name: &str| {
            let path = base.join(name);
            fs::create_dir(&path).unwrap();
            open(&path, 0o755);
            path
        };
        fs::write(base.join("file"), "not a directory").unwrap();
        make("empty");
        let inside = make("closed").join("inside");
        fs::create_dir(&inside).unwrap();
        open(&base.join("closed"), 0o700);
        let gone = make("venv");
        fs::write(gone.join("pyvenv.cfg"), "home = /no/such/python/bin\nversion = 3.11.2\n").unwrap();
        fs::create_dir(gone.join("bin")).unwrap();
        symlink("/no/such/python/bin/python3", gone.join("bin/python3")).unwrap();

        let root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
        for (name, reason) in [
            ("missing", "(?i)(does not exist|no such|not found|missing)"),
            ("file", "(?i)not a (directory|folder)"),
            ("closed/inside", "(?i)(permission|denied|not readable|unreadable|may not|cannot (enter|read|be entered|be read))"),
            ("empty", "(?i)(standard library|stdlib|encodings|no python)"),
            ("venv", "(?i)(/no/such/python)"),
        ] {
            if name == "closed/inside" && !root {
                // Only root can make a folder that another user may not enter, and serve as that user.
                continue;
            }
            let home = base.join(name);
            let server = Server::builder(mpm).one_child().python_home(&home).app("/hello", "hello.wsgi").start();
            let named = format!("{}.*", regex::escape(&home.to_string_lossy()));
            let record = server.expect_log(&named);
            let reason = regex::Regex::new(reason).unwrap();
            assert!(reason.is_match(&record.message), "{name}: {}", record.message);
            python_is_out_static_files_are_in(&server, &named);
        }
    }
}

#[test]
fn the_module_does_not_link_python() {
    ours_only!("mod_wsgi links libpython");
    let output = Command::new("ldd")
        .arg(module())
        .output()
        .expect("ldd runs");
    let linked = String::from_utf8_lossy(&output.stdout);
    assert!(linked.contains("libc.so"), "{linked}");
    assert!(!linked.contains("python"), "{linked}");
}

#[track_caller]
fn python_is_out_static_files_are_in(server: &Server, named: &str) {
    let child = server.only_child();
    for _ in 0..3 {
        server.get("/hello").expect(500);
        assert_eq!(server.get("/static.txt").expect(200).text(), "static\n");
    }
    assert_eq!(server.only_child(), child, "the child lives on");
    assert_eq!(server.count_log(named), 1, "said once");
    // Each request may log why it was refused; the cause itself was logged at the start.
    server.allow_log("(?i)python");
}

fn open(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
