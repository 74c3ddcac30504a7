//! The memory of the process: how the two allocators give back what was freed.
//!
//! Rust's is mimalloc. The database's is the system's, since it is C++: glibc's keeps an arena for each thread, and what one
//! thread takes and another frees stays with the first. Over days that is several times what the database holds.
#![cfg_attr(
    all(target_os = "linux", target_env = "gnu"),
    expect(unsafe_code, reason = "mallopt has no safe form, and is only asked before any thread is there")
)]

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bytes at the end of the heap that are kept for what is taken next.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT: libc::c_int = 8 << 20;

/// To be called first of all.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn give_back() {
    // SAFETY: both are plain settings of numbers, and no other thread runs yet. A refusal changes nothing.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
    }
}

/// Other systems' allocators do.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn give_back() {}
