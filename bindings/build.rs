//! Generates the declarations from the headers that `apxs` names, and compiles the shim.
//!
//! `APXS` names the `apxs` to use; without it, the usual names are tried in order.

use std::path::PathBuf;
use std::process::Command;

/// The functions, types, variables and constants that the wrappers use; no others are declared.
const FUNCTIONS: &[&str] = &[
    "ap_add_version_component",
    "ap_bucket_eoc_create",
    "ap_bucket_error_create",
    "ap_check_cmd_context",
    "ap_exists_(config_define|scoreboard_image)",
    "ap_map_http_request_error",
    "ap_matches_request_vhost",
    "ap_context_(prefix|document_root)",
    "ap_document_root",
    "ap_clear_method_list",
    "ap_get_brigade",
    "ap_get_limit_req_body",
    "ap_get_server_(banner|built|description|name_for_url|port|revision)",
    "ap_get_scoreboard_(process|worker_from_indexes)",
    "ap_allow_options",
    "ap_hook_(check_config|child_init|child_status|generate_log_id|handler|monitor|post_config|post_read_request)",
    "ap_hook_(pre_config|pre_connection|pre_mpm|translate_name)",
    "ap_log_(error|rerror)_",
    "ap_index_of_response",
    "ap_method_list_add",
    "ap_mpm_query",
    "ap_pass_brigade",
    "ap_pregsub",
    "ap_reg(comp|exec|free)",
    "ap_retained_data_(create|get)",
    "ap_run_drop_privileges",
    "ap_run_generate_log_id",
    "ap_run_http_scheme",
    "ap_runtime_dir_relative",
    "ap_rwrite",
    "ap_set_content_length",
    "ap_set_content_type",
    "ap_server_root_relative",
    "ap_show_mpm",
    "ap_state_query",
    "ap_walk_config",
    "apr_brigade_(cleanup|create|insert_file)",
    "apr_bucket_file_enable_mmap",
    "apr_bucket_(eos|flush|transient)_create",
    "apr_dynamic_fn_retrieve",
    "apr_optional_hook_add",
    "apr_file_dup",
    "apr_os_file_(get|put)",
    "apr_pool_((pre_)?cleanup_(register|null)|destroy)",
    "apr_proc_other_child_(register|unregister)",
    "apr_palloc",
    "apr_pstrmemdup",
    "apr_rfc822_date",
    "apr_strerror",
    "apr_table_(addn|get|setn|unset)",
    "apr_table_elts",
    "apr_time_now",
    "wsgi_shim_.*",
];
const TYPES: &[&str] = &[
    "module",
    "apr_filetype_e",
    "apr_read_type_e",
    "ap_regmatch_t",
    "apr_table_entry_t",
    "apr_array_header_t",
    "cmd_func",
    "cmd_how",
    "mpm_child_status",
];
const VARIABLES: &[&str] = &[
    "AP_(MPMQ|SQ|MAX_REG_MATCH|REQ_REJECT_PATH_INFO|FTYPE_PROTOCOL|MODE).*",
    "AP_SERVER_(MAJORVERSION|MINORVERSION|PATCHLEVEL)_NUMBER",
    "APLOG_(EMERG|ALERT|CRIT|ERR|WARNING|NOTICE|INFO|DEBUG|TRACE[1-8]|STARTUP|NO_MODULE|LEVELMASK)",
    "AP_FILTER_ERROR",
    "AP_SIG_GRACEFUL",
    "APR_(HOOK_.*|EAGAIN|ECONNRESET|EGENERAL|ENOSPC|EOF|EPIPE|INCOMPLETE|SUCCESS|TIMEUP|FOPEN_(READ|SENDFILE_ENABLED))",
    "DECLINED|OK|DONE|SUSPENDED",
    "GLOBAL_ONLY",
    "HTTP_[A-Z_]+",
    "ap_(default_loglevel|listeners|num_listen_buckets|pglobal|unixd_config)",
    "APR_OC_REASON_(DEATH|LOST|UNREGISTER)",
    "SERVER_(DEAD|STARTING|READY|BUSY_.*|CLOSING|GRACEFUL|IDLE_KILL)",
    "MODULE_MAGIC_(NUMBER_MAJOR|NUMBER_MINOR|COOKIE)",
    "OPT_EXECCGI|OR_.*|RSRC_CONF|ACCESS_CONF|EXEC_ON_READ",
    "M_[A-Z]+",
];

fn main() {
    println!("cargo::rerun-if-changed=wrapper.h");
    println!("cargo::rerun-if-changed=shim.c");
    println!("cargo::rerun-if-env-changed=APXS");
    let apxs = Apxs::find();
    let includes = apxs.includes();
    let flags: Vec<String> = apxs
        .query("EXTRA_CPPFLAGS")
        .split_whitespace()
        .filter(|flag| flag.starts_with("-D") && !flag.contains("FORTIFY"))
        .map(str::to_owned)
        .collect();

    let mut builder = bindgen::Builder::default()
        .header("wrapper.h")
        .clang_args(includes.iter().map(|dir| format!("-I{dir}")))
        .clang_args(&flags)
        .rust_target(
            bindgen::RustTarget::stable(85, 0)
                .unwrap_or_else(|_| panic!("bindgen knows Rust 1.85")),
        )
        .rust_edition(bindgen::RustEdition::Edition2024)
        .layout_tests(true)
        .generate_comments(false)
        .derive_debug(false)
        .prepend_enum_name(false)
        .merge_extern_blocks(true)
        .sort_semantically(true);
    for name in FUNCTIONS {
        builder = builder.allowlist_function(name);
    }
    for name in TYPES {
        builder = builder.allowlist_type(name);
    }
    for name in VARIABLES {
        builder = builder.allowlist_var(name);
    }
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default()).join("httpd.rs");
    match builder.generate() {
        Ok(bindings) => {
            if let Err(error) = bindings.write_to_file(&out) {
                panic!("cannot write {}: {error}", out.display());
            }
        }
        Err(error) => panic!(
            "the httpd headers in {} cannot be read: {error}",
            includes.join(", ")
        ),
    }

    let mut shim = cc::Build::new();
    // httpd's headers cause warnings, so they are off. But a call of an undeclared function would be compiled wrongly.
    shim.file("shim.c")
        .includes(&includes)
        .warnings(false)
        .flag("-Werror=implicit-function-declaration");
    for flag in &flags {
        shim.flag(flag);
    }
    shim.compile("wsgi_shim");
}

/// The `apxs` of the httpd to build for.
struct Apxs {
    command: String,
}

impl Apxs {
    fn find() -> Self {
        let asked = std::env::var("APXS").ok();
        let usual = [
            "apxs",
            "apxs2",
            "/usr/bin/apxs",
            "/usr/sbin/apxs",
            "/usr/local/apache2/bin/apxs",
        ];
        let names: Vec<String> = match asked {
            Some(name) => vec![name],
            None => usual.iter().map(|name| (*name).to_owned()).collect(),
        };
        for command in &names {
            if Command::new(command)
                .args(["-q", "INCLUDEDIR"])
                .output()
                .is_ok_and(|out| out.status.success())
            {
                return Self {
                    command: command.clone(),
                };
            }
        }
        panic!(
            "no apxs found (tried {}): install httpd's development files (Debian: apache2-dev, Fedora: httpd-devel) \
             or set APXS to its path",
            names.join(", ")
        );
    }

    fn query(&self, name: &str) -> String {
        match Command::new(&self.command).args(["-q", name]).output() {
            Ok(out) => String::from_utf8_lossy(&out.stdout).trim().to_owned(),
            Err(error) => panic!("{} -q {name}: {error}", self.command),
        }
    }

    /// Returns the header folders of httpd, APR and APR-util, each once.
    fn includes(&self) -> Vec<String> {
        let mut dirs = vec![self.query("INCLUDEDIR")];
        let extra = self.query("EXTRA_INCLUDES");
        dirs.extend(
            extra
                .split_whitespace()
                .filter_map(|word| word.strip_prefix("-I"))
                .map(str::to_owned),
        );
        dirs.push(self.query("APR_INCLUDEDIR"));
        dirs.push(self.query("APU_INCLUDEDIR"));
        let mut seen = Vec::new();
        for dir in dirs {
            if !dir.is_empty() && dir != "." && !seen.contains(&dir) {
                seen.push(dir);
            }
        }
        seen
    }
}
