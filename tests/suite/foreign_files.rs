//! The file of the segment belongs to the server, but a user may cut it, remove it or replace it. Neither the server
//! nor its clients notice, and a graceful restart makes the file again.

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Command;

use harness::{Exposition, Request, Server, eventually, mpm_tests, ours_only};

mpm_tests! {
    fn cut_files(mpm) {
        ours_only!("mod_wsgi has no such file");
        let mut server = Counted::start(mpm);
        let path = server.server.segment();
        let whole = fs::metadata(&path).unwrap().len();
        for length in [0, 1, 4096, whole / 2, whole - 1] {
            OpenOptions::new().write(true).open(&path).unwrap().set_len(length).unwrap();
            server.goes_on(&format!("cut to {length} bytes"));
        }
        File::create(&path).unwrap();
        server.goes_on("emptied");
        server.restart("emptied");
        fs::write(&path, vec![0xff; usize::try_from(whole).unwrap()]).unwrap();
        server.goes_on("overwritten");
        server.restart("overwritten");
        server.end();
    }

    fn removed_and_replaced_files(mpm) {
        ours_only!("mod_wsgi has no such file");
        let mut server = Counted::start(mpm);
        // The module logs this about every ten seconds while the name leads to another file.
        server.server.allow_log("WSGI1121");
        let path = server.server.segment();
        fs::remove_file(&path).unwrap();
        server.goes_on("removed");
        server.restart("removed");
        let other = server.server.root().join("other");
        fs::write(&other, "not to be touched").unwrap();
        fs::remove_file(&path).unwrap();
        symlink(&other, &path).unwrap();
        server.goes_on("a link");
        server.restart("a link");
        assert_eq!(fs::read_to_string(&other).unwrap(), "not to be touched");
        assert!(fs::symlink_metadata(&path).unwrap().is_file());
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        let output = server.server.wsgictl(&["status"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("users other than its owner may write to it"), "{said}");
        server.restart("open for all");
        fs::remove_file(&path).unwrap();
        fs::write(&path, "nonsense").unwrap();
        server.restart("nonsense");
        server.end();
    }

    fn the_file_is_the_owners_and_gone_at_the_end(mpm) {
        ours_only!("mod_wsgi has no such file");
        let server = Counted::start(mpm);
        let path = server.server.segment();
        let found = fs::metadata(&path).unwrap();
        assert_eq!(found.mode() & 0o7777, 0o640);
        assert_eq!(found.uid(), fs::metadata("/proc/self").unwrap().uid());
        // Children have no descriptor by which they could write to the file.
        for child in server.server.children() {
            let open = fs::read_dir(format!("/proc/{child}/fd")).unwrap();
            let names = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
            let has_it = names.into_iter().any(|name| name == path);
            assert!(!has_it);
        }
        // A member of httpd's group sees the last copy, which was made just now, and may request nothing.
        if found.uid() == 0 {
            server.server.graceful_restart();
            let program = server.server.root().join("wsgictl-copy");
            fs::copy(harness::wsgictl(), &program).unwrap();
            let asked = |arguments: &[&str]| {
                Command::new("setpriv")
                    .args(["--reuid=65533".to_owned(), format!("--regid={}", found.gid())])
                    .args(["--clear-groups", "--"])
                    .arg(&program)
                    .args(arguments)
                    .arg("--segment")
                    .arg(&path)
                    .output()
                    .unwrap()
            };
            let output = asked(&["metrics"]);
            assert!(output.status.success(), "{output:?}");
            let page = Exposition::parse(&String::from_utf8(output.stdout).unwrap()).unwrap();
            assert_eq!(page.sum("wsgi_requests_total", &[("app", "/m")]), 1.0);
            let text = String::from_utf8(asked(&["status"]).stdout).unwrap();
            assert!(text.contains("may be ten seconds old"), "{text}");
            let output = asked(&["reload"]);
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(said.contains("you may not write to it"), "{said}");
        }
        server.end();
        assert!(!path.exists());
    }
}

/// A server with clients, and the number of requests that it must have counted.
struct Counted {
    server: Server,
    requests: u64,
    /// Whether children were replaced, so that some may be about to end.
    replaced: bool,
}

impl Counted {
    fn start(mpm: harness::Mpm) -> Self {
        let server = Server::builder(mpm)
            .metrics()
            .metrics_listener()
            .app("/m", "measured.wsgi")
            .start();
        // Some children still end while others start.
        server.allow_log("scoreboard is full");
        server.get("/m/ok").expect(200);
        Self {
            server,
            requests: 1,
            replaced: false,
        }
    }

    /// Checks that the same processes go on serving and counting.
    fn goes_on(&mut self, context: &str) {
        let (parent, children) = (self.server.pid(), self.server.children());
        for _ in 0..10 {
            self.server.get("/m/ok").expect(200);
        }
        self.requests += 10;
        let labels = [("app", "/m")];
        self.server
            .expect_count("wsgi_requests_total", &labels, self.requests);
        let answer = self.server.ask_helper(&Request::get("/metrics")).unwrap();
        let page = Exposition::parse(&answer.expect(200).text()).unwrap();
        let seen = page.sum("wsgi_requests_total", &labels);
        assert_eq!(seen, self.requests as f64, "{context}");
        assert!(harness::is_alive(parent), "{context}");
        for child in children.into_iter().filter(|_| !self.replaced) {
            assert!(harness::is_alive(child), "{context}: child {child}");
        }
    }

    /// Restarts the server, and checks that the file exists again and nothing was lost.
    fn restart(&mut self, context: &str) {
        self.server.graceful_restart();
        self.replaced = true;
        self.goes_on(context);
        let output = eventually(context, || {
            let output = self.server.wsgictl(&["metrics"]);
            output.status.success().then_some(output)
        });
        let page = Exposition::parse(&String::from_utf8(output.stdout).unwrap()).unwrap();
        let seen = page.sum("wsgi_requests_total", &[("app", "/m")]);
        assert_eq!(seen, self.requests as f64, "{context}");
        // It also accepts requests.
        let output = self.server.wsgictl(&["reload"]);
        assert!(output.status.success(), "{context}: {output:?}");
    }

    fn end(self) {
        assert_eq!(self.server.count_log("exit signal|ended by signal"), 0);
        self.server.stop();
    }
}
