//! `patchboard slurm`: a table on a SLURM cluster, a shard each task of an array.
//!
//! SLURM runs and watches the tasks. What is written here are two scripts, which anybody can read,
//! change and submit by hand; what is followed are the shards' own manifests. The same command again
//! follows what is running and submits what is missing.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{ArgAction, Args, CommandFactory};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

use super::report::counted;
use super::shards::{Manifest, Shard};
use super::study::PoolArgs;
use super::sweep::{Estimate, SweepArgs};
use super::{Cli, interrupt, output};
use crate::export::write_atomically;

/// How long a task should take where nobody says how many there are.
const TARGET_SECS: f64 = 30.0 * 60.0;

/// How often files and queue are looked at.
const POLL: Duration = Duration::from_secs(2);

/// The lines of a failed shard's log that are shown.
const N_LOG_LINES: usize = 12;

/// What to sweep, and what to ask SLURM for.
#[derive(Debug, Args)]
pub struct SlurmArgs {
    #[command(flatten)]
    sweep: SweepArgs,

    /// Into how many shards the table is divided, a task each. Default: so many that each takes about
    /// half an hour on a machine like this one.
    #[arg(long, value_name = "N")]
    shards: Option<usize>,

    /// The partition.
    #[arg(long, value_name = "NAME")]
    partition: Option<String>,

    /// The account.
    #[arg(long, value_name = "NAME")]
    account: Option<String>,

    /// The most time of a task, as SLURM writes it. Default: three times the estimate.
    #[arg(long, value_name = "[D-]HH:MM:SS")]
    time: Option<String>,

    /// Generic resources of a task, e.g. gpu:1.
    #[arg(long, value_name = "LIST")]
    gres: Option<String>,

    /// The cores of a task.
    #[arg(long, value_name = "N", default_value_t = 4)]
    cpus: usize,

    /// The memory of a task, as SLURM writes it. Default: what the plan needs.
    #[arg(long, value_name = "SIZE")]
    mem: Option<String>,

    /// Any other option of sbatch, e.g. `--sbatch=--constraint=a100`; can be given several times.
    #[arg(long, value_name = "OPTION", allow_hyphen_values = true)]
    sbatch: Vec<String>,

    /// Print the script of the shards and submit nothing.
    #[arg(long)]
    print: bool,
}

/// The last submission, which the same command follows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Submission {
    /// SLURM's number of the array.
    array: String,
    /// SLURM's number of the merge step.
    merge: String,
    /// Into how many shards the table is divided.
    n_shards: usize,
}

/// Where the scripts, logs and the submission are.
struct Place {
    results: PathBuf,
    folder: PathBuf,
}

impl Place {
    fn submission(&self) -> PathBuf {
        self.folder.join("submission.json")
    }

    fn log(&self, number: usize) -> PathBuf {
        self.folder.join(format!("shard-{number}.log"))
    }
}

/// Runs the command.
///
/// # Errors
/// Bad input, a SLURM that is not there or refuses, or shards that failed.
pub fn run(args: &SlurmArgs) -> Result<()> {
    let place =
        Place { results: args.sweep.out().to_path_buf(), folder: args.sweep.out().join("slurm") };
    interrupt::listen()?;
    let before: Option<Submission> = std::fs::read(place.submission())
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok());
    if let Some(running) = before.as_ref().filter(|_| !args.print)
        && !states(&[&running.array, &running.merge])?.is_empty()
    {
        output::line(&format!("following job {}, which is not over", running.array))?;
        return follow(&place, running);
    }
    let estimate = args.sweep.estimate()?;
    let n_shards = match (args.shards, &before) {
        (Some(0), _) => bail!("expected 1 shard or more, found 0"),
        (Some(n), _) => n,
        // What is there already is divided so.
        (None, Some(before)) => before.n_shards,
        (None, None) => (estimate.wall_secs / TARGET_SECS).ceil() as usize,
    };
    let n_shards = n_shards.clamp(1, estimate.n_pairs.max(1));
    let missing: Vec<_> =
        (1..=n_shards).filter(|&number| !is_done(&place, Shard { number, of: n_shards })).collect();
    let array = array_script(args, &place, &estimate, n_shards, &missing)?;
    if args.print {
        return output::line(array.trim_end());
    }
    std::fs::create_dir_all(&place.folder)
        .with_context(|| format!("cannot make the folder {}", place.folder.display()))?;
    let scripts = ["array.sh", "merge.sh"].map(|name| place.folder.join(name));
    write_atomically(&scripts[0], array.as_bytes())?;
    write_atomically(&scripts[1], merge_script(args, &place)?.as_bytes())?;
    output::line(&format!(
        "{} in {} of about {:.0} s and {} MiB each: {}",
        counted(estimate.n_pairs, "pair"),
        counted(n_shards, "shard"),
        estimate.wall_secs / n_shards as f64,
        estimate.n_bytes >> 20,
        scripts[0].display()
    ))?;
    let array = match &missing[..] {
        [] => None,
        _ => Some(submit(&scripts[0], None)?),
    };
    // After any end of the shards: what is missing is then said by name.
    let merge = submit(&scripts[1], array.as_deref())?;
    let array = array.unwrap_or_else(|| merge.clone());
    let submission = Submission { array, merge, n_shards };
    let text = serde_json::to_vec(&submission).context("a submission is plain")?;
    write_atomically(&place.submission(), &text)?;
    output::line(&format!("submitted as job {}", submission.array))?;
    follow(&place, &submission)
}

/// One of a submission's shards.
fn shard(submission: &Submission, number: usize) -> Shard {
    Shard { number, of: submission.n_shards }
}

/// Whether all pairs of a shard are done.
fn is_done(place: &Place, shard: Shard) -> bool {
    let manifest = Manifest::read(&shard.manifest(&place.results));
    manifest.is_ok_and(|manifest| {
        let n_own = shard.pairs(manifest.pairs.len()).len();
        manifest.n_done(shard, &place.results) == n_own
    })
}

/// The words of what `A` takes, as this command was given them: options, and then the others.
fn words_of<A: Args>() -> Result<[Vec<String>; 2]> {
    let matches = Cli::command().get_matches();
    let (_, matches) = matches.subcommand().context("a subcommand was given")?;
    let mut words = Vec::new();
    let taken = A::augment_args(clap::Command::new("words"));
    let mut positional = Vec::new();
    for arg in taken.get_arguments() {
        let id = arg.get_id().as_str();
        let is_given = matches.value_source(id) == Some(clap::parser::ValueSource::CommandLine);
        if !is_given {
            continue;
        }
        let values = matches.get_raw(id).into_iter().flatten();
        let values: Vec<_> = values.map(|value| value.to_string_lossy().into_owned()).collect();
        match arg.get_long() {
            None => positional.extend(values),
            Some(long) => match arg.get_action() {
                ArgAction::SetTrue | ArgAction::SetFalse => words.push(format!("--{long}")),
                _ => words.extend(values.into_iter().map(|value| format!("--{long}={value}"))),
            },
        }
    }
    Ok([words, positional])
}

fn quoted<'a>(words: impl IntoIterator<Item = &'a str>) -> Result<String> {
    shlex::try_join(words).context("an argument holds a NUL")
}

fn program() -> Result<String> {
    let path = std::env::current_exe().context("this program does not know where it is")?;
    Ok(path.display().to_string())
}

/// The script of the shards.
fn array_script(
    args: &SlurmArgs,
    place: &Place,
    estimate: &Estimate,
    n_shards: usize,
    missing: &[usize],
) -> Result<String> {
    let secs = estimate.wall_secs / n_shards as f64;
    let time = match &args.time {
        Some(time) => time.clone(),
        None => {
            let minutes = ((3.0 * secs + estimate.open_secs) / 60.0).ceil() as u64 + 5;
            format!("{:02}:{:02}:00", minutes / 60, minutes % 60)
        }
    };
    let mem = args.mem.clone().unwrap_or_else(|| format!("{}M", (estimate.n_bytes >> 20) + 512));
    let mut options = vec![
        format!("--job-name=patchboard-{}", one_word(&estimate.table)),
        format!("--array={}", ranges(missing)),
        format!("--output={}", place.folder.join("shard-%a.log").display()),
        format!("--time={time}"),
        format!("--mem={mem}"),
        format!("--cpus-per-task={}", args.cpus),
    ];
    let more = [("partition", &args.partition), ("account", &args.account), ("gres", &args.gres)];
    options.extend(
        more.iter()
            .filter_map(|(name, value)| value.as_ref().map(|value| format!("--{name}={value}"))),
    );
    options.extend(args.sbatch.iter().cloned());
    let [mut words, positional] = words_of::<SweepArgs>()?;
    // Behind this, nothing is an option.
    words.push("--".into());
    words.extend(positional);
    let sweep = quoted(words.iter().map(String::as_str))?;
    let program = quoted([&*program()?])?;
    Ok(format!(
        "{}\n# A task sweeps one shard of the table. What a task has done is kept, so it can be run again.\n\
         exec {program} sweep --quiet --format=json --shard=\"$SLURM_ARRAY_TASK_ID/{n_shards}\" {sweep}\n",
        header(&options)
    ))
}

/// The script of the step that makes the study.
fn merge_script(args: &SlurmArgs, place: &Place) -> Result<String> {
    let mut options = vec![
        "--job-name=patchboard-merge".to_string(),
        format!("--output={}", place.folder.join("merge.log").display()),
        "--time=01:00:00".to_string(),
        "--mem=2G".to_string(),
        "--cpus-per-task=1".to_string(),
    ];
    let more = [("partition", &args.partition), ("account", &args.account)];
    options.extend(
        more.iter()
            .filter_map(|(name, value)| value.as_ref().map(|value| format!("--{name}={value}"))),
    );
    let results = place.results.display().to_string();
    let mut words = vec![program()?, "merge".into(), format!("--out={results}")];
    let [options_of_study, _] = words_of::<PoolArgs>()?;
    words.extend(options_of_study);
    words.extend(["--".into(), results]);
    Ok(format!("{}\nexec {}\n", header(&options), quoted(words.iter().map(String::as_str))?))
}

fn header(options: &[String]) -> String {
    let options = options.iter().map(|option| format!("#SBATCH {option}\n"));
    format!("#!/bin/bash\n{}", options.collect::<String>())
}

/// A name without what SLURM takes apart.
fn one_word(text: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.chars().map(|c| if fits(c) { c } else { '-' }).take(40).collect()
}

/// Numbers as SLURM writes them: `1-4,7`.
fn ranges(numbers: &[usize]) -> String {
    numbers.iter().copied().collect::<shared::specification::positions::Positions>().to_string()
}

/// Submits a script, to run after any end of the job `after`, and gives its number.
fn submit(script: &Path, after: Option<&str>) -> Result<String> {
    let mut command = Command::new("sbatch");
    command.arg("--parsable");
    if let Some(after) = after {
        command.arg(format!("--dependency=afterany:{after}"));
    }
    let output = command.arg(script).output();
    let output = output.context(
        "cannot run sbatch: expected a machine that submits to SLURM; `--print` shows the script",
    )?;
    if !output.status.success() {
        bail!("SLURM refused: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    // Of a cluster with a name, `number;cluster`.
    let said = String::from_utf8_lossy(&output.stdout);
    Ok(said.trim().split(';').next().unwrap_or_default().to_string())
}

/// The states of the tasks that are not over, e.g. `RUNNING`, one each; a job that SLURM has
/// forgotten has none.
fn states(jobs: &[&str]) -> Result<Vec<String>> {
    let output = Command::new("squeue")
        .args(["--noheader", "--array", "--format=%T", "--jobs", &jobs.join(",")])
        .output()
        .context("cannot run squeue: expected a machine that submits to SLURM")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() && !error.contains("Invalid job id") {
        bail!("SLURM does not say how the job is: {}", error.trim());
    }
    Ok(said.split_whitespace().map(str::to_string).collect())
}

/// Shows how far the shards are until the study is made.
fn follow(place: &Place, submission: &Submission) -> Result<()> {
    let bar = match std::io::stderr().is_terminal() {
        true => ProgressBar::new(1),
        false => ProgressBar::hidden(),
    };
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} pairs  {msg}")?);
    let jobs = [&*submission.array, &*submission.merge];
    let mut table: Option<Manifest> = None;
    loop {
        let states = states(&jobs)?;
        // All manifests name the same pairs: one is enough, once there is any.
        let mut shards = (1..=submission.n_shards).map(|number| shard(submission, number));
        table = table.or_else(|| {
            shards.find_map(|shard| Manifest::read(&shard.manifest(&place.results)).ok())
        });
        if let Some(table) = &table {
            bar.set_length(table.pairs.len() as u64);
            let whole = Shard { number: 1, of: 1 };
            bar.set_position(table.n_done(whole, &place.results) as u64);
        }
        let running = states.iter().filter(|state| *state == "RUNNING").count();
        let waiting = states.len() - running;
        bar.set_message(format!("{running} running, {waiting} waiting"));
        if states.is_empty() {
            break;
        }
        if interrupt::check().is_break() {
            bar.abandon();
            bail!(
                "job {} goes on without this command: the same command again follows it, and `scancel \
                 {} {}` ends it",
                submission.array,
                submission.array,
                submission.merge
            );
        }
        std::thread::sleep(POLL);
    }
    bar.finish_and_clear();
    let failed: Vec<_> = (1..=submission.n_shards)
        .filter(|&number| !is_done(place, shard(submission, number)))
        .collect();
    if !failed.is_empty() {
        for &number in failed.iter().take(3) {
            output::line(&format!("shard {number}/{} ended with:", submission.n_shards))?;
            output::line(&last_lines(&place.log(number)))?;
        }
        bail!(
            "{} not done: {}; the same command again submits them",
            if failed.len() == 1 {
                "1 shard is".into()
            } else {
                format!("{} shards are", failed.len())
            },
            ranges(&failed)
        );
    }
    output::line(&last_lines(&place.folder.join("merge.log")))
}

/// The last lines of a log.
fn last_lines(path: &Path) -> String {
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let lines: Vec<_> = text.trim_end().lines().collect();
            lines[lines.len().saturating_sub(N_LOG_LINES)..].join("\n")
        }
        Err(error) => format!("(no log: {} {error})", path.display()),
    }
}
