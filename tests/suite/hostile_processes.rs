//! A process of a group that breaks the protocol with httpd's children: its own requests suffer, and nothing else does.

use harness::{Request, Server, eventually, mpm_tests, ours_only};

/// What `hostile.wsgi` does to all connections of its process.
const DEEDS: [&str; 8] = [
    "noise", "length", "short", "shut", "deaf", "device", "many", "lines",
];

mpm_tests! {
    fn others_are_served(mpm) {
        ours_only!("mod_wsgi uses a connection for one request");
        let server = Server::builder(mpm)
            .app("/hostile", "hostile.wsgi")
            .app("/hello", "hello.wsgi")
            .conf(
                "WSGIDaemonProcess site threads=5 socket-timeout=1
                WSGIDaemonProcess other threads=2
                WSGIProcessGroup site
                WSGIScriptAlias /other ${APPS}/hello.wsgi process-group=other
                WSGIScriptAlias /here ${APPS}/hello.wsgi process-group=%{GLOBAL}",
            )
            .start();
        // The lines of the application, and what httpd's children say of its process.
        server.allow_log("a line of the application|WSGI115[567]|WSGI1010|AH0[0-9]+");
        server.get("/hello").expect(200);
        let children = server.children();
        let processes = server.group_processes();
        for (round, deed) in DEEDS.iter().enumerate() {
            for when in ["before", "after"] {
                // Some connections are idle meanwhile.
                for path in ["/hello", "/other", "/here"] {
                    server.get(path).expect(200);
                }
                // Whatever the client gets, it gets an end.
                let request = Request::get(&format!("/hostile/{deed}/{when}"));
                let answer = server.try_send(&request);
                if let Ok(answer) = &answer {
                    let is_whole = answer.status() == 200 && answer.text() == "fourmore";
                    let is_cut = answer.status() == 200 && !answer.is_complete();
                    assert!(
                        is_whole || is_cut || answer.status() >= 500,
                        "{deed} {when}: {answer:?}"
                    );
                }
                assert!(*deed != "lines" || answer.is_ok(), "{answer:?}");
                for path in ["/other", "/here"] {
                    assert_eq!(server.get(path).expect(200).text(), "Hello world!", "{deed} {when}");
                }
                assert_eq!(server.get("/static.txt").expect(200).text(), "static\n");
                eventually("the process serves on", || {
                    (server.get("/hello").status() == 200).then_some(())
                });
            }
            // Prefork starts further ones when it is busy.
            let now = server.children();
            assert!(children.iter().all(|child| now.contains(child)), "after round {round}, {deed}");
            assert_eq!(server.group_processes(), processes, "after round {round}, {deed}");
        }
    }
}
