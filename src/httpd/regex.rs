//! Regular expressions, as httpd's own directives use them (PCRE).

use std::ffi::CString;

use crate::pool::Pool;
use crate::{c_bytes, sys};

/// A compiled pattern.
pub struct Regex(Box<sys::ap_regex_t>);

// SAFETY: a compiled pattern is only read; matching keeps its state on the stack. [S-10]
unsafe impl Send for Regex {}
// SAFETY: as above. [S-10]
unsafe impl Sync for Regex {}

impl Drop for Regex {
    fn drop(&mut self) {
        // SAFETY: compiled by `compile`, and freed once.
        unsafe { sys::ap_regfree(&mut *self.0) }
    }
}

impl Regex {
    /// Compiles `pattern`; `None` if it is not a regular expression.
    pub fn compile(pattern: &str) -> Option<Self> {
        let pattern = CString::new(pattern).ok()?;
        // SAFETY: a plain C struct, which `ap_regcomp` fills in when it succeeds; otherwise there is nothing to free.
        unsafe {
            let mut compiled = Box::new(std::mem::zeroed::<sys::ap_regex_t>());
            (sys::ap_regcomp(&mut *compiled, pattern.as_ptr(), 0) == 0).then(|| Self(compiled))
        }
    }

    /// Matches `text`. Returns `replacement` with `$0` to `$9` filled in, and the offset at which the match ends.
    pub fn substitute<'p>(
        &self,
        pool: Pool<'p>,
        text: &[u8],
        replacement: &[u8],
    ) -> Option<(&'p [u8], usize)> {
        const GROUPS: usize = sys::AP_MAX_REG_MATCH as usize;
        let (text, replacement) = (pool.dup(text), pool.dup(replacement));
        let mut groups = [sys::ap_regmatch_t {
            rm_so: -1,
            rm_eo: -1,
        }; GROUPS];
        // SAFETY: C strings of the pool, and an array of `GROUPS` groups.
        unsafe {
            if sys::ap_regexec(&*self.0, text, GROUPS, groups.as_mut_ptr(), 0) != 0 {
                return None;
            }
            let filled = sys::ap_pregsub(
                pool.as_ptr(),
                replacement,
                text,
                GROUPS,
                groups.as_mut_ptr(),
            );
            if filled.is_null() {
                return None;
            }
            Some((
                c_bytes(filled),
                usize::try_from(groups[0].rm_eo).unwrap_or(0),
            ))
        }
    }
}
