//! Application groups: the result of each expansion, and that each group has its own interpreter.

use harness::{Mpm, Request, Server, mpm_tests, ours, process_group};
use serde_json::Value;

mpm_tests! {
    fn names(mpm) {
        let server = Server::builder(mpm).conf(NAMES).start();
        for (host, url, name) in [
            ("wsgi.test", "/host", "wsgi.test"),
            ("localhost", "/default", "wsgi.test|/default"),
            ("localhost", "/default/path/info", "wsgi.test|/default"),
            ("localhost:8080", "/default", "wsgi.test:8080|/default"),
            ("localhost", "/resource//x", "wsgi.test|/resource"),
            ("localhost", "/literal", "a group"),
            ("localhost", "/global", ""),
            ("localhost", "/server", "wsgi.test"),
            // Port 80 or 443 is left out of the name.
            ("localhost:443", "/server", "wsgi.test"),
            ("localhost:8080", "/server", "wsgi.test:8080"),
            ("localhost", "/host", "localhost"),
            ("Other.Test:99", "/host", "other.test:99"),
            ("localhost", "/env", "from the environment"),
            ("localhost", "/env-again", ""),
            ("localhost", "/env-unset", "%{ENV:NOT_SET}"),
            ("localhost", "/half", "half-%{SERVER}"),
            ("localhost", "/unknown", "%{NONSENSE}"),
            ("localhost", "/directive", "by directive"),
            ("localhost", "/option", "by option"),
        ] {
            let told = ask(&server, host, url);
            assert_eq!(told["environ"], name, "{url} on {host}");
            // No server has these hosts and ports, so the names make no interpreters.
            let interpreter = match name {
                "localhost" | "other.test:99" if ours() => "wsgi.test",
                "wsgi.test:8080" if ours() => "wsgi.test",
                "wsgi.test:8080|/default" if ours() => "wsgi.test|/default",
                name => name,
            };
            if !name.is_empty() || main_is_main(mpm) {
                assert_eq!(told["module"], interpreter, "{url} on {host}");
            }
            assert_eq!(told["process_group"], process_group().unwrap_or(""), "{url}");
        }
    }

    fn isolation(mpm) {
        let server = Server::builder(mpm)
            .one_child()
            .conf("WSGIScriptAlias /one ${APPS}/group.wsgi application-group=one
                WSGIScriptAlias /same ${APPS}/group.wsgi application-group=one
                WSGIScriptAlias /two ${APPS}/group.wsgi application-group=two
                WSGIScriptAlias /main ${APPS}/group.wsgi application-group=%{GLOBAL}")
            .start();
        // The same file is loaded once in each interpreter, and its globals belong to that interpreter.
        for (url, calls) in
            [("/one", 1), ("/one", 2), ("/two", 1), ("/main", 1), ("/same", 3), ("/two", 2), ("/main", 2), ("/one", 4)]
        {
            if url != "/main" || main_is_main(mpm) {
                assert_eq!(ask(&server, "localhost", url)["calls"], calls, "{url}");
            }
        }
        assert_eq!(server.count_log("Loading WSGI script '.*group.wsgi'"), if main_is_main(mpm) { 3 } else { 2 });
        let name = ask(&server, "localhost", "/one")["name"].as_str().unwrap().to_owned();
        assert!(name.starts_with("_mod_wsgi_") && name.len() == "_mod_wsgi_".len() + 32, "{name}");
    }
}

/// On a thread that has served a sub-interpreter first, mod_wsgi 6.1.1 enters the wrong interpreter for `%{GLOBAL}`
/// (`PyGILState_Ensure` finds that thread state). So tests of it cannot run with mod_wsgi if children have threads.
pub(crate) fn main_is_main(mpm: Mpm) -> bool {
    ours() || !mpm.threaded()
}

fn ask(server: &Server, host: &str, url: &str) -> Value {
    server
        .send(&Request::get(url).header("Host", host))
        .expect(200)
        .json()
}

const NAMES: &str = r#"
SetEnv GROUP_NAME "from the environment"
SetEnv GROUP_AGAIN "%{GLOBAL}"
WSGIScriptAlias /default ${APPS}/group.wsgi
WSGIScriptAlias /resource ${APPS}/group.wsgi application-group=%{RESOURCE}
WSGIScriptAlias /literal ${APPS}/group.wsgi application-group="a group"
WSGIScriptAlias /global ${APPS}/group.wsgi application-group=%{GLOBAL}
WSGIScriptAlias /server ${APPS}/group.wsgi application-group=%{SERVER}
WSGIScriptAlias /host ${APPS}/group.wsgi application-group=%{HOST}
WSGIScriptAlias /env-again ${APPS}/group.wsgi application-group=%{ENV:GROUP_AGAIN}
WSGIScriptAlias /env-unset ${APPS}/group.wsgi application-group=%{ENV:NOT_SET}
WSGIScriptAlias /env ${APPS}/group.wsgi application-group=%{ENV:GROUP_NAME}
WSGIScriptAlias /half ${APPS}/group.wsgi application-group=half-%{SERVER}
WSGIScriptAlias /unknown ${APPS}/group.wsgi application-group=%{NONSENSE}
WSGIScriptAlias /directive ${APPS}/group.wsgi
WSGIScriptAlias /option ${APPS}/group.wsgi application-group="by option"
<Location /directive>
    WSGIApplicationGroup "by directive"
</Location>
<Location /option>
    WSGIApplicationGroup "by directive"
</Location>
"#;
