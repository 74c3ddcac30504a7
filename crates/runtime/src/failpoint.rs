//! Places where a crash test stops the process, as a power cut would.
//!
//! `ALLUVIUM_FAILPOINT=after_intent:3` aborts the process when epoch 3 reaches that step. Unset, it costs one load.

use std::sync::OnceLock;

static ARMED: OnceLock<Option<(String, u64)>> = OnceLock::new();

/// The steps a test can name, in the order an epoch reaches them; the one about a new intent only if files were written
/// again, the note only if rows are written by key, those about the schema only if columns come, those about widening only
/// if columns of the table get wider types, those about late rows only if there are some and they are kept.
pub const STEPS: &[&str] = &[
    "after_choose",
    "after_intent",
    "after_new_intent",
    "mid_run",
    "after_drift",
    "before_schema",
    "after_schema",
    "before_widening",
    "after_widening",
    "after_data_files",
    "after_note",
    "before_publish",
    "after_publish",
    "before_late_rows",
    "after_late_rows",
    "before_commit",
    "after_commit",
];

/// Aborts the process when the environment asks for it here.
pub fn reached(step: &str, epoch: u64) {
    #[cfg(test)]
    crash::reached(step);
    let armed = ARMED.get_or_init(|| {
        let text = std::env::var("ALLUVIUM_FAILPOINT").ok()?;
        let (step, epoch) = text.split_once(':')?;
        Some((step.to_string(), epoch.parse().ok()?))
    });
    if let Some((at, when)) = armed
        && at == step
        && *when == epoch
    {
        std::process::abort();
    }
}

#[cfg(test)]
pub use crash::{crash_here, crashed};

/// Crashes of a test that goes on: the task that reaches the step ends, and with it all it had not made durable. They count for
/// the thread that asks for them.
#[cfg(test)]
mod crash {
    use std::cell::Cell;

    thread_local! {
        static ARMED: Cell<Option<(&'static str, usize)>> = const { Cell::new(None) };
        static CRASHED: Cell<bool> = const { Cell::new(false) };
    }

    /// Ends the task that reaches `step` after having passed it so many times.
    pub fn crash_here(step: &'static str, after: usize) {
        ARMED.set(Some((step, after)));
        CRASHED.set(false);
    }

    /// Whether that has happened; nothing more happens afterwards.
    pub fn crashed() -> bool {
        ARMED.set(None);
        CRASHED.get()
    }

    pub fn reached(step: &str) {
        match ARMED.get() {
            Some((at, 0)) if at == step => {
                ARMED.set(None);
                CRASHED.set(true);
                // Not a panic that is reported.
                std::panic::resume_unwind(Box::new("a crash that the test asked for"));
            }
            Some((at, after)) if at == step => ARMED.set(Some((at, after - 1))),
            _ => {}
        }
    }
}
