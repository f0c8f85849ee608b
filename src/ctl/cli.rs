//! The command line, unresolved; [`crate::commands::serve`] resolves it.

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

/// Serve Python WSGI applications with Apache httpd and mod_wsgi_rs, inspect running servers and their children, and
/// let them take up new code.
#[derive(Debug, Parser)]
#[command(name = "wsgictl", version)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands of `wsgictl`.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Serve(Box<ServeArgs>),
    Status(StatusArgs),
    Top(TopArgs),
    Metrics(MetricsArgs),
    Reload(ReloadArgs),
    Restart(RestartArgs),
    Stack(StackArgs),
    Explain(ExplainArgs),
    /// Becomes httpd, which then ends when the calling process ends.
    #[command(hide = true, name = tether_name())]
    Tether(TetherArgs),
}

/// Serve an application with a private httpd, in the foreground.
///
/// Writes a complete configuration into a private folder and runs httpd with it until Ctrl-C. The system's own Apache
/// and its configuration are not touched.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ServeArgs {
    /// What to serve: a script file (app.wsgi, app.py), or MODULE:CALLABLE
    pub(crate) app: String,

    /// Port to listen on
    #[arg(
        long,
        default_value_t = 8000,
        value_name = "N",
        help_heading = "Address"
    )]
    pub(crate) port: u16,

    /// Address to listen on; 0.0.0.0 for every interface
    #[arg(
        long,
        default_value = "127.0.0.1",
        value_name = "ADDRESS",
        help_heading = "Address"
    )]
    pub(crate) host: String,

    /// How httpd uses processes and threads
    #[arg(long, value_enum, default_value_t = Mpm::Event, help_heading = "Size")]
    pub(crate) mpm: Mpm,

    /// Run the application in processes of its own, beside httpd's children: --processes and --threads are then theirs,
    /// and httpd's children hold no Python
    #[arg(long, help_heading = "Size")]
    pub(crate) daemon: bool,

    /// Children, a fixed number; with --daemon, processes of the application [default: 2; with prefork 10]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000), help_heading = "Size")]
    pub(crate) processes: Option<u32>,

    /// Threads in each child; with --daemon, in each process of the application [default: 10; with prefork always 1]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000), help_heading = "Size")]
    pub(crate) threads: Option<u32>,

    /// A Python installation or a virtual environment [default: the active virtual environment, else the Python that
    /// the module was built for]
    #[arg(long, value_name = "PREFIX", help_heading = "Python")]
    pub(crate) python: Option<PathBuf>,

    /// Folder to add to Python's path [default for MODULE:CALLABLE: the current folder]
    #[arg(long, value_name = "DIR", help_heading = "Python")]
    pub(crate) working_directory: Option<PathBuf>,

    /// Name of the application in a script file [default: application]
    #[arg(long, value_name = "NAME", help_heading = "Python")]
    pub(crate) callable: Option<String>,

    /// The interpreter to run in; %{GLOBAL} is the main one, where every package works
    #[arg(
        long,
        default_value = "%{GLOBAL}",
        value_name = "NAME",
        help_heading = "Python"
    )]
    pub(crate) application_group: String,

    /// Replace the children, or with --daemon the application's processes, one after the other when a source file of the
    /// application has changed (the default)
    #[arg(long, overrides_with = "no_reload", help_heading = "Python")]
    pub(crate) reload: bool,

    /// Never check whether a source file has changed
    #[arg(long, overrides_with = "reload", help_heading = "Python")]
    pub(crate) no_reload: bool,

    /// URL path of the application
    #[arg(long, default_value = "/", value_name = "PATH", help_heading = "URLs")]
    pub(crate) mount_point: String,

    /// Let httpd serve a folder or a file by itself, for example /static=public (may be repeated)
    #[arg(long = "static", value_name = "/URL=PATH", action = ArgAction::Append, help_heading = "URLs")]
    pub(crate) statics: Vec<String>,

    /// A folder whose files are served before the application is asked
    #[arg(long, value_name = "DIR", help_heading = "URLs")]
    pub(crate) document_root: Option<PathBuf>,

    /// Show metrics to Prometheus at /metrics, and the state of the server to people at /wsgi-status; to this machine
    /// only
    #[arg(long, help_heading = "URLs")]
    pub(crate) metrics: bool,

    /// Largest request body, in bytes; 0 for no limit [default: httpd's]
    #[arg(long, value_name = "BYTES", help_heading = "URLs")]
    pub(crate) limit_request_body: Option<u64>,

    /// A variable in the environ of every request (may be repeated). Variables of the shell reach os.environ as usual
    #[arg(long, value_name = "NAME=VALUE", action = ArgAction::Append, help_heading = "URLs")]
    pub(crate) setenv: Vec<String>,

    /// Write the access log to a file instead of standard output
    #[arg(long, value_name = "FILE", help_heading = "Logs")]
    pub(crate) access_log: Option<PathBuf>,

    /// Write no access log
    #[arg(long, conflicts_with = "access_log", help_heading = "Logs")]
    pub(crate) no_access_log: bool,

    /// httpd's LogLevel, for example info or "warn wsgi:debug"
    #[arg(
        long,
        default_value = "warn",
        value_name = "LEVEL",
        help_heading = "Logs"
    )]
    pub(crate) log_level: String,

    /// As root: the user that the application runs as; httpd's children, too, unless --daemon [default: www-data, apache
    /// or nobody]
    #[arg(long, value_name = "NAME", help_heading = "Server")]
    pub(crate) user: Option<String>,

    /// As root: the group that the application runs as; httpd's children, too, unless --daemon [default: the user's]
    #[arg(long, value_name = "NAME", help_heading = "Server")]
    pub(crate) group: Option<String>,

    /// Folder for the configuration [default: a private one, for this address and port]
    #[arg(long, value_name = "DIR", help_heading = "Server")]
    pub(crate) server_root: Option<PathBuf>,

    /// The httpd program [default: from apxs, else apache2 or httpd on the PATH]
    #[arg(long, value_name = "PATH", help_heading = "Server")]
    pub(crate) httpd: Option<PathBuf>,

    /// The module [default: mod_wsgi_rs.so beside wsgictl, else among httpd's modules]
    #[arg(long, value_name = "PATH", help_heading = "Server")]
    pub(crate) module: Option<PathBuf>,

    /// A file of further directives, read last (may be repeated)
    #[arg(long, value_name = "FILE", action = ArgAction::Append, help_heading = "Server")]
    pub(crate) include: Vec<PathBuf>,

    /// Print the configuration and do nothing else
    #[arg(long, help_heading = "Server")]
    pub(crate) print_config: bool,
}

impl ServeArgs {
    /// Returns whether children are replaced when a source file changes: the later of the two switches wins; the
    /// default is yes.
    pub(crate) fn reloads(&self) -> bool {
        self.reload || !self.no_reload
    }
}

/// httpd's three ways of using processes and threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mpm {
    /// Threads; idle connections cost none. The usual choice
    Event,
    /// Threads, one for each connection
    Worker,
    /// Processes of one thread, for applications that are not thread safe
    Prefork,
}

impl Mpm {
    /// Returns httpd's name of the MPM.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Mpm::Event => "event",
            Mpm::Worker => "worker",
            Mpm::Prefork => "prefork",
        }
    }
}

/// The segment of a running server.
#[derive(Args, Debug)]
pub(crate) struct SegmentArgs {
    /// File with the numbers of the server: mod_wsgi_rs.segment in its DefaultRuntimeDir. wsgictl serve prints its path
    /// [default: that of the running server, in the usual places]
    #[arg(long, value_name = "PATH")]
    pub(crate) segment: Option<PathBuf>,
}

/// Show what a running server does: running requests, applications, children.
///
/// Reads the numbers that the server shares with its children in memory, so it works even when all workers are busy.
/// Only root and members of httpd's group may read them.
#[derive(Args, Debug)]
pub(crate) struct StatusArgs {
    #[command(flatten)]
    pub(crate) segment: SegmentArgs,

    /// Print JSON; the field names do not change
    #[arg(long)]
    pub(crate) json: bool,
}

/// Show what a running server does, refreshed until q is pressed.
///
/// Rates and durations are those since the last refresh.
#[derive(Args, Debug)]
pub(crate) struct TopArgs {
    #[command(flatten)]
    pub(crate) segment: SegmentArgs,

    /// Seconds between two refreshes
    #[arg(long, default_value_t = 2.0, value_name = "SECONDS", value_parser = interval)]
    pub(crate) interval: f64,

    /// End after this many refreshes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) count: Option<u32>,

    /// Print a line of JSON at each refresh
    #[arg(long)]
    pub(crate) json: bool,
}

/// Print the metrics of a running server in the format that Prometheus reads.
#[derive(Args, Debug)]
pub(crate) struct MetricsArgs {
    #[command(flatten)]
    pub(crate) segment: SegmentArgs,

    /// Print OpenMetrics
    #[arg(long)]
    pub(crate) openmetrics: bool,
}

/// Let a running server take up new code, without a restart and without a failed request.
///
/// The server first tries the new code in a separate process: it loads the scripts and sends the WSGIWarmup requests.
/// Then it replaces its children one after the other, each only when its successor is ready. If the new code does not
/// load, no child is replaced and the old code stays in service. The processes of process groups are replaced as
/// wsgictl restart does it. If all applications run in process groups, no child is replaced.
///
/// Exit status: 0 when all children and processes serve the new code; 1 when that failed or took too long for some of
/// them; 2 when the command line was wrong; 3 when all were replaced, but some of the new code of the children could
/// not be tried first, because only requests name its script or its application group. Only root and the user who started the server may ask for it.
#[derive(Args, Debug)]
pub(crate) struct ReloadArgs {
    /// The application group whose scripts are tried first; "%{GLOBAL}" or "main" for that of the main interpreter
    /// [default: those of all groups that the configuration names]. All children are replaced in any case, if one of
    /// them has the group, and all processes of the process groups that have it
    pub(crate) group: Option<String>,

    #[command(flatten)]
    pub(crate) segment: SegmentArgs,

    /// Only ask for the new code, and do not wait until the server runs it
    #[arg(long)]
    pub(crate) no_wait: bool,

    /// How long to wait; the server continues after that
    #[arg(long, default_value_t = 120, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400), conflicts_with = "no_wait")]
    pub(crate) timeout: u32,
}

/// Replace the processes of a process group (WSGIDaemonProcess), without a failed request.
///
/// Each process has a successor first, which loads the application. Then the old one takes no more requests, and ends
/// when it has finished those that it runs. If a successor does not get ready, its predecessor stays in service.
///
/// Exit status: 0 when all processes were replaced; 1 when that failed or took too long; 2 when the command line was
/// wrong. Only root and the user who started the server may ask for it.
#[derive(Args, Debug)]
pub(crate) struct RestartArgs {
    /// Name of the process group
    pub(crate) group: String,

    #[command(flatten)]
    pub(crate) segment: SegmentArgs,

    /// Only ask for new processes, and do not wait until they have taken over
    #[arg(long)]
    pub(crate) no_wait: bool,

    /// How long to wait; the server continues after that
    #[arg(long, default_value_t = 120, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=86_400), conflicts_with = "no_wait")]
    pub(crate) timeout: u32,
}

/// Show what the Python threads of a child run: its requests, and the stack of each thread.
///
/// Works even if a thread holds the GIL in a C function, and while a child starts or ends. Threads stop only while
/// their stacks are read. wsgictl status lists the children; top -H shows the same thread numbers.
///
/// Exit status: 0 when the stacks were shown; 1 when they were not; 2 when the command line was wrong. Only root and
/// the user who started the server may ask for them.
#[derive(Args, Debug)]
pub(crate) struct StackArgs {
    /// Process ID of one of the server's children
    #[arg(value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) pid: u32,

    #[command(flatten)]
    pub(crate) segment: SegmentArgs,

    /// How long to wait for an answer, including the wait for a GIL
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS", value_parser = stack_timeout)]
    pub(crate) timeout: f64,
}

/// Explain a numbered message of the log: its cause, its consequences, and the remedy.
///
/// Exit status: 0 when the message was shown; 1 when no message has that number; 2 when the command line was wrong.
#[derive(Args, Debug)]
pub(crate) struct ExplainArgs {
    /// Number as in the log: WSGI1013 or 1013 [default: list all messages]
    #[arg(value_name = "NUMBER", value_parser = message_number)]
    pub(crate) number: Option<u16>,
}

/// Parses a message number as the log shows it, `WSGI1013:`, with or without prefix and colon.
pub(crate) fn message_number(text: &str) -> Result<u16, String> {
    let digits = text.trim_end_matches(':');
    let digits = match digits.get(..4) {
        Some(prefix) if prefix.eq_ignore_ascii_case("wsgi") => &digits[4..],
        _ => digits,
    };
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits
        .parse()
        .ok()
        .filter(|_| is_number)
        .ok_or_else(|| "the number of a message is needed, such as WSGI1013 or 1013".into())
}

fn stack_timeout(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds @ 1.0..=25.0) => Ok(seconds),
        _ => Err(String::from("a number from 1 to 25 is needed")),
    }
}

fn interval(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds @ 0.1..=3_600.0) => Ok(seconds),
        _ => Err(String::from("a number from 0.1 to 3600 is needed")),
    }
}

/// Arguments for [`crate::launch::tether`].
#[derive(Args, Debug)]
pub(crate) struct TetherArgs {
    /// Process whose end ends httpd.
    pub(crate) parent: i32,
    /// httpd and its arguments.
    #[arg(trailing_var_arg = true, required = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
}

/// Name of the hidden command, also for the code that starts it.
pub(crate) fn tether_name() -> &'static str {
    "tether-httpd"
}

const EXAMPLES: &str = "\
Examples:
  wsgictl serve app.wsgi
  wsgictl serve mysite.wsgi:application --python venv --static /static=public/static
  wsgictl serve app.py --mpm prefork --processes 4 --port 8080
  wsgictl serve app.py --daemon --processes 2 --threads 5
  wsgictl serve app.wsgi --print-config > httpd.conf";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_holds() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_later_of_reload_and_no_reload_wins() {
        for (words, reloads) in [
            (&[][..], true),
            (&["--no-reload"], false),
            (&["--reload"], true),
            (&["--reload", "--no-reload"], false),
            (&["--no-reload", "--reload"], true),
        ] {
            let words = ["wsgictl", "serve", "app.wsgi"].iter().chain(words);
            let Command::Serve(args) = Cli::parse_from(words.clone()).command else {
                panic!("not serve")
            };
            assert_eq!(args.reloads(), reloads, "{words:?}");
        }
    }
}
