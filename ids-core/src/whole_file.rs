//! Files that are written whole or not at all: nobody ever reads half of one.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use crate::error::{Error, Result};

/// Writes `bytes` beside `path`, as `path.partial`, and renames. Where `path` is a link, the file that it leads to is
/// replaced; what is no file (`/dev/stdout`, a named pipe) is written to as it is.
///
/// # Errors
/// [`Error::Io`] where it cannot be written. A file that was there stays until the new one is complete.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, bytes).map_err(|error| Error::io(path, error))
}

fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let target = match std::fs::metadata(path) {
        Ok(found) if found.is_file() => std::fs::canonicalize(path)?,
        Ok(_) => return std::fs::write(path, bytes),
        Err(_) => path.to_owned(),
    };
    let mut partial = target.as_os_str().to_owned();
    partial.push(".partial");
    let partial = Path::new(&partial);
    let written = File::create(partial).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(partial, &target)
    });
    if written.is_err() {
        // What is left of it helps nobody; that it could not be written is what is told.
        let _ = std::fs::remove_file(partial);
    }
    written
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_and_what_is_no_file_is_written_to() {
        let directory = tempfile::tempdir().expect("a directory");
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        std::fs::write(&file, "old").expect("writes");
        std::os::unix::fs::symlink(&file, &link).expect("links");
        write(&link, b"new").expect("writes");
        assert!(link.is_symlink() && std::fs::read(&file).expect("reads") == b"new");
        write(Path::new("/dev/null"), b"gone").expect("writes");
        assert!(!std::fs::metadata("/dev/null").expect("is there").is_file());
        assert!(write(&directory.path().join("nowhere/file"), b"").is_err());
        assert!(write(directory.path(), b"").is_err(), "a directory");
        assert_eq!(std::fs::read_dir(directory.path()).expect("lists").count(), 2, "nothing partial is left");
    }
}
