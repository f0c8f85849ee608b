//! Whole configurations, compared as text.

use super::*;
use crate::cli::Mpm;

fn size(mpm: Mpm, processes: u32, threads: u32) -> Size {
    Size::new(mpm, Some(processes), Some(threads)).expect("a valid size")
}

fn smallest() -> Conf {
    Conf {
        root: "/run/wsgictl".into(),
        listen: "127.0.0.1:8000".parse().expect("an address"),
        size: size(Mpm::Event, 2, 10),
        modules: vec![
            ("mpm_event", "/modules/mod_mpm_event.so".into()),
            ("wsgi", "/modules/mod_wsgi_rs.so".into()),
        ],
        account: None,
        mime_types: Some("/etc/mime.types".into()),
        group: None,
        python: None,
        python_path: None,
        script: "/srv/app.wsgi".into(),
        callable: "application".into(),
        application_group: "%{GLOBAL}".into(),
        reload: true,
        mount_point: "/".into(),
        statics: Vec::new(),
        document_root: None,
        metrics: false,
        limit_request_body: None,
        setenv: Vec::new(),
        access_log: Some("/dev/stdout".into()),
        log_level: "warn".into(),
        include: Vec::new(),
    }
}

#[test]
fn the_smallest_configuration() {
    let expected = r##"# First.

# Server
ServerRoot "/run/wsgictl"
DefaultRuntimeDir "/run/wsgictl"
PidFile "httpd.pid"
Listen 127.0.0.1:8000
ServerName 127.0.0.1:8000

# Modules that are not compiled in
LoadModule mpm_event_module "/modules/mod_mpm_event.so"
LoadModule wsgi_module "/modules/mod_wsgi_rs.so"

# Size: event MPM, 2 children x 10 threads: 20 requests at once
ServerLimit 4
ThreadLimit 10
StartServers 2
ThreadsPerChild 10
MinSpareThreads 1
MaxSpareThreads 21
MaxRequestWorkers 20
MaxConnectionsPerChild 0

# Logs
ErrorLog "/dev/stderr"
LogLevel warn
LogFormat "%h %u %t \"%r\" %>s %b %{ms}Tms" wsgictl
CustomLog "/dev/stdout" wsgictl

# Only what is named below is served
<Directory "/">
    Options FollowSymLinks
    AllowOverride None
    Require all denied
</Directory>
TypesConfig "/etc/mime.types"

# The application
WSGIApplicationGroup "%{GLOBAL}"
WSGICallableObject "application"
WSGIReload modules
WSGIChunkedRequest On
WSGIScriptAlias "/" "/srv/app.wsgi"
<Directory "/srv">
    <Files "app.wsgi">
        Require all granted
    </Files>
</Directory>
"##;
    assert_eq!(smallest().render(&["First.".into()]), expected);
}

#[test]
fn an_application_in_its_own_processes() {
    let of = |processes, account, reload| {
        let conf = Conf {
            group: Some(Group {
                size: GroupSize::new(processes, Some(5)),
                account,
            }),
            python: Some("/srv/my \"venv\"".into()),
            python_path: Some("/srv/my site".into()),
            reload,
            ..smallest()
        };
        let text = conf.render(&[]);
        let (_, after) = text.split_once("# The application").expect("a section");
        let (section, _) = after.split_once("WSGIChunkedRequest").expect("a line");
        section.to_owned()
    };
    assert_eq!(
        of(None, Some(("shop".into(), "users".into())), true),
        r##", in its own processes: 2 processes x 5 threads: 10 requests at once
WSGIRestrictEmbedded On
WSGIDaemonProcess application display-name=%{GROUP} processes=2 threads=5 user="shop" group="users" python-home="/srv/my \"venv\"" python-path="/srv/my site"
WSGIProcessGroup application
WSGIApplicationGroup "%{GLOBAL}"
WSGICallableObject "application"
WSGIReload modules
"##
    );
    let one = of(Some(1), None, false);
    assert!(
        one.contains("display-name=%{GROUP} threads=5 python-home="),
        "{one}"
    );
    assert!(one.contains("WSGIReload off"), "{one}");
}

#[test]
fn everything_at_once() {
    let conf = Conf {
        listen: "[::1]:8080".parse().expect("an address"),
        size: size(Mpm::Prefork, 3, 1),
        modules: Vec::new(),
        account: Some(("www-data".into(), "www-data".into())),
        mime_types: None,
        python: Some("/srv/venv".into()),
        python_path: Some("/srv/my site".into()),
        script: "/srv/my \"site\"/app.wsgi".into(),
        callable: "app".into(),
        application_group: "shop".into(),
        reload: false,
        mount_point: "/shop".into(),
        statics: vec![
            Static {
                url: "/static".into(),
                path: "/srv/static".into(),
                is_file: false,
            },
            Static {
                url: "/favicon.ico".into(),
                path: "/srv/favicon.ico".into(),
                is_file: true,
            },
        ],
        document_root: Some("/srv/100%".into()),
        metrics: true,
        limit_request_body: Some(0),
        setenv: vec![("A".into(), "b c".into())],
        access_log: None,
        log_level: "info wsgi:debug".into(),
        include: vec!["/srv/more.conf".into()],
        ..smallest()
    };
    let expected = r##"
# Server
ServerRoot "/run/wsgictl"
DefaultRuntimeDir "/run/wsgictl"
PidFile "httpd.pid"
Listen [::1]:8080
ServerName [::1]:8080

# Modules that are not compiled in

# User and group of the children
User "www-data"
Group "www-data"

# Size: prefork MPM, 3 children x 1 thread: 3 requests at once
ServerLimit 3
StartServers 3
MinSpareServers 1
MaxSpareServers 3
MaxRequestWorkers 3
MaxConnectionsPerChild 0

# Logs
ErrorLog "/dev/stderr"
LogLevel info wsgi:debug

# Only what is named below is served
<Directory "/">
    Options FollowSymLinks
    AllowOverride None
    Require all denied
</Directory>
LimitRequestBody 0
TypesConfig "/dev/null"
AddType text/html .html .htm
AddType text/css .css
AddType text/javascript .js .mjs
AddType text/plain .txt
AddType application/json .json .map
AddType application/pdf .pdf
AddType image/svg+xml .svg
AddType image/png .png
AddType image/jpeg .jpg .jpeg
AddType image/x-icon .ico
AddType font/woff .woff
AddType font/woff2 .woff2

# Files that httpd serves by itself
Alias "/static" "/srv/static"
<Directory "/srv/static">
    Require all granted
</Directory>
Alias "/favicon.ico" "/srv/favicon.ico"
<Directory "/srv">
    <Files "favicon.ico">
        Require all granted
    </Files>
</Directory>

# Files here come before the application, except hidden ones
DocumentRoot "/srv/100%"
<Directory "/srv/100%">
    Require all granted
</Directory>
RewriteEngine On
RewriteCond "%{REQUEST_URI}" "!/\."
RewriteCond "%{DOCUMENT_ROOT}%{REQUEST_URI}" -f
RewriteRule "^/.*$" "/srv/100\%$0" [L]

# The application
WSGIPythonHome "/srv/venv"
WSGIPythonPath "/srv/my site"
WSGIApplicationGroup "shop"
WSGICallableObject "app"
WSGIReload off
WSGIChunkedRequest On
SetEnv "A" "b c"
WSGIScriptAlias "/shop" "/srv/my \"site\"/app.wsgi"
<Directory "/srv/my \"site\"">
    <Files "app.wsgi">
        Require all granted
    </Files>
</Directory>

# Metrics for Prometheus and a status page, for this machine only
<Location "/metrics">
    SetHandler wsgi-metrics
    Require local
</Location>
<Location "/wsgi-status">
    SetHandler wsgi-status
    Require local
</Location>

# Further directives
Include "/srv/more.conf"
"##;
    assert_eq!(conf.render(&[]), expected);
}

#[test]
fn the_address_to_type() {
    let url = |listen: &str, mount| url(listen.parse().expect("an address"), mount);
    assert_eq!(url("127.0.0.1:8000", "/"), "http://127.0.0.1:8000/");
    assert_eq!(url("0.0.0.0:80", "/app"), "http://127.0.0.1/app/");
    assert_eq!(url("[::]:8000", "/"), "http://[::1]:8000/");
}
