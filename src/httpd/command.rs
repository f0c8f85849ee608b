//! Directives: the line that httpd is reading, and the command table.

use std::ffi::{CStr, CString, c_char, c_int};

use crate::module::{Module, directive};
use crate::pool::Pool;
use crate::{c_bytes, sys};

/// What httpd reads after a directive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The next line.
    Line,
    /// The directives inside it: the line has opened a container.
    Inside,
}

/// Returns the entry of the command table of `M` for its directive `number`.
pub const fn entry<M: Module>(
    name: &'static CStr,
    number: usize,
    places: c_int,
    help: &'static CStr,
) -> sys::command_rec {
    sys::command_rec {
        name: name.as_ptr(),
        func: sys::cmd_func {
            raw_args: Some(directive::<M>),
        },
        cmd_data: std::ptr::without_provenance_mut(number),
        req_override: places,
        args_how: sys::RAW_ARGS,
        errmsg: help.as_ptr(),
    }
}

/// Returns the entry that ends a command table.
pub const fn end() -> sys::command_rec {
    sys::command_rec {
        name: std::ptr::null(),
        func: sys::cmd_func { no_args: None },
        cmd_data: std::ptr::null_mut(),
        req_override: 0,
        args_how: sys::RAW_ARGS,
        errmsg: std::ptr::null(),
    }
}

/// The directive that httpd is reading.
pub struct Command<'c> {
    raw: &'c mut sys::cmd_parms,
}

impl<'c> Command<'c> {
    /// # Safety
    /// `raw` must be what httpd passed to a directive's function, and the value must not outlive that call.
    pub(crate) unsafe fn from_raw(raw: *mut sys::cmd_parms) -> Self {
        // SAFETY: by contract.
        let raw = unsafe { &mut *raw };
        Self { raw }
    }

    /// Returns the number that was given to [`entry`].
    pub fn number(&self) -> usize {
        // SAFETY: httpd sets `cmd` to an entry of our table before the call.
        unsafe { (*self.raw.cmd).cmd_data.addr() }
    }

    fn pool(&self) -> Pool<'c> {
        // SAFETY: the pool outlives the reading of the configuration.
        unsafe { Pool::from_raw(self.raw.pool) }
    }

    /// Returns whether the directive stands in `<Directory>`, `<Location>`, `<Files>` or `.htaccess`.
    pub fn in_section(&self) -> bool {
        !self.raw.path.is_null()
    }

    /// Returns the position as "file:line".
    pub fn location(&self) -> String {
        // SAFETY: httpd sets `directive` before the call; its file name is a C string.
        unsafe {
            match self.raw.directive.as_ref() {
                Some(directive) => {
                    let file = String::from_utf8_lossy(c_bytes(directive.filename)).into_owned();
                    format!("{file}:{}", directive.line_num)
                }
                None => String::from("command line"),
            }
        }
    }

    /// Returns why the directive may not stand here (`ap_check_cmd_context`); `None` if it may.
    pub fn forbidden(&mut self, contexts: u32) -> Option<String> {
        // SAFETY: the call returns null or a C string.
        unsafe {
            let answer = sys::ap_check_cmd_context(self.raw, contexts);
            (!answer.is_null()).then(|| String::from_utf8_lossy(c_bytes(answer)).into_owned())
        }
    }

    /// Reads the directives inside this container. Returns the text of an error as a C string, or null.
    pub(crate) fn walk_inside(&mut self) -> *const c_char {
        // SAFETY: the tree belongs to the configuration that is being read; the functions of the inner directives get
        // the same parameters, which this value does not use while they run.
        unsafe {
            let directive = self.raw.directive;
            if directive.is_null() {
                return std::ptr::null();
            }
            let context = self.raw.context;
            sys::ap_walk_config((*directive).first_child, self.raw, context)
        }
    }

    /// Copies `text` into the pool as an error text for httpd.
    pub(crate) fn error(&self, text: &str) -> *const c_char {
        let text = CString::new(text).unwrap_or_default();
        self.pool().dup(text.as_bytes())
    }
}
