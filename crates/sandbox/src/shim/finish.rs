//! The last step before a container's program runs, in its process: seccomp
//! filter, capabilities, execution.
//!
//! By now the process is where and who it shall be. With `no_new_privileges`
//! the filter is installed last of all; without it, installing a filter takes
//! `CAP_SYS_ADMIN` in the pod's user namespace, so the capabilities are only
//! cut down after it.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::Access;
use rustix::process::Signal;

use super::refusal::Refusal;
use crate::capabilities::Capabilities;
use crate::sandbox::ErrorKind;
use crate::seccomp::Filter;
use crate::sys;

/// What a container's program is started with.
#[derive(Clone)]
pub(crate) struct Finish {
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) filter: Filter,
    pub(crate) capabilities: Capabilities,
    pub(crate) no_new_privileges: bool,
}

impl Finish {
    /// The capabilities that the process needs until `run`.
    pub(crate) fn needed_capabilities(&self) -> Capabilities {
        if self.no_new_privileges || self.filter.is_empty() {
            self.capabilities
        } else {
            self.capabilities.with(&["SYS_ADMIN", "SETPCAP"])
        }
    }

    /// Finds the program as this process, in the container, will find it.
    pub(crate) fn find_program(&self) -> Result<PathBuf, Refusal> {
        let name = self.args.first().filter(|name| !name.is_empty()).ok_or_else(|| {
            Refusal::invalid("a container needs a program to run, and its arguments are empty")
        })?;
        if name.contains('/') {
            return check_program(Path::new(name)).map(|()| name.into());
        }
        let path = self.env.iter().rev().find_map(|variable| variable.strip_prefix("PATH=")).unwrap_or("");
        let mut refused = None;
        for directory in path.split(':') {
            let directory = if directory.is_empty() { "." } else { directory };
            let candidate = Path::new(directory).join(name);
            match check_program(&candidate) {
                Ok(()) => return Ok(candidate),
                Err(refusal) if refusal.kind == ErrorKind::CommandNotFound => {}
                Err(refusal) => refused = Some(refusal),
            }
        }
        Err(refused.unwrap_or_else(|| {
            Refusal::new(
                ErrorKind::CommandNotFound,
                format!("the program `{name}` is not in the container's PATH ({path})"),
            )
        }))
    }

    /// Runs the program. Returns only on failure.
    pub(crate) fn run(&self, program: &Path) -> Refusal {
        match self.confine() {
            Ok(()) => self.execute(program),
            Err(error) => {
                Refusal::new(ErrorKind::Internal, format!("cannot confine the container's process: {error}"))
            }
        }
    }

    fn confine(&self) -> io::Result<()> {
        // A pod does not outlive its shim.
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        if self.no_new_privileges {
            rustix::thread::set_no_new_privs(true)?;
            self.filter.install()
        } else {
            self.filter.install()?;
            self.capabilities.confine()
        }
    }

    fn execute(&self, program: &Path) -> Refusal {
        let c_strings = |texts: &[String]| {
            texts.iter().map(|text| CString::new(text.as_bytes())).collect::<Result<Vec<_>, _>>()
        };
        let (Ok(path), Ok(args), Ok(env)) =
            (CString::new(program.as_os_str().as_bytes()), c_strings(&self.args), c_strings(&self.env))
        else {
            return Refusal::invalid("an argument or variable contains a NUL character");
        };
        not_runnable(program, &sys::execute(&path, &args, &env))
    }
}

fn check_program(path: &Path) -> Result<(), Refusal> {
    let metadata = std::fs::metadata(path).map_err(|error| not_runnable(path, &error))?;
    if metadata.is_dir() {
        return Err(Refusal::new(
            ErrorKind::CommandNotRunnable,
            format!("`{}` is a directory", path.display()),
        ));
    }
    rustix::fs::access(path, Access::EXEC_OK).map_err(|error| not_runnable(path, &error.into()))
}

fn not_runnable(path: &Path, error: &io::Error) -> Refusal {
    let shown = path.display();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Refusal::new(
            ErrorKind::CommandNotFound,
            format!("the program `{shown}`, or the interpreter it names, does not exist in the container"),
        ),
        _ => Refusal::new(ErrorKind::CommandNotRunnable, format!("cannot run `{shown}`: {error}")),
    }
}
