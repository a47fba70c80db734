//! The end of a process.

use std::io::Write;

/// Ends the process with `code`, as [`std::process::exit`] does and returning from `main`, but without the destructors of
/// libtorch's globals.
///
/// Operator by operator they free what ends with the process anyway, which takes a tenth of a second or two: a third of a
/// call that does little. Standard output is flushed; what else is open should be closed before.
pub fn exit(code: u8) -> ! {
    // Nobody is left to be told.
    let _ = std::io::stdout().flush();
    #[cfg(unix)]
    #[expect(unsafe_code, reason = "the standard library always runs destructors")]
    // SAFETY: ends the process.
    unsafe {
        libc::_exit(code.into())
    }
    #[cfg(not(unix))]
    std::process::exit(code.into())
}
