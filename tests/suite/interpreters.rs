//! Which interpreter runs an application, how it holds the GIL, and that groups are separate from each other.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use harness::{Mpm, Server, eventually, mpm_tests, ours_only, packages, process_group};
use serde_json::{Value, json};

mpm_tests! {
    fn the_only_group_runs_in_the_main_interpreter(mpm) {
        ours_only!("mod_wsgi has no such choice");
        let server = one_app(mpm, "");
        let told = ask(&server, "/app");
        // The group name in the environ has the port that the client names.
        assert_eq!(told["environ"], "wsgi.test|/app");
        assert_eq!(told["module"], format!("wsgi.test:{}|/app", server.port()));
        server.expect_log("Loading WSGI script '.*' into main interpreter");
    }

    fn several_groups_run_where_their_names_say(mpm) {
        ours_only!("mod_wsgi has no such choice");
        let server = two_apps(mpm, "");
        for (url, name) in [("/app", "a"), ("/other", "b")] {
            assert_eq!(ask(&server, url)["environ"], name);
            server.expect_log(&format!("Loading WSGI script '.*' into sub-interpreter '{name}'"));
        }
    }

    fn directives_place_groups(mpm) {
        ours_only!("mod_wsgi has no such choice");
        let server = one_app(mpm, "WSGIInterpreter sub");
        ask(&server, "/app");
        server.expect_log("Loading WSGI script '.*' into sub-interpreter '.*[|]/app'");

        let server = two_apps(mpm, "WSGIInterpreter main");
        for (url, name) in [("/app", "a"), ("/other", "b")] {
            assert_eq!(ask(&server, url)["environ"], name);
        }
        assert_eq!(server.count_log("into sub-interpreter"), 0);

        let server = two_apps(
            mpm,
            "<WSGIInterpreterOptions application-group=b>
                WSGIInterpreter main
            </WSGIInterpreterOptions>",
        );
        ask(&server, "/app");
        ask(&server, "/other");
        assert_eq!(server.count_log("into sub-interpreter 'a'"), 1);
        assert_eq!(server.count_log("into main interpreter"), 1);
    }

    fn groups_are_apart(mpm) {
        ours_only!("mod_wsgi has no such choice");
        let server = two_apps(mpm, "");
        ask(&server, "/app?mark=/first1");
        ask(&server, "/other?mark=/second2");
        let (first, second) = (ask(&server, "/app?process"), ask(&server, "/other?process"));
        assert_eq!(first["pid"], second["pid"]);
        for (told, path, level) in [(&first, "/first1", 10), (&second, "/second2", 20)] {
            assert_eq!(told["calls"], 2);
            assert_eq!((&told["path"], &told["mark"], &told["child"]), (&json!(path), &json!(path), &json!(path)));
            assert_eq!(told["level"], level);
            assert_eq!(told["process"], Value::Null, "os.environ does not reach the process");
        }
    }

    fn writes_to_the_environ_reach_the_process_where_that_is_wanted(mpm) {
        ours_only!("mod_wsgi has no such choice");
        let server = two_apps(mpm, "WSGIPrivateEnviron Off");
        ask(&server, "/app?mark=/first1");
        assert_eq!(ask(&server, "/other?process")["process"], "/first1");
    }

    /// Threads change between groups while C code calls back into Python: on 3.10 and 3.11 two live states of one
    /// thread would block it forever.
    fn callbacks_of_c_code_find_their_interpreter(mpm) {
        ours_only!("mod_wsgi has no such choice");
        let server = two_apps(mpm, "");
        let until = Instant::now() + Duration::from_secs(2);
        std::thread::scope(|scope| {
            for client in 0..4 {
                let server = &server;
                scope.spawn(move || {
                    let mut turn = client;
                    while Instant::now() < until {
                        let url = ["/app?callback", "/other?callback"][turn % 2];
                        assert_eq!(ask(server, url)["callback"], json!([1, 2, 3, 4, 5]), "{url}");
                        turn += 1;
                    }
                });
            }
        });
    }

    fn replicas_share_the_requests(mpm) {
        ours_only!("mod_wsgi has no such choice");
        let server = one_app(mpm, "WSGIGILMode own\nWSGIInterpreters 2");
        server.allow_log(&too_early());
        let told = ask(&server, "/app");
        if !has_own_gil(&told) {
            server.expect_log("WSGI1023: application group '.*' runs under the GIL of the process: Python 3.1[01]? or later|WSGI1023");
            assert_eq!(told["replica"], Value::Null);
            return;
        }
        // A child with one thread cannot run a second replica.
        let has_threads = mpm.threaded() || process_group().is_some();
        let expected: BTreeSet<u64> = if has_threads { [0, 1].into() } else { [0].into() };
        assert_eq!(told["multithread"], has_threads);
        assert_eq!(told["multiprocess"], has_threads);
        let seen: BTreeSet<u64> = (0..6).map(|_| ask(&server, "/app")["replica"].as_u64().unwrap()).collect();
        assert_eq!(seen, expected);
        assert_eq!(server.count_log("Loading WSGI script '.*' into interpreter [12] of "), expected.len());
        server.expect_log("WSGI1024|Loading");
    }

    fn a_mode_that_is_left_open_is_found_out_once(mpm) {
        ours_only!("mod_wsgi has no such choice");
        let server = Server::builder(mpm)
            .pool(3, 4)
            .conf("WSGIScriptAlias /app ${APPS}/interpreter.wsgi\nWSGIInterpreters 2")
            .start();
        server.allow_log(&too_early());
        if !has_own_gil(&ask(&server, "/app")) {
            server.expect_log("WSGI1023");
            return;
        }
        server.expect_log("WSGI1025: application group '.*[|]/app' runs in . interpreters with GILs of their own");
        assert!(ask(&server, "/app")["replica"].as_u64().is_some());
        assert_eq!(server.count_log("WSGI1025"), 1, "one child has tried for all");
    }

    fn a_module_that_refuses_keeps_its_group_in_the_main_interpreter(mpm) {
        ours_only!("mod_wsgi has no such choice");
        let server = Server::builder(mpm)
            .pool(3, 4)
            .file("refusing.wsgi", "import faulthandler\ndef application(environ, start_response):\n    start_response('200 OK', [])\n    return [str(environ.get('mod_wsgi.replica')).encode(), str(__import__('sys').version_info[:2]).encode()]\n")
            .conf("WSGIScriptAlias /app ${ROOT}/refusing.wsgi\nWSGIInterpreters 2")
            .start();
        server.allow_log(&too_early());
        server.allow_log("refusing.wsgi|ImportError|faulthandler|Traceback");
        let text = server.get("/app").expect(200).text();
        assert!(text.starts_with("None"), "{text}");
        if text.ends_with("(3, 13)") {
            server.expect_log("WSGI1026: application group '.*' runs in the main interpreter, .* 'faulthandler' cannot");
            for _ in 0..20 {
                assert_eq!(server.get("/app").expect(200).text(), text);
            }
            eventually("one child has tried for all", || (server.count_log("WSGI1026") == 1).then_some(()));
        } else {
            server.allow_log("WSGI102[36]");
        }
    }

    /// Runs numpy, pydantic, SQLAlchemy, lxml and cryptography.
    fn packages_with_compiled_parts(mpm) {
        ours_only!("mod_wsgi has no such choice");
        let Some(home) = packages() else { return };
        let server = |conf: &str| Server::builder(mpm).one_child().python_home(&home).conf(conf).start();
        let expected = json!({
            "numpy": 10, "pydantic": 3, "sqlalchemy": "SELECT points.x \nFROM points", "lxml": "b", "cryptography": 128,
            "replica": null,
        });

        let alone = server("WSGIScriptAlias /app ${APPS}/packages.wsgi");
        assert_eq!(alone.get("/app/").expect(200).json(), expected);
        drop(alone);

        let two = server(
            "WSGIScriptAlias /app ${APPS}/packages.wsgi application-group=a
            WSGIScriptAlias /other ${APPS}/packages.wsgi application-group=b
            WSGIScriptAlias /fine ${APPS}/hello.wsgi application-group=c",
        );
        two.allow_log("packages.wsgi|Error|Traceback|NumPy|Internal Server Error");
        assert_eq!(two.get("/app/").expect(200).json(), expected);
        two.get("/other/").expect(500);
        two.get("/other/").expect(500);
        two.expect_log(
            "WSGI1030: package '(numpy|pydantic_core|lxml|cryptography|sqlalchemy)' can be loaded into one interpreter of a process only, \
             and WSGI script '.*packages.wsgi' wants it in sub-interpreter 'b' .*WSGIApplicationGroup %\\{GLOBAL\\}",
        );
        assert_eq!(two.count_log("WSGI1030"), 1, "once for the application");
        two.get("/fine").expect(200);
        assert_eq!(two.get("/app/").expect(200).json(), expected);
        drop(two);

        let replicas = server("WSGIScriptAlias /app ${APPS}/packages.wsgi\nWSGIInterpreters 2");
        replicas.allow_log("packages.wsgi|Error|Traceback|WSGI102[34]");
        assert_eq!(replicas.get("/app/").expect(200).json(), expected);
        if replicas.count_log("WSGI1023") == 0 {
            replicas.expect_log("WSGI1026: .* runs in the main interpreter, .*(numpy|pydantic|lxml|cryptography|sqlalchemy)");
        }
    }
}

fn one_app(mpm: Mpm, conf: &str) -> Server {
    Server::builder(mpm)
        .one_child()
        .conf("WSGIScriptAlias /app ${APPS}/interpreter.wsgi")
        .conf(conf)
        .start()
}

fn two_apps(mpm: Mpm, conf: &str) -> Server {
    Server::builder(mpm)
        .one_child()
        .conf(
            "WSGIScriptAlias /app ${APPS}/interpreter.wsgi application-group=a
            WSGIScriptAlias /other ${APPS}/interpreter.wsgi application-group=b",
        )
        .conf(conf)
        .start()
}

fn ask(server: &Server, url: &str) -> Value {
    server.get(url).expect(200).json()
}

/// Returns the message about a Python that has such interpreters, but does not support them well.
fn too_early() -> String {
    String::from("WSGI102[34]: application group")
}

/// Whether the Python of the server has interpreters with their own GILs.
fn has_own_gil(told: &Value) -> bool {
    told["version"][1].as_u64().unwrap() >= 13
}
