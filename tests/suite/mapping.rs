//! The way from URLs to scripts: aliases, handlers, and requests that are refused because there is no application.

use harness::{Request, Server, mpm_tests};

mpm_tests! {
    fn aliases(mpm) {
        let server = Server::builder(mpm)
            .file("scripts/one.wsgi", ENVIRON)
            .file("scripts/prefix.wsgi", ENVIRON)
            .conf(ALIASES)
            .start();
        for (url, script_name, path_info, file) in [
            ("/plain", "/plain", "", "environ.wsgi"),
            ("/plain/", "/plain", "/", "environ.wsgi"),
            ("/plain/a/b?c=d", "/plain", "/a/b", "environ.wsgi"),
            // The first matching entry is taken, not the longest.
            ("/plain/deeper/x", "/plain", "/deeper/x", "environ.wsgi"),
            ("/long/x", "/long", "/x", "environ.wsgi"),
            // The target is a directory: the file is found in it, and the rest is path info.
            ("/dir/one.wsgi/z", "/dir/one.wsgi", "/z", "scripts/one.wsgi"),
            ("/bare/one.wsgi", "/bare/one.wsgi", "", "scripts/one.wsgi"),
            // If only one of URL and target ends in a slash, the rest is simply appended.
            ("/join/fix.wsgi/z", "/join/fix.wsgi", "/z", "scripts/prefix.wsgi"),
            ("/double/one.wsgi/z", "/double/one.wsgi", "/z", "scripts/one.wsgi"),
            ("/re/one.do/z", "/re/one.do", "/z", "scripts/one.wsgi"),
            // The pattern is not anchored: the text before the match is dropped.
            ("/some/anywhere/z", "/some/anywhere", "/z", "environ.wsgi"),
        ] {
            let environ = server.get(url).expect(200).json();
            assert_eq!(environ["SCRIPT_NAME"][1], script_name, "{url}");
            assert_eq!(environ["PATH_INFO"][1], path_info, "{url}");
            let found = environ["SCRIPT_FILENAME"][1].as_str().unwrap();
            assert!(found.ends_with(file), "{url}: {found}");
        }
        assert_eq!(server.get("/long/deeper/x").expect(200).text(), "Hello world!");
        assert_eq!(server.get("/callable").expect(200).text(), "other callable: other");
        // An alias of mod_alias comes first, wherever its line stands.
        assert_eq!(server.get("/plain/static.txt").expect(200).text(), "static\n");
        // An alias matches whole segments only, and one that ends in a slash needs that slash in the URL.
        for url in ["/plainer", "/dir", "/nowhere", "/re/One.do"] {
            server.get(url).expect(404);
        }
    }

    fn the_whole_site_and_virtual_hosts(mpm) {
        let server = Server::builder(mpm)
            .conf("WSGIScriptAlias /main ${APPS}/hello.wsgi
                <VirtualHost *:${PORT}>
                    ServerName root.test
                    WSGIScriptAlias / ${APPS}/environ.wsgi
                </VirtualHost>
                <VirtualHost *:${PORT}>
                    ServerName inner.test
                    WSGIScriptAlias /main/inner ${APPS}/environ.wsgi
                </VirtualHost>
                <VirtualHost *:${PORT}>
                    ServerName slashes.test
                    MergeSlashes Off
                    WSGIScriptAlias /m ${APPS}/environ.wsgi
                </VirtualHost>")
            .start();
        for (host, url, script_name, path_info) in [
            ("root.test", "/", "", "/"),
            ("root.test", "/a/b", "", "/a/b"),
            ("root.test", "/static.txt", "", "/static.txt"),
            ("root.test", "/caf%C3%A9%20x", "", "/caf\u{c3}\u{a9} x"),
            // The entries of the virtual host come before those of the main server.
            ("inner.test", "/main/inner/x", "/main/inner", "/x"),
            ("slashes.test", "/m/x//y", "/m", "/x/y"),
            ("slashes.test", "//m///x", "/m", "/x"),
        ] {
            let environ = server.send(&Request::get(url).header("Host", host)).expect(200).json();
            assert_eq!(environ["SCRIPT_NAME"][1], script_name, "{host} {url}");
            assert_eq!(environ["PATH_INFO"][1], path_info, "{host} {url}");
        }
        let response = server.send(&Request::get("/main/x").header("Host", "inner.test"));
        assert_eq!(response.expect(200).text(), "Hello world!");
        // httpd itself refuses `%2F`, before any handler.
        server.send(&Request::get("/a%2Fb").header("Host", "root.test")).expect(404);
    }

    fn handlers(mpm) {
        let server = Server::builder(mpm)
            .file("htdocs/app.wsgi", ENVIRON)
            .file("htdocs/typed.wsgit", ENVIRON)
            .file("htdocs/sub/set.py", ENVIRON)
            .file("htdocs/thing.mine", "a resource")
            .file("htdocs/closed/app.wsgi", ENVIRON)
            .conf("AddHandler wsgi-script .wsgi
                AddHandler my-handler .mine
                AddType application/x-httpd-wsgi .wsgit
                WSGIHandlerScript my-handler ${APPS}/handler.wsgi
                <Directory ${ROOT}/htdocs>
                    Options ExecCGI
                </Directory>
                <Directory ${ROOT}/htdocs/sub>
                    SetHandler wsgi-script
                </Directory>
                <Directory ${ROOT}/htdocs/closed>
                    Options None
                </Directory>")
            .start();
        for (url, script_name, path_info) in [
            ("/app.wsgi", "/app.wsgi", ""),
            ("/app.wsgi/x", "/app.wsgi", "/x"),
            ("/typed.wsgit/x", "/typed.wsgit", "/x"),
            ("/sub/set.py/x", "/sub/set.py", "/x"),
        ] {
            let environ = server.get(url).expect(200).json();
            assert_eq!(environ["SCRIPT_NAME"][1], script_name, "{url}");
            assert_eq!(environ["PATH_INFO"][1], path_info, "{url}");
        }
        let told = server.get("/thing.mine").expect(200).text();
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(lines[0], "my-handler");
        assert!(lines[1].ends_with("/handler.wsgi") && lines[2].ends_with("/thing.mine"), "{told}");
        assert_eq!(lines[3], "handle_request");

        server.get("/closed/app.wsgi").expect(403);
        server.expect_log("ExecCGI");
        server.get("/missing.wsgi").expect(404);
        server.expect_log("(?i)not found");
        server.get("/static.txt").expect(200);
    }

    fn an_alias_as_directory_index(mpm) {
        let server = Server::builder(mpm)
            .file("htdocs/idx/other.txt", "makes the folder")
            .conf("DirectoryIndex index.wsgi
                WSGIScriptAlias /idx/index.wsgi ${APPS}/group.wsgi callable-object=other application-group=foo")
            .start();
        for url in ["/idx/", "/idx/index.wsgi"] {
            assert_eq!(server.get(url).expect(200).text(), "other callable in foo", "{url}");
        }
    }

    fn refusals(mpm) {
        let server = Server::builder(mpm)
            .app("/hello", "hello.wsgi")
            .app("/exact", "hello.wsgi")
            .conf("WSGIScriptAlias /gone ${ROOT}/gone.wsgi
                WSGIScriptAlias /folder ${ROOT}/htdocs/
                <Location /exact>
                    AcceptPathInfo Off
                </Location>")
            .start();
        server.get("/exact").expect(200);
        server.get("/exact/more").expect(404);
        server.expect_log("(?i)(AcceptPathInfo|path info)");
        server.get("/gone").expect(404);
        server.expect_log("(?i)not found");
        server.get("/folder/").expect(403);
        server.expect_log("(?i)directory");
        for (name, value, status) in
            [("Content-Length", "-1", 400), ("Content-Length", "12x", 400), ("Transfer-Encoding", "gzip", 501)]
        {
            let response = server.send(&Request::new("POST", "/hello").header(name, value));
            assert!(response.status() == status || response.status() == 400, "{name}: {value}: {:?}", response.head);
        }
        server.allow_log("(?i)(content-length|transfer-encoding)");
        server.get("/hello").expect(200);
    }
}

const ENVIRON: &str = include_str!("../apps/environ.wsgi");

const ALIASES: &str = r"
WSGIScriptAlias /plain ${APPS}/environ.wsgi
WSGIScriptAlias /plain/deeper ${APPS}/hello.wsgi
WSGIScriptAlias /long/deeper ${APPS}/hello.wsgi
WSGIScriptAlias /long ${APPS}/environ.wsgi
WSGIScriptAlias /dir/ ${ROOT}/scripts/
WSGIScriptAlias /bare ${ROOT}/scripts
WSGIScriptAlias /join/ ${ROOT}/scripts/pre
WSGIScriptAlias /double ${ROOT}/scripts/
WSGIScriptAlias /callable ${APPS}/environ.wsgi callable-object=other
WSGIScriptAliasMatch ^/re/([a-z]+)\.do ${ROOT}/scripts/$1.wsgi
WSGIScriptAliasMatch /anywhere ${APPS}/environ.wsgi
Alias /plain/static.txt ${ROOT}/htdocs/static.txt
";
