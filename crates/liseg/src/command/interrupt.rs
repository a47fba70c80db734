//! Ctrl-C: the first asks the work to stop cleanly, the second ends the process.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;

static ASKED: AtomicBool = AtomicBool::new(false);
static INSTALLED: OnceLock<()> = OnceLock::new();

/// From now on Ctrl-C only raises the flag that [`asked`] reads.
pub(crate) fn listen() {
    INSTALLED.get_or_init(|| {
        let installed = ctrlc::set_handler(|| {
            if ASKED.swap(true, Ordering::SeqCst) {
                std::process::exit(130);
            }
            eprintln!("\nstopping after this step; press Ctrl-C again to end at once");
        });
        if let Err(error) = installed {
            eprintln!("Ctrl-C will end the program at once: {error}");
        }
    });
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
