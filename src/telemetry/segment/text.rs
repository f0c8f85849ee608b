//! Text in words: its length, then its bytes. Readers trust neither.

use std::sync::atomic::Ordering::Relaxed;

use crate::sync::AtomicU64;

/// Returns as much of `text` as fits into `cells`.
pub(crate) fn fitting<'a>(cells: &[AtomicU64], text: &'a [u8]) -> &'a [u8] {
    &text[..text.len().min(cells.len().saturating_sub(1) * 8)]
}

/// Writes as much of `text` as fits.
pub(crate) fn put(cells: &[AtomicU64], text: &[u8]) {
    let Some((length, words)) = cells.split_first() else {
        return;
    };
    let text = fitting(cells, text);
    for (chunk, word) in text.chunks(8).zip(words) {
        let mut bytes = [0; 8];
        bytes[..chunk.len()].copy_from_slice(chunk);
        word.store(u64::from_le_bytes(bytes), Relaxed);
    }
    length.store(text.len() as u64, Relaxed);
}

/// Reads the bytes back, unchanged.
pub(crate) fn bytes(cells: &[AtomicU64]) -> Vec<u8> {
    let Some((length, words)) = cells.split_first() else {
        return Vec::new();
    };
    let length = usize::try_from(length.load(Relaxed)).unwrap_or(0);
    let bytes = words
        .iter()
        .flat_map(|word| word.load(Relaxed).to_le_bytes());
    bytes.take(length).collect()
}

/// Reads the text back in a printable form.
pub(crate) fn get(cells: &[AtomicU64]) -> String {
    shown(&bytes(cells))
}

/// Replaces bytes that are not printable ASCII, or that need escaping in an exposition, with `?`.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let printable = |byte: u8| match byte {
        b'"' | b'\\' => '?',
        b' '..=b'~' => char::from(byte),
        _ => '?',
    };
    bytes.iter().copied().map(printable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back_and_lies_do_no_harm() {
        let cells: [AtomicU64; 4] = std::array::from_fn(|_| AtomicU64::new(u64::MAX));
        for text in [
            "",
            "a",
            "12345678",
            "a text of 24 characters.",
            "one that is much too long for it",
        ] {
            put(&cells, text.as_bytes());
            assert_eq!(get(&cells), text[..text.len().min(24)]);
        }
        put(&cells, b"<\"\\\n\xff>");
        assert_eq!(get(&cells), "<????>");
        cells[0].store(u64::MAX, Relaxed);
        assert_eq!(get(&cells).len(), 24);
        assert_eq!(get(&[]), "");
    }
}
