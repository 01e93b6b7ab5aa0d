//! The server's side of the control socket.

use std::io::ErrorKind;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use xebec_image::ImageService;
use xebec_image::archive::Source;
use xebec_image::images::Record;
use xebec_image::reference::Reference;
use xebec_image::registry::Keyring;
use xebec_server::ApiServer;
use xebec_server::encryption::{EncryptionKeys, Rotated};

use super::Health;
use super::progress::PullProgress;
use crate::control::{Image, MAX_LINE, Reply, Request};

/// How many commands run at once.
const MAX_COMMANDS: usize = 32;

/// How long a client may take to ask.
const ASKS_WITHIN: Duration = Duration::from_secs(2);

/// How many lines of progress wait for a client; those beyond are lost.
const MAX_LINES: usize = 64;

/// What commands are about.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) health: Health,
    pub(crate) images: ImageService,
    pub(crate) server: ApiServer,
    pub(crate) encryption: EncryptionKeys,
}

/// Takes commands until `shutdown`.
pub(crate) async fn serve(listener: UnixListener, parts: Parts, shutdown: CancellationToken) {
    let mut commands = JoinSet::new();
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            Some(_) = commands.join_next(), if !commands.is_empty() => {}
            accepted = listener.accept(), if commands.len() < MAX_COMMANDS => match accepted {
                Ok((stream, _)) => {
                    let parts = parts.clone();
                    commands.spawn(async move {
                        if let Err(error) = answer(stream, &parts).await {
                            tracing::debug!(%error, "a command went away");
                        }
                    });
                }
                Err(error) => tracing::warn!(%error, "a command could not be accepted"),
            }
        }
    }
}

async fn answer(stream: UnixStream, parts: &Parts) -> std::io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader.take(MAX_LINE as u64));
    let mut line = String::new();
    timeout(ASKS_WITHIN, reader.read_line(&mut line)).await??;
    let request = match serde_json::from_str::<Request>(&line) {
        Ok(request) => request,
        Err(error) => {
            let reply = Reply::Error(format!("the command cannot be read: {error}"));
            return send(&mut writer, &reply).await;
        }
    };
    let (progress, mut lines) = mpsc::channel(MAX_LINES);
    let mut work = pin!(run(request, parts, progress));
    // It says nothing more, so whatever comes now is its end.
    let mut gone = pin!(reader.read_u8());
    loop {
        tokio::select! {
            reply = &mut work => return send(&mut writer, &reply.unwrap_or_else(Reply::Error)).await,
            _ = &mut gone => return Err(ErrorKind::ConnectionReset.into()),
            Some(text) = lines.recv() => send(&mut writer, &Reply::Progress(text)).await?,
        }
    }
}

async fn send(writer: &mut OwnedWriteHalf, reply: &Reply) -> std::io::Result<()> {
    let mut text = serde_json::to_vec(reply)?;
    text.push(b'\n');
    writer.write_all(&text).await
}

/// Does what is asked. Dropped, a pull ends; an import runs to its end.
async fn run(request: Request, parts: &Parts, progress: mpsc::Sender<String>) -> Result<Reply, String> {
    let Parts { health, images, server, encryption } = parts;
    let failed = |error: &dyn std::error::Error| with_causes(error);
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
            let progress = Arc::new(PullProgress::new(progress));
            let record = images.pull(&reference, &Keyring::default(), progress).await;
            Ok(Reply::Images(shown(&record.map_err(|e| failed(&e))?)))
        }
        Request::RemoveImage { image } => {
            images.remove(&image).await.map_err(|e| failed(&e))?;
            images.prune().await.map_err(|e| failed(&e))?;
            Ok(Reply::Images(images.list().iter().flat_map(shown).collect()))
        }
        Request::RotateEncryption => {
            let rotated = server.rotate_encryption(encryption).await;
            let Rotated { key, values, removed } = rotated.map_err(|e| failed(&e))?;
            Ok(Reply::Rotated { key, values, removed })
        }
    }
}

/// An error and what it comes from.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| {
        let cause = cause.to_string();
        if text.ends_with(&cause) { text } else { format!("{text}: {cause}") }
    })
}

/// An image under each of its names.
fn shown(record: &Record) -> Vec<Image> {
    let one = |name: String| Image { name, digest: record.manifest.to_string(), size: record.size };
    if record.tags.is_empty() {
        return vec![one("<none>".into())];
    }
    record.tags.iter().map(|tag| one(tag.familiar())).collect()
}
