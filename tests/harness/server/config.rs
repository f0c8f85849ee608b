//! The configuration of a test server, and the check of a configuration without starting httpd.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::machine::account::{account, is_root};
use crate::machine::httpd::Site;
use crate::machine::{stage, wanted};
use crate::mpm::Mpm;
use crate::server::description::{Builder, Ports};
use crate::server::log;

/// The result of `httpd -t`.
#[derive(Debug)]
pub struct Check {
    /// Whether httpd would start with this configuration.
    pub accepted: bool,
    /// The whole output.
    pub output: String,
    /// The configuration, to find line numbers.
    pub config: String,
}

impl Check {
    /// Returns the number of the first line that contains `text`.
    pub fn line_of(&self, text: &str) -> usize {
        self.config
            .lines()
            .position(|line| line.contains(text))
            .expect("the text is in the configuration")
            + 1
    }
}

/// Writes a configuration to the server root and runs `httpd -t` on it.
pub(crate) fn check(root: &Path, config: String) -> Check {
    let output = Command::new(&Site::get().httpd)
        .arg("-t")
        .arg("-f")
        .arg(root.join("httpd.conf"))
        .output()
        .unwrap();
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    Check {
        accepted: output.status.success(),
        output: text,
        config,
    }
}

/// Returns the whole configuration. Lines that a test adds may use `${ROOT}`, the server root, `${APPS}`, the
/// folder of applications, and `${SERVER_USER}`, httpd's user if root runs the tests.
pub(crate) fn text(builder: &Builder, root: &Path, ports: Ports) -> String {
    let mut conf = String::new();
    let port = ports.server;
    let root = root.display();
    let _ = write!(
        conf,
        "Define ROOT {root}\n\
         Define APPS {apps}\n\
         Define PORT {port}\n\
         ServerRoot ${{ROOT}}\n\
         DefaultRuntimeDir ${{ROOT}}\n\
         PidFile ${{ROOT}}/httpd.pid\n\
         ServerName wsgi.test\n\
         Listen 127.0.0.1:{port}\n",
        apps = stage::apps().display(),
    );
    modules(&mut conf, builder);
    if is_root() {
        let (user, group) = &Site::get().user;
        let _ = write!(
            conf,
            "Define SERVER_USER {user}\nUser ${{SERVER_USER}}\nGroup {group}\n"
        );
    }
    let _ = write!(
        conf,
        "ErrorLog ${{ROOT}}/error.log\n\
         ErrorLogFormat \"{format}\"\n\
         LogLevel {level}\n\
         CustomLog ${{ROOT}}/access.log \"%>s %B %m %U%q\"\n\
         TypesConfig ${{ROOT}}/mime.types\n\
         Timeout 20\n\
         KeepAliveTimeout 10\n\
         DocumentRoot ${{ROOT}}/htdocs\n\
         <Directory />\n    AllowOverride None\n    Require all granted\n</Directory>\n",
        format = log::FORMAT,
        level = builder.log_level,
    );
    if let Some(folder) = env::var_os("WSGI_TEST_CORES") {
        let _ = writeln!(conf, "CoreDumpDirectory {}", Path::new(&folder).display());
    }
    pool(&mut conf, builder);
    if let Some(home) = builder
        .python_home
        .as_deref()
        .or_else(|| stage::python_home())
    {
        let _ = writeln!(conf, "WSGIPythonHome {}", home.display());
    }
    if builder.metrics {
        conf.push_str(METRICS);
    }
    if builder.listener {
        let _ = writeln!(conf, "WSGIMetricsListen 127.0.0.1:{}", ports.metrics);
    }
    if let Some(group) = process_group(builder) {
        let processes = if builder.one_child {
            1
        } else {
            builder.processes
        };
        let _ = write!(
            conf,
            "WSGISocketPrefix ${{ROOT}}/wsgi\n\
             WSGIDaemonProcess {group} threads={threads} processes={processes}\n\
             WSGIProcessGroup {group}\n",
            threads = builder.threads,
        );
    }
    for (url, script) in &builder.apps {
        let _ = writeln!(conf, "WSGIScriptAlias {url} ${{APPS}}/{script}");
    }
    if !builder.own_executor {
        executor(&mut conf, &builder.conf);
    }
    conf.push_str(&builder.conf);
    conf.push('\n');
    conf
}

/// Returns the process group in which the whole suite runs the applications of such a server. A test that speaks of
/// process groups itself, or serves an example, goes without it, and so does a server that never forks.
pub(crate) fn process_group(builder: &Builder) -> Option<&'static str> {
    let has_own = OF_GROUPS.iter().any(|word| builder.conf.contains(word));
    let goes_without = has_own || builder.example.is_some() || builder.single_process;
    wanted::process_group().filter(|_| !goes_without)
}

/// The executor that the whole suite runs with, unless the test names one.
fn executor(conf: &mut String, written: &str) {
    let names_one = ["WSGIExecutor", "WSGIThreadPool"]
        .iter()
        .any(|name| written.contains(name));
    if names_one {
        return;
    }
    if let Some(name) = wanted::executor() {
        let _ = writeln!(conf, "WSGIExecutor {name}");
        if name == "pool" {
            conf.push_str("WSGIThreadPool size=3\n");
        }
    }
}

/// Returns an example configuration with its names defined; only its logs are moved to the files that the harness
/// reads.
pub(crate) fn example(file: &Path, root: &Path, port: u16) -> String {
    let site = root.join("site");
    stage::copy_tree(
        &file.parent().expect("a file lies in a folder").join("site"),
        &site,
    );
    let (user, group) = Site::get().user.clone();
    let none = || PathBuf::from("/none");
    let of_venv = ["virtualenv", "from-mod_wsgi", "two-sites-two-pythons"];
    let uses = |names: &[&str]| {
        let name = file.file_stem().unwrap_or_default();
        names.iter().any(|known| name == *known)
    };
    let venv = if uses(&of_venv) {
        stage::venv().to_owned()
    } else {
        none()
    };
    let another = if uses(&of_venv[2..]) {
        stage::another_venv().map_or_else(|| venv.clone(), |(path, _)| path)
    } else {
        none()
    };
    // Without root, all processes run as the user who runs the tests.
    let (one, two) = if is_root() {
        (account("daemon"), account("nobody"))
    } else {
        ((user.clone(), group.clone()), (user.clone(), group.clone()))
    };
    let mut conf = String::new();
    let written = fs::read_to_string(file).expect("an example can be read");
    for (name, value) in [
        ("MODULES", Site::get().modules.display().to_string()),
        ("WSGI_MODULE", stage::module().display().to_string()),
        ("SITE", site.display().to_string()),
        ("VENV", venv.display().to_string()),
        ("OTHER_VENV", another.display().to_string()),
        ("ONE_USER", one.0),
        ("ONE_GROUP", one.1),
        ("TWO_USER", two.0),
        ("TWO_GROUP", two.1),
        ("RUN", root.display().to_string()),
        ("LISTEN", format!("127.0.0.1:{port}")),
        (
            "METRICS_LISTEN",
            format!("unix:{}", root.join("metrics.sock").display()),
        ),
        ("SERVER_USER", user),
        ("SERVER_GROUP", group),
    ] {
        let _ = writeln!(conf, "Define {name} {value}");
    }
    let _ = write!(
        conf,
        "Include {}\nErrorLog {root}/error.log\nErrorLogFormat \"{}\"\n",
        file.display(),
        log::FORMAT,
        root = root.display(),
    );
    executor(&mut conf, &written);
    conf
}

fn modules(conf: &mut String, builder: &Builder) {
    let mpm = format!("mpm_{}", builder.mpm);
    let names = [mpm.as_str()]
        .into_iter()
        .chain(ALWAYS.iter().copied())
        .chain(builder.modules.iter().copied());
    for name in names {
        if let Some(file) = Site::get().module_file(name) {
            let _ = writeln!(conf, "LoadModule {name}_module {}", file.display());
        }
    }
    let _ = if builder.alone {
        writeln!(conf, "LoadModule wsgi_module ${{ROOT}}/alone/module.so")
    } else {
        writeln!(conf, "LoadModule wsgi_module {}", stage::module().display())
    };
}

/// Writes the numbers of children and threads. Prefork has a child for each thread of the other MPMs, unless the test
/// asks for one child.
fn pool(conf: &mut String, builder: &Builder) {
    let (processes, threads) = (builder.processes, builder.threads);
    let _ = if builder.mpm == Mpm::Prefork {
        let children = if builder.one_child {
            1
        } else {
            processes * threads
        };
        let start = children.min(2);
        write!(
            conf,
            "StartServers {start}\nServerLimit {children}\nMaxRequestWorkers {children}\n\
             MinSpareServers {start}\nMaxSpareServers {children}\n",
        )
    } else {
        let processes = if builder.one_child { 1 } else { processes };
        // The scoreboard needs room for children that are still ending while their successors serve.
        let (all, limit) = (processes * threads, processes + 4);
        write!(
            conf,
            "ThreadsPerChild {threads}\nStartServers {processes}\nServerLimit {limit}\n\
             MaxRequestWorkers {all}\nMinSpareThreads 1\nMaxSpareThreads {all}\n",
        )
    };
}

/// The words by which the configuration of a test says where applications run.
const OF_GROUPS: [&str; 4] = [
    "WSGIDaemonProcess",
    "WSGIProcessGroup",
    "process-group=",
    "WSGIRestrictEmbedded",
];

/// The locations of the metrics and of the status page.
const METRICS: &str = "<Location /metrics>\n    SetHandler wsgi-metrics\n</Location>\n\
    <Location /wsgi-status>\n    SetHandler wsgi-status\n</Location>\n";

/// Modules that nearly every test uses; a test adds others by [`Builder::modules`].
const ALWAYS: [&str; 9] = [
    "unixd",
    "log_config",
    "authz_core",
    "mime",
    "alias",
    "env",
    "setenvif",
    "dir",
    "rewrite",
];
