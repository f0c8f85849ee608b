//! A borrowed slice that crosses the contract.

use std::marker::PhantomData;

/// A borrowed slice that crosses the contract; it may be absent, which is not the same as empty.
#[repr(C)]
pub struct Slice<'a, T> {
    /// First element, or null for absent; otherwise valid for `len` elements during `'a`.
    ptr: *const T,
    len: usize,
    life: PhantomData<&'a [T]>,
}

/// Borrowed bytes.
pub type Bytes<'a> = Slice<'a, u8>;

/// Keeps a text until the process ends. Only for texts that a process makes a few times: it leaks them.
pub fn keep(text: String) -> Bytes<'static> {
    Bytes::new(text.leak().as_bytes())
}

// SAFETY: a `Slice` stands for an `Option<&[T]>`, which is `Send` and `Sync` if `T` is `Sync`.
unsafe impl<T: Sync> Send for Slice<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Slice<'_, T> {}

impl<T> Clone for Slice<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Slice<'_, T> {}

impl<'a, T> Slice<'a, T> {
    /// No value.
    pub const ABSENT: Self = Self {
        ptr: std::ptr::null(),
        len: 0,
        life: PhantomData,
    };

    /// Borrows `slice`.
    pub const fn new(slice: &'a [T]) -> Self {
        Self {
            ptr: slice.as_ptr(),
            len: slice.len(),
            life: PhantomData,
        }
    }

    /// Returns the slice, or `None` if it is absent.
    pub const fn get(self) -> Option<&'a [T]> {
        if self.ptr.is_null() {
            None
        } else {
            // SAFETY: the fields are private, and `new` took them from a slice that lives for `'a`.
            Some(unsafe { std::slice::from_raw_parts(self.ptr, self.len) })
        }
    }

    /// Returns the slice, or an empty one if it is absent.
    pub const fn get_or_empty(self) -> &'a [T] {
        match self.get() {
            Some(slice) => slice,
            None => &[],
        }
    }
}

impl<'a, T> From<Option<&'a [T]>> for Slice<'a, T> {
    fn from(slice: Option<&'a [T]>) -> Self {
        slice.map_or(Self::ABSENT, Self::new)
    }
}
