//! All tests with a real server, in one program: one module for each topic.

/// Metrics that applications define.
mod application_metrics;
/// Clients that send requests without a pause.
mod clients;
/// Directives.
mod config;
/// What counts against a limit, and for how long.
mod counts;
/// Process groups.
mod daemon;
/// Options of process groups, and what users count on.
mod daemon_options;
/// Requests that take longer than allowed.
mod deadlines;
/// A GIL that is not released.
mod deadlock;
/// Children that an application ends.
mod deaths;
/// The module without Python, and Pythons that cannot be used.
mod engine;
/// The environ, key by key.
mod environ;
/// The same responses, whichever thread runs Python.
mod executors;
/// Failures of applications.
mod failures;
/// Failures that clients cause.
mod faults;
/// wsgi.file_wrapper.
mod file_wrapper;
/// Large files, and files that change.
mod files;
/// The filters of httpd and of its distribution's modules.
mod filters;
/// Files of the server that are cut, removed or replaced.
mod foreign_files;
/// Processes that an application forks.
mod forks;
/// Django, Flask, httpbin.
mod frameworks;
/// What people see of process groups, and what they tell them.
mod group_status;
/// Application groups and their names.
mod groups;
/// Loads that hang, and scripts that are not regular files.
mod hangs;
/// Processes of groups that break the protocol with httpd's children.
mod hostile_processes;
/// Scripts loaded at start.
mod imports;
/// wsgi.input, with every way to read and send a body.
mod input;
/// The interpreter that runs an application, and its GIL.
mod interpreters;
/// Many workers, applications and virtual hosts, and names that clients invent.
mod large;
/// Children that are killed, restarted and stopped.
mod lifecycle;
/// Sizes around the constants of the request path.
mod limits;
/// wsgi.errors and the standard streams.
mod log_streams;
/// Which URL reaches which script, and refused requests.
mod mapping;
/// The metrics, and the processes that show them.
mod metrics;
/// Requests within a request.
mod nested;
/// The consequences of the MPM for application groups.
mod plan;
/// Processes of groups that crash, leak, fork, become other programs or are asked to end.
mod process_faults;
/// Forwarded headers and the clients that may send them.
mod proxies;
/// The queue of requests that wait for a permit.
mod queue;
/// Children that have reached a limit of `WSGIRecycle`.
mod recycle;
/// Edited script files.
mod reload;
/// start_response and the body.
mod response;
/// Children that are replaced because of new code.
mod rolls;
/// The number of threads of a child that a group may hold.
mod shares;
/// Clients that send and receive slowly.
mod slow_clients;
/// The stacks of a child's threads.
mod stacks;
/// Restarts with applications that load slowly.
mod stalls;
/// The meanings of statuses.
mod statuses;
/// Requests that only the end of their process can end.
mod stuck;
/// Processes of groups that hang, fail, are replaced or killed.
mod supervision;
/// Two sites of two users with two Pythons.
mod two_sites;
/// Checks by wsgiref.validate.
mod validator;
