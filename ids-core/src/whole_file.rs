//! Files that are written whole or not at all: nobody ever reads half of one.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use crate::error::{Error, Result};

/// Writes `bytes` beside `path`, as `path.partial`, and renames.
///
/// # Errors
/// [`Error::Io`] where it cannot be written. A file that was there stays until the new one is complete.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = Path::new(&partial);
    let written = File::create(partial).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(partial, path)
    });
    written.map_err(|error| Error::io(path, error))
}
