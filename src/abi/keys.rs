//! The environ keys that module and engine know by number, so that no request has to pass them as text.

macro_rules! keys {
    ($($name:ident = $text:literal $(: $how:ident)?),+ $(,)?) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
        enum Index { $($name),+ }
        $(
            #[doc = concat!("`", $text, "`")]
            pub const $name: u16 = Index::$name as u16;
        )+
        /// The keys by number.
        pub const KEYS: &[&str] = &[$($text),+];
        /// Whether the value seldom changes from one request to the next, so that the last value is worth keeping.
        pub const STEADY: &[bool] = &[$(keys!(@steady $($how)?)),+];
    };
    (@steady steady) => { true };
    (@steady) => { false };
}

keys! {
    REQUEST_METHOD = "REQUEST_METHOD": steady,
    SCRIPT_NAME = "SCRIPT_NAME": steady,
    PATH_INFO = "PATH_INFO": steady,
    QUERY_STRING = "QUERY_STRING": steady,
    REQUEST_URI = "REQUEST_URI": steady,
    SERVER_PROTOCOL = "SERVER_PROTOCOL": steady,
    SERVER_NAME = "SERVER_NAME": steady,
    SERVER_PORT = "SERVER_PORT": steady,
    SERVER_ADDR = "SERVER_ADDR": steady,
    SERVER_ADMIN = "SERVER_ADMIN": steady,
    REMOTE_ADDR = "REMOTE_ADDR": steady,
    REMOTE_PORT = "REMOTE_PORT",
    REMOTE_USER = "REMOTE_USER",
    AUTH_TYPE = "AUTH_TYPE",
    REDIRECT_REMOTE_USER = "REDIRECT_REMOTE_USER",
    REDIRECT_URL = "REDIRECT_URL",
    REDIRECT_QUERY_STRING = "REDIRECT_QUERY_STRING",
    DOCUMENT_ROOT = "DOCUMENT_ROOT": steady,
    CONTEXT_PREFIX = "CONTEXT_PREFIX": steady,
    CONTEXT_DOCUMENT_ROOT = "CONTEXT_DOCUMENT_ROOT": steady,
    REQUEST_SCHEME = "REQUEST_SCHEME": steady,
    SCRIPT_FILENAME = "SCRIPT_FILENAME": steady,
    CONTENT_TYPE = "CONTENT_TYPE",
    CONTENT_LENGTH = "CONTENT_LENGTH",
    HTTP_AUTHORIZATION = "HTTP_AUTHORIZATION",
    MOD_WSGI_PROCESS_GROUP = "mod_wsgi.process_group": steady,
    MOD_WSGI_APPLICATION_GROUP = "mod_wsgi.application_group": steady,
    MOD_WSGI_CALLABLE_OBJECT = "mod_wsgi.callable_object": steady,
    MOD_WSGI_REQUEST_HANDLER = "mod_wsgi.request_handler": steady,
    MOD_WSGI_HANDLER_SCRIPT = "mod_wsgi.handler_script": steady,
    MOD_WSGI_SCRIPT_NAME = "mod_wsgi.script_name": steady,
    MOD_WSGI_PATH_INFO = "mod_wsgi.path_info": steady,
    MOD_WSGI_MOUNT_POINT = "mod_wsgi.mount_point",
    MOD_WSGI_LISTENER_HOST = "mod_wsgi.listener_host": steady,
    MOD_WSGI_LISTENER_PORT = "mod_wsgi.listener_port": steady,
    MOD_WSGI_SERVER_PID = "mod_wsgi.server_pid": steady,
    MOD_WSGI_REQUEST_ID = "mod_wsgi.request_id",
    MOD_WSGI_CONNECTION_ID = "mod_wsgi.connection_id",
}

/// The known keys whose values are file names, in the file-system encoding.
pub const PATHS: [u16; 2] = [DOCUMENT_ROOT, SCRIPT_FILENAME];
