//! Standard output, where results go. A reader that has gone away is not an error: what is left is not written.

use std::io::{self, BufWriter, ErrorKind, IsTerminal, Stdout, Write};

/// Buffered standard output that survives a closed pipe.
pub struct Output {
    out: BufWriter<Stdout>,
    closed: bool,
}

impl Output {
    /// The process's standard output.
    pub fn new() -> Output {
        Output { out: BufWriter::with_capacity(64 << 10, io::stdout()), closed: false }
    }

    /// Whether nobody reads any more; results need not be computed then.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Columns and lines of the terminal, when it is one.
    pub fn terminal(&self) -> Option<(usize, usize)> {
        if !io::stdout().is_terminal() {
            return None;
        }
        let (width, height) = terminal_size::terminal_size_of(io::stdout())?;
        Some((usize::from(width.0), usize::from(height.0)))
    }

    fn guard<T>(&mut self, result: io::Result<T>, instead: T) -> io::Result<T> {
        match result {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(instead)
            }
            other => other,
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.closed {
            return Ok(bytes.len());
        }
        let result = self.out.write(bytes);
        self.guard(result, bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.closed {
            return Ok(());
        }
        let result = self.out.flush();
        self.guard(result, ())
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // Dropping a BufWriter flushes it once more; after a closed pipe that only repeats the failure, silently.
        let _ = self.flush();
    }
}
