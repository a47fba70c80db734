//! Progress on standard error: bars on a terminal, nothing elsewhere.

use super::{Shared, terminal};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use liseg::nn::Precision;
use liseg::nn::tch::Device;
use liseg_file::text::line;
use std::time::Duration;

const COUNT: &str = "{msg:<24} {wide_bar} {pos}/{len} {per_sec} {eta} left";
const TEXT: &str = "{spinner} {msg}";

/// A bar over `total` units. It vanishes when it is done and when standard error is no terminal.
pub(crate) fn bar(shared: &Shared, total: u64, message: &str) -> ProgressBar {
    styled(shared, ProgressBar::new(total), COUNT, message)
}

/// A spinner for work without a count.
pub(crate) fn spinner(shared: &Shared, message: &str) -> ProgressBar {
    styled(shared, ProgressBar::new_spinner(), TEXT, message)
}

fn styled(shared: &Shared, bar: ProgressBar, template: &str, message: &str) -> ProgressBar {
    let bar = if shared.quiet {
        bar.set_draw_target(ProgressDrawTarget::hidden());
        bar
    } else {
        terminal::show(bar)
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.set_message(line(message));
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// A line on standard error that stays, above the bars.
pub(crate) fn note(shared: &Shared, bar: Option<&ProgressBar>, text: &str) {
    if shared.quiet {
        return;
    }
    match bar {
        Some(bar) if !bar.is_hidden() => bar.println(line(text)),
        _ => terminal::tell(text),
    }
}

/// Warns of bf16 where it only costs.
pub(crate) fn warn_of_emulation(precision: Precision, device: Device) {
    if precision.is_emulated(device) {
        tracing::warn!(
            "this processor only emulates bf16, which takes many times the time and memory of f32"
        );
    }
}
