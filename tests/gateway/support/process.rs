//! A child process with its output captured line by line.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::pace::wait_for;

/// Lines of a log that a failed test prints.
const TAIL: usize = 60;

/// What a process wrote to its standard output and error, in the order it arrived. Outlives restarts.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn follow(&self, source: impl Read + Send + 'static) {
        let log = self.clone();
        std::thread::spawn(move || {
            let mut source = BufReader::new(source);
            let mut line = Vec::new();
            while matches!(source.read_until(b'\n', &mut line), Ok(n) if n > 0) {
                let text = String::from_utf8_lossy(&line);
                log.lock().push(text.trim_end_matches(['\n', '\r']).to_owned());
                line.clear();
            }
        });
    }

    /// How many lines there are: a mark for [`Log::since`].
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    /// The lines from a mark on.
    pub(crate) fn since(&self, mark: usize) -> Vec<String> {
        self.lock().get(mark..).unwrap_or_default().to_vec()
    }

    /// All of it.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.since(0)
    }

    /// Waits for a line from `mark` on that contains all of `parts`, and returns it.
    #[track_caller]
    pub(crate) fn wait_for_line(&self, limit: Duration, mark: usize, parts: &[&str]) -> String {
        wait_for(limit, &format!("a log line with {parts:?}"), || {
            let lines = self.since(mark);
            match lines.iter().find(|line| parts.iter().all(|part| line.contains(part))) {
                Some(line) => Ok(line.clone()),
                None => Err(format!("{} lines, the last: {:?}", lines.len(), lines.last())),
            }
        })
    }

    fn print_tail(&self, name: &str) {
        let lines = self.lines();
        let skipped = lines.len().saturating_sub(TAIL);
        println!("---- {name}: last {} of {} lines", lines.len() - skipped, lines.len());
        for line in lines.iter().skip(skipped) {
            println!("{line}");
        }
    }
}

/// A running child. Killed when dropped; then, if the test is failing, the end of its log is printed.
pub(crate) struct Process {
    name: String,
    child: Child,
    log: Log,
}

impl Process {
    /// Starts the command with its output going to `log`.
    ///
    /// # Panics
    /// When the program cannot be started.
    #[track_caller]
    pub(crate) fn start(name: &str, command: &mut Command, log: &Log) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("start {name} ({}): {error}", command.get_program().display()));
        log.follow(child.stdout.take().expect("piped above"));
        log.follow(child.stderr.take().expect("piped above"));
        Self { name: name.to_owned(), child, log: log.clone() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn log(&self) -> &Log {
        &self.log
    }

    /// Sends a signal; the process is our child and not yet waited for, so the id cannot have passed to another.
    pub(crate) fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.pid()).expect("a process id fits pid_t");
        // SAFETY: kill(2) touches no memory of ours.
        unsafe { libc::kill(pid, signal) };
    }

    /// How it ended, if it did.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("waitpid on our own child")
    }

    /// `kill -9`, and waits for the end.
    pub(crate) fn kill(&mut self) {
        self.signal(libc::SIGKILL);
        self.child.wait().expect("waitpid on our own child");
    }

    /// SIGTERM, and waits for the end.
    #[track_caller]
    pub(crate) fn stop(&mut self, limit: Duration) -> ExitStatus {
        self.signal(libc::SIGTERM);
        self.wait(limit)
    }

    /// Waits for the end.
    #[track_caller]
    pub(crate) fn wait(&mut self, limit: Duration) -> ExitStatus {
        let name = self.name.clone();
        wait_for(limit, &format!("the end of {name}"), || self.ended().ok_or_else(|| "running".to_owned()))
    }

    /// Fails the test if the process is no longer there.
    #[track_caller]
    pub(crate) fn assert_running(&mut self) {
        if let Some(status) = self.ended() {
            panic!("{} ended with {:?}, signal {:?}", self.name, status.code(), status.signal());
        }
    }

    /// Resident memory, bytes (`VmRSS` of proc_pid_status(5)).
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
        line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).unwrap_or(0) * 1024
    }

    /// Processor time used so far, user and system (fields 14 and 15 of proc_pid_stat(5)).
    pub(crate) fn cpu_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        // The second field is a name in parentheses that may hold anything; the rest follows the last of them.
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks: u64 = after_name.split_whitespace().skip(11).take(2).filter_map(|f| f.parse::<u64>().ok()).sum();
        // SAFETY: sysconf(3) touches no memory of ours.
        let per_second = u64::try_from(unsafe { libc::sysconf(libc::_SC_CLK_TCK) }).unwrap_or(100).max(1);
        Duration::from_millis(ticks * 1000 / per_second)
    }

    /// Share of one core used over `span`, in percent.
    pub(crate) fn cpu_percent_over(&self, span: Duration) -> f64 {
        let (used, start) = (self.cpu_time(), Instant::now());
        std::thread::sleep(span);
        (self.cpu_time().saturating_sub(used)).as_secs_f64() / start.elapsed().as_secs_f64() * 100.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.try_wait().ok().flatten().is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            self.log.print_tail(&self.name);
        }
    }
}
