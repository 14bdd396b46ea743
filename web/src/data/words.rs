//! What the page says of jobs and times, and messages as sentences.

use shared::wire::job::{Job, State};

/// A message as a sentence.
pub fn sentence(message: &str) -> String {
    let mut text = message.to_string();
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    if !text.ends_with(['.', '!', '?']) {
        text.push('.');
    }
    text
}

/// A time in seconds, as people say it.
pub fn duration(secs: f64) -> String {
    match secs {
        secs if !secs.is_finite() || secs < 0.0 => "unknown time".to_string(),
        secs if secs < 0.95 => "less than a second".to_string(),
        secs if secs < 9.95 => format!("about {secs:.0} s"),
        secs if secs < 99.5 => format!("about {:.0} s", (secs / 5.0).round() * 5.0),
        secs if secs < 5_400.0 => format!("about {:.0} min", secs / 60.0),
        secs => format!("about {:.0} h", secs / 3_600.0),
    }
}

/// Where a job stands in the queue.
pub fn place(job: &Job) -> String {
    match job.n_ahead {
        None | Some(0) => "it is next".to_string(),
        Some(1) => "one pair is before it".to_string(),
        Some(n) => format!("{n} pairs are before it"),
    }
}

/// What a job is called.
pub fn job_name(job: &Job) -> String {
    match job.name.trim() {
        "" => format!("Job {}", job.id.get(..6).unwrap_or(&job.id)),
        name => name.to_string(),
    }
}

/// How far a job is.
pub fn progress(job: &Job) -> String {
    let of = |n: usize| match job.n_pairs {
        1 => String::new(),
        n_pairs => format!(", {n} of {n_pairs} pairs"),
    };
    let failed = match (job.n_failed, job.n_pairs) {
        (0, _) | (_, 1) => String::new(),
        (n, _) => format!(", {n} without a result"),
    };
    match job.state {
        State::Queued => format!("queued: {}{}", place(job), of(job.n_done)),
        state => format!("{state}{}{failed}", of(job.n_done)),
    }
}

/// `n` of something.
pub fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_exact_as_they_are_known() {
        let cases = [
            (0.2, "less than a second"),
            (3.4, "about 3 s"),
            (43.0, "about 45 s"),
            (200.0, "about 3 min"),
            (7_300.0, "about 2 h"),
            (f64::NAN, "unknown time"),
        ];
        for (secs, expected) in cases {
            assert_eq!(duration(secs), expected);
        }
    }
}
