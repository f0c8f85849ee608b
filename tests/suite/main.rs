//! All tests of the real server, in one program: a module a topic.

/// Metrics that applications make themselves.
mod application_metrics;
/// Clients that ask without a pause.
mod clients;
/// Directives.
mod config;
/// What counts against a limit, and for how long.
mod counts;
/// Requests that take longer than they may.
mod deadlines;
/// A GIL that is not given back.
mod deadlock;
/// Children that an application ends.
mod deaths;
/// The module without Python, and Pythons that cannot be had.
mod engine;
/// The environ, key by key.
mod environ;
/// The same answers, whichever thread runs Python.
mod executors;
/// What applications do wrong.
mod failures;
/// Whose fault it was.
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
/// Application groups and their names.
mod groups;
/// Loads that hang, and what is no file.
mod hangs;
/// Scripts loaded at start.
mod imports;
/// wsgi.input in every form.
mod input;
/// Which interpreter runs an application, and its GIL.
mod interpreters;
/// Many workers, applications and virtual hosts, and names that clients make up.
mod large;
/// Children that are killed, restarted and stopped.
mod lifecycle;
/// Sizes around the constants of the request path.
mod limits;
/// wsgi.errors and the standard streams.
mod log_streams;
/// Which URL reaches which script, and what refuses.
mod mapping;
/// What is counted, and which process shows it.
mod metrics;
/// Requests within a request.
mod nested;
/// What the MPM means for application groups.
mod plan;
/// Forwarded headers and the clients that may send them.
mod proxies;
/// The queue of requests that wait for a permit.
mod queue;
/// Children that have served long enough.
mod recycle;
/// Edited scripts.
mod reload;
/// start_response and the body.
mod response;
/// Children that are replaced for new code.
mod rolls;
/// How many threads of a child a group may hold.
mod shares;
/// Clients that send and receive slowly.
mod slow_clients;
/// What the threads of a child run.
mod stacks;
/// Restarts with applications that load slowly.
mod stalls;
/// What statuses mean.
mod statuses;
/// Requests that nothing can end but the end of their process.
mod stuck;
/// wsgiref.validate as a judge.
mod validator;
