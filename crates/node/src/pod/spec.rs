//! From a container of a pod, its image and its volumes to what a sandbox is asked for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{
    Container, Pod, PodSecurityContext, SeccompProfile as Seccomp, SecurityContext,
};
use xebec_image::config::ContainerDefaults;
use xebec_image::rootfs::{IdOrName, Rootfs, UserSpec};
use xebec_sandbox::config::{
    CapabilityChange, ContainerConfig, ContainerId, ContainerUser, EnvVar, KernelFiles, LogConfig, Mount,
    MountSource, Principal, ResourceLimits, Rootfs as SandboxRootfs, SeccompProfile, Signal, Stdin,
};

use super::env::expand;
use super::volumes::{Place, Places};
use crate::host::PodDir;

/// Why a container cannot be described: `CreateContainerConfigError`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// Neither the pod nor the image says what to run.
    #[error("no command specified")]
    NoCommand,
    /// The image's user is no user.
    #[error("the image's user: {0}")]
    User(String),
    /// The container must not run as root, and would.
    #[error("container has runAsNonRoot and image will run as root")]
    Root,
    /// The container must not run as root, and nobody can tell.
    #[error(
        "container has runAsNonRoot and image has non-numeric user ({0}), cannot verify user is non-root"
    )]
    PerhapsRoot(String),
    /// A number that is out of range.
    #[error("{field} {value} is out of range")]
    Range {
        /// Which field.
        field: &'static str,
        /// Its value.
        value: i64,
    },
    /// A capability, signal or the like that there is not.
    #[error("{0}")]
    Unknown(String),
    /// A volume that is not there.
    #[error("volume mount {0:?} refers to no volume")]
    Volume(String),
    /// A path inside a volume that may lead out of it.
    #[error("subPath {0:?} must be relative and must not contain '..'")]
    SubPath(String),
    /// Something that this node does not do.
    #[error("{0} is not supported by this node")]
    Unsupported(&'static str),
}

/// The label of a container that says which image layers it uses.
pub const CHAIN: &str = "chain";

/// What a container is made from.
pub struct Ingredients<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// The container.
    pub container: &'a Container,
    /// Its image, unpacked.
    pub rootfs: &'a Rootfs,
    /// Its environment.
    pub env: Vec<EnvVar>,
    /// Where volumes are, by name.
    pub volumes: &'a Places,
    /// The run of the container whose processes this one is to see.
    pub beside: Option<ContainerId>,
    /// The pod's directory.
    pub dir: &'a PodDir,
    /// The run's id.
    pub id: ContainerId,
    /// How many runs came before.
    pub restart: u32,
}

/// Describes a run of a container.
///
/// # Errors
/// [`SpecError`] says what about it cannot be done.
pub fn container_config(from: Ingredients<'_>) -> Result<ContainerConfig, SpecError> {
    let Ingredients { pod, container, rootfs, env, volumes, beside, dir, id, restart } = from;
    let defaults = &rootfs.defaults;
    let security = container.security_context.clone().unwrap_or_default();
    let pod_security = pod.spec.as_ref().and_then(|s| s.security_context.clone()).unwrap_or_default();
    let args = command(container, defaults, &env)?;
    let root = SandboxRootfs { lower: rootfs.lowerdirs.clone(), writable: dir.writable(id.as_str()) };
    let mut mounts = etc_mounts(dir);
    mounts.extend(volume_mounts(container, volumes, &env)?);
    mounts.push(termination_mount(container, dir, id.as_str()));
    let labels = BTreeMap::from([
        ("container".to_owned(), container.name.clone()),
        ("restart".to_owned(), restart.to_string()),
        (CHAIN.to_owned(), rootfs.chain.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")),
    ]);
    let user = user(&security, &pod_security, defaults)?;
    let mut config = ContainerConfig::new(id, root, args);
    config.user = user;
    config.cwd = working_dir(container, defaults);
    config.env = env;
    config.image_volumes = image_volumes(defaults, &mounts);
    config.mounts = mounts;
    config.capabilities = capabilities(&security)?;
    config.read_only_rootfs = security.read_only_root_filesystem == Some(true);
    config.no_new_privileges = security.allow_privilege_escalation != Some(true);
    config.seccomp = seccomp(security.seccomp_profile.as_ref().or(pod_security.seccomp_profile.as_ref()))?;
    config.kernel_files = match security.proc_mount.as_deref() {
        Some("Unmasked") => KernelFiles::DangerUnmasked,
        _ => KernelFiles::Protected,
    };
    config.tty = container.tty == Some(true);
    config.stdin = match (container.stdin, container.stdin_once) {
        (Some(true), Some(true)) => Stdin::Once,
        (Some(true), _) => Stdin::Open,
        _ => Stdin::None,
    };
    config.limits = limits(container);
    config.log = Some(LogConfig::new(dir.log(&container.name, restart)));
    config.stop_signal = stop_signal(defaults)?;
    config.process_namespace_of = beside;
    config.labels = labels;
    Ok(config)
}

fn command(
    container: &Container,
    defaults: &ContainerDefaults,
    env: &[EnvVar],
) -> Result<Vec<String>, SpecError> {
    let lookup = |name: &str| env.iter().find(|v| v.name == name).map(|v| v.value.clone());
    let given = |list: &Option<Vec<String>>| -> Option<Vec<String>> {
        let list = list.as_ref().filter(|l| !l.is_empty())?;
        Some(list.iter().map(|text| expand(text, lookup)).collect())
    };
    // A command of the pod's own replaces the image's arguments too.
    let (command, args) = match (given(&container.command), given(&container.args)) {
        (Some(command), args) => (command, args.unwrap_or_default()),
        (None, Some(args)) => (defaults.entrypoint.clone(), args),
        (None, None) => (defaults.entrypoint.clone(), defaults.cmd.clone()),
    };
    let all = [command, args].concat();
    if all.is_empty() { Err(SpecError::NoCommand) } else { Ok(all) }
}

fn working_dir(container: &Container, defaults: &ContainerDefaults) -> PathBuf {
    let given = container.working_dir.as_deref().filter(|d| !d.is_empty());
    let dir = given.unwrap_or(&defaults.working_dir);
    if dir.is_empty() { "/".into() } else { dir.into() }
}

fn id(field: &'static str, value: i64) -> Result<u32, SpecError> {
    u32::try_from(value).map_err(|_| SpecError::Range { field, value })
}

fn user(
    security: &SecurityContext,
    pod: &PodSecurityContext,
    defaults: &ContainerDefaults,
) -> Result<ContainerUser, SpecError> {
    let image = UserSpec::parse(&defaults.user).map_err(|e| SpecError::User(e.to_string()))?;
    let principal = |part: IdOrName| match part {
        IdOrName::Id(id) => Principal::Id(id),
        IdOrName::Name(name) => Principal::Name(name),
    };
    let (user, mut group) = match security.run_as_user.or(pod.run_as_user) {
        Some(uid) => (Principal::Id(id("runAsUser", uid)?), None),
        None => (principal(image.user), image.group.map(principal)),
    };
    if let Some(gid) = security.run_as_group.or(pod.run_as_group) {
        group = Some(Principal::Id(id("runAsGroup", gid)?));
    }
    if security.run_as_non_root.or(pod.run_as_non_root) == Some(true) {
        match &user {
            Principal::Id(0) => return Err(SpecError::Root),
            Principal::Name(name) => return Err(SpecError::PerhapsRoot(name.clone())),
            Principal::Id(_) => {}
        }
    }
    let mut supplementary_groups = pod
        .supplemental_groups
        .iter()
        .flatten()
        .map(|g| id("supplementalGroups", *g))
        .collect::<Result<Vec<_>, _>>()?;
    if let Some(gid) = pod.fs_group {
        supplementary_groups.push(id("fsGroup", gid)?);
    }
    Ok(ContainerUser { user, group, supplementary_groups })
}

fn capabilities(security: &SecurityContext) -> Result<CapabilityChange, SpecError> {
    let Some(change) = &security.capabilities else { return Ok(CapabilityChange::default()) };
    let parse = |names: &Option<Vec<String>>| {
        let parsed = names.iter().flatten().map(|n| n.parse());
        parsed
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e: xebec_sandbox::config::UnknownCapability| SpecError::Unknown(e.to_string()))
    };
    Ok(CapabilityChange { add: parse(&change.add)?, drop: parse(&change.drop)? })
}

fn seccomp(profile: Option<&Seccomp>) -> Result<SeccompProfile, SpecError> {
    match profile.map(|p| p.type_.as_str()) {
        None | Some("RuntimeDefault") => Ok(SeccompProfile::RuntimeDefault),
        Some("Unconfined") => Ok(SeccompProfile::DangerUnconfined),
        Some(_) => Err(SpecError::Unsupported("a seccomp profile of the host")),
    }
}

fn limits(container: &Container) -> ResourceLimits {
    let resources = container.resources.as_ref();
    let limits = resources.and_then(|r| r.limits.as_ref());
    let requests = resources.and_then(|r| r.requests.as_ref());
    let cpu = |map: Option<&BTreeMap<String, _>>| -> Option<u64> {
        let amount: &k8s_openapi::apimachinery::pkg::api::resource::Quantity = map?.get("cpu")?;
        u64::try_from(crate::quantity::millis(&amount.0)?).ok()
    };
    ResourceLimits {
        memory_bytes: limits.and_then(|l| l.get("memory")).and_then(|q| crate::quantity::units(&q.0)),
        cpu_millis: cpu(limits),
        cpu_request_millis: cpu(requests),
        pids: None,
        oom_score_adj: None,
    }
}

fn stop_signal(defaults: &ContainerDefaults) -> Result<Signal, SpecError> {
    if defaults.stop_signal.is_empty() {
        return Ok(Signal::TERM);
    }
    defaults
        .stop_signal
        .parse()
        .map_err(|e: xebec_sandbox::config::UnknownSignal| SpecError::Unknown(e.to_string()))
}

fn bind(path: PathBuf, destination: &str, read_only: bool) -> Mount {
    Mount { destination: destination.into(), source: MountSource::Bind { path, sub_path: None }, read_only }
}

fn etc_mounts(dir: &PodDir) -> Vec<Mount> {
    ["hosts", "hostname", "resolv.conf"]
        .map(|file| bind(dir.etc().join(file), &format!("/etc/{file}"), false))
        .into()
}

fn termination_mount(container: &Container, dir: &PodDir, id: &str) -> Mount {
    let path = container.termination_message_path.as_deref().unwrap_or("/dev/termination-log");
    bind(dir.termination_message(id), path, false)
}

/// The volumes that the image declares, but for those that the pod fills itself.
fn image_volumes(defaults: &ContainerDefaults, mounts: &[Mount]) -> Vec<PathBuf> {
    let declared = defaults.volumes.iter().map(|path| Path::new("/").join(path));
    declared.filter(|path| !mounts.iter().any(|mount| path.starts_with(&mount.destination))).collect()
}

fn volume_mounts(container: &Container, volumes: &Places, env: &[EnvVar]) -> Result<Vec<Mount>, SpecError> {
    let mut mounts = Vec::new();
    for mount in container.volume_mounts.iter().flatten() {
        let place = volumes.get(&mount.name).ok_or_else(|| SpecError::Volume(mount.name.clone()))?;
        let sub_path = match (&mount.sub_path, &mount.sub_path_expr) {
            (Some(path), _) if !path.is_empty() => Some(path.clone()),
            (_, Some(text)) if !text.is_empty() => {
                Some(expand(text, |name| env.iter().find(|v| v.name == name).map(|v| v.value.clone())))
            }
            _ => None,
        };
        if let Some(text) =
            sub_path.as_ref().filter(|p| p.starts_with('/') || p.split('/').any(|s| s == ".."))
        {
            return Err(SpecError::SubPath(text.clone()));
        }
        let sub_path = sub_path.map(PathBuf::from);
        let (source, fixed) = match place {
            Place::Directory { path, read_only } => {
                (MountSource::Bind { path: path.clone(), sub_path }, *read_only)
            }
            Place::Memory { size_bytes } => {
                let (name, size_bytes) = (mount.name.clone(), *size_bytes);
                (MountSource::Memory { name, size_bytes, sub_path }, false)
            }
        };
        mounts.push(Mount {
            destination: PathBuf::from(&mount.mount_path),
            source,
            read_only: fixed || mount.read_only == Some(true),
        });
    }
    Ok(mounts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_runs() {
        let check = |command: &[&str], args: &[&str], want: Result<&[&str], SpecError>| {
            let words =
                |list: &[&str]| (!list.is_empty()).then(|| list.iter().map(ToString::to_string).collect());
            let container = Container { command: words(command), args: words(args), ..Container::default() };
            let defaults = ContainerDefaults {
                entrypoint: vec!["/entry".into()],
                cmd: vec!["serve".into()],
                ..ContainerDefaults::default()
            };
            let env = [EnvVar { name: "A".into(), value: "1".into() }];
            let want = want.map(|w| w.iter().map(ToString::to_string).collect::<Vec<_>>());
            assert_eq!(self::command(&container, &defaults, &env), want);
        };
        check(&[], &[], Ok(&["/entry", "serve"]));
        check(&["/x"], &[], Ok(&["/x"]));
        check(&[], &["y", "$(A)"], Ok(&["/entry", "y", "1"]));
        check(&["/x"], &["y"], Ok(&["/x", "y"]));
        let nothing = command(&Container::default(), &ContainerDefaults::default(), &[]);
        assert_eq!(nothing, Err(SpecError::NoCommand));
    }

    #[test]
    fn who_runs() {
        let check = |uid: Option<i64>, non_root: bool, image: &str, want: Result<Principal, SpecError>| {
            let security = SecurityContext {
                run_as_user: uid,
                run_as_non_root: Some(non_root),
                ..SecurityContext::default()
            };
            let defaults = ContainerDefaults { user: image.into(), ..ContainerDefaults::default() };
            let got = user(&security, &PodSecurityContext::default(), &defaults).map(|u| u.user);
            assert_eq!(got, want, "{uid:?} {non_root} {image}");
        };
        check(None, false, "", Ok(Principal::Id(0)));
        check(None, true, "", Err(SpecError::Root));
        check(Some(5), true, "", Ok(Principal::Id(5)));
        check(None, true, "1000:1000", Ok(Principal::Id(1000)));
        check(None, true, "app", Err(SpecError::PerhapsRoot("app".into())));
        check(None, false, "app", Ok(Principal::Name("app".into())));
        check(Some(-1), false, "", Err(SpecError::Range { field: "runAsUser", value: -1 }));
    }

    #[test]
    fn sub_paths_stay_inside() {
        let place = Place::Directory { path: PathBuf::from("/data/v"), read_only: true };
        let volumes = Places::from([("v".to_owned(), place)]);
        let check = |sub: &str, ok: bool| {
            let mount = k8s_openapi::api::core::v1::VolumeMount {
                name: "v".into(),
                mount_path: "/m".into(),
                sub_path: Some(sub.into()),
                ..Default::default()
            };
            let container = Container { volume_mounts: Some(vec![mount]), ..Container::default() };
            assert_eq!(volume_mounts(&container, &volumes, &[]).is_ok(), ok, "{sub}");
        };
        check("a/b", true);
        check("../x", false);
        check("a/../../x", false);
        check("/etc", false);
    }
}
