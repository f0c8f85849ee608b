//! The values of variables in names of application groups, for one request.

use std::borrow::Cow;
use std::ffi::CString;

use wsgi_core::request::environ::script_name;
use wsgi_core::request::group::Variables;
use wsgi_httpd::request::Request;

/// The values of variables in names of groups.
#[derive(Clone, Copy)]
pub(crate) struct RequestVariables<'r> {
    pub(crate) request: Request<'r>,
    /// Whether a host or port that is not the server's is ignored, in favour of the server's.
    pub(crate) only_own: bool,
}

impl<'r> RequestVariables<'r> {
    /// Returns the variables with any host and port that the client names.
    pub(crate) fn all(request: Request<'r>) -> Self {
        Self {
            request,
            only_own: false,
        }
    }

    /// Returns whether a name that is `written` with `%` may contain a part that the client has made up.
    pub(crate) fn may_be_made_up(&self, written: &str) -> bool {
        let has_host = written.starts_with("%{HOST") || written.starts_with("%{ENV:");
        !self.request.has_own_port() || has_host && !self.request.has_own_host()
    }
}

impl Variables for RequestVariables<'_> {
    fn server_name(&self) -> &[u8] {
        self.request.server_hostname()
    }

    fn port(&self) -> u16 {
        if !self.only_own || self.request.has_own_port() {
            return self.request.server_port();
        }
        match self.request.port_of_server() {
            // Names leave the default ports out.
            0 => 80,
            port => port,
        }
    }

    fn host(&self) -> Option<&[u8]> {
        let is_taken = !self.only_own || self.request.has_own_host();
        self.request.hostname().filter(|_| is_taken)
    }

    fn script_name(&self) -> &[u8] {
        script_name(self.request.uri(), self.request.path_info())
    }

    fn env(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        use std::os::unix::ffi::OsStringExt;
        let c_name = CString::new(name).ok()?;
        self.request
            .notes()
            .get(&c_name)
            .or_else(|| self.request.subprocess_env().get(&c_name))
            .map(Cow::Borrowed)
            .or_else(|| std::env::var_os(name).map(|value| Cow::Owned(value.into_vec())))
    }
}
