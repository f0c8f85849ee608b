//! New code without a restart: a changed script file is loaded again.

use harness::{Mpm, Server, eventually, mpm_tests, process_group, script_answering};

mpm_tests! {
    fn edited_scripts(mpm) {
        let server = start(mpm, "");
        assert_eq!(server.get("/app").expect(200).text(), "one");
        for text in ["two", "three"] {
            server.write(SCRIPT, script_answering(text));
            // The time stamp of the file tells versions apart, and it may have a coarse clock, so the first responses
            // may be old.
            eventually("the new code answers", || (server.get("/app").expect(200).text() == text).then_some(()));
        }
        if process_group().is_none() {
            server.expect_log("Reloading WSGI script '.*app.wsgi'");
        }

        server.write(SCRIPT, "def application(environ, start_response:\n");
        eventually("the broken script fails", || (server.get("/app").status() == 500).then_some(()));
        // No old copy is used instead, however many requests come.
        server.get("/app").expect(500);
        server.expect_log("SyntaxError");
        server.allow_log("app.wsgi");
        server.write(SCRIPT, script_answering("mended"));
        eventually("the mended script serves", || (server.get("/app").status() == 200).then_some(()));
        assert_eq!(server.get("/app").expect(200).text(), "mended");
        assert_eq!(server.only_child(), server.children()[0]);
    }

    fn older_files_count_as_edited(mpm) {
        let server = start(mpm, "");
        assert_eq!(server.get("/app").expect(200).text(), "one");
        server.write(SCRIPT, script_answering("older"));
        let file = std::fs::File::options().write(true).open(server.root().join(SCRIPT)).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000)).unwrap();
        let is_older = || server.get("/app").expect(200).text() == "older";
        if process_group().is_some() {
            // The process that notices it goes on until a successor serves.
            eventually("the new code answers", || is_older().then_some(()));
        } else {
            assert!(is_older());
        }
    }

    fn not_watched(mpm) {
        let server = start(mpm, "WSGIScriptReloading Off");
        assert_eq!(server.get("/app").expect(200).text(), "one");
        let child = server.only_process();
        server.write(SCRIPT, script_answering("two"));
        for _ in 0..5 {
            assert_eq!(server.get("/app").expect(200).text(), "one");
        }
        // A restart takes up the new code in any case.
        server.graceful_restart();
        assert_eq!(server.get("/app").expect(200).text(), "two");
        assert_ne!(server.only_process(), child);
    }

    fn on_the_scripts_own_wish(mpm) {
        let server = Server::builder(mpm)
            .one_child()
            .app("/app", "reload_required.wsgi")
            .conf("SetEnv test.gate ${ROOT}/gate")
            .start();
        let first = server.get("/app").expect(200).text();
        assert_eq!(server.get("/app").expect(200).text(), first);
        let again = server.get("/app?reload").expect(200).text();
        assert_eq!(again, first, "the wish is known from the next request on");
        let is_new = || server.get("/app").expect(200).text() != first;
        if process_group().is_some() {
            // The process that has the wish goes on until a successor serves.
            eventually("the new code answers", || is_new().then_some(()));
        } else {
            assert!(is_new());
        }
        // `reload_required` is called with the file of the resource; if it raises an exception, nothing is reloaded.
        let current = server.get("/app?raise").expect(200).text();
        assert_eq!(server.get("/app").expect(200).text(), current);
        server.expect_log("ValueError: cannot tell about .*reload_required.wsgi");
        server.allow_log("reload_required|exception raised");
    }
}

fn start(mpm: Mpm, conf: &str) -> Server {
    Server::builder(mpm)
        .one_child()
        .file(SCRIPT, script_answering("one"))
        .conf("WSGIScriptAlias /app ${ROOT}/scripts/app.wsgi")
        .conf(conf)
        .start()
}

const SCRIPT: &str = "scripts/app.wsgi";
