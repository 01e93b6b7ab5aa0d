//! The server's side of the control socket.

use std::sync::Arc;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use xebec_image::ImageService;
use xebec_image::archive::Source;
use xebec_image::images::Record;
use xebec_image::progress::Silent;
use xebec_image::reference::Reference;
use xebec_image::registry::Keyring;

use super::Health;
use crate::control::{Image, MAX_LINE, Reply, Request};

/// How many commands run at once.
const MAX_COMMANDS: usize = 32;

/// Takes commands until `shutdown`.
pub(crate) async fn serve(
    listener: UnixListener,
    health: Health,
    images: ImageService,
    shutdown: CancellationToken,
) {
    let mut commands = JoinSet::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some(_) = commands.join_next(), if !commands.is_empty() => {}
            accepted = listener.accept(), if commands.len() < MAX_COMMANDS => match accepted {
                Ok((stream, _)) => {
                    let (health, images) = (health.clone(), images.clone());
                    commands.spawn(async move {
                        if let Err(error) = answer(stream, &health, images).await {
                            tracing::debug!(%error, "a command went away");
                        }
                    });
                }
                Err(error) => tracing::warn!(%error, "a command could not be accepted"),
            }
        }
    }
}

async fn answer(stream: UnixStream, health: &Health, images: ImageService) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    BufReader::new(reader.take(MAX_LINE as u64)).read_line(&mut line).await?;
    let reply = match serde_json::from_str::<Request>(&line) {
        Ok(request) => run(request, health, &images).await.unwrap_or_else(Reply::Error),
        Err(error) => Reply::Error(format!("the command cannot be read: {error}")),
    };
    let mut text = serde_json::to_vec(&reply)?;
    text.push(b'\n');
    writer.write_all(&text).await
}

async fn run(request: Request, health: &Health, images: &ImageService) -> Result<Reply, String> {
    let failed = |error: &dyn std::error::Error| error.to_string();
    match request {
        Request::Status => Ok(Reply::Status(health.status())),
        Request::ListImages => Ok(Reply::Images(images.list().iter().flat_map(shown).collect())),
        Request::ImportImage { archive, name } => {
            let name = name.map(|n| Reference::parse(&n)).transpose().map_err(|e| failed(&e))?;
            let imported = images.import(Source::Path(archive), name).await.map_err(|e| failed(&e))?;
            Ok(Reply::Images(imported.iter().flat_map(shown).collect()))
        }
        Request::PullImage { image } => {
            let reference = Reference::parse(&image).map_err(|e| failed(&e))?;
            let record = pull(images.clone(), reference).await?;
            Ok(Reply::Images(shown(&record)))
        }
        Request::RemoveImage { image } => {
            images.remove(&image).await.map_err(|e| failed(&e))?;
            images.prune().await.map_err(|e| failed(&e))?;
            Ok(Reply::Images(images.list().iter().flat_map(shown).collect()))
        }
    }
}

/// Pulls on a thread of its own: the compiler cannot prove that the pull may move between threads.
async fn pull(images: ImageService, image: Reference) -> Result<Record, String> {
    let runtime = tokio::runtime::Handle::current();
    let pulled = tokio::task::spawn_blocking(move || {
        runtime
            .block_on(images.pull(&image, &Keyring::default(), Arc::new(Silent)))
            .map_err(|e| e.to_string())
    });
    pulled.await.unwrap_or_else(|e| Err(e.to_string()))
}

/// An image under each of its names.
fn shown(record: &Record) -> Vec<Image> {
    let one = |name: String| Image { name, digest: record.manifest.to_string(), size: record.size };
    if record.tags.is_empty() {
        return vec![one("<none>".into())];
    }
    record.tags.iter().map(|tag| one(tag.familiar())).collect()
}
