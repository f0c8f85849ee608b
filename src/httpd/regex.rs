//! Regular expressions, as httpd's own directives use them (PCRE).

use std::ffi::{CString, c_char};

use crate::pool::Pool;
use crate::{c_bytes, sys};

/// A compiled pattern; it lives as long as the configuration that it was compiled for.
#[derive(Clone, Copy, Debug)]
pub struct Regex(*const sys::ap_regex_t);

impl Regex {
    /// Compiles `pattern`; `None` where it is no regular expression.
    ///
    /// # Safety
    /// `pool` must be the configuration pool, and the value not be used beyond its life.
    pub unsafe fn compile(pool: Pool<'_>, pattern: &str) -> Option<Self> {
        let pattern = CString::new(pattern).ok()?;
        // SAFETY: the pool is alive; `AP_REG_EXTENDED` is 0 in httpd 2.4.
        let compiled = unsafe { sys::ap_pregcomp(pool.as_ptr(), pattern.as_ptr(), 0) };
        (!compiled.is_null()).then_some(Self(compiled))
    }

    /// Matches `text`. Gives `replacement` with `$0` to `$9` filled in, and where the match ends.
    ///
    /// # Safety
    /// `text` and `replacement` must be C strings.
    pub unsafe fn substitute<'p>(
        self,
        pool: Pool<'p>,
        text: *const c_char,
        replacement: *const c_char,
    ) -> Option<(&'p [u8], usize)> {
        const GROUPS: usize = sys::AP_MAX_REG_MATCH as usize;
        let mut groups = [sys::ap_regmatch_t { rm_so: -1, rm_eo: -1 }; GROUPS];
        // SAFETY: C strings by contract, and an array of that many groups.
        unsafe {
            if sys::ap_regexec(self.0, text, GROUPS, groups.as_mut_ptr(), 0) != 0 {
                return None;
            }
            let filled = sys::ap_pregsub(pool.as_ptr(), replacement, text, GROUPS, groups.as_mut_ptr());
            if filled.is_null() {
                return None;
            }
            Some((c_bytes(filled), usize::try_from(groups[0].rm_eo).unwrap_or(0)))
        }
    }
}
