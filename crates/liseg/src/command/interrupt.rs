//! Ctrl-C, SIGTERM and SIGHUP ask the work to stop cleanly; a second Ctrl-C ends the process.

use super::terminal;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;

static ASKED: AtomicBool = AtomicBool::new(false);
static INSTALLED: OnceLock<()> = OnceLock::new();

/// From now on these signals only raise the flag that [`asked`] reads, but for a Ctrl-C when it is raised.
pub(crate) fn listen() {
    INSTALLED.get_or_init(|| {
        if let Err(error) = install() {
            tracing::warn!("Ctrl-C will end the program at once: {error}");
        }
    });
}

#[cfg(unix)]
fn install() -> std::io::Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    use signal_hook::{flag, iterator::Signals};

    let mut heard = Vec::new();
    // `nohup` and shells that start jobs in the background have some ignored, and that stays.
    for signal in [SIGINT, SIGTERM, SIGHUP]
        .into_iter()
        .filter(|signal| !is_ignored(*signal))
    {
        // Only of Ctrl-C is a second one meant as such: a terminal that closes sends SIGHUP twice, and Slurm SIGTERM. It ends
        // the process in the handler itself, without destructors, which would crash under the feet of other threads.
        if signal == SIGINT {
            flag::register_conditional_shutdown(signal, 128 + signal, &ASKED)?;
        }
        flag::register(signal, &ASKED)?;
        heard.push(signal);
    }
    let mut signals = Signals::new(heard)?;
    std::thread::Builder::new().spawn(move || {
        if signals.forever().next().is_some() {
            terminal::tell("stopping after this step; press Ctrl-C again to end at once");
        }
    })?;
    Ok(())
}

#[cfg(not(unix))]
fn install() -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

/// Whether whoever started this process has it ignore a signal.
#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    ignored.is_some_and(|set| set >> (signal - 1) & 1 == 1)
}

/// The lines of standard input, as they come. From now on its end raises the flag as well: whoever started this
/// process and holds the other end of the pipe has closed it, or is no more.
pub(crate) fn lines_until_closed() -> Receiver<String> {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(|line| line.ok()) {
            if sender.send(line).is_err() {
                break;
            }
        }
        ASKED.store(true, Ordering::SeqCst);
    });
    receiver
}

/// Whether the user has asked to stop.
pub(crate) fn asked() -> bool {
    ASKED.load(Ordering::SeqCst)
}
