//! The allocator of the `settee` command, so that a bench measures what is shipped.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
