//! Checks of paths from the command line, and their conversion for a configuration file.

use std::path::{Path, PathBuf};

use crate::output::failure::{Failure, Outcome};

/// Returns the absolute path, without checking that it exists.
pub(crate) fn absolute(path: &Path, option: &str) -> Outcome<PathBuf> {
    std::path::absolute(path)
        .map_err(|error| Failure::new(format!("{option} {}: {error}", path.display())))
}

/// Returns the absolute path of an existing file.
pub(crate) fn file(path: &Path, option: &str) -> Outcome<PathBuf> {
    let path = absolute(path, option)?;
    match path.metadata() {
        Ok(meta) if meta.is_dir() => Err(Failure::new(format!(
            "{option} {}: this is a folder.",
            path.display()
        ))),
        Ok(meta) if !meta.is_file() => Err(Failure::new(format!(
            "{option} {}: this is not a regular file.",
            path.display()
        ))),
        Ok(_) => Ok(path),
        Err(error) => Err(unusable(&path, option, &error)),
    }
}

/// Returns the absolute path of an existing folder.
pub(crate) fn folder(path: &Path, option: &str) -> Outcome<PathBuf> {
    let path = absolute(path, option)?;
    match path.metadata() {
        Ok(meta) if meta.is_dir() => Ok(path),
        Ok(_) => Err(Failure::new(format!(
            "{option} {}: this is not a folder.",
            path.display()
        ))),
        Err(error) => Err(unusable(&path, option, &error)),
    }
}

/// Returns the path as text.
pub(crate) fn text(path: &Path) -> Outcome<String> {
    let text = path.to_str().ok_or_else(|| {
        Failure::new(format!(
            "{}: httpd's configuration wants names in UTF-8.",
            path.display()
        ))
    })?;
    writable(text, text)?;
    Ok(text.to_owned())
}

/// Refuses text that no quoting can express in a configuration file.
pub(crate) fn writable(text: &str, whose: &str) -> Outcome<()> {
    if text.chars().any(char::is_control) {
        return Err(Failure::new(format!(
            "{whose:?}: a control character cannot stand in httpd's configuration."
        )));
    }
    if text.contains("${") {
        return Err(Failure::new(format!(
            "{whose}: httpd would take ${{...}} for a variable of its own."
        )));
    }
    Ok(())
}

fn unusable(path: &Path, option: &str, error: &std::io::Error) -> Failure {
    let why = match error.kind() {
        std::io::ErrorKind::NotFound => "there is no such file or folder".to_owned(),
        std::io::ErrorKind::PermissionDenied => "you may not read it".to_owned(),
        _ => error.to_string(),
    };
    let space = if option.is_empty() { "" } else { " " };
    Failure::new(format!("{option}{space}{}: {why}.", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_folders_are_told_apart() {
        let dir = tempfile::tempdir().expect("a folder");
        let script = dir.path().join("app.wsgi");
        std::fs::write(&script, "").expect("a file");
        assert_eq!(file(&script, "--include"), Ok(script.clone()));
        assert_eq!(folder(dir.path(), "--python"), Ok(dir.path().to_owned()));
        assert!(file(dir.path(), "--include").is_err());
        let device = file(Path::new("/dev/null"), "--include").expect_err("a device");
        assert!(
            device
                .to_string()
                .ends_with("/dev/null: this is not a regular file.")
        );
        assert!(folder(&script, "--python").is_err());
        let missing = file(&dir.path().join("no"), "--include")
            .expect_err("missing")
            .to_string();
        assert!(
            missing.starts_with("--include /")
                && missing.ends_with("no: there is no such file or folder.")
        );
    }

    #[test]
    fn what_httpd_would_misread_is_refused() {
        assert!(writable("/srv/a b/\"c\"/é", "").is_ok());
        assert!(writable("/srv/${HOME}", "").is_err());
        assert!(writable("/srv/a\nLoadModule", "").is_err());
    }
}
