//! Many workers, applications and virtual hosts, and names that clients invent.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use harness::{Mpm, Request, Response, Server, embedded_only, eventually, mpm_tests, ours_only};

/// Returns the configuration of 1,000 workers, of which few are ever started.
fn thousand_workers(mpm: Mpm) -> &'static str {
    match mpm {
        Mpm::Prefork => {
            "ServerLimit 1000\nMaxRequestWorkers 1000\nStartServers 1\nMinSpareServers 1\nMaxSpareServers 4"
        }
        _ => {
            "ServerLimit 40\nThreadLimit 25\nThreadsPerChild 25\nMaxRequestWorkers 1000\nStartServers 1\n\
             MinSpareThreads 1\nMaxSpareThreads 75"
        }
    }
}

fn aliases(count: usize) -> String {
    (0..count).fold(String::new(), |mut conf, at| {
        let _ = writeln!(
            conf,
            "WSGIScriptAlias /app{at} ${{APPS}}/group.wsgi application-group=g{} process-group=%{{GLOBAL}}",
            at % 3
        );
        conf
    })
}

/// Returns the bytes of the segment, and the number of them that are in memory.
fn sizes(server: &Server) -> (u64, u64) {
    let descriptors =
        fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("the parent is there");
    let is_memory = |path: &PathBuf| {
        let name = fs::read_link(path).unwrap_or_default();
        name.to_string_lossy()
            .starts_with("/memfd:mod_wsgi_rs.segment")
    };
    let memory = descriptors
        .map(|entry| entry.expect("an entry").path())
        .find(is_memory);
    let memory = fs::metadata(memory.expect("the parent has the memory")).expect("it is there");
    (memory.len(), memory.blocks() * 512)
}

fn wsgictl(server: &Server, arguments: &[&str]) -> String {
    let output = server.wsgictl(arguments);
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn on_host(server: &Server, url: &str, host: &str) -> Response {
    server.send(&Request::get(url).header("Host", host))
}

mpm_tests! {
    fn a_thousand_workers_have_a_thousand_applications(mpm) {
        ours_only!("mod_wsgi has no metrics");
        // The configured applications have the same script; in the table their aliases tell them apart.
        let server = Server::builder(mpm)
            .own_executor()
            .metrics()
            .conf(&format!("{}\n{}", thousand_workers(mpm), aliases(1000)))
            .start();
        let (length, taken) = sizes(&server);
        assert!(length > 1 << 30, "{length}");
        assert!(taken < 32 << 20, "{taken}");
        for at in [0, 62, 63, 126, 999] {
            server.get(&format!("/app{at}")).expect(200);
        }
        for at in [0, 62, 63, 126, 999] {
            server.expect_count("wsgi_requests_total", &[("app", &format!("/app{at}"))], 1);
        }
        // Nothing was counted for another application whose number has the same remainder.
        server.expect_count("wsgi_requests_total", &[("app", "/app125")], 0);
        let status = wsgictl(&server, &["status", "--json"]);
        let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
        let applications = status["applications"].as_array().expect("a list");
        assert!(applications.len() >= 1000, "{}", applications.len());
        wsgictl(&server, &["status"]);
        wsgictl(&server, &["metrics"]);
        wsgictl(&server, &["reload", "--timeout", "600"]);
        // The first child may be one that was just replaced.
        eventually("the stacks of a child", || {
            let child = server.children().last()?.to_string();
            let output = server.wsgictl(&["stack", &child]);
            output.status.success().then_some(())
        });
        server.get("/app7").expect(200);
        server.graceful_restart();
        server.get("/app7").expect(200);
        server.expect_count("wsgi_requests_total", &[("app", "/app7")], 2);
        let (_, taken) = sizes(&server);
        assert!(taken < 32 << 20, "to look at it takes memory: {taken}");
    }

    fn what_is_the_same_for_many_virtual_hosts_is_said_once(mpm) {
        ours_only!("mod_wsgi has no plan");
        let hosts = (0..200).fold(String::new(), |mut conf, at| {
            let _ = writeln!(
                conf,
                "<VirtualHost *>\nServerName host{at}.test\nWSGIScriptAlias / ${{APPS}}/group.wsgi\n</VirtualHost>"
            );
            conf
        });
        let server = Server::builder(mpm).own_executor().conf(&hosts).start();
        for host in ["host0.test", "host199.test"] {
            let name = on_host(&server, "/", host).expect(200).json();
            assert_eq!(name["module"], format!("{host}|"));
        }
        let said = server.records();
        let of_start = said.iter().filter(|record| record.level == "info" && record.message.contains("host"));
        assert!(of_start.count() <= 20, "{}", server.log());
        server.expect_log("application groups 'host0.test.*\\|', 'host1.*\\|', .* and 195 more: ");
    }

    fn hosts_that_no_server_has_make_no_interpreters(mpm) {
        ours_only!("mod_wsgi makes an interpreter for each");
        let server = Server::builder(mpm)
            .one_child()
            .conf("WSGIApplicationGroup %{HOST}
                WSGIApplicationGroupLimit 2
                WSGIScriptAlias /app ${APPS}/group.wsgi
                <VirtualHost *>
                    ServerName first.test
                    ServerAlias also.test
                </VirtualHost>
                <VirtualHost *>
                    ServerName second.test
                    ServerAlias *.second.test
                </VirtualHost>")
            .start();
        let interpreter = |host: &str| {
            let told = on_host(&server, "/app", host).expect(200).json();
            let host = host.to_ascii_lowercase();
            assert!(told["environ"].as_str().expect("a name").starts_with(host.split(':').next().unwrap()), "{told}");
            told["module"].as_str().expect("a name").to_owned()
        };
        // The first virtual host serves all names that no virtual host has, on any port.
        for made_up in 0..300 {
            assert_eq!(interpreter(&format!("made-up-{made_up}.test")), "first.test");
            assert_eq!(interpreter(&format!("first.test:{}", 20_000 + made_up)), "first.test");
        }
        // Clients invent names with wildcards, too, but such names belong to the server: each has its own interpreter
        // until there are too many of them.
        assert_eq!(interpreter("a.second.test"), "a.second.test");
        assert_eq!(interpreter("B.second.test"), "b.second.test");
        let refused = on_host(&server, "/app", "c.second.test").expect(503);
        assert!(refused.header("Retry-After").is_some());
        server.expect_log("WSGI1116: there is no interpreter for application group 'c.second.test': requests have named 2 groups");
        // All other names are still served.
        for known in ["first.test", "also.test", "second.test", "a.second.test", "b.second.test"] {
            assert_eq!(interpreter(known), known);
        }
        on_host(&server, "/app", "d.second.test").expect(503);
        server.allow_log("WSGI1116");
    }

    fn ports_that_no_server_has_make_no_interpreters(mpm) {
        ours_only!("mod_wsgi makes an interpreter for each");
        let server = Server::builder(mpm)
            .one_child()
            .conf("WSGIScriptAlias /one ${APPS}/group.wsgi
                WSGIScriptAlias /two ${APPS}/group.wsgi")
            .start();
        let port = server.port();
        for (host, interpreter) in [
            (String::from("wsgi.test"), String::from("wsgi.test|/one")),
            (String::from("wsgi.test:443"), String::from("wsgi.test|/one")),
            (format!("wsgi.test:{port}"), format!("wsgi.test:{port}|/one")),
        ] {
            let told = on_host(&server, "/one", &host).expect(200).json();
            assert_eq!(told["module"], interpreter, "{host}");
        }
        for made_up in 1..300 {
            let told = on_host(&server, "/one", &format!("wsgi.test:{made_up}")).expect(200).json();
            assert_eq!(told["module"], "wsgi.test|/one", "{made_up}");
        }
    }

    fn wsgictl_reload_says_what_it_could_not_try(mpm) {
        ours_only!("mod_wsgi replaces no children");
        embedded_only!("it replaces httpd's children");
        let only = "SetEnvIf X-Group (.+) GROUP=$1
            WSGIScriptAlias /env ${APPS}/group.wsgi application-group=%{ENV:GROUP}\n";
        let known = "WSGIScriptAlias /one ${APPS}/hello.wsgi application-group=one\n";
        for (conf, status, told) in [
            (only.to_owned(), 3, "Nothing could be tried"),
            (format!("{only}{known}"), 3, "The new code of 1 script works; at 1 place of the configuration"),
            (known.to_owned(), 0, "The new code works"),
        ] {
            let server = Server::builder(mpm).conf(&conf).start();
            // The parent may count a child that is ending.
            server.allow_log("AH00288");
            let output = server.wsgictl(&["reload"]);
            assert_eq!(output.status.code(), Some(status), "{output:?}");
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(text.contains(told), "{text}");
        }
    }
}

/// A child may have 255 interpreters besides the main interpreter.
#[test]
fn the_last_interpreter_that_a_child_may_have_serves_and_the_next_group_is_refused() {
    ours_only!("mod_wsgi has no limit");
    let server = Server::builder(Mpm::Event)
        .one_child()
        .conf(
            "WSGIScriptAliasMatch ^/any/[^/]* ${APPS}/group.wsgi application-group=%{RESOURCE}
            WSGIScriptAlias /known ${APPS}/group.wsgi application-group=known",
        )
        .start();
    let made = |at: usize| server.get(&format!("/any/{at}"));
    // One is reserved for the group that the configuration names.
    for at in 1..=254 {
        made(at).expect(200);
    }
    for at in [255, 256] {
        made(at).expect(503);
    }
    server.allow_log("WSGI1116");
    assert_eq!(server.get("/known").expect(200).json()["module"], "known");
    for at in [1, 254] {
        assert_eq!(made(at).expect(200).json()["calls"], 2);
    }
    server.get("/static.txt").expect(200);
}

/// The numbers are not stored in the file system.
#[test]
fn a_full_file_system_ends_no_process() {
    ours_only!("mod_wsgi has no metrics");
    let Some(small) = SmallFileSystem::mount(6 << 20) else {
        eprintln!("not tried: only root may mount a file system");
        return;
    };
    let server = Server::builder(Mpm::Event)
        .one_child()
        .metrics()
        .conf(&format!(
            "DefaultRuntimeDir {}\n{}\n{}",
            small.0.display(),
            thousand_workers(Mpm::Event),
            aliases(60)
        ))
        .start();
    let segment = small.0.join("mod_wsgi_rs.segment");
    assert!(segment.is_file(), "{}", server.log());
    // This fills the rest of the file system.
    let _ = fs::write(small.0.join("fill"), vec![1; 8 << 20]);
    let child = server.children()[0];
    for at in 0..60 {
        server.get(&format!("/app{at}")).expect(200);
    }
    assert_eq!(server.children()[0], child);
    let page = server.metrics();
    let counted = page.sum("wsgi_requests_total", &[]);
    assert!(counted >= 60.0, "{counted}");
    assert_eq!(page.sum("wsgi_requests_total", &[("app", "_other")]), 0.0);
    fs::remove_file(small.0.join("fill")).expect("it was there");
    // The copy in the file may have been due during that time.
    server.allow_log("WSGI1121");
    server.stop();
}

/// A separate file system, which is unmounted when it is dropped.
struct SmallFileSystem(std::path::PathBuf);

impl SmallFileSystem {
    fn mount(bytes: usize) -> Option<Self> {
        let folder = std::env::temp_dir().join(format!("wsgi-small-{}", std::process::id()));
        fs::create_dir_all(&folder).ok()?;
        let options = format!("size={bytes},mode=755");
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "none"])
            .arg(&folder)
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then_some(Self(folder))
    }
}

impl Drop for SmallFileSystem {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(&self.0)
            .status();
        let _ = fs::remove_dir(&self.0);
    }
}
