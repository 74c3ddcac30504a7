//! The memory of the process: how the two allocators give back what was freed.
//!
//! Rust's is mimalloc. The database's is the system's, since it is C++: glibc's keeps an arena for each thread, and what one
//! thread takes and another frees stays with the first. Over days that is several times what the database holds.
#![expect(
    unsafe_code,
    reason = "settings of allocators have no safe form, and are only made before any thread is there"
)]

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bytes at the end of the heap that are kept for what is taken next.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT: libc::c_int = 8 << 20;
/// From so many bytes on a piece of memory is one of its own, with pages that are zeroed each time. A batch of writes is less.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const APART: libc::c_int = 16 << 20;
/// Milliseconds for which mimalloc keeps what was freed: batches and tables of an epoch come and go, and a second of them is
/// more than what is in use.
const KEPT_MS: libc::c_long = 50;
/// `mi_option_purge_delay` of `mimalloc.h`.
const PURGE_DELAY: libc::c_int = 15;

unsafe extern "C" {
    /// Of mimalloc, which has no safe form of it.
    fn mi_option_set(option: libc::c_int, value: libc::c_long);
}

/// To be called first of all.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn give_back() {
    // SAFETY: all are plain settings of numbers, and no other thread runs yet. A refusal changes nothing.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
        libc::mallopt(libc::M_MMAP_THRESHOLD, APART);
        // Pages of 2 MB are zeroed as a whole for a part of them, again after each time it was given back.
        libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0);
        mi_option_set(PURGE_DELAY, KEPT_MS);
    }
}

/// Other systems' allocators do.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn give_back() {
    // SAFETY: as above.
    unsafe { mi_option_set(PURGE_DELAY, KEPT_MS) }
}

#[cfg(test)]
mod tests {
    use super::*;

    unsafe extern "C" {
        fn mi_option_get(option: libc::c_int) -> libc::c_long;
    }

    /// Options are told by their place in a list that another version of mimalloc may order anew.
    #[test]
    fn the_option_is_the_one_that_is_meant() {
        // SAFETY: it reads a number. Nothing sets it in this process.
        let by_default = unsafe { mi_option_get(PURGE_DELAY) };
        assert_eq!(by_default, 1000, "the milliseconds that mimalloc keeps what was freed");
    }
}
