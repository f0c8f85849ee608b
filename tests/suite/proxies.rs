//! Trusted proxies: which forwarded headers rewrite the environ, and which are stripped.

use harness::{Request, Server, mpm_tests};
use serde_json::Value;

mpm_tests! {
    fn without_a_list_of_proxies(mpm) {
        let server = Server::builder(mpm)
            .conf("WSGIScriptAlias /none ${APPS}/environ.wsgi
                WSGIScriptAlias /all ${APPS}/environ.wsgi
                WSGIScriptAlias /order ${APPS}/environ.wsgi
                <Location /all>
                    WSGITrustedProxyHeaders X-Forwarded-For X-Forwarded-Host X-Forwarded-Server
                    WSGITrustedProxyHeaders X-Forwarded-Port X-Forwarded-Proto X-Script-Name
                </Location>
                <Location /order>
                    WSGITrustedProxyHeaders X-Real-IP X-Client-IP X-Scheme X-Nonsense
                </Location>")
            .start();
        let forwarded = [
            ("X-Forwarded-For", " , 203.0.113.7 , 10.0.0.1"),
            ("X-Forwarded-Host", "public.test:8443"),
            ("X-Forwarded-Server", "front.test"),
            ("X-Forwarded-Port", "8443"),
            ("X-Forwarded-Proto", "https"),
            ("X-Script-Name", "/mounted"),
            ("X-Real-IP", "203.0.113.9"),
            ("X-Scheme", "https"),
        ];

        let plain = ask(&server, "/none", &forwarded);
        assert_eq!(text(&plain, "REMOTE_ADDR"), Some("127.0.0.1"));
        assert_eq!(text(&plain, "HTTP_X_REAL_IP"), Some("203.0.113.9"));
        assert_eq!(text(&plain, "wsgi.url_scheme"), Some("http"));
        assert_eq!(text(&plain, "SCRIPT_NAME"), Some("/none"));

        let all = ask(&server, "/all/page", &forwarded);
        for (key, value) in [
            ("REMOTE_ADDR", Some("203.0.113.7")),
            ("HTTP_HOST", Some("public.test:8443")),
            ("SERVER_NAME", Some("front.test")),
            ("SERVER_PORT", Some("8443")),
            ("wsgi.url_scheme", Some("https")),
            ("REQUEST_SCHEME", Some("http")),
            ("SCRIPT_NAME", Some("/mounted")),
            ("PATH_INFO", Some("/page")),
            ("mod_wsgi.mount_point", Some("/mounted")),
            ("mod_wsgi.script_name", Some("/all")),
            ("mod_wsgi.path_info", Some("/page")),
            // Other headers of a managed kind are removed, so that they deceive no application.
            ("HTTP_X_REAL_IP", None),
            ("HTTP_X_SCHEME", None),
            ("HTTP_X_FORWARDED_PROTO", Some("https")),
        ] {
            assert_eq!(text(&all, key), value, "{key}");
        }

        // The last listed header that is present wins; headers that are not known forwarded headers are ignored.
        let both = [("X-Real-IP", "203.0.113.1"), ("X-Client-IP", "203.0.113.2"), ("X-Nonsense", "kept")];
        let order = ask(&server, "/order", &both);
        assert_eq!(text(&order, "REMOTE_ADDR"), Some("203.0.113.2"));
        assert_eq!(text(&order, "HTTP_X_REAL_IP"), None);
        assert_eq!(text(&order, "HTTP_X_CLIENT_IP"), Some("203.0.113.2"));
        assert_eq!(text(&order, "HTTP_X_NONSENSE"), Some("kept"));
        // The header is not listed and its kind not managed, so it is an ordinary header.
        let host = ask(&server, "/order", &[("X-Forwarded-Host", "public.test")]);
        assert_eq!(text(&host, "HTTP_X_FORWARDED_HOST"), Some("public.test"));
        assert_eq!(text(&host, "HTTP_HOST"), Some("localhost"));
    }

    fn schemes(mpm) {
        let server = Server::builder(mpm)
            .app("/app", "environ.wsgi")
            .conf("WSGITrustedProxyHeaders X-Forwarded-Proto X-Forwarded-SSL
                SetEnvIf X-Was-Tls . HTTPS=on")
            .start();
        for (header, value, scheme) in [
            ("X-Forwarded-Proto", "https", "https"),
            ("X-Forwarded-Proto", "HTTPS", "https"),
            ("X-Forwarded-Proto", "http", "http"),
            ("X-Forwarded-Proto", "gopher", "http"),
            ("X-Forwarded-SSL", "On", "https"),
            ("X-Forwarded-SSL", "1", "https"),
            ("X-Forwarded-SSL", "true", "https"),
            ("X-Forwarded-SSL", "off", "http"),
            ("X-Forwarded-SSL", "0", "http"),
        ] {
            let environ = ask(&server, "/app", &[(header, value)]);
            assert_eq!(text(&environ, "wsgi.url_scheme"), Some(scheme), "{header}: {value}");
        }
        let down = ask(&server, "/app", &[("X-Was-Tls", "1"), ("X-Forwarded-Proto", "http")]);
        assert_eq!(text(&down, "wsgi.url_scheme"), Some("http"));
    }

    fn with_a_list_of_proxies(mpm) {
        let server = Server::builder(mpm)
            .conf("WSGIScriptAlias /trusted ${APPS}/environ.wsgi
                WSGIScriptAlias /stranger ${APPS}/environ.wsgi
                WSGITrustedProxyHeaders X-Forwarded-For X-Forwarded-Host
                <Location /trusted>
                    WSGITrustedProxies 127.0.0.1 10.0.0.0/8 2001:db8::/32
                </Location>
                <Location /stranger>
                    WSGITrustedProxies 10.0.0.0/8
                </Location>")
            .start();
        for (sent, address, rest) in [
            ("203.0.113.7", "203.0.113.7", "203.0.113.7"),
            ("203.0.113.7, 10.1.1.1", "203.0.113.7", "203.0.113.7, 10.1.1.1"),
            ("198.51.100.1, 203.0.113.7, 10.1.1.1, 10.2.2.2", "203.0.113.7", "203.0.113.7, 10.1.1.1, 10.2.2.2"),
            ("203.0.113.7, 2001:db8::5", "203.0.113.7", "203.0.113.7, 2001:db8::5"),
            ("10.1.1.1, 10.2.2.2", "10.1.1.1", "10.1.1.1, 10.2.2.2"),
            ("10.1.1.1, 203.0.113.7", "203.0.113.7", "203.0.113.7"),
            ("10.1.1.1, garbage", "garbage", "garbage"),
        ] {
            let environ = ask(&server, "/trusted", &[("X-Forwarded-For", sent)]);
            assert_eq!(text(&environ, "REMOTE_ADDR"), Some(address), "{sent}");
            let list: Vec<&str> = text(&environ, "HTTP_X_FORWARDED_FOR").unwrap().split(',').map(str::trim).collect();
            assert_eq!(list, rest.split(", ").collect::<Vec<_>>(), "{sent}");
        }
        // From a peer that is not trusted no header is believed, and all of them are removed.
        let sent = [("X-Forwarded-For", "203.0.113.7"), ("X-Real-IP", "203.0.113.8"), ("X-Forwarded-Host", "evil.test")];
        let environ = ask(&server, "/stranger", &sent);
        assert_eq!(text(&environ, "REMOTE_ADDR"), Some("127.0.0.1"));
        assert_eq!(text(&environ, "HTTP_HOST"), Some("localhost"));
        for key in ["HTTP_X_FORWARDED_FOR", "HTTP_X_REAL_IP", "HTTP_X_FORWARDED_HOST"] {
            assert_eq!(text(&environ, key), None, "{key}");
        }
    }
}

fn ask(server: &Server, url: &str, headers: &[(&str, &str)]) -> Value {
    let request = headers
        .iter()
        .fold(Request::get(url), |request, (name, value)| {
            request.header(name, value)
        });
    server.send(&request).expect(200).json()
}

fn text<'a>(environ: &'a Value, key: &str) -> Option<&'a str> {
    environ.get(key).map(|value| value[1].as_str().unwrap())
}
