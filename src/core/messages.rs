//! The numbered log messages: the text of each, its cause, what follows, and the remedy.
//!
//! Numbers below 1000 are mod_wsgi's, as tools that watch logs look for them; the numbers of mod_wsgi_rs begin at 1001.
//! A number is never used for another message. Messages without a number are not listed here.

use std::fmt::{Display, Write};

pub use wsgi_abi::Level;

macro_rules! messages {
    ($($name:ident = $number:literal $level:ident $text:literal, cause: $cause:literal,
        follows: $follows:literal, remedy: $remedy:literal;)+) => {
        /// One numbered message.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Message {
            $(
                #[doc = concat!("`", $text, "`")]
                $name,
            )+
        }

        impl Message {
            /// All messages, by number.
            pub const ALL: &'static [Message] = &[$(Message::$name),+];

            const fn entry(self) -> &'static Row {
                match self {
                    $(Message::$name => &Row {
                        number: $number,
                        level: Level::$level,
                        text: $text,
                        cause: $cause,
                        follows: $follows,
                        remedy: $remedy,
                    },)+
                }
            }
        }
    };
}

struct Row {
    number: u16,
    level: Level,
    text: &'static str,
    cause: &'static str,
    follows: &'static str,
    remedy: &'static str,
}

impl Message {
    /// Returns the message with this number.
    pub fn find(number: u16) -> Option<Message> {
        let mut all = Self::ALL.iter().copied();
        all.find(|message| message.number() == number)
    }

    /// Returns the number.
    pub fn number(self) -> u16 {
        self.entry().number
    }

    /// Returns the level at which the message is logged.
    pub fn level(self) -> Level {
        self.entry().level
    }

    /// Returns the text, with `{}` for each value.
    pub fn text(self) -> &'static str {
        self.entry().text
    }

    /// Returns why the message is logged.
    pub fn cause(self) -> &'static str {
        self.entry().cause
    }

    /// Returns what the server does then.
    pub fn follows(self) -> &'static str {
        self.entry().follows
    }

    /// Returns what to do about it.
    pub fn remedy(self) -> &'static str {
        self.entry().remedy
    }

    /// Returns the line for the log: the number, and the text with `values` in place of its `{}`. There must be as many
    /// values as `{}`; a release build writes `?` for a missing one.
    pub fn line(self, values: &[&dyn Display]) -> String {
        let parts = self.text().split("{}");
        debug_assert_eq!(
            parts.clone().count(),
            values.len() + 1,
            "values of {self:?}"
        );
        let mut line = format!("WSGI{:04}: ", self.number());
        let mut values = values.iter();
        for (index, part) in parts.enumerate() {
            if index > 0 {
                // Writing to a String cannot fail.
                match values.next() {
                    Some(value) => write!(line, "{value}").unwrap_or_default(),
                    None => line.push('?'),
                }
            }
            line.push_str(part);
        }
        line
    }
}

messages! {
    PythonStart = 1 Critical "Python could not be started in this child: {}",
        cause: "The configured Python did not start; the reason follows the colon.",
        follows: "Requests for Python are answered with 500; all other requests are served.",
        remedy: "Correct what the reason names and restart.";
    InterpreterSetUp = 35 Critical "unable to set up {}",
        cause: "Python could not make an interpreter for this application group, or one of the steps that prepare it failed; the traceback is logged with this message.",
        follows: "Other interpreters of the group serve its requests. If there is none, each request tries again and is answered with 500 (message 0087).",
        remedy: "Look at the traceback. If memory is short, use fewer application groups.";
    ImportScriptInterpreter = 40 Critical "no interpreter to load '{}' into {}",
        cause: "Children load this script when they start, but the interpreter of its application group could not be made.",
        follows: "The child serves all the same, and the first request tries again; if other children have loaded the script, message 1134 follows.",
        remedy: "See the message on that application group before this one.";
    InterpreterUnavailable = 87 Error "cannot acquire an interpreter of application group '{}' for a request",
        cause: "The interpreter of the application group does not exist and could not be made.",
        follows: "The request is answered with 500, and the next one tries again.",
        remedy: "See the message on that application group before this one.";
    CallableMissing = 89 Error "target WSGI script '{}' does not contain WSGI application '{}'",
        cause: "The script was loaded, but does not define this global.",
        follows: "The request is answered with 404.",
        remedy: "Define it, or name the global that the script has with WSGICallableObject or callable-object=.";
    AtexitSystemExit = 97 Error "SystemExit exception raised by an exit function was ignored",
        cause: "A function that a thread pool has registered for the end of Python's threads called sys.exit(). For functions of atexit, Python itself writes the traceback.",
        follows: "The other exit functions run, and the child ends as usual.",
        remedy: "Let the function return.";
    AtexitException = 98 Error "exception raised by an exit function",
        cause: "A function that a thread pool has registered for the end of Python's threads raised; the traceback follows. For functions of atexit, Python itself writes the traceback.",
        follows: "The other exit functions run, and the child ends as usual.",
        remedy: "Correct the function.";
    StoppingEvent = 104 Error "the process_stopping event could not be published in {}",
        cause: "A step of the end of the interpreter raised: to publish the event, to end threads, or to run exit functions; the traceback follows.",
        follows: "The child ends all the same; shutdown callbacks or exit functions of that interpreter may not have run.",
        remedy: "Nothing if it is rare.";
    ScriptLoad = 105 Error "target WSGI script '{}' cannot be loaded",
        cause: "The script could not be read or compiled; the traceback follows.",
        follows: "The request is answered with 500, unless another interpreter of its group has loaded the script. The next request tries again.",
        remedy: "Check its syntax and its encoding, and that httpd's user may read it.";
    ImportScriptLoad = 106 Error "WSGI script '{}' cannot be loaded ahead of its first request",
        cause: "As for 0105, when the child started.",
        follows: "The child serves all the same, and the first request tries again; if other children have loaded the script, message 1134 follows.",
        remedy: "As for 0105.";
    ScriptSystemExit = 107 Error "SystemExit exception raised when loading WSGI script '{}' was ignored",
        cause: "The body of the script called sys.exit().",
        follows: "The request is answered with 500, unless another interpreter of its group has loaded the script. The next request tries again.",
        remedy: "Remove the call: a script is a module, not a program.";
    ImportScriptSystemExit = 108 Error "SystemExit exception raised when loading WSGI script '{}' ahead of its first request was ignored",
        cause: "As for 0107, when the child started.",
        follows: "The child serves all the same, and the first request tries again; if other children have loaded the script, message 1134 follows.",
        remedy: "As for 0107.";
    ScriptException = 109 Error "exception raised when loading WSGI script '{}'",
        cause: "The body of the script raised; the traceback follows.",
        follows: "The request is answered with 500, unless another interpreter of its group has loaded the script. The next request tries again.",
        remedy: "Correct the script.";
    ImportScriptException = 110 Error "exception raised when loading WSGI script '{}' ahead of its first request",
        cause: "As for 0109, when the child started.",
        follows: "The child serves all the same, and the first request tries again; if other children have loaded the script, message 1134 follows.",
        remedy: "As for 0109.";
    SubscriberException = 112 Error "exception raised by an event subscriber for '{}'",
        cause: "A function given to mod_wsgi.subscribe_events or subscribe_shutdown raised; the traceback follows.",
        follows: "Nothing else: the other subscribers are called, and the request or the end of the child goes on as usual.",
        remedy: "Correct the function.";
    ExecCgiOff = 134 Error "Options ExecCGI is off in this directory: '{}'",
        cause: "SetHandler or AddHandler makes a file a script in a directory where scripts may not run.",
        follows: "The request is answered with 403.",
        remedy: "Set Options +ExecCGI there, or use WSGIScriptAlias, which needs no such permission.";
    ScriptNotFound = 135 Error "target WSGI script not found or unable to stat: '{}'",
        cause: "The URL was mapped to a file that does not exist.",
        follows: "The request is answered with 404.",
        remedy: "Check the target of the alias, and the permissions of every directory on it.";
    ScriptIsDirectory = 136 Error "attempt to invoke a directory as WSGI application: '{}'",
        cause: "The URL was mapped to a directory.",
        follows: "The request is answered with 403.",
        remedy: "Name a script in the alias, or in the URL if the target of the alias is a directory.";
    PathInfoRefused = 137 Error "'{}' takes no additional path information with AcceptPathInfo Off: '{}'",
        cause: "AcceptPathInfo is Off for this script.",
        follows: "The request is answered with 404.",
        remedy: "Remove AcceptPathInfo Off.";
    TransferEncoding = 138 Error "unexpected value for Transfer-Encoding of {}",
        cause: "The request has a Transfer-Encoding that is not chunked.",
        follows: "The request is answered with 501.",
        remedy: "Nothing on the server: the client has to send a body with a length, or a chunked one.";
    ChunkedNotAllowed = 139 Error "the request body is chunked, which WSGIChunkedRequest Off does not allow",
        cause: "The request has a chunked body, and applications that trust CONTENT_LENGTH would read none of it.",
        follows: "The request is answered with 411.",
        remedy: "Set WSGIChunkedRequest On if the application reads to the end of wsgi.input.";
    ChunkedWithLength = 140 Error "the request has both a chunked Transfer-Encoding and a Content-Length",
        cause: "The request declares the length of its body twice, which may smuggle another request past a proxy.",
        follows: "The request is answered with 400.",
        remedy: "Nothing on the server: the client or a proxy before it is at fault.";
    BadContentLength = 141 Error "invalid Content-Length of {}",
        cause: "The Content-Length of the request is not a non-negative integer.",
        follows: "The request is answered with 400.",
        remedy: "Nothing on the server: the client is at fault.";
    EmbeddedRestricted = 143 Error "embedded mode of mod_wsgi is disabled by WSGIRestrictEmbedded; '{}' is not run",
        cause: "WSGIRestrictEmbedded On keeps Python out of httpd's children, and nothing names a process group for the request.",
        follows: "The request is answered with 500.",
        remedy: "Name a process group: WSGIProcessGroup, or process-group= of the alias; or remove WSGIRestrictEmbedded On.";
    ProcessRestricted = 149 Error "process group '{}' is not one of those that WSGIRestrictProcess allows; '{}' is not run",
        cause: "The name of the process group comes from a variable of the request, and WSGIRestrictProcess does not list it.",
        follows: "The request is answered with 500.",
        remedy: "Add the group to WSGIRestrictProcess, or correct what sets the variable.";
    ProcessUnknown = 151 Error "no WSGIDaemonProcess defines process group '{}'; '{}' is not run",
        cause: "WSGIProcessGroup or process-group= names a group that the configuration does not define.",
        follows: "The request is answered with 500.",
        remedy: "Add a WSGIDaemonProcess with that name, or correct the name.";
    ScriptOwnerRefused = 153 Error "WSGI script '{}' is not run in process group '{}': {}",
        cause: "The group has script-user= or script-group=, and the script or its folder has another owner, or others may write to it.",
        follows: "The request is answered with 403.",
        remedy: "Correct the owner or the permissions that the text names, or remove the option.";
    ApplicationException = 174 Error "{} exception raised processing WSGI script '{}' in {}",
        cause: "The application raised, when it was called, when its response was iterated over, or in close(); the traceback follows.",
        follows: "The request is answered with 500, or its response is cut if a part of it was sent. A response that is complete, as when close() raises, is sent as usual.",
        remedy: "Correct the application.";
    ApplicationSystemExit = 175 Error "SystemExit exception raised by WSGI script '{}' in {} was ignored",
        cause: "The application called sys.exit(), which would end the whole child.",
        follows: "The child goes on, and the request is answered as for 0174.",
        remedy: "Remove the call.";
    SetUpException = 188 Error "exception raised when setting up {}",
        cause: "A step that prepares an interpreter raised; the traceback follows.",
        follows: "Python does not start in this child: message 0001 follows, and requests for Python are answered with 500.",
        remedy: "Look at the traceback.";
    SubscriberSystemExit = 190 Error "SystemExit exception raised by an event subscriber for '{}' was ignored",
        cause: "A function given to mod_wsgi.subscribe_events or subscribe_shutdown called sys.exit().",
        follows: "Nothing else: the other subscribers are called, and the request or the end of the child goes on as usual.",
        remedy: "Let the function return.";
    CloseLookup = 194 Error "looking up the close attribute of the response raised for WSGI script '{}'",
        cause: "The object that the application returned has a close attribute that raises; the traceback follows.",
        follows: "Nothing else: close() is not called, and the response stays as it is.",
        remedy: "Correct the class of that object.";
    SwitchIntervalIgnored = 199 Warning "WSGISwitchInterval in <WSGIInterpreterOptions> is ignored for application group '{}'",
        cause: "All interpreters of a child share one GIL, and the interval belongs to it.",
        follows: "The directive has no effect on this group, which keeps the interval of the process.",
        remedy: "Write WSGISwitchInterval outside of the container.";
    PythonAbsent = 210 Error "Python is not running in this child; '{}' is not run",
        cause: "Python did not start when the child began, and message 0001 or one above 1000 said why; or the child is ending.",
        follows: "The request is answered with 500, or with 503 and Retry-After if the child is ending.",
        remedy: "See that message.";
    EngineMissing = 1001 Critical "there is no engine for Python {}: '{}' could not be opened: {}",
        cause: "Each version of Python has its own engine file beside the module, and this one is missing or does not load.",
        follows: "Requests for Python are answered with 500; all other requests are served.",
        remedy: "Install the engine for that version, or set WSGIPythonHome to a Python that has one.";
    AbiMismatch = 1002 Critical "module '{}' ({}) and engine '{}' ({}) are not of the same release",
        cause: "One of the two files was replaced without the other, or the server was not restarted after an upgrade.",
        follows: "Requests for Python are answered with 500; all other requests are served.",
        remedy: "Install both from one release, and stop and start the server; a graceful restart is not enough.";
    PythonHome = 1003 Critical "{}: {}",
        cause: "The prefix or virtual environment is missing, may not be read by this user, or holds no usable Python.",
        follows: "Requests for Python are answered with 500; all other requests are served.",
        remedy: "Do what the text says, then restart.";
    EngineVersion = 1005 Critical "the engine '{}' is for Python {}, not for Python {}",
        cause: "The engine file has the name of another version than it was compiled for.",
        follows: "Requests for Python are answered with 500; all other requests are served.",
        remedy: "Install the engine files of one release unchanged.";
    LoadTimedOut = 1006 Error "gave up after {} s waiting for another thread to load WSGI script '{}'; answered with 503",
        cause: "Loading the script takes longer than requests may wait for it, perhaps because its body waits for something.",
        follows: "The client gets Retry-After with the 503, and the load goes on.",
        remedy: "Look at what the script does while it is imported; load it ahead with WSGIImportScript.";
    NoEffectYet = 1007 Warning "{} has no effect: {}",
        cause: "The configuration uses a directive that this release accepts but does not act upon.",
        follows: "The directive has no effect; requests are served as if it were absent.",
        remedy: "Remove the directive, or wait for the release that has it.";
    DaemonServedEmbedded = 1008 Warning "{} has no effect under httpd -X; the only process serves all requests",
        cause: "httpd was started for debugging (-X, -D ONE_PROCESS), so it starts no other process.",
        follows: "The applications of process groups run in the only process, with the Python of the server.",
        remedy: "Nothing while you debug. Start httpd without -X for process groups.";
    BodyTooLarge = 1009 Error "Content-Length of {} exceeds LimitRequestBody of {}",
        cause: "The request declares a longer body than LimitRequestBody allows.",
        follows: "The request is answered with 413.",
        remedy: "Raise LimitRequestBody if such uploads are wanted.";
    ShortBody = 1010 Error "WSGI script '{}' ended its response before the Content-Length that it had declared; the connection is closed",
        cause: "The application's response ended before the length that it had declared.",
        follows: "The response is cut, so that the client can tell it from a complete one.",
        remedy: "Let the application declare the length that it sends, or none.";
    Panic = 1011 Critical "internal error at {}: {}",
        cause: "A defect of mod_wsgi_rs.",
        follows: "The request is answered with 500, or its response is cut if a part of it was sent. A thread of the module begins its work anew (message 1096).",
        remedy: "Report it with this line.";
    TooManyInterpreters = 1013 Error "this child holds {} Python interpreters already, so there is none for application group '{}'",
        cause: "Interpreters are never ended, and the names of application groups come from requests (%{HOST}, %{ENV:...}).",
        follows: "Requests of this group are answered with 503 and Retry-After; groups that exist are served.",
        remedy: "Give WSGIApplicationGroup a value that expands to fewer names, such as %{GLOBAL}.";
    HopByHopDropped = 1014 Info "the response header '{}' was dropped: httpd itself decides how the connection goes on",
        cause: "The header concerns the connection, which only httpd controls (RFC 9110, 7.6.1).",
        follows: "The response is sent without the header.",
        remedy: "Let the application leave out such headers.";
    RunsAsRoot = 1015 Critical "this child runs as root, and Python is not run as root",
        cause: "httpd was started as root and told to keep that identity.",
        follows: "Requests for Python are answered with 500; all other requests are served.",
        remedy: "Set User and Group to an unprivileged user.";
    MetricsLocalOnly = 1016 Error "{} is shown to clients on this machine only, not to {}",
        cause: "No Require beside the SetHandler says which clients may see it, so Require local applies. A request that a proxy has passed on does not come from this machine.",
        follows: "The request is answered with 403.",
        remedy: "Write a Require into the same <Location> as the SetHandler.";
    MetricsOff = 1017 Error "{} is not answered, as nothing is measured",
        cause: "A URL has the handler wsgi-metrics or wsgi-status, but WSGIMetrics is Off, or there was no memory for metrics (message 1137).",
        follows: "The request is answered with 404.",
        remedy: "Remove WSGIMetrics Off, or the handler.";
    MetricsListen = 1018 Error "WSGIMetricsListen {}: {}; this address is not served",
        cause: "The address is in use or does not belong to this machine, or the socket cannot be made.",
        follows: "httpd runs without this address; the handlers wsgi-metrics and wsgi-status still answer.",
        remedy: "Do what the text says, then restart.";
    MetricsHelper = 1019 Warning "the process {} that answers for WSGIMetricsListen ended {}; another one follows",
        cause: "The process was killed, or crashed.",
        follows: "The next process starts at once, or within about ten seconds if this one ended soon after its start. Connections to the address wait until then.",
        remedy: "Nothing if it is rare. A crash is a defect of mod_wsgi_rs; report it with this line.";
    FreeThreadingInContainer = 1020 Warning "<WSGIInterpreterOptions>: WSGIGILMode free and WSGIFreeThreading are ignored there",
        cause: "A process has one GIL for all its interpreters, or none.",
        follows: "The directive has no effect in the container.",
        remedy: "Write the directive outside of the container.";
    MainHasNoReplicas = 1021 Warning "application group {} keeps the GIL of the process, as it runs in the main interpreter",
        cause: "WSGIGILMode or WSGIInterpreters ask for interpreters with their own GIL, but the main interpreter always has the GIL of the process.",
        follows: "The group has one interpreter in each child, the main one.",
        remedy: "Remove WSGIApplicationGroup %{GLOBAL} or WSGIInterpreter main. The only group of a server runs in the main interpreter anyway if it has no replicas.";
    WarmupLost = 1022 Warning "WSGIWarmup {}: no WSGIScriptAlias of this server that leads to a single script takes this URL; no child requests it",
        cause: "No alias matches the URL, or the alias has a pattern or a directory, or its application group depends on the request.",
        follows: "The URL is not requested, and children are ready without it.",
        remedy: "Write a URL that a plain alias matches.";
    OwnGilRefused = 1023 Warning "application group '{}' runs under the GIL of the process: {}",
        cause: "WSGIGILMode, WSGIInterpreters or WSGIPerInterpreterGIL ask for interpreters with their own GIL, which this Python does not support.",
        follows: "The group has one interpreter in each child, under the GIL of the process.",
        remedy: "Use a Python that supports them, or remove the directive.";
    OwnGilEarly = 1024 Warning "application group '{}' runs in interpreters with GILs of their own, which Python {} has, but which are only supported from 3.14 on",
        cause: "In Python 3.13, some modules of the standard library cannot be loaded into such interpreters, and some rare defects were fixed only later.",
        follows: "The group runs in these interpreters all the same. This is logged once in a child.",
        remedy: "Test the application well, or use Python 3.14.";
    OwnGilChosen = 1025 Info "application group '{}' runs in {} interpreters with GILs of their own: its application can be loaded there",
        cause: "The GIL mode was left open, so a child tried to load the application.",
        follows: "The other children use the same GIL mode without trying.",
        remedy: "Nothing.";
    SharedGilChosen = 1026 Warning "application group '{}' runs in the main interpreter, under the GIL of the process: '{}' cannot be loaded into an interpreter with its own GIL",
        cause: "The GIL mode was left open, so a child tried to load the application. Each extension module must declare that it supports an interpreter with its own GIL.",
        follows: "The request is answered from the main interpreter, and other children use it for this group, too.",
        remedy: "Use a release of the package that supports it, or write WSGIGILMode shared for the group.";
    ReplicaFailed = 1027 Error "WSGI script '{}' could not be loaded into {}; the other interpreters serve it, and it is tried again in {} s",
        cause: "The lines before say why the script failed.",
        follows: "Requests go to the other interpreters. The wait before each further try doubles, up to 60 s.",
        remedy: "Correct what the traceback shows.";
    RefusesSecond = 1030 Error "package '{}' can be loaded into one interpreter of a process only, and WSGI script '{}' wants it in {} (module {}); put the applications that use it into one group: WSGIApplicationGroup %{GLOBAL}, or WSGIInterpreter main",
        cause: "Several application groups of this server import the package, and its compiled part keeps state that belongs to the process.",
        follows: "The load or the request fails as the lines before say. This line is logged once for each application.",
        remedy: "Give all applications that use it the same application group, best %{GLOBAL}.";
    RefusesOwnGil = 1031 Error "package '{}' cannot be loaded into an interpreter with its own GIL, and WSGI script '{}' wants it in {} (module {}); set WSGIGILMode auto or shared for this group",
        cause: "WSGIGILMode own or WSGIInterpreters give the group interpreters with their own GIL, and a compiled part of the package has not declared that it works there.",
        follows: "The load or the request fails as the lines before say. This line is logged once for each application.",
        remedy: "Set WSGIGILMode auto, which detects such packages, or shared.";
    ExitOverdue = 1032 Warning "Python has not ended within {} s: {}; this child ends as it is",
        cause: "A shutdown callback, a thread, or a function registered with atexit runs for too long, or a thread does not release the GIL.",
        follows: "The child ends at once, without the steps that are not done.",
        remedy: "Let the code that the line names end in time; make threads that may be stopped at any point daemons.";
    ThreadsHoldUp = 1033 Warning "threads of {} that are no daemons have not ended in {} s, and are not waited for any longer: {}",
        cause: "Threads that an application has started are still running while the child ends.",
        follows: "The exit functions run, and the threads end with the child.",
        remedy: "End them in a function given to mod_wsgi.subscribe_shutdown, or make them daemons.";
    NotFinalized = 1034 Warning "Python is not finalized: {}",
        cause: "WSGIDestroyInterpreter On asks for it, but it is not safe now.",
        follows: "The exit functions have run, and Python stays as it is until the process ends.",
        remedy: "Nothing.";
    GilSwitchedOn = 1035 Warning "module '{}' has switched on the GIL of this child: it does not declare that it works without a GIL",
        cause: "WSGIFreeThreading is On, and an application has imported an extension module that needs the GIL.",
        follows: "Nothing runs in parallel in this child any more, until it ends.",
        remedy: "Use a release of the package that supports free-threaded builds, or set WSGIFreeThreading Off.";
    GilRefused = 1036 Error "WSGI script '{}' is not served: its module '{}' has switched the GIL on, and WSGIFreeThreading is On with require",
        cause: "The application imports an extension module that needs the GIL, and the configuration demands that none does.",
        follows: "Requests for this script are answered with 500. The other applications of this child run under the GIL.",
        remedy: "Use a release of the package that supports free-threaded builds, or write WSGIFreeThreading On without require.";
    BuildHasGil = 1037 Warning "WSGIFreeThreading has no effect: this build of Python has a GIL",
        cause: "WSGIFreeThreading On or WSGIGILMode free ask for a Python without a GIL, but this Python has one.",
        follows: "Applications run under the GIL. With WSGIFreeThreading On require they do not run (message 1038).",
        remedy: "Name a free-threaded build of Python 3.14 or later with WSGIPythonHome, or remove the directive.";
    BuildRefused = 1038 Error "WSGI script '{}' is not served: this build of Python has a GIL, and WSGIFreeThreading is On with require",
        cause: "The configuration demands a Python without a GIL, but this Python has one.",
        follows: "Requests for this script are answered with 500.",
        remedy: "Name a free-threaded build of Python 3.14 or later with WSGIPythonHome, or write WSGIFreeThreading On without require.";
    OneInterpreter = 1039 Warning "WSGIInterpreters {} has no effect: the application groups share the GIL of the process",
        cause: "WSGIInterpreters is set, but several interpreters gain nothing under WSGIGILMode shared, WSGIPerInterpreterGIL Off or WSGIGILMode free.",
        follows: "The directive has no effect: each application group has one interpreter in a child.",
        remedy: "Write WSGIGILMode auto, or remove WSGIInterpreters.";
    OneThread = 1051 Info "{}: WSGIExecutor {} is not needed: each child has one thread, which runs Python itself",
        cause: "Under prefork, or with ThreadsPerChild 1, no request in a child waits for another one, so every strategy works like direct.",
        follows: "Requests run as under WSGIExecutor direct.",
        remedy: "Nothing. To run several requests at once in a child, use the event MPM.";
    PoolAboveThreads = 1052 Warning "{}: WSGIThreadPool size={} is cut to {}, as a child has no more threads that could bring requests",
        cause: "Each request holds an httpd thread while a pool thread runs it, so further pool threads would never have work.",
        follows: "The pool has one thread for each httpd thread of the child.",
        remedy: "Lower size= to at most ThreadsPerChild, or raise ThreadsPerChild.";
    PoolUnused = 1053 Warning "{}: WSGIThreadPool has no effect: WSGIExecutor {} holds",
        cause: "WSGIThreadPool sets the size of a pool, but WSGIExecutor sets another strategy.",
        follows: "No pool is made, and requests run as WSGIExecutor says.",
        remedy: "Write WSGIExecutor pool, or remove WSGIThreadPool.";
    QueueUnused = 1054 Warning "{}: WSGIQueue has no effect: every thread runs Python directly, so no request waits",
        cause: "Under WSGIExecutor direct, and without a GIL, each request runs on its own httpd thread.",
        follows: "The directive has no effect: no request is queued, and none is refused because of it.",
        remedy: "Write WSGIExecutor delegate or pool, or WSGIThreadShare to limit the requests of a group, or remove WSGIQueue.";
    ManyThreads = 1055 Warning "{}: {} threads of a child compete for one GIL; with WSGIExecutor auto or delegate they take turns",
        cause: "Under WSGIExecutor direct, every thread of a child competes for the GIL, and the more threads do, the more time goes into passing it on.",
        follows: "Nothing else: requests run as WSGIExecutor says.",
        remedy: "Remove WSGIExecutor direct, lower ThreadsPerChild, or give the group interpreters with their own GIL (WSGIInterpreters auto).";
    ChildrenEndIdle = 1056 Info "{} {} is less than the limit of {}: children end when there is little to do, and each new child loads Python and the applications again",
        cause: "httpd ends children beyond the spare ones, which is cheap for files and expensive for applications.",
        follows: "Nothing else: httpd starts and ends children as configured.",
        remedy: "If memory allows, raise it to MaxRequestWorkers, so that children that have loaded their applications stay.";
    ChildrenComeAndGo = 1057 Warning "{} {} of {} leaves no room above the least number of spare ones: a child is ended as soon as another has nothing to do, and each new child loads Python and the applications anew",
        cause: "The highest number of spare servers or threads is at most one child above the lowest.",
        follows: "httpd starts and ends children all the time.",
        remedy: "Raise MaxSpareServers or MaxSpareThreads, best to MaxRequestWorkers.";
    MemoryShort = 1058 Warning "this child has {} MiB of memory of its own, so that {} children would have {} MiB, and the {} has {} MiB",
        cause: "MaxRequestWorkers allows more children than there is memory for with these applications.",
        follows: "Requests go on; when all children are needed, the kernel kills some of them. This is logged once for all children.",
        remedy: "Lower MaxRequestWorkers, have fewer children with more threads, limit their memory (WSGIRecycle memory=), or add memory.";
    ReserveCut = 1059 Warning "WSGIThreadShare reserve leaves {} of the {} threads of a child to Python; it gets one",
        cause: "The reserve is at least as large as ThreadsPerChild.",
        follows: "Requests for Python hold one thread of a child at a time; others at that time are answered with 503 and Retry-After.",
        remedy: "Lower reserve=, or raise ThreadsPerChild.";
    RequestSlow = 1060 Warning "slow request: {} runs for {} s (WSGISlowRequestStack); its thread is at:",
        cause: "A request has run for as long as WSGISlowRequestStack says; the lines that follow are the Python stack of its thread.",
        follows: "The request goes on, and its stack is not logged again unless it reaches WSGIRequestTimeout.",
        remedy: "Look at the stack: what the request computes or waits for there takes long.";
    RequestTooLong = 1061 Warning "request too long: {} runs for {} s (WSGIRequestTimeout) and is interrupted by mod_wsgi.RequestTimeout; its thread is at:",
        cause: "A request has run for as long as WSGIRequestTimeout allows; the lines that follow are the Python stack of its thread.",
        follows: "The request is answered with 504, or its response is cut if a part of it was sent. If the application catches the exception, the request goes on.",
        remedy: "Look at the stack, set a timeout for what the request waits for, or raise WSGIRequestTimeout for this location.";
    RequestStillThere = 1062 Warning "request too long: {} runs for {} s although it was interrupted, and is interrupted again; its thread is at:",
        cause: "The application has caught mod_wsgi.RequestTimeout, or is in a call that no exception can end: a sleep, a read from a socket, C code.",
        follows: "The request is given up if it does not end within the grace period (message 1063).",
        remedy: "Do not catch BaseException in the application, and set a timeout for what it waits for.";
    RequestGivenUp = 1063 Error "request given up: {} runs for {} s and cannot be interrupted; its client is answered 504, and this child will be replaced",
        cause: "The thread of the request is in a call that no exception can end: a sleep, a read from a socket, C code. Only the end of the process ends it.",
        follows: "If a part of the response was sent, it is cut instead. The child answers its other requests and ends, and httpd starts another one.",
        remedy: "See the stacks in the lines before, and set a timeout for what the request waits for.";
    GilLost = 1064 Critical "the GIL of the {} could not be acquired for {} s (WSGIDeadlockTimeout); this child will be replaced. Its threads:",
        cause: "C code holds the GIL and does not release it, or threads wait for each other.",
        follows: "No Python code runs under this GIL: its requests are given up (message 1063). The child ends, and httpd starts another one.",
        remedy: "See the stacks in the lines that follow; if the C code is correct and slow, raise WSGIDeadlockTimeout.";
    EndsWithStuck = 1065 Warning "this process ends without waiting for {} of its threads, which still run requests that were given up",
        cause: "A child that is replaced or stopped waits for its requests, but not for these: they have been answered with 504 and may never end.",
        follows: "The shutdown callbacks run, and the threads end with the child.",
        remedy: "See the stacks that were logged when the requests were given up (WSGI1063).";
    BodyRefused = 1075 Info "WSGI script '{}' gave a body to a response of status {}, which has none; the body was not sent",
        cause: "Responses of status 204, 205 and 304 have no body (RFC 9110, 6.4.1), and a client would take a body for the beginning of the next response.",
        follows: "The response is sent without a body.",
        remedy: "Let the application return no body with such a status, or choose another status.";
    EndedByClient = 1080 Info "not the application's fault: {}; {} exception raised processing WSGI script '{}' in {}",
        cause: "The client has left, or sends its body too slowly or in a form that httpd cannot decode, or a filter of httpd has answered the request. The application got an OSError, and did not catch it or raised another exception because of it.",
        follows: "If the client is still there, the request is answered with the status that httpd has for it (400, 408, 413, 501), or its response is cut if a part of it was sent. The answer of a filter stays.",
        remedy: "Nothing if it is rare.";
    ResponseNotSent = 1081 Error "The response of WSGI script '{}' could not be sent: {}",
        cause: "An output filter of httpd has failed.",
        follows: "The request is answered with 500, or its response is cut if a part of it was sent.",
        remedy: "Look at what the filter logs in the lines before, and at the filters that are configured for this URL.";
    BodyNotRead = 1082 Error "the body of a request for WSGI script '{}' could not be read: {}",
        cause: "httpd or one of its input filters is short of memory or of files.",
        follows: "The request is answered with 500, or its response is cut if a part of it was sent.",
        remedy: "Look at what the filter logs in the lines before; give the server more of what is missing.";
    LoadOverdue = 1090 Error "{} has not been loaded into {} after {} s (WSGIStartupTimeout); its requests are answered with 503 until it is, and this child will be replaced. The thread that loads it is at:",
        cause: "The body of the script, or what it imports, waits for something or computes for longer than WSGIStartupTimeout allows; the lines that follow are the Python stack of its thread.",
        follows: "The request for which the script is loaded is answered with 504, and others with 503 and Retry-After. If the load hangs in the next child, too, that child waits longer before it ends.",
        remedy: "Look at the stack, and set a timeout for what the load waits for; raise WSGIStartupTimeout if the application needs longer to load.";
    InterpretersOverdue = 1091 Error "the interpreters of application group '{}' have not been set up after {} s (WSGIStartupTimeout); its requests are answered with 503 until they are, and this child will be replaced",
        cause: "Code that Python runs when an interpreter begins (site.py, sitecustomize, .pth files) waits for something or computes for longer than WSGIStartupTimeout allows.",
        follows: "The request for which they are set up is answered with 504, and others with 503 and Retry-After. No other group is set up in this child until then.",
        remedy: "Look at the .pth files and the sitecustomize module on the path of this Python.";
    PythonOverdue = 1092 Critical "Python has not started in this child after {} s (WSGIStartupTimeout); this child ends in {} s unless Python has started by then",
        cause: "Code that Python runs when it starts (site.py, sitecustomize, .pth files) does not end, or a file system from which Python reads does not answer.",
        follows: "The child takes no connections until Python has started. If no other child serves, the next one serves without Python for a while (message 1093).",
        remedy: "Look at the .pth files and the sitecustomize module on the path of this Python, and at the file systems that hold it.";
    PythonHeldOff = 1093 Warning "this child serves without Python for {} s, as Python did not start in time in the one before; requests for Python are answered with 503",
        cause: "Python did not start in time in a child (message 1092), and no other child serves.",
        follows: "The child serves all other requests for that time; then another child replaces it and tries again.",
        remedy: "See message 1092.";
    AheadOverdue = 1094 Error "this child ends so that another one tries again: not all scripts that children load at their start were loaded in time: {}",
        cause: "A script of WSGIImportScript or of an alias, or a URL of WSGIWarmup, took longer than WSGIStartupTimeout, and other children serve.",
        follows: "httpd starts another child. If a load hangs there, too, that child waits longer before it ends.",
        remedy: "See the message before this one (1090 shows the stack of the thread that loads).";
    NotAFile = 1095 Error "'{}' is {}; only regular files are read here",
        cause: "A script is something that may block or never end: a FIFO, a device, a socket.",
        follows: "The script is not loaded: message 0105 or 0106 follows, and a request is answered with 500.",
        remedy: "Put a regular file, or a symbolic link to one, in its place.";
    ThreadPanicked = 1096 Critical "the thread '{}' of this process has met an internal error and goes on in {} s",
        cause: "A defect of mod_wsgi_rs; message 1011 before this one says where.",
        follows: "The thread begins its work anew. The pause doubles while panics follow each other, up to 30 s.",
        remedy: "Report it with both lines.";
    CopyReturned = 1100 Warning "process {}, which the application has forked, came back from the application with {}, and ends: only the process that it was forked from answers",
        cause: "An application called os.fork() or the like, and the new process returned from the application as if the request were its own.",
        follows: "The response of the new process is discarded, and its exit functions run. The process that it was forked from answers the request.",
        remedy: "Let the new process end with os._exit() when it has done its work.";
    CopyRaised = 1101 Error "{} exception ended process {}, which the application has forked in {}",
        cause: "An application called os.fork() or the like, and an exception left the application in the new process; the traceback follows.",
        follows: "The new process ends with status 1, and the process that it was forked from answers the request.",
        remedy: "Correct what the traceback shows, and let the new process end with os._exit() when it has done its work.";
    ChildDied = 1102 Notice "child {} ended unexpectedly, {}; it was running {}",
        cause: "An application or an extension module ended the process (os._exit(), a crash), a user killed it, or the kernel killed it because memory was short.",
        follows: "Its requests are not answered, or their responses break off. httpd starts another child.",
        remedy: "Look at the request that is named. A crash leaves a core if CoreDumpDirectory is set; the kernel's log says whether memory was short.";
    SegmentFull = 1115 Warning "there was no memory for a part of the metrics {} times: an application without a part of its own is counted together with others",
        cause: "The machine, or the control group of the server, has no memory left.",
        follows: "Requests go on, and the metrics have less detail.",
        remedy: "Give the server more memory, or configure fewer children and applications.";
    GroupLimit = 1116 Error "there is no interpreter for application group '{}': requests have named {} groups in this child already, which is the limit (WSGIApplicationGroupLimit); answered with 503",
        cause: "Clients determine the names of application groups (%{ENV:...}, %{RESOURCE} behind a pattern, %{HOST} behind an alias with wildcards), interpreters are never ended, and interpreters are kept free for the groups that the configuration names.",
        follows: "Each request that names another new group is answered with 503 and Retry-After; groups that exist are served.",
        remedy: "Give WSGIApplicationGroup a value that expands to fewer names, such as %{GLOBAL}, or raise WSGIApplicationGroupLimit; groups that the configuration names do not count.";
    SegmentHidden = 1120 Warning "wsgictl can neither see this server nor send it a request: {}",
        cause: "The file mod_wsgi_rs.segment in DefaultRuntimeDir, or the memory that it names, cannot be made.",
        follows: "Requests and metrics go on.",
        remedy: "Do what the text says, then restart gracefully; if it is about memory, stop httpd and start it again.";
    SegmentFile = 1121 Warning "'{}' cannot be written: {}; wsgictl shows old numbers to all users but root and the server's user",
        cause: "The file of the metrics was removed or replaced while the server runs, or its file system is full.",
        follows: "Requests and metrics go on. The write is tried again about every ten seconds, and is logged once until it succeeds.",
        remedy: "Restart httpd gracefully, which creates the file again.";
    ConfigurationMistake = 1130 Error "{}",
        cause: "A directive has a value that it does not take, or stands where it is not allowed; the text names the file, the line and the directive.",
        follows: "httpd does not start. httpd -k restart and httpd -k graceful leave the running server as it is; a restart by a signal ends it.",
        remedy: "Correct the line. httpd -t reports all mistakes of a configuration at once.";
    WarmupFailed = 1131 Error "WSGIWarmup {}: {}",
        cause: "When a child started, or new code was tried, the application did not answer this URL, or answered it with a status of 500 or above.",
        follows: "While other children serve, the child leaves connections to them and requests the URL again; otherwise it takes connections at once. New code does not take effect.",
        remedy: "Let the application answer this URL with a status below 500, or name another one.";
    ChildNotReady = 1132 Error "this child is not ready after {} s, and leaves connections to the others until it is: {}",
        cause: "What a child loads before its first request takes long, or a URL of WSGIWarmup keeps failing; the text says what the child waits for.",
        follows: "The load goes on. A reload that waits for this child stops, and the old children go on serving the old code.",
        remedy: "wsgictl stack shows what the load waits for. Let the application connect to other services at its first request, or with a timeout.";
    ServesUnready = 1133 Warning "this child is not ready after {} s, and no other child serves, so it takes connections now: their requests wait for {}",
        cause: "What a child loads before its first request takes long, and no other child of the server can serve.",
        follows: "The load goes on, and requests for files are served.",
        remedy: "Let the application start faster, or keep more spare children.";
    CodeNotLoaded = 1134 Error "this child could not load a script that children load at their start, and leaves connections to the others until the code changes",
        cause: "A script fails that other children have loaded: it, or something that it depends on, has changed since. The lines before this one say what failed.",
        follows: "The child ends once one of its scripts changes or new code is tried, and httpd starts another one.",
        remedy: "Correct the application.";
    NoThread = 1135 Error "cannot start the thread '{}': {}; {}",
        cause: "The kernel refused the child another thread.",
        follows: "The child serves without the thread; the text says what does not work then.",
        remedy: "Raise the limit on threads of httpd's user (ulimit -u, TasksMax of the service, pids.max of the container), or let the server run fewer children and threads.";
    GilUndecided = 1136 Warning "{}: another process has tried for {} s whether the application can have a GIL of its own; in this child it shares one until the child ends",
        cause: "Under WSGIGILMode auto, one process imports the application in an interpreter with its own GIL, and the others wait for the result; that import hangs or takes very long.",
        follows: "The group runs in the main interpreter of this child. Children that start later use what the other process has found.",
        remedy: "Set WSGIGILMode own or WSGIGILMode shared for this application group, or let the application load faster.";
    NoSegment = 1137 Error "the memory for metrics and for replacing children cannot be made: {}; {}",
        cause: "The machine, or the control group of the server, has no memory for it, or a limit on the size of files forbids it.",
        follows: "Requests are served all the same, and nothing is measured. No child is replaced for new code or by WSGIRecycle.",
        remedy: "Do what the text says, then stop httpd and start it again.";
    SeriesUnchanged = 1138 Warning "WSGIMetricsSeries {}: it stays {} until httpd is stopped and started",
        cause: "The memory for metrics is made once, when httpd starts; a restart does not change its size.",
        follows: "Requests go on, and the metrics keep the number of series that httpd was started with.",
        remedy: "Stop httpd and start it again when that is convenient.";
    SegmentTooSmall = 1139 Warning "the metrics have room for {} arenas and {} applications, and the configuration now wants {} and {}; applications without room are counted together until httpd is stopped and started",
        cause: "The memory for metrics is made once, when httpd starts, and the configuration now has more workers, applications or virtual hosts.",
        follows: "Requests go on, and the metrics have less detail.",
        remedy: "Stop httpd and start it again when that is convenient.";
    SegmentReplaced = 1140 Warning "another release of the module was loaded before, whose metrics this one cannot read: the counters start anew",
        cause: "The module was replaced and httpd was restarted without being stopped.",
        follows: "Requests go on, and the metrics begin at zero.",
        remedy: "Nothing; Prometheus treats it as a restart of the server.";
    ChildrenNotReplaced = 1141 Warning "new code needs a restart of httpd, as children are not replaced one by one: {}",
        cause: "The module does not know how to end single children of this MPM, or is told to leave the MPM alone; the text says which.",
        follows: "No child is replaced: not for new code, not by WSGIRecycle, and not after a request that was given up.",
        remedy: "Remove ListenCoresBucketsRatio or WSGI_LEAVE_MPM_ALONE, or use prefork, worker or event; otherwise restart httpd gracefully for new code.";
    HelperStart = 1142 Error "the process '{}' cannot start: {}",
        cause: "A helper of the parent could not be started, or met an error when it started: wsgi-metrics answers for WSGIMetricsListen, wsgi-reloader replaces children.",
        follows: "Requests go on, and the start is tried again after some seconds.",
        remedy: "Do what the text says; most often a limit on processes was reached.";
    ReloaderDied = 1143 Warning "the reloader, process {}, ended {}; another one takes its place",
        cause: "The process that replaces children was killed, or has crashed.",
        follows: "The next reloader goes on where this one stopped. It starts at once, or within about ten seconds if this one ended soon after its start.",
        remedy: "Nothing if a user has killed it. A crash is a defect of the module: please report it.";
    CodeRefused = 1144 Error "the new code, revision {}, is refused, and children go on with the old code: {}",
        cause: "The trial of the new code failed, or a child that has it did not get ready; the text says how.",
        follows: "Children with the old code go on serving it; children that were replaced before the failure keep the new code.",
        remedy: "Correct the application; the change is noticed without a further step, or wsgictl reload tries again.";
    TouchHopeless = 1145 Warning "WSGIReload touch {}: {}",
        cause: "A change of this path would not be visible to the server.",
        follows: "httpd runs, but a touch that the server cannot see replaces no child.",
        remedy: "Name a file in a directory that exists and that the server's user can search.";
    ProcessGroupUnknown = 1146 Warning "{}: no WSGIDaemonProcess defines process group '{}'",
        cause: "WSGIProcessGroup or process-group= has a name that no WSGIDaemonProcess of any server has. Names are compared exactly, with the case of their letters.",
        follows: "httpd runs, and each request for which the group is chosen is answered with 500.",
        remedy: "Correct the name, or define the group with WSGIDaemonProcess.";
    GroupSocket = 1147 Error "process group '{}' has no socket: {}",
        cause: "The socket by which requests reach the processes of the group could not be opened.",
        follows: "The group is not started; its requests are answered with 503.",
        remedy: "Do what the text says; WSGISocketPrefix chooses the folder, which httpd's user must be able to enter.";
    GroupNeedsRoot = 1148 Warning "process group '{}': {}= has no effect, as httpd was not started by root",
        cause: "Only root can change the user or the root folder of a process.",
        follows: "The processes of the group run as httpd's own user, in its root folder.",
        remedy: "Start httpd as root, or remove the option.";
    GroupLocale = 1149 Warning "process group '{}': this system has no locale '{}'",
        cause: "locale= or lang= names a locale that is not installed.",
        follows: "The processes run with the locale C; the variables of the environment are set all the same.",
        remedy: "Install the locale, or name another one; C.UTF-8 is always there.";
    GroupStart = 1150 Error "process group '{}': a process cannot start: {}",
        cause: "The process could not be made, or could not take on its user, limits or folders.",
        follows: "The start is tried again after a pause, which grows up to 30 seconds. Meanwhile requests of the group wait, or are answered with 503.",
        remedy: "Do what the text says, at the option that it names.";
    GroupServe = 1151 Error "a process of a group cannot take requests: {}",
        cause: "The kernel has refused a thread or a descriptor.",
        follows: "The process goes on with what it has.",
        remedy: "Raise the limits on processes and open files of httpd.";
    SupervisorDied = 1152 Error "the supervisor of process groups, process {}, ended {}; another one takes its place",
        cause: "The process that starts the processes of groups was killed, or has crashed.",
        follows: "All processes of groups end, and others start. Requests inside them are lost.",
        remedy: "Nothing if a user has killed it. A crash is a defect of the module: please report it.";
    GroupStartFailed = 1153 Error "process {} of process group '{}' ended {} before it could take requests",
        cause: "Python could not start, or an application ended the process while it was loaded.",
        follows: "Another process is started after a pause, which grows up to 30 seconds. A process that it should have replaced goes on.",
        remedy: "The lines before this one say more.";
    GroupProcessDied = 1154 Error "process {} of process group '{}' ended {} while it took requests; it was running {}",
        cause: "An application, or a module in C that it uses, has ended the process; or a user or the kernel has killed it.",
        follows: "Another process starts at once. Requests inside the process are answered with 500, or cut.",
        remedy: "For SIGSEGV and the like look for a module in C; for SIGKILL look for the kernel's reports on memory.";
    GroupUnreachable = 1155 Error "process group '{}' cannot be reached: {}",
        cause: "The socket of a slot is gone, or its queue was full for connect-timeout=.",
        follows: "Another slot of the group is tried; if there is none, the request is answered with 503.",
        remedy: "Look for lines about the start of the group; raise listen-backlog=, processes= or threads= if it is overloaded.";
    GroupLost = 1156 Error "process group '{}': the connection to the process that had the request {} is lost: {}",
        cause: "The process has ended, closed the connection, or sent what no process sends, while it ran the request.",
        follows: "The request is answered with 500; a response that had begun is cut. It is not run again, as it may have had effects.",
        remedy: "A line about the end of the process says how it ended.";
    GroupSilent = 1157 Error "process group '{}': the process that had the request {} has sent nothing for socket-timeout=: {}",
        cause: "The application computes, or waits, for longer than socket-timeout= allows.",
        follows: "The request is answered with 504; the application goes on.",
        remedy: "Raise socket-timeout=, or set request-timeout= to end such requests.";
    GroupRequestTooLong = 1158 Error "process group '{}': the request's variables are longer than 16 MiB",
        cause: "The headers of the request, and the variables of httpd for it, are too long to be passed on.",
        follows: "The request is answered with 500.",
        remedy: "Lower LimitRequestFieldSize, or pass fewer variables (SSLOptions +StdEnvVars).";
    GroupStartHangs = 1160 Error "process group '{}': this process ends so that another one tries again: {} takes longer than {} s",
        cause: "Python, a script that processes load at their start, or a URL of WSGIWarmup takes longer than startup-timeout= or WSGIStartupTimeout: it may wait for something that does not come.",
        follows: "Another process is started after a pause, which grows up to 30 seconds. A process that it should have replaced goes on.",
        remedy: "See the stack that was logged before this line, if there is one; raise startup-timeout= for an application that needs the time.";
    GroupStartKilled = 1161 Error "process {} of process group '{}' is killed: it has not got ready in time, and does not end by itself",
        cause: "The process is stopped, or the kernel holds it, for example at a file system that does not answer.",
        follows: "Another process is started after a pause, which grows up to 30 seconds. A process that it should have replaced goes on.",
        remedy: "Look at what the kernel shows of the process, and at its file systems.";
    GroupRequestsCut = 1162 Warning "process {} of process group '{}', which was replaced, ended {} with requests inside; it was running {}",
        cause: "Its requests took longer than graceful-timeout= or eviction-timeout=, or something has ended the process before.",
        follows: "These requests are answered with 500, or their responses are cut.",
        remedy: "Raise graceful-timeout= for requests that need the time, or set request-timeout= to end them earlier.";
    SignalEvent = 1170 Error "the process_signal event could not be published in {}",
        cause: "A call of a subscriber could not be made; the traceback follows.",
        follows: "Subscribers of that interpreter may not have been called. The process goes on.",
        remedy: "Nothing if it is rare.";
    ServerMetricsNeedless = 1171 Info "{}: server-metrics= of WSGIDaemonProcess '{}' is not needed: wsgi-status, wsgictl and the metrics show the whole server",
        cause: "In mod_wsgi, the option lets the applications of the group read httpd's scoreboard, with the addresses and the URLs of all clients.",
        follows: "mod_wsgi.server_metrics() returns None in the group, as in mod_wsgi without the option.",
        remedy: "Read the metrics or the status page (docs/directives.md, WSGIMetrics), and take the option out.";
    OptionNeedless = 1180 Info "{}: {}= of WSGIDaemonProcess '{}' needs no effect here: {}",
        cause: "The option adjusts a part of mod_wsgi that works in another way here.",
        follows: "The value is checked, and has no effect.",
        remedy: "Nothing; the option may stay.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_ascend_so_none_stands_twice() {
        assert!(Message::ALL.is_sorted_by(|a, b| a.number() < b.number()));
    }

    #[test]
    fn each_entry_is_whole() {
        for message in Message::ALL {
            for part in [message.cause(), message.follows(), message.remedy()] {
                assert!(part.ends_with('.'), "{message:?}");
            }
            assert!(
                !message.text().ends_with('.') && !message.text().is_empty(),
                "{message:?}"
            );
        }
    }

    #[test]
    fn retired_numbers_stay_retired() {
        for number in [37, 39, 66, 92, 93, 180, 193, 197] {
            assert!(
                Message::ALL
                    .iter()
                    .all(|message| message.number() != number),
                "{number}"
            );
        }
    }

    #[test]
    fn lines_have_number_and_values() {
        assert_eq!(
            Message::ApplicationException.line(&[&"ValueError", &"/a.wsgi", &"main interpreter"]),
            "WSGI0174: ValueError exception raised processing WSGI script '/a.wsgi' in main interpreter"
        );
        assert_eq!(
            Message::LoadTimedOut.line(&[&10, &"/{}.wsgi"]),
            "WSGI1006: gave up after 10 s waiting for another thread to load WSGI script '/{}.wsgi'; answered with 503"
        );
        assert_eq!(Message::ScriptNotFound.level(), Level::Error);
    }

    #[test]
    fn texts_that_log_watchers_know_are_kept() {
        let line = Message::ApplicationException.line(&[&"KeyError", &"/x", &"y"]);
        assert!(line.contains("KeyError exception raised processing WSGI script"));
        assert!(
            Message::ApplicationSystemExit
                .text()
                .starts_with("SystemExit exception raised by WSGI script")
        );
    }
}
