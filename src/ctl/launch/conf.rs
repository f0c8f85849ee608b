//! The complete configuration, as text.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use crate::launch::size::{GroupSize, Size};

/// All values of the configuration, resolved: paths are absolute, and rendering does not access the system.
#[derive(Clone, Debug)]
pub(crate) struct Conf {
    /// The private folder.
    pub(crate) root: String,
    pub(crate) listen: SocketAddr,
    pub(crate) size: Size,
    /// Name as in `NAME_module`, and file; without compiled-in modules.
    pub(crate) modules: Vec<(&'static str, String)>,
    /// User and group of the children, if root starts the server.
    pub(crate) account: Option<(String, String)>,
    /// Table of MIME types; without one, a short built-in table is used.
    pub(crate) mime_types: Option<String>,
    /// The processes of the application, unless it runs in httpd's children.
    pub(crate) group: Option<Group>,
    pub(crate) python: Option<String>,
    pub(crate) python_path: Option<String>,
    pub(crate) script: String,
    pub(crate) callable: String,
    pub(crate) application_group: String,
    pub(crate) reload: bool,
    pub(crate) mount_point: String,
    pub(crate) statics: Vec<Static>,
    pub(crate) document_root: Option<String>,
    /// Whether metrics and status have URLs.
    pub(crate) metrics: bool,
    pub(crate) limit_request_body: Option<u64>,
    pub(crate) setenv: Vec<(String, String)>,
    /// `None` for no access log.
    pub(crate) access_log: Option<String>,
    pub(crate) log_level: String,
    pub(crate) include: Vec<String>,
}

/// The process group of an application that has its own processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) size: GroupSize,
    /// User and group of the processes, if they are not those of httpd's children.
    pub(crate) account: Option<(String, String)>,
}

/// The name of the process group, for `wsgictl restart`.
pub(crate) const GROUP: &str = "application";

/// A folder or file that httpd serves itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Static {
    pub(crate) url: String,
    pub(crate) path: String,
    pub(crate) is_file: bool,
}

/// URL path of the metrics.
pub(crate) const METRICS: &str = "/metrics";
/// URL path of the status page.
pub(crate) const STATUS: &str = "/wsgi-status";

impl Conf {
    /// Returns the whole file, with the lines of `preamble` first, as comments.
    pub(crate) fn render(&self, preamble: &[String]) -> String {
        let mut page = Page::default();
        for line in preamble {
            page.comment(line);
        }
        self.server(&mut page);
        self.logs(&mut page);
        self.access(&mut page);
        self.statics(&mut page);
        self.application(&mut page);
        if self.metrics {
            page.section("Metrics for Prometheus and a status page, for this machine only");
            for (url, handler) in [(METRICS, "wsgi-metrics"), (STATUS, "wsgi-status")] {
                page.line(&format!("<Location {}>", quoted(url)));
                page.line(&format!("    SetHandler {handler}"));
                page.line("    Require local");
                page.line("</Location>");
            }
        }
        if !self.include.is_empty() {
            page.section("Further directives");
            for file in &self.include {
                page.line(&format!("Include {}", quoted(file)));
            }
        }
        page.text
    }

    fn server(&self, page: &mut Page) {
        page.section("Server");
        page.line(&format!("ServerRoot {}", quoted(&self.root)));
        page.line(&format!("DefaultRuntimeDir {}", quoted(&self.root)));
        page.line("PidFile \"httpd.pid\"");
        page.line(&format!("Listen {}", self.listen));
        page.line(&format!("ServerName {}", server_name(self.listen)));
        page.section("Modules that are not compiled in");
        for (name, file) in &self.modules {
            page.line(&format!("LoadModule {name}_module {}", quoted(file)));
        }
        if let Some((user, group)) = &self.account {
            page.section("User and group of the children");
            page.line(&format!("User {}", quoted(user)));
            page.line(&format!("Group {}", quoted(group)));
        }
        page.section(&format!("Size: {}", self.size));
        for (directive, value) in self.size.directives() {
            page.line(&format!("{directive} {value}"));
        }
    }

    fn logs(&self, page: &mut Page) {
        page.section("Logs");
        page.line("ErrorLog \"/dev/stderr\"");
        page.line(&format!("LogLevel {}", self.log_level));
        if let Some(log) = &self.access_log {
            page.line(r#"LogFormat "%h %u %t \"%r\" %>s %b %{ms}Tms" wsgictl"#);
            page.line(&format!("CustomLog {} wsgictl", quoted(log)));
        }
    }

    fn access(&self, page: &mut Page) {
        page.section("Only what is named below is served");
        page.line("<Directory \"/\">");
        page.line("    Options FollowSymLinks");
        page.line("    AllowOverride None");
        page.line("    Require all denied");
        page.line("</Directory>");
        if let Some(bytes) = self.limit_request_body {
            page.line(&format!("LimitRequestBody {bytes}"));
        }
        match &self.mime_types {
            Some(file) => page.line(&format!("TypesConfig {}", quoted(file))),
            None => {
                page.line("TypesConfig \"/dev/null\"");
                for (kind, endings) in COMMON_TYPES {
                    page.line(&format!("AddType {kind} {endings}"));
                }
            }
        }
    }

    fn statics(&self, page: &mut Page) {
        if !self.statics.is_empty() {
            page.section("Files that httpd serves by itself");
        }
        for Static { url, path, is_file } in &self.statics {
            page.line(&format!("Alias {} {}", quoted(url), quoted(path)));
            if *is_file {
                page.granted_file(path);
            } else {
                page.granted_folder(path);
            }
        }
        if let Some(root) = &self.document_root {
            page.section("Files here come before the application, except hidden ones");
            page.line(&format!("DocumentRoot {}", quoted(root)));
            page.granted_folder(root);
            page.line("RewriteEngine On");
            page.line(r#"RewriteCond "%{REQUEST_URI}" "!/\.""#);
            page.line(r#"RewriteCond "%{DOCUMENT_ROOT}%{REQUEST_URI}" -f"#);
            page.line(&format!(
                "RewriteRule \"^/.*$\" \"{}$0\" [L]",
                substitution(root)
            ));
        }
    }

    fn application(&self, page: &mut Page) {
        match &self.group {
            Some(group) => self.group(group, page),
            None => {
                page.section("The application");
                if let Some(python) = &self.python {
                    page.line(&format!("WSGIPythonHome {}", quoted(python)));
                }
                if let Some(path) = &self.python_path {
                    page.line(&format!("WSGIPythonPath {}", quoted(path)));
                }
            }
        }
        page.line(&format!(
            "WSGIApplicationGroup {}",
            quoted(&self.application_group)
        ));
        page.line(&format!("WSGICallableObject {}", quoted(&self.callable)));
        page.line(&format!(
            "WSGIReload {}",
            if self.reload { "modules" } else { "off" }
        ));
        page.line("WSGIChunkedRequest On");
        for (name, value) in &self.setenv {
            page.line(&format!("SetEnv {} {}", quoted(name), quoted(value)));
        }
        page.line(&format!(
            "WSGIScriptAlias {} {}",
            quoted(&self.mount_point),
            quoted(&self.script)
        ));
        page.granted_file(&self.script);
    }

    /// Writes the process group, with the application's Python.
    fn group(&self, group: &Group, page: &mut Page) {
        let size = group.size;
        page.section(&format!("The application, in its own processes: {size}"));
        page.line("WSGIRestrictEmbedded On");
        let mut options = vec![format!("threads={}", size.threads)];
        if size.processes > 1 {
            // The number alone makes wsgi.multiprocess true.
            options.insert(0, format!("processes={}", size.processes));
        }
        let (user, its_group) = group.account.clone().unzip();
        for (name, value) in [
            ("user", &user),
            ("group", &its_group),
            ("python-home", &self.python),
            ("python-path", &self.python_path),
        ] {
            options.extend(
                value
                    .as_deref()
                    .map(|value| format!("{name}={}", quoted(value))),
            );
        }
        let options = options.join(" ");
        page.line(&format!(
            "WSGIDaemonProcess {GROUP} display-name=%{{GROUP}} {options}"
        ));
        page.line(&format!("WSGIProcessGroup {GROUP}"));
    }
}

/// Lines of a configuration.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn line(&mut self, line: &str) {
        // Writing to a `String` does not fail.
        let _ = writeln!(self.text, "{line}");
    }

    fn comment(&mut self, line: &str) {
        self.line(format!("# {line}").trim_end());
    }

    fn section(&mut self, title: &str) {
        self.line("");
        self.comment(title);
    }

    fn granted_folder(&mut self, folder: &str) {
        self.line(&format!("<Directory {}>", quoted(folder)));
        self.line("    Require all granted");
        self.line("</Directory>");
    }

    fn granted_file(&mut self, file: &str) {
        let (folder, name) = file.rsplit_once('/').unwrap_or(("", file));
        self.line(&format!(
            "<Directory {}>",
            quoted(if folder.is_empty() { "/" } else { folder })
        ));
        self.line(&format!("    <Files {}>", quoted(name)));
        self.line("        Require all granted");
        self.line("    </Files>");
        self.line("</Directory>");
    }
}

/// Returns the URL at which a browser on this machine reaches the server.
pub(crate) fn url(listen: SocketAddr, mount_point: &str) -> String {
    let path = if mount_point == "/" { "" } else { mount_point };
    match listen.port() {
        80 => format!("http://{}{path}/", bracketed(reachable(listen.ip()))),
        port => format!("http://{}:{port}{path}/", bracketed(reachable(listen.ip()))),
    }
}

fn server_name(listen: SocketAddr) -> String {
    format!("{}:{}", bracketed(reachable(listen.ip())), listen.port())
}

/// Replaces the unspecified address with the loopback address, which a browser can use.
fn reachable(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(v4) if v4.is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(v6) if v6.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}

fn bracketed(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

/// Quotes one argument of a directive. Text that no quoting can express was refused before
/// ([`crate::system::paths::writable`]).
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Escapes a path for the right-hand side of a RewriteRule, where `$` and `%` have a meaning. mod_rewrite parses its
/// own arguments and has no escape for a quote or a backslash, so such a document root was refused before.
fn substitution(path: &str) -> String {
    path.replace('$', "\\$").replace('%', "\\%")
}

const COMMON_TYPES: [(&str, &str); 12] = [
    ("text/html", ".html .htm"),
    ("text/css", ".css"),
    ("text/javascript", ".js .mjs"),
    ("text/plain", ".txt"),
    ("application/json", ".json .map"),
    ("application/pdf", ".pdf"),
    ("image/svg+xml", ".svg"),
    ("image/png", ".png"),
    ("image/jpeg", ".jpg .jpeg"),
    ("image/x-icon", ".ico"),
    ("font/woff", ".woff"),
    ("font/woff2", ".woff2"),
];

#[cfg(test)]
#[path = "conf_tests.rs"]
mod tests;
