//! The one line that tells how far a capture has been read.

use std::time::Duration;

/// Characters of the bar.
const BAR: usize = 32;

/// The line: a bar, percent, time gone and, once that can be told, time left. `read` and `total` are bytes.
pub fn progress_line(read: u64, total: u64, gone: Duration) -> String {
    let part = read.min(total) as f64 / total.max(1) as f64;
    let bar = "#".repeat((part * BAR as f64) as usize);
    let gone_s = gone.as_secs_f64();
    let left = if part > 0.0 { format!(", {:.0} s left", gone_s / part - gone_s) } else { String::new() };
    format!("[{bar:-<BAR$}] {:3.0} %  {gone_s:.0} s{left}", 100.0 * part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_takes_as_long_as_what_is_done_did() {
        let line = progress_line(25, 100, Duration::from_secs(3));
        assert_eq!(line, "[########------------------------]  25 %  3 s, 9 s left");
    }

    #[test]
    fn nothing_read_tells_no_time_left() {
        let line = progress_line(0, 100, Duration::from_secs(1));
        assert_eq!(line, "[--------------------------------]   0 %  1 s");
    }

    #[test]
    fn a_file_that_grows_while_it_is_read_is_never_more_than_whole() {
        let line = progress_line(300, 100, Duration::from_secs(2));
        assert_eq!(line, "[################################] 100 %  2 s, 0 s left");
    }
}
