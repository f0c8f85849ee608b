//! The filters, alone and together, and a server with all of them.

use std::io::Write;

use harness::{Builder, Mpm, Server, has_module};

/// One filter, or some together. Each row has its own location, `/row/NAME`.
pub(super) struct Row {
    pub(super) name: &'static str,
    pub(super) modules: &'static [&'static str],
    /// Configuration of the server.
    pub(super) server: &'static str,
    /// Configuration of the location.
    pub(super) conf: &'static str,
    pub(super) input: Input,
    pub(super) output: Output,
}

/// The effect on a request body.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    /// The body is unchanged.
    Same,
    /// The body is sent compressed, and the application reads it uncompressed.
    Inflated,
}

/// The effect on a response of the application.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Output {
    Same,
    Gzip,
    Brotli,
    /// `line` becomes `LINE`.
    Upper,
    /// The element of mod_include is removed.
    Included,
    /// A file takes the place of the body.
    Sent,
}

const fn input(name: &'static str, modules: &'static [&'static str], conf: &'static str) -> Row {
    output(name, modules, conf, Output::Same)
}

const fn output(
    name: &'static str,
    modules: &'static [&'static str],
    conf: &'static str,
    output: Output,
) -> Row {
    Row {
        name,
        modules,
        server: "",
        conf,
        input: Input::Same,
        output,
    }
}

const SECURITY: &str = "SecRuleEngine On
    SecRequestBodyAccess On
    SecResponseBodyAccess On
    SecRule REQUEST_BODY \"@contains attack\" \"id:1,phase:2,t:none,deny,status:403\"";

const ROWS: &[Row] = &[
    input("none", &[], ""),
    Row {
        server: "RequestReadTimeout header=20 body=20",
        ..input("reqtimeout", &["reqtimeout"], "")
    },
    input("kept", &["request"], "KeptBodySize 100000"),
    input(
        "buffer",
        &["buffer"],
        "SetInputFilter BUFFER\nSetOutputFilter BUFFER\nBufferSize 100000",
    ),
    input(
        "kept-buffer",
        &["request", "buffer"],
        "KeptBodySize 100000\nSetInputFilter BUFFER",
    ),
    Row {
        input: Input::Inflated,
        ..input("inflate", &["deflate"], "SetInputFilter DEFLATE")
    },
    Row {
        input: Input::Inflated,
        ..input(
            "kept-inflate",
            &["deflate", "request"],
            "KeptBodySize 100000\nSetInputFilter DEFLATE",
        )
    },
    input(
        "sed-in",
        &["sed"],
        "SetInputFilter Sed\nInputSed \"s/never/ever/\"",
    ),
    Row {
        server: "ExtFilterDefine pass-in mode=input cmd=/bin/cat",
        ..input("ext-in", &["ext_filter"], "SetInputFilter pass-in")
    },
    Row {
        server: "SecTmpDir ${ROOT}/security\nSecDataDir ${ROOT}/security\nSecAuditEngine Off",
        ..input("security", &["unique_id", "security2"], SECURITY)
    },
    output(
        "deflate",
        &["deflate"],
        "SetOutputFilter DEFLATE",
        Output::Gzip,
    ),
    output(
        "brotli",
        &["brotli"],
        "SetOutputFilter BROTLI_COMPRESS",
        Output::Brotli,
    ),
    output(
        "ratelimit",
        &["ratelimit"],
        "SetOutputFilter RATE_LIMIT\nSetEnv rate-limit 1000",
        Output::Same,
    ),
    output(
        "substitute",
        &["substitute"],
        "SetOutputFilter SUBSTITUTE\nSubstitute s/line/LINE/",
        Output::Upper,
    ),
    output(
        "sed",
        &["sed"],
        "SetOutputFilter Sed\nOutputSed \"s/line/LINE/\"",
        Output::Upper,
    ),
    Row {
        server: "ExtFilterDefine upper mode=output cmd=\"/bin/sed s/line/LINE/\"",
        ..output(
            "ext",
            &["ext_filter"],
            "SetOutputFilter upper",
            Output::Upper,
        )
    },
    output(
        "include",
        &["include"],
        "Options +Includes\nSetOutputFilter INCLUDES",
        Output::Included,
    ),
    output(
        "sendfile",
        &["xsendfile"],
        "XSendFile On\nXSendFilePath ${ROOT}/sent\nSetEnv test.sendfile ${ROOT}/sent/file.txt",
        Output::Sent,
    ),
    Row {
        server: "CacheRoot ${ROOT}/cache\nCacheEnable disk /row/cache/",
        ..output(
            "cache",
            &["cache", "cache_disk"],
            "SetEnv test.cache max-age=600",
            Output::Same,
        )
    },
    output(
        "all",
        &["include", "substitute", "deflate", "ratelimit"],
        "Options +Includes\nSetOutputFilter INCLUDES;SUBSTITUTE;DEFLATE;RATE_LIMIT\nSetEnv rate-limit 1000",
        Output::Gzip,
    ),
];

/// The file that mod_xsendfile sends.
pub(super) const SENT: &[u8] =
    b"the contents of a file that lies elsewhere: 0123456789 0123456789 0123456789\n";

/// Returns the rows whose modules are available; prints the others.
pub(super) fn rows() -> Vec<&'static Row> {
    let is_there = |row: &&Row| {
        let missing = row.modules.iter().find(|name| !has_module(name));
        if let Some(name) = missing {
            // Not `eprintln!`, whose output the test runner hides: a skipped row must be visible.
            let _ = writeln!(
                std::io::stderr(),
                "skipped: row {} of the filter matrix: no mod_{name} here",
                row.name
            );
        }
        missing.is_none()
    };
    ROWS.iter().filter(is_there).collect()
}

/// Returns the builder of a server with a location for each row.
pub(super) fn builder(mpm: Mpm, rows: &[&Row]) -> Builder {
    let mut modules = Vec::new();
    let mut conf = String::from(
        "WSGIApplicationGroup %{GLOBAL}\nWSGIChunkedRequest On\nLogLevel reqtimeout:error\n",
    );
    for row in rows {
        for name in row.modules {
            if !modules.contains(name) {
                modules.push(*name);
            }
        }
        conf.push_str(&format!(
            "{}\nWSGIScriptAlias /row/{name} ${{APPS}}/filters.wsgi\n<Location /row/{name}/>\n{}\n</Location>\n",
            row.server,
            row.conf,
            name = row.name,
        ));
    }
    let mut builder = Server::builder(mpm);
    if mpm.threaded() && has_module("http2") {
        modules.push("http2");
        conf.push_str("Protocols h2c http/1.1\n");
    }
    builder = builder.one_child().modules(&modules).conf(&conf);
    builder
        .file("sent/file.txt", SENT)
        .writable_folder("cache")
        .writable_folder("security")
}
