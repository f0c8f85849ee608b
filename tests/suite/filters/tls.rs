//! The filters of mod_ssl.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use harness::{Server, free_port, has_module, mpm_tests};
use serde_json::Value;

use super::checks::{body, given};

/// Makes a key and a certificate for `localhost`.
fn certificate(folder: &Path, name: &str) -> (Vec<u8>, Vec<u8>) {
    let file = |kind: &str| folder.join(format!("{name}.{kind}"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .args([
            "-subj",
            &format!("/CN={name}"),
            "-addext",
            "subjectAltName=DNS:localhost",
        ])
        .arg("-keyout")
        .arg(file("key"))
        .arg("-out")
        .arg(file("pem"))
        .output()
        .expect("openssl runs");
    assert!(made.status.success(), "{made:?}");
    (
        std::fs::read(file("key")).unwrap(),
        std::fs::read(file("pem")).unwrap(),
    )
}

mpm_tests! {
    fn tls(mpm) {
        if !has_module("ssl") {
            let _ = writeln!(std::io::stderr(), "skipped: the filters of TLS: no mod_ssl here");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let (key, certificate_of_server) = certificate(folder.path(), "localhost");
        let (_, certificate_of_client) = certificate(folder.path(), "client");
        let port = free_port();
        let mut modules = vec!["ssl", "socache_shmcb", "deflate"];
        if mpm.threaded() && has_module("http2") {
            modules.push("http2");
        }
        let protocols = if modules.contains(&"http2") { "Protocols h2 http/1.1" } else { "" };
        let server = Server::builder(mpm)
            .one_child()
            .modules(&modules)
            .file("server.key", key)
            .file("server.pem", certificate_of_server)
            .file("client.pem", certificate_of_client)
            .app("/app", "filters.wsgi")
            .app("/known", "filters.wsgi")
            .conf(&format!("WSGIChunkedRequest On
                LogLevel ssl:error
                Listen 127.0.0.1:{port}
                <VirtualHost 127.0.0.1:{port}>
                    ServerName localhost
                    {protocols}
                    SSLEngine On
                    SSLCertificateFile ${{ROOT}}/server.pem
                    SSLCertificateKeyFile ${{ROOT}}/server.key
                    SSLCACertificateFile ${{ROOT}}/client.pem
                    <Location /known>
                        SSLVerifyClient require
                        SSLVerifyDepth 1
                    </Location>
                </VirtualHost>"))
            .start();
        let child = server.only_child();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let curl = |url: &str, arguments: &[&str], body: Option<&[u8]>| {
            let mut command = Command::new("curl");
            command.args(["-sS", "--max-time", "20", "--cacert", &path("localhost.pem")]).args(arguments);
            command.arg(format!("https://localhost:{port}{url}"));
            command.args(["--resolve", &format!("localhost:{port}:127.0.0.1")]);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut running = command.spawn().expect("curl runs");
            let mut stdin = running.stdin.take().unwrap();
            if let Some(body) = body {
                let (now, later) = body.split_at(body.len() / 2);
                stdin.write_all(now).unwrap();
                stdin.flush().unwrap();
                thread::sleep(Duration::from_millis(200));
                stdin.write_all(later).unwrap();
            }
            drop(stdin);
            let answer = running.wait_with_output().unwrap();
            assert!(answer.status.success(), "{url} {arguments:?}: {answer:?}");
            answer.stdout
        };
        let plain = body();
        let (client_certificate, client_key) = (path("client.pem"), path("client.key"));
        let known = ["--cert", &client_certificate, "--key", &client_key];
        for version in ["--http1.1", "--http2"] {
            // The body is sent at once, and then as a stream.
            for upload in [["--data-binary", "@-"], ["-T", "-"]] {
                let sent = curl("/app/body", &[&[version, "-X", "POST"], &upload[..]].concat(), Some(&plain));
                let said: Value = serde_json::from_slice(&sent).unwrap();
                assert_eq!(said["size"], plain.len(), "{version} {upload:?}");
            }
            assert_eq!(curl("/app/stream", &[version], None), given().into_bytes());
            assert_eq!(curl("/app/list", &[version, "-r", "10-19"], None), given().as_bytes()[10..20]);
        }
        // The server requests the certificate after it has read the request, and keeps the body until then.
        for upload in [["--data-binary", "@-"], ["-T", "-"]] {
            let how = [&known[..], &["--http1.1", "--tls-max", "1.2", "-X", "POST"], &upload[..]].concat();
            let sent = curl("/known/body", &how, Some(&plain));
            let said: Value = serde_json::from_slice(&sent)
                .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&sent)));
            assert_eq!(said["size"], plain.len(), "{upload:?}");
        }
        let how = [&known[..], &["--http1.1", "--tls-max", "1.2"]].concat();
        assert_eq!(curl("/known/stream", &how, None), given().into_bytes());
        assert_eq!(server.only_child(), child);
    }
}
