//! The rules of requests and responses.

// `WSGIScriptAlias`: which URLs it matches and to which file it maps them.
pub mod alias;
// Rules of the environ: headers, paths, request URI, scheme, method.
pub mod environ;
// The party responsible for a failed request, and what follows.
pub mod fault;
// Checks of a request's framing, before Python is entered.
pub mod framing;
// Names of application groups, process groups and callables, with their `%{...}` expansions.
pub mod group;
// Headers of trusted proxies.
pub mod proxy;
// Checks of a response, and the count of its body.
pub mod response;
// Subnets, as `WSGITrustedProxies` names them.
pub mod subnet;
