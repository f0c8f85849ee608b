//! Log ids (`%L`) as httpd makes them.

/// Returns the id made of the time, the process and the thread, in base64 without padding.
pub fn text(time: u64, pid: u32, thread: usize) -> [u8; 11] {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let pid = u64::from(pid);
    let number = time ^ pid << 40 ^ pid >> 24 << 56 ^ (thread as u64) << 32;
    // As 66 bits, the last two of which are 0.
    let bits = u128::from(u64::from_be_bytes(number.to_ne_bytes())) << 2;
    std::array::from_fn(|at| DIGITS[(bits >> (60 - 6 * at)) as usize & 63])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_those_of_httpd() {
        // A time, process and thread, and the id that httpd makes of them on a little-endian machine.
        #[cfg(target_endian = "little")]
        assert_eq!(&text(0x0102_0304_0506_0708, 0, 0), b"CAcGBQQDAgE");
        assert_eq!(&text(0, 0, 0), b"AAAAAAAAAAA");
        assert_eq!(&text(u64::MAX, 0, 0), b"//////////8");
        let different = [
            text(7, 1, 0),
            text(7, 2, 0),
            text(8, 1, 0),
            text(7, 1, 0x7f00),
        ];
        for (at, one) in different.iter().enumerate() {
            assert!(!different[at + 1..].contains(one));
        }
    }
}
