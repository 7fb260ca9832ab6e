//! Files that are written whole or not at all: nobody ever reads half of one.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::error::{Error, Result};

/// Writes `bytes` to `path`, as a [`WholeFile`].
///
/// # Errors
/// [`Error::Io`] where it cannot be written. A file that was there stays until the new one is complete.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = WholeFile::create(path)?;
    file.write_all(bytes).map_err(|error| Error::io(path, error))?;
    file.finish()
}

/// A file that is written beside the place where it is to be, as `PATH.PROCESS-NUMBER.partial`, and gets its name when it
/// is [finished](WholeFile::finish). What was there stays until then; dropped before, it leaves nothing. A process that is
/// killed leaves the partial file.
///
/// Where the path is a link to a file, the file that it leads to is replaced. What is no file (a named pipe), and what the
/// process has open already (`/dev/stdout`), is appended to as it is.
#[derive(Debug)]
pub struct WholeFile {
    file: BufWriter<File>,
    /// As its caller calls it.
    path: PathBuf,
    unfinished: Option<Unfinished>,
}

#[derive(Debug)]
struct Unfinished {
    partial: PathBuf,
    target: PathBuf,
}

impl WholeFile {
    /// Begins to write.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot.
    pub fn create(path: &Path) -> Result<Self> {
        let unfinished = unfinished(path).map_err(|error| Error::io(path, error))?;
        let file = match &unfinished {
            Some(unfinished) => File::create(&unfinished.partial),
            None => File::options().append(true).open(path),
        };
        let file = BufWriter::new(file.map_err(|error| Error::io(path, error))?);
        Ok(Self { file, path: path.to_owned(), unfinished })
    }

    /// Completes it and puts it in its place.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot; then it leaves nothing.
    pub fn finish(mut self) -> Result<()> {
        let Some(Unfinished { partial, target }) = &self.unfinished else {
            return self.file.flush().map_err(|error| Error::io(&self.path, error));
        };
        let finished = self.file.flush().and_then(|()| {
            self.file.get_ref().sync_all()?;
            std::fs::rename(partial, target)
        });
        finished.map_err(|error| Error::io(&self.path, error))?;
        self.unfinished = None;
        Ok(())
    }
}

/// Where what is to be at `path` is written first; `None` for what is no file.
fn unfinished(path: &Path) -> std::io::Result<Option<Unfinished>> {
    let open_already = ["/dev/stdout", "/dev/stderr", "/dev/fd", "/proc/self/fd"];
    let target = match std::fs::metadata(path) {
        Ok(_) if open_already.iter().any(|open| path.starts_with(open)) => return Ok(None),
        Ok(found) if found.is_file() => std::fs::canonicalize(path)?,
        Ok(_) => return Ok(None),
        Err(_) => path.to_owned(),
    };
    // Two that write to one path do not write to one file.
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let mut partial = target.as_os_str().to_owned();
    partial.push(format!(".{}-{}.partial", std::process::id(), NUMBER.fetch_add(1, Relaxed)));
    Ok(Some(Unfinished { partial: partial.into(), target }))
}

impl Write for WholeFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

impl Drop for WholeFile {
    fn drop(&mut self) {
        if let Some(unfinished) = &self.unfinished {
            // What is left of it helps nobody; that it could not be written was told.
            let _ = std::fs::remove_file(&unfinished.partial);
        }
    }
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
        // What is open already is appended to, also where it is a file.
        let open = File::options().append(true).open(&file).expect("opens");
        let number = std::os::fd::AsRawFd::as_raw_fd(&open);
        write(Path::new(&format!("/dev/fd/{number}")), b"er").expect("writes");
        assert_eq!(std::fs::read(&file).expect("reads"), b"newer");
        let mut unfinished = WholeFile::create(&file).expect("creates");
        unfinished.write_all(b"half").expect("writes");
        drop(unfinished);
        assert_eq!(std::fs::read(&file).expect("reads"), b"newer");
        assert_eq!(std::fs::read_dir(directory.path()).expect("lists").count(), 2, "nothing partial is left");
    }
}
