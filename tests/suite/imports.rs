//! Scripts that are loaded when the child starts, before any request.

use harness::{Server, mpm_tests};

use crate::groups::main_is_main;

mpm_tests! {
    fn before_the_first_request(mpm) {
        let server = Server::builder(mpm)
            .one_child()
            .file("scripts/broken.wsgi", "raise ValueError('broken at start')\n")
            .conf("WSGIImportScript ${APPS}/group.wsgi process-group=%{GLOBAL} application-group=early
                WSGIImportScript ${ROOT}/scripts/broken.wsgi process-group=%{GLOBAL} application-group=early
                WSGIScriptAlias /preloaded ${APPS}/hello.wsgi process-group=%{GLOBAL} application-group=%{GLOBAL}
                WSGIScriptAlias /same ${APPS}/group.wsgi application-group=early
                WSGIScriptAlias /lazy ${APPS}/environ.wsgi")
            .start();
        server.expect_log("Loading WSGI script '.*group.wsgi'");
        server.expect_log("Loading WSGI script '.*hello.wsgi'");
        server.expect_log("ValueError: broken at start");
        server.expect_log("broken.wsgi");
        assert_eq!(server.count_log("Loading WSGI script '.*environ.wsgi'"), 0);

        // The request finds the module that was loaded before.
        assert_eq!(server.get("/same").expect(200).json()["calls"], 1);
        assert_eq!(server.get("/preloaded").expect(200).text(), "Hello world!");
        server.get("/lazy").expect(200);
        assert_eq!(server.count_log("Loading WSGI script '.*group.wsgi'"), 1);
        if main_is_main(mpm) {
            assert_eq!(server.count_log("Loading WSGI script '.*hello.wsgi'"), 1);
        }
        assert_eq!(server.count_log("Loading WSGI script '.*environ.wsgi'"), 1);
    }
}
