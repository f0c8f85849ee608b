//! Directives for requests and responses [M-1].

use super::arguments::{ON_OFF, on_off, one};
use super::directive::{Context, Directive, Target};
use crate::config::conf_words::Words;
use crate::request::environ::MapHead;
use crate::request::proxy::ProxyHeader;
use crate::request::subnet::Subnet;

pub(super) const DIRECTIVES: &[Directive] = &[
    Directive {
        name: "WSGIScriptReloading",
        context: Context::FileInfo,
        default: "On",
        help: "On: a script that has changed is loaded again with the next request.",
        example: "WSGIScriptReloading Off",
        difference: "It has no effect where WSGIReload says something else than script.",
        parse: |args, target| {
            target.dir()?.script_reloading = Some(on_off(args)?);
            Ok(())
        },
        ..ON_OFF
    },
    Directive {
        name: "WSGIPassAuthorization",
        context: Context::FileInfo,
        help: "On: the application sees the Authorization header as HTTP_AUTHORIZATION.",
        example: "<Location /api>\n    WSGIPassAuthorization On\n</Location>",
        parse: |args, target| {
            target.dir()?.pass_authorization = Some(on_off(args)?);
            Ok(())
        },
        ..ON_OFF
    },
    Directive {
        name: "WSGIPassApacheRequest",
        context: Context::Directory,
        help: "On: the environ holds the request_rec of httpd as apache.request_rec.",
        example: "<Location /low-level>\n    WSGIPassApacheRequest On\n</Location>",
        parse: |args, target| {
            target.dir()?.pass_apache_request = Some(on_off(args)?);
            Ok(())
        },
        ..ON_OFF
    },
    Directive {
        name: "WSGIChunkedRequest",
        context: Context::FileInfo,
        help: "On: request bodies may be chunked, so that they have no CONTENT_LENGTH; Off: they are answered with 411.",
        example: "<Location /upload>\n    WSGIChunkedRequest On\n</Location>",
        difference: "A request with both a chunked body and a Content-Length is refused with 400; mod_wsgi means to refuse it and never does.",
        parse: |args, target| {
            target.dir()?.chunked_request = Some(on_off(args)?);
            Ok(())
        },
        ..ON_OFF
    },
    Directive {
        name: "WSGIMapHEADToGET",
        context: Context::FileInfo,
        syntax: "Off|On|Auto",
        default: "Auto",
        help: "On: the application sees GET for HEAD; Auto: it does so only if an output filter needs the body.",
        example: "WSGIMapHEADToGET Auto",
        parse: map_head_to_get,
        ..ON_OFF
    },
    Directive {
        name: "WSGIErrorOverride",
        context: Context::FileInfo,
        help: "On: ErrorDocument replaces what the application sends with a status of 4xx or 5xx that httpd knows.",
        example: "ErrorDocument 503 /errors/busy.html\nWSGIErrorOverride On",
        difference: "It works in the httpd children; in mod_wsgi it has an effect in daemon processes only.",
        parse: |args, target| {
            target.dir()?.error_override = Some(on_off(args)?);
            Ok(())
        },
        ..ON_OFF
    },
    Directive {
        name: "WSGIEnableSendfile",
        context: Context::FileInfo,
        help: "On: files from wsgi.file_wrapper may be sent by the kernel.",
        example: "WSGIEnableSendfile On",
        parse: |args, target| {
            target.dir()?.enable_sendfile = Some(on_off(args)?);
            Ok(())
        },
        ..ON_OFF
    },
    Directive {
        name: "WSGIIgnoreActivity",
        context: Context::FileInfo,
        help: "On: requests here do not keep daemon processes from their inactivity-timeout.",
        example: "<Location /ping>\n    WSGIIgnoreActivity On\n</Location>",
        parse: |args, target| {
            target.dir()?.ignore_activity = Some(on_off(args)?);
            Ok(())
        },
        ..ON_OFF
    },
    Directive {
        name: "WSGITrustedProxyHeaders",
        context: Context::FileInfo,
        syntax: "header ...",
        default: "",
        help: "Lists the headers by which a proxy may change address, host, port, scheme and script name in the environ.",
        example: "WSGITrustedProxyHeaders X-Forwarded-For X-Forwarded-Proto\nWSGITrustedProxies 10.0.0.0/8",
        parse: trusted_proxy_headers,
        ..ON_OFF
    },
    Directive {
        name: "WSGITrustedProxies",
        context: Context::FileInfo,
        syntax: "address|network ...",
        default: "",
        help: "Lists the proxies whose headers are honoured; without it, those of every peer are.",
        example: "WSGITrustedProxyHeaders X-Forwarded-For\nWSGITrustedProxies 192.0.2.7 10.0.0.0/8 fd00::/8",
        difference: "Upper-case hexadecimal digits, IPv4 masks and IPv4 addresses in IPv6 notation are accepted as well.",
        parse: trusted_proxies,
        ..ON_OFF
    },
];

fn map_head_to_get(args: &str, target: &mut Target<'_>) -> Result<(), String> {
    let word = one(args)?;
    target.dir()?.map_head_to_get = Some(match word.to_ascii_lowercase().as_str() {
        "off" => MapHead::Off,
        "on" => MapHead::On,
        "auto" => MapHead::Auto,
        _ => return Err(format!("'{word}' is none of Off, On, Auto")),
    });
    Ok(())
}

/// Adds to the headers that the same section has so far; ignores unknown names, as mod_wsgi does.
fn trusted_proxy_headers(args: &str, target: &mut Target<'_>) -> Result<(), String> {
    let headers = target.dir()?.trusted_proxy_headers.get_or_insert_default();
    headers.extend(Words::new(args).filter_map(|name| ProxyHeader::find(&name)));
    Ok(())
}

/// Adds to the proxies that the same section has so far. An empty list trusts no peer.
fn trusted_proxies(args: &str, target: &mut Target<'_>) -> Result<(), String> {
    let subnets: Result<Vec<Subnet>, _> =
        Words::new(args).map(|text| Subnet::parse(&text)).collect();
    let subnets = subnets.map_err(|problem| problem.to_string())?;
    target
        .dir()?
        .trusted_proxies
        .get_or_insert_default()
        .extend(subnets);
    Ok(())
}
