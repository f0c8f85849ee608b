//! Raw declarations of httpd and APR, which bindgen generates from the installed headers and the allow-list of
//! `build.rs`, and the functions of `shim.c`. A crate that uses them links nothing: httpd provides the symbols when it
//! loads the module.

#[allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    clippy::undocumented_unsafe_blocks,
    clippy::missing_safety_doc,
    unsafe_op_in_unsafe_fn
)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/httpd.rs"));
}

pub use generated::*;

// The module magic number of httpd 2.4 (ap_mmn.h). Another major number means other layouts.
const _: () = assert!(
    MODULE_MAGIC_NUMBER_MAJOR == 20_120_211,
    "these are not the headers of httpd 2.4"
);
// `cgi_pass_auth` and `cgi_var_rules` of core_dir_config came with 2.4.13 (minor 42) and 2.4.19 (minor 54).
const _: () = assert!(
    MODULE_MAGIC_NUMBER_MINOR >= 54,
    "httpd 2.4.19 or newer is needed"
);
// The layouts of structs that are passed by value or indexed here. bindgen asserts those of all structs that it
// declares.
const _: () = assert!(size_of::<apr_table_entry_t>() == 2 * size_of::<*const u8>() + 8);
const _: () = assert!(size_of::<ap_regmatch_t>() == 2 * size_of::<i32>());
