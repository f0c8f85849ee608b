//! Rules of the environ that need no server: headers [M-11], paths [M-13], request URI and scheme [M-10],
//! method [M-14].

use std::borrow::Cow;

/// Returns whether the environ may hold a request header of this name. Other headers are removed from the request, so
/// that no later module sees them either: with `_` allowed, `X_Y` could pass for `X-Y`.
pub fn valid_header_name(name: &[u8]) -> bool {
    name.iter()
        .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
}

/// How a request header appears in the environ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderEntry {
    /// The header does not appear.
    Withheld,
    /// The header appears under this key.
    Bare(&'static str),
    /// The header appears under its [`header_key`].
    Http,
}

/// Decides how a header appears: credentials only with `CGIPassAuth On`, `Authorization` also with
/// `WSGIPassAuthorization On`; `Proxy` never, as programs take `HTTP_PROXY` for their own setting ("httpoxy").
pub fn header_entry(name: &[u8], cgi_pass_auth: bool, pass_authorization: bool) -> HeaderEntry {
    let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
    // The length rules out nearly every other header.
    match name.len() {
        5 if is("Proxy") => HeaderEntry::Withheld,
        12 if is("Content-Type") => HeaderEntry::Bare("CONTENT_TYPE"),
        13 if is("Authorization") && !cgi_pass_auth && !pass_authorization => HeaderEntry::Withheld,
        14 if is("Content-Length") => HeaderEntry::Bare("CONTENT_LENGTH"),
        19 if is("Proxy-Authorization") && !cgi_pass_auth => HeaderEntry::Withheld,
        _ => HeaderEntry::Http,
    }
}

/// Returns the environ key of a request header: `HTTP_`, upper case, `-` as `_`.
pub fn header_key(name: &[u8]) -> Vec<u8> {
    let shown = |byte: &u8| {
        if *byte == b'-' {
            b'_'
        } else {
            byte.to_ascii_uppercase()
        }
    };
    b"HTTP_"
        .iter()
        .copied()
        .chain(name.iter().map(shown))
        .collect()
}

/// Returns `path` with every run of slashes replaced by one.
pub fn collapse_slashes(path: &[u8]) -> Cow<'_, [u8]> {
    if !path.windows(2).any(|pair| pair == b"//") {
        return Cow::Borrowed(path);
    }
    let mut single = path.to_vec();
    single.dedup_by(|next, previous| *next == b'/' && *previous == b'/');
    Cow::Owned(single)
}

/// Returns `SCRIPT_NAME`: `uri` without the `path_info` at its end, with runs of slashes as they are. The two may
/// differ in runs of slashes. If `uri` does not end in `path_info`, the result is that of httpd's `ap_find_path_info`.
pub fn script_name<'a>(uri: &'a [u8], path_info: &[u8]) -> &'a [u8] {
    if path_info.is_empty() {
        return uri;
    }
    let (mut name, mut info) = (uri, path_info);
    while let (Some((last, before)), Some((info_last, info_before))) =
        (name.split_last(), info.split_last())
        && last == info_last
    {
        (name, info) = (before, info_before);
        if *last == b'/' {
            (name, info) = (
                without_trailing_slashes(name),
                without_trailing_slashes(info),
            );
        }
    }
    // Up to the end of the segment in which the two differ.
    let from = name.len().saturating_sub(1);
    let rest = uri[from..]
        .iter()
        .position(|&byte| byte == b'/')
        .unwrap_or(uri.len() - from);
    &uri[..from + rest]
}

fn without_trailing_slashes(mut path: &[u8]) -> &[u8] {
    while let [before @ .., b'/'] = path {
        path = before;
    }
    path
}

/// Returns `REQUEST_URI` from the request line (`r->the_request`): the target as sent, without the scheme and authority
/// of an absolute form.
pub fn request_uri(request_line: &[u8]) -> Cow<'_, [u8]> {
    let target = request_line
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
        .nth(1)
        .unwrap_or_default();
    let Some(authority) = after_scheme(target) else {
        return Cow::Borrowed(target);
    };
    let start = authority
        .iter()
        .position(|byte| b"/?#".contains(byte))
        .unwrap_or(authority.len());
    let path = &authority[start..];
    if path.starts_with(b"/") {
        Cow::Borrowed(path)
    } else {
        Cow::Owned([b"/", path].concat())
    }
}

/// Returns what follows `scheme://`, if `target` begins with that.
fn after_scheme(target: &[u8]) -> Option<&[u8]> {
    let colon = target.iter().position(|&byte| byte == b':')?;
    let (scheme, rest) = target.split_at(colon);
    let is_scheme = scheme.first()?.is_ascii_alphabetic()
        && scheme
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte));
    rest.strip_prefix(b"://").filter(|_| is_scheme)
}

/// Returns whether this value of the variable `HTTPS` makes `wsgi.url_scheme` "https".
pub fn is_https(value: &[u8]) -> bool {
    value.eq_ignore_ascii_case(b"on") || value == b"1"
}

/// `WSGIMapHEADToGET`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapHead {
    /// HEAD stays HEAD.
    Off,
    /// HEAD is shown as GET.
    On,
    /// HEAD is shown as GET if an output filter needs the body to make the right headers.
    Auto,
}

impl MapHead {
    /// Returns whether `REQUEST_METHOD` is GET for a HEAD request. `content_filter`: whether the first output filter is
    /// of a type below `AP_FTYPE_PROTOCOL`, such as deflate.
    pub fn shows_get(self, content_filter: bool) -> bool {
        match self {
            MapHead::Off => false,
            MapHead::On => true,
            MapHead::Auto => content_filter,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn header_names_are_alphanumeric_and_dash() {
        for (name, valid) in [
            ("X-Y-2", true),
            ("Host", true),
            ("X_Y", false),
            ("X.Y", false),
            ("X Y", false),
            ("Ä", false),
        ] {
            assert_eq!(valid_header_name(name.as_bytes()), valid, "{name}");
        }
    }

    #[test]
    fn credentials_and_proxy_are_withheld() {
        use HeaderEntry::*;
        for (name, cgi, wsgi, expected) in [
            ("Proxy", true, true, Withheld),
            ("proxy", false, false, Withheld),
            ("Authorization", false, false, Withheld),
            ("AUTHORIZATION", false, true, Http),
            ("Authorization", true, false, Http),
            ("Proxy-Authorization", false, true, Withheld),
            ("Proxy-Authorization", true, false, Http),
            ("content-type", false, false, Bare("CONTENT_TYPE")),
            ("Content-Length", false, false, Bare("CONTENT_LENGTH")),
            ("Cookie", false, false, Http),
            ("Proxy-Connection", false, false, Http),
        ] {
            assert_eq!(
                header_entry(name.as_bytes(), cgi, wsgi),
                expected,
                "{name} {cgi} {wsgi}"
            );
        }
        assert_eq!(header_key(b"X-Forwarded-For"), b"HTTP_X_FORWARDED_FOR");
    }

    #[test]
    fn script_name_is_uri_without_path_info() {
        for (uri, path_info, expected) in [
            ("/", "/", ""),
            ("/a/b", "/a/b", ""),
            ("/m", "", "/m"),
            ("/m/x//y", "/x//y", "/m"),
            ("/m/x//y", "/x/y", "/m"),
            ("/m/x/y", "/x//y", "/m"),
            ("//m//x", "/x", "//m"),
            ("/m/app.wsgi/z", "/z", "/m/app.wsgi"),
            ("/m/", "/", "/m"),
            ("/m/other", "/z", "/m/other"),
            ("/short", "/longer/short", ""),
            ("", "/x", ""),
        ] {
            let name = script_name(uri.as_bytes(), path_info.as_bytes());
            assert_eq!(String::from_utf8_lossy(name), expected, "{uri} {path_info}");
        }
    }

    #[test]
    fn request_uri_is_the_path_as_sent() {
        for (line, expected) in [
            ("GET /a%20b?c=d HTTP/1.1", "/a%20b?c=d"),
            ("GET //a//b HTTP/1.1", "//a//b"),
            ("GET /", "/"),
            ("GET", ""),
            ("", ""),
            ("OPTIONS * HTTP/1.1", "*"),
            ("GET http://host/a?b HTTP/1.1", "/a?b"),
            ("GET HTTPS://host:443 HTTP/1.1", "/"),
            ("GET http://host?q HTTP/1.1", "/?q"),
            ("GET /x?u=http://host/y HTTP/1.1", "/x?u=http://host/y"),
            ("CONNECT host:443 HTTP/1.1", "host:443"),
        ] {
            assert_eq!(
                String::from_utf8_lossy(&request_uri(line.as_bytes())),
                expected,
                "{line}"
            );
        }
    }

    #[test]
    fn https_is_on_or_one() {
        for (value, expected) in [
            ("on", true),
            ("ON", true),
            ("1", true),
            ("off", false),
            ("", false),
            ("true", false),
        ] {
            assert_eq!(is_https(value.as_bytes()), expected, "{value}");
        }
    }

    #[test]
    fn head_is_mapped() {
        for (map, with_filter, without) in [
            (MapHead::Off, false, false),
            (MapHead::On, true, true),
            (MapHead::Auto, true, false),
        ] {
            assert_eq!(
                (map.shows_get(true), map.shows_get(false)),
                (with_filter, without),
                "{map:?}"
            );
        }
    }

    /// `ap_find_path_info` of server/util_script.c, line by line.
    fn find_path_info(uri: &[u8], path_info: &[u8]) -> usize {
        let at = |index: isize| uri.get(index as usize).copied().unwrap_or(0);
        let (mut lu, mut lp) = (uri.len() as isize, path_info.len() as isize);
        loop {
            lu -= 1;
            if lu + 1 == 0 {
                break;
            }
            lp -= 1;
            if lp + 1 == 0 || at(lu) != path_info[lp as usize] {
                break;
            }
            if path_info[lp as usize] == b'/' {
                while lu > 0 && at(lu - 1) == b'/' {
                    lu -= 1;
                }
            }
        }
        lu = lu.max(0);
        while at(lu) != 0 && at(lu) != b'/' {
            lu += 1;
        }
        lu as usize
    }

    proptest! {
        #[test]
        fn script_name_is_httpds(uri in "/[ab/]{0,8}", path_info in "[ab]{0,2}(/[ab]{1,2}){0,3}/?") {
            // httpd collapses slashes in the URI only, as it has already collapsed those in the path info.
            prop_assume!(!path_info.is_empty());
            prop_assert_eq!(
                script_name(uri.as_bytes(), path_info.as_bytes()),
                &uri.as_bytes()[..find_path_info(uri.as_bytes(), path_info.as_bytes())]
            );
        }

        #[test]
        fn collapsed_paths_have_single_slashes(path in "[ab/]{0,12}") {
            let collapsed = collapse_slashes(path.as_bytes());
            prop_assert!(!collapsed.windows(2).any(|pair| pair == b"//"));
            prop_assert_eq!(matches!(collapsed, Cow::Borrowed(_)), !path.contains("//"));
            let without = |text: &[u8]| text.iter().copied().filter(|&b| b != b'/').collect::<Vec<_>>();
            prop_assert_eq!(without(&collapsed), without(path.as_bytes()));
        }
    }
}
