//! A child process and what it cost: wall time, CPU seconds, peak memory; and a terminal to start one under.
//!
//! The only file with `unsafe`: the standard library waits for children without asking what they used, and has no
//! pseudo-terminals.
#![expect(unsafe_code, reason = "wait4 and openpty have no safe form in the standard library")]

use std::fs::File;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};
use std::time::Instant;

use crate::Result;

/// What a process used, its own children that it waited for included.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    /// From just before the start to the end.
    pub wall_s: f64,
    /// User and system time.
    pub cpu_s: f64,
    /// Most resident memory at any moment.
    pub peak_bytes: u64,
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Result<(ExitStatus, Usage)> {
    let started = Instant::now();
    let child = command.spawn()?;
    wait(child, started)
}

/// Waits for a child that was started at `started` and says what it used.
pub fn wait(child: Child, started: Instant) -> Result<(ExitStatus, Usage)> {
    let pid = libc::pid_t::try_from(child.id())?;
    let mut status = 0;
    let mut used = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    loop {
        // SAFETY: both pointers are to live locals of the right types; `pid` is our own child, which nobody else
        // waits for because `child` is owned here and dropped without waiting.
        let waited = unsafe { libc::wait4(pid, &mut status, 0, used.as_mut_ptr()) };
        if waited == pid {
            break;
        }
        let error = std::io::Error::last_os_error();
        if error.kind() != std::io::ErrorKind::Interrupted {
            return Err(error.into());
        }
    }
    let wall_s = started.elapsed().as_secs_f64();
    // SAFETY: all bytes were zeroed, which is a valid `rusage`, and wait4 has filled them since.
    let used = unsafe { used.assume_init() };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    // Linux counts in kilobytes, macOS in bytes.
    let unit = if cfg!(target_os = "macos") { 1 } else { 1024 };
    Ok((
        ExitStatus::from_raw(status),
        Usage {
            wall_s,
            cpu_s: seconds(used.ru_utime) + seconds(used.ru_stime),
            peak_bytes: u64::try_from(used.ru_maxrss)? * unit,
        },
    ))
}

/// Asks a child to stop, as Ctrl-C would.
pub fn interrupt(child: &Child) -> Result<()> {
    let pid = libc::pid_t::try_from(child.id())?;
    // SAFETY: a plain system call without pointers, for a child that has not been waited for.
    match unsafe { libc::kill(pid, libc::SIGINT) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error().into()),
    }
}

/// A pseudo-terminal: our end, and the end to give a child as its standard streams.
pub fn terminal() -> Result<(File, OwnedFd)> {
    let (mut ours, mut theirs) = (-1, -1);
    let mut size = libc::winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the descriptors and the size are live locals; name and settings may be null.
    let opened =
        unsafe { libc::openpty(&mut ours, &mut theirs, std::ptr::null_mut(), std::ptr::null_mut(), &raw mut size) };
    if opened != 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    // SAFETY: openpty has just made both descriptors and nobody else owns them.
    Ok(unsafe { (File::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_works_is_charged_for_it() -> Result<()> {
        let (status, usage) =
            run(Command::new("sh").args(["-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; exit 3"]))?;
        assert_eq!(status.code(), Some(3));
        assert!(usage.cpu_s > 0.0 && usage.wall_s >= usage.cpu_s * 0.5, "{usage:?}");
        assert!(usage.peak_bytes > 100_000, "{usage:?}");
        Ok(())
    }
}
