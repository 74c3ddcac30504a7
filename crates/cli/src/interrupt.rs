//! Ctrl-C, and in scripts the polite signal of service managers.

use std::future::pending;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals that ask us to stop. From its creation on they no longer end the process by themselves.
pub struct Interrupts {
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
}

impl Interrupts {
    /// Starts listening. Must run inside the runtime. At the prompt SIGTERM keeps ending the process, since
    /// nobody would be listening while a line is typed.
    pub fn listen(interactive: bool) -> Interrupts {
        Interrupts {
            interrupt: signal(SignalKind::interrupt()).ok(),
            terminate: if interactive { None } else { signal(SignalKind::terminate()).ok() },
        }
    }

    /// Waits for the next one. May be dropped while it waits; no signal is lost.
    pub async fn next(&mut self) {
        tokio::select! {
            () = received(&mut self.interrupt) => {}
            () = received(&mut self.terminate) => {}
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
