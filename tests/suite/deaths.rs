//! Children that an application ends, and what the server reports about them.

use harness::{Builder, embedded_only, eventually, kill, mpm_tests, ours_only};

use crate::forks::start;

mpm_tests! {
    fn a_death_is_told_of(mpm) {
        ours_only!("mod_wsgi says nothing");
        embedded_only!("it tells of httpd's children, and a lost request is answered 500");
        let server = start(mpm, Builder::metrics);
        for (number, (way, how)) in [
            ("exit", "with status 3"),
            ("SIGKILL", "by SIGKILL"),
            ("segfault", "by SIGSEGV"),
            ("SIGABRT", "by SIGABRT"),
        ].into_iter().enumerate() {
            let child = server.get("/app/pid").expect(200).text();
            // The query may hold secrets, so it is not reported.
            let answer = server.try_send(&harness::Request::get(&format!("/app/dies/here?{way}&secret=1")));
            assert!(!answer.is_ok_and(|response| response.is_complete()), "{way}");
            let line = server.expect_log(&format!(
                "WSGI1102: child {child} ended unexpectedly, {how}; it was running GET /app/dies/here of application \
                 '.*' for [0-9.]+ s \\(in the application\\)$"
            ));
            assert!(line.level == "notice" && !line.message.contains("secret"), "{line:?}");
            let status = eventually("the status shows it", || {
                let status = server.status();
                let deaths = status["deaths"].as_array().expect("a list").len();
                (deaths == number + 1).then_some(status)
            });
            assert_eq!(status["deaths"][0]["pid"].to_string(), child, "{way}");
            assert_eq!(status["deaths"][0]["how"], how);
            let running = status["deaths"][0]["running"].as_str().expect("a text");
            assert!(running.starts_with("GET /app/dies/here of application "), "{running}");
        }
        server.allow_log("exit signal");
        let page = server.get("/wsgi-status").expect(200).text();
        assert!(page.contains("Processes that ended unexpectedly"), "{page}");
        let printed = server.wsgictl(&["status"]);
        let printed = String::from_utf8_lossy(&printed.stdout).into_owned();
        assert!(printed.contains("by SIGSEGV") && printed.contains("with status 3"), "{printed}");
    }

    fn so_is_that_of_an_idle_child(mpm) {
        ours_only!("mod_wsgi says nothing");
        let server = start(mpm, Builder::metrics);
        let child = server.only_child();
        kill(child);
        server.expect_log(&format!(
            "WSGI1102: child {child} ended unexpectedly, by SIGKILL; it was running no request that is known$"
        ));
    }

    fn nothing_is_told_of_others(mpm) {
        let mut server = start(mpm, Builder::metrics);
        server.get("/app/pid").expect(200);
        server.graceful_restart();
        server.get("/app/pid").expect(200);
        server.restart_now();
        server.get("/app/pid").expect(200);
        server.start_again();
        server.get("/app/pid").expect(200);
        assert_eq!(server.count_log("WSGI1102"), 0);
    }

    fn it_is_told_where_nothing_is_measured(mpm) {
        ours_only!("mod_wsgi says nothing");
        embedded_only!("it tells of httpd's children, and a lost request is answered 500");
        let server = start(mpm, |builder| builder.conf("WSGIMetrics Off"));
        let child = server.get("/app/pid").expect(200).text();
        let _cut = server.try_send(&harness::Request::get("/app/dies?exit"));
        server.expect_log(&format!("WSGI1102: child {child} ended unexpectedly, with status 3; it was running no request"));
    }
}
