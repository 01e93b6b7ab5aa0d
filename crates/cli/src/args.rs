//! What can be typed.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use xebec_api::pod_security::{Level, Policy};
use xebec_node::pod::policy::Dangers;
use xebec_sandbox::bootstrap::{Identity, IdentityError};

use crate::audit::AuditOptions;
use crate::backing::StoreOptions;
use crate::identity::IdentityOptions;
use crate::secrets::EncryptionOptions;

/// Kubernetes in one program, without root.
#[derive(Debug, Parser)]
#[command(name = "xebec", version, arg_required_else_help = true)]
pub(crate) struct Arguments {
    /// Where the data is.
    #[command(flatten)]
    pub(crate) place: Place,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the cluster
    Up(Up),
    /// Stop the cluster; its data stays
    Down(Down),
    /// Show whether the cluster runs, and where
    Status(Status),
    /// Print the kubeconfig
    Kubeconfig,
    /// Bring in, list and remove images
    Image(Image),
    /// Change the key of what is encrypted at rest
    Secrets(Secrets),
    /// Convert custom resources by what their definition declares, and try that, without a cluster
    Crd(Crd),
    /// Print the version
    Version,
    /// Print a completion script
    Completion {
        /// For which shell
        shell: Shell,
    },
    #[command(hide = true)]
    Keeper,
    #[command(hide = true)]
    Purge,
    #[command(hide = true)]
    Shim(Rest),
    #[command(hide = true)]
    Serve(Serve),
}

/// Arguments that somebody else reads.
#[derive(Debug, Args)]
pub(crate) struct Rest {
    /// All of them.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) rest: Vec<String>,
}

/// Where the cluster's data is.
#[derive(Clone, Debug, Args)]
pub(crate) struct Place {
    /// Where the cluster's data is [default: ~/.local/share/xebec]
    #[arg(long, value_name = "DIR", env = "XEBEC_DATA_DIR", global = true)]
    pub(crate) data_dir: Option<PathBuf>,
    /// Started as root: become this user first
    #[arg(long, value_name = "NAME", global = true)]
    pub(crate) user: Option<String>,
}

impl Place {
    /// Becomes the user that was asked for; their data is in their home then.
    ///
    /// # Errors
    /// There is no such user, it is root, or this is not.
    pub(crate) fn assume_user(&mut self) -> Result<(), IdentityError> {
        let Some(name) = self.user.take() else { return Ok(()) };
        let identity = Identity::lookup(&name)?;
        identity.assume()?;
        self.data_dir.get_or_insert_with(|| identity.home.join(".local/share/xebec"));
        Ok(())
    }
}

/// The longest that a server goes on when it is to stop, in seconds.
pub(crate) const MAX_SHUTDOWN_DELAY: u64 = 60;

/// Options of `up`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Up {
    /// Where the API server listens
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:6443")]
    pub(crate) bind: SocketAddr,
    /// When it is to stop, go on for so long, no longer ready, while clients go to other servers
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=MAX_SHUTDOWN_DELAY))]
    pub(crate) shutdown_delay: u64,
    /// Return as soon as the cluster is ready, and leave it running
    #[arg(long)]
    pub(crate) detach: bool,
    /// Let pods do what weakens their isolation
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WHAT")]
    pub(crate) danger_allow: Vec<Danger>,
    /// Hold pods to this, where a namespace has no label pod-security.kubernetes.io/enforce
    #[arg(long, value_enum, value_name = "LEVEL", default_value_t = PodSecurity::Baseline)]
    pub(crate) pod_security_default: PodSecurity,
    /// What is recorded.
    #[command(flatten)]
    pub(crate) audit: AuditOptions,
    /// What is encrypted.
    #[command(flatten)]
    pub(crate) encryption: EncryptionOptions,
    /// Where the objects are.
    #[command(flatten)]
    pub(crate) store: StoreOptions,
    /// Who may log in.
    #[command(flatten)]
    pub(crate) identity: IdentityOptions,
}

/// What pods may be allowed that weakens their isolation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Danger {
    /// Use the host's network, its loopback included (`hostNetwork`)
    HostNetwork,
    /// Make every system call that the kernel allows their user (`seccompProfile: Unconfined`)
    Unconfined,
    /// See the files of /proc that are masked (`procMount: Unmasked`)
    Unmasked,
}

/// What pods are held to in namespaces that say nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PodSecurity {
    /// Nothing that leads out of a container; who makes a pod that is not restricted is warned
    Baseline,
    /// As a hardened pod
    Restricted,
    /// To nothing, as upstream does
    DangerPrivileged,
}

impl PodSecurity {
    /// What is enforced, audited and warned of.
    pub(crate) const fn policy(self) -> Policy {
        match self {
            Self::Baseline => Policy::latest(Level::Baseline, Level::Baseline, Level::Restricted),
            Self::Restricted => Policy::latest(Level::Restricted, Level::Restricted, Level::Restricted),
            Self::DangerPrivileged => Policy::latest(Level::Privileged, Level::Privileged, Level::Privileged),
        }
    }
}

/// Options of `down`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Down {
    /// Remove the cluster's data too: objects, images, volumes, keys
    #[arg(long)]
    pub(crate) purge: bool,
}

/// Options of `status`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Status {
    /// How to print it
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
}

/// How to print something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Options of `image`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Image {
    /// What to do with images.
    #[command(subcommand)]
    pub(crate) command: ImageCommand,
}

/// What to do with images.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Bring in the images of an OCI or docker archive
    Import {
        /// The archive: tar, gzip, zstd, or an OCI layout directory
        archive: PathBuf,
        /// Name the image so, whatever the archive says
        #[arg(long)]
        name: Option<String>,
    },
    /// Fetch an image from its registry
    Pull {
        /// The image, `docker.io/library/nginx:1.27`
        image: String,
    },
    /// List images
    Ls {
        /// How to print them
        #[arg(short, long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
    /// Remove an image
    Rm {
        /// The image's name or digest
        image: String,
    },
}

/// Options of `crd`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Crd {
    /// What to do with definitions.
    #[command(subcommand)]
    pub(crate) command: CrdCommand,
}

/// What to do with definitions of custom resources.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum CrdCommand {
    /// Print an object in another version
    Convert {
        /// The object, YAML or JSON; - reads standard input
        file: PathBuf,
        /// Its definition
        #[arg(long, value_name = "FILE")]
        crd: PathBuf,
        /// The version wanted, `v2`
        #[arg(long, value_name = "VERSION")]
        to: String,
    },
    /// Try whether examples of every version come back from the others unchanged
    Test {
        /// The definition, YAML or JSON; - reads standard input
        crd: PathBuf,
    },
}

/// Options of `secrets`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Secrets {
    /// What to do with what is encrypted.
    #[command(subcommand)]
    pub(crate) command: SecretsCommand,
}

/// What to do with what is encrypted at rest.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum SecretsCommand {
    /// Make a new key, seal everything with it, and remove the older keys
    Rotate,
}

/// Options of the server process.
#[derive(Clone, Debug, Args)]
pub(crate) struct Serve {
    /// Where the API server listens.
    #[arg(long)]
    pub(crate) bind: SocketAddr,
    /// How long the server goes on when it is to stop, in seconds.
    #[arg(long)]
    pub(crate) shutdown_delay: u64,
    /// What pods may do that weakens their isolation.
    #[arg(long, value_enum)]
    pub(crate) danger_allow: Vec<Danger>,
    /// What pods are held to where their namespace says nothing.
    #[arg(long, value_enum)]
    pub(crate) pod_security_default: PodSecurity,
    /// What is recorded.
    #[command(flatten)]
    pub(crate) audit: AuditOptions,
    /// What is encrypted.
    #[command(flatten)]
    pub(crate) encryption: EncryptionOptions,
    /// Where the objects are.
    #[command(flatten)]
    pub(crate) store: StoreOptions,
    /// Who may log in.
    #[command(flatten)]
    pub(crate) identity: IdentityOptions,
}

impl Serve {
    /// What pods may do that is refused elsewhere.
    pub(crate) fn dangers(&self) -> Dangers {
        let allowed = |danger| self.danger_allow.contains(&danger);
        Dangers {
            host_network: allowed(Danger::HostNetwork),
            unconfined: allowed(Danger::Unconfined),
            unmasked: allowed(Danger::Unmasked),
        }
    }
}
