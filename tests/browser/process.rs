//! `patchboard serve` as a process of its own, so that it can be killed.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// A running server; ends when dropped.
pub struct Server {
    child: Child,
    program: PathBuf,
    args: Vec<String>,
    vars: Vec<(String, PathBuf)>,
    data: PathBuf,
    /// The address of the page, which ends in a slash.
    pub url: String,
}

impl Server {
    /// Starts `program serve` over the folder `data`, on any port that is free.
    ///
    /// # Errors
    /// It did not start.
    pub fn start(program: &str, data: &Path, args: &[&str]) -> Result<Self> {
        Self::start_with(program, data, args, &[])
    }

    /// The same with these variables in its environment.
    ///
    /// # Errors
    /// It did not start.
    pub fn start_with(
        program: &str,
        data: &Path,
        args: &[&str],
        vars: &[(&str, &Path)],
    ) -> Result<Self> {
        let args = args.iter().map(|arg| arg.to_string()).collect();
        let vars = vars.iter().map(|(name, path)| (name.to_string(), path.to_path_buf())).collect();
        Self::spawn(program.into(), data.into(), args, vars, "0")
    }

    fn spawn(
        program: PathBuf,
        data: PathBuf,
        args: Vec<String>,
        vars: Vec<(String, PathBuf)>,
        port: &str,
    ) -> Result<Self> {
        let mut child = Command::new(&program)
            .args(["serve", "--port", port, "--data"])
            .arg(&data)
            .args(&args)
            .envs(vars.iter().map(|(name, path)| (name, path)))
            .env("RUST_LOG", "error")
            .env_remove("RUST_BACKTRACE")
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().context("no output")?;
        let mut lines = BufReader::new(output).lines();
        // A model may be fetched first, which it says.
        let url = loop {
            let line = lines.next().context("the server ended")??;
            if let Some((_, address)) = line.rsplit_once("http://") {
                break format!("http://{}/", address.trim().trim_end_matches('/'));
            }
        };
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Self { child, program, args, vars, data, url })
    }

    /// Kills it, as by `kill -9`.
    ///
    /// # Errors
    /// It is gone already.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts it again after [`Self::kill`], at the same address and over the same folder.
    ///
    /// # Errors
    /// It did not start.
    pub fn restart(&mut self) -> Result<()> {
        let port = self.url.trim_end_matches('/').rsplit(':').next().context("no port")?;
        let (program, data) = (self.program.clone(), self.data.clone());
        let again = Self::spawn(program, data, self.args.clone(), self.vars.clone(), port)?;
        *self = again;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
