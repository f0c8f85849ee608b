//! C code that does not release the GIL: nothing else runs in Python in that child, so it is replaced.

use harness::{
    Builder, Mpm, Pid, Request, Server, eventually, mpm_tests, ours_only, wait_until_ended,
};

use crate::clients::Clients;

mpm_tests! {
    fn a_request_that_holds_the_gil_is_given_up(mpm) {
        ours_only!("mod_wsgi gives up daemon processes only");
        // Every request has a limit here, so that requests that wait for the GIL of that child are answered, too.
        let server = start(mpm, |builder| builder.pool(2, 8).conf("WSGIThreadShare 4\nWSGIRequestTimeout 1 grace=0.5"));
        // All children serve static files, also the child that has lost its GIL.
        let clients = Clients::during(&server, &["/static.txt"], 4, |clients| {
            clients.wait_for(20);
            assert_eq!(server.get("/app/hold?1000").status(), 504);
            let child = server.expect_log("WSGI1063: request given up: GET /app/hold runs for").pid;
            clients.wait_for(20);
            wait_until_ended(child);
            clients.wait_for(20);
        });
        clients.expect_no_failures();
        let after = Clients::during(&server, &["/app/who", "/other/who"], 2, |clients| clients.wait_for(20));
        after.expect_no_failures();
        server.expect_count("wsgi_children_recycles_total", &[("reason", "request_timeout")], 1);
    }

    fn the_only_child_has_lost_its_gil(mpm) {
        ours_only!("mod_wsgi gives up daemon processes only");
        let server = start(mpm, |builder| builder.one_child().conf("WSGIRequestTimeout 1 grace=0.5"));
        let child = server.only_process();
        assert_eq!(server.get("/app/hold?1000").status(), 504);
        serves(&server, child);
        wait_until_ended(child);
    }

    fn a_gil_that_cannot_be_had_retires_the_child(mpm) {
        ours_only!("mod_wsgi watches over daemon processes only");
        let server = start(mpm, |builder| builder.pool(2, 4).conf("WSGIDeadlockTimeout 2"));
        let mut connection = server.ask("/app/hold?1000");
        let record = server.expect_log(r"^WSGI1064: the GIL of the process could not be acquired for \d+ s");
        assert_eq!(record.level, "crit");
        let child = record.pid;
        eventually("the stacks are shown", || {
            (server.count_log(r#"deadlines.wsgi", line \d+, in hold$"#) > 0).then_some(())
        });
        // Nothing that needs the GIL ever returns, so the client is answered although its request has no limit.
        assert_eq!(connection.read_response("GET").expect("an answer").status(), 504);
        serves(&server, child);
        wait_until_ended(child);
        assert_eq!(server.count_log("WSGI1064: the GIL"), 1, "complained of once");
        server.expect_count("wsgi_children_recycles_total", &[("reason", "deadlock")], 1);
    }

    fn a_long_computation_gives_the_gil_back(mpm) {
        ours_only!("mod_wsgi watches over daemon processes only");
        let server = start(mpm, |builder| builder.one_child().conf("WSGIDeadlockTimeout 1"));
        let child = server.only_process();
        // Python code that computes releases the GIL to a thread that asks for it.
        server.get("/app/spin?3").expect(200);
        // C code may hold the GIL for less than the timeout.
        assert_eq!(server.count_log("WSGI1064"), 0);
        assert_eq!(server.only_process(), child);
    }
}

fn start(mpm: Mpm, configure: impl FnOnce(Builder) -> Builder) -> Server {
    let builder = Server::builder(mpm).metrics().conf(
        "WSGIScriptAlias /app ${APPS}/deadlines.wsgi application-group=one
        WSGIScriptAlias /other ${APPS}/deadlines.wsgi application-group=two",
    );
    let server = configure(builder).start();
    server.get("/app/who").expect(200);
    server.allow_log("WSGI106[1-5]|WSGI1032|AH00288");
    // These lines are the stacks of a child that has lost its GIL.
    server.allow_log("^== |^These stacks |^Thread 0x|^\\d+ threads? runs? no Python code");
    server
}

/// Waits until a child other than `not` answers.
fn serves(server: &Server, not: Pid) {
    eventually("a successor serves", || {
        let answer = server.try_send(&Request::get("/app/who")).ok()?;
        let pid: Pid = (answer.status() == 200).then(|| answer.text().parse().ok())??;
        (pid != not).then_some(())
    });
}
