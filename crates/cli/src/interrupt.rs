//! Ctrl-C and the polite signal of service managers.

use std::future::pending;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that ask us to stop. From its creation on they no longer end the process by themselves.
pub struct Interrupts {
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
}

/// Which one came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// Ctrl-C: stop what runs.
    Statement,
    /// SIGTERM: leave.
    Process,
}

impl Interrupts {
    /// Starts listening. Must run inside the runtime.
    pub fn listen() -> Interrupts {
        Interrupts {
            interrupt: signal(SignalKind::interrupt()).ok(),
            terminate: signal(SignalKind::terminate()).ok(),
        }
    }

    /// Waits for the next one. May be dropped while it waits; no signal is lost.
    pub async fn next(&mut self) -> Interrupt {
        tokio::select! {
            () = received(&mut self.interrupt) => Interrupt::Statement,
            () = received(&mut self.terminate) => Interrupt::Process,
        }
    }
}

async fn received(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => match signal.recv().await {
            Some(()) => (),
            None => pending().await,
        },
        None => pending().await,
    }
}
