//! One forwarded connection, seen from the pod.

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use super::ConnectionId;
use crate::streams::pods::{PodRef, Pods};

/// Bytes read from a pod at once.
const READ_BYTES: usize = 16 << 10;

/// Something that a pod says to the client.
#[derive(Debug)]
pub(super) struct FromPod {
    pub(super) id: ConnectionId,
    pub(super) said: Said,
}

#[derive(Debug)]
pub(super) enum Said {
    Data(Bytes),
    /// The pod sends no more.
    End,
    /// There is no connection, and why.
    Failed(String),
    /// Nothing more happens on the connection.
    Done,
}

/// The way to the client, for one connection.
pub(super) struct Voice {
    pub(super) id: ConnectionId,
    pub(super) said: mpsc::Sender<FromPod>,
}

impl Voice {
    /// Says something to the client; false when it has left.
    async fn say(&self, said: Said) -> bool {
        self.said.send(FromPod { id: self.id, said }).await.is_ok()
    }
}

/// Connects to the pod and moves bytes until both sides have ended.
pub(super) async fn forward(
    pods: &dyn Pods,
    pod: &PodRef,
    port: u16,
    client: Voice,
    queued: mpsc::Receiver<Bytes>,
) {
    match pods.dial(pod, port).await {
        Ok(stream) => {
            let (reading, writing) = stream.into_split();
            tokio::join!(to_client(reading, &client), to_pod(writing, queued));
        }
        Err(error) => {
            let why = format!("error forwarding port {port} to pod {}/{}: {error}", pod.namespace, pod.name);
            client.say(Said::Failed(why)).await;
        }
    }
    client.say(Said::Done).await;
}

/// A connection that the pod resets ends for the client as one that it closes: forwarding goes on.
async fn to_client(mut pod: OwnedReadHalf, client: &Voice) {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ_BYTES);
        match pod.read_buf(&mut buffer).await {
            Ok(0) => break,
            Ok(_) => {
                if !client.say(Said::Data(buffer.split().freeze())).await {
                    return;
                }
            }
            Err(error) => {
                tracing::debug!(connection = client.id.0, %error, "a pod broke off a forwarded connection");
                break;
            }
        }
    }
    client.say(Said::End).await;
}

async fn to_pod(mut pod: OwnedWriteHalf, mut queued: mpsc::Receiver<Bytes>) {
    while let Some(bytes) = queued.recv().await {
        if let Err(error) = pod.write_all(&bytes).await {
            tracing::debug!(%error, "a pod takes no more data on a forwarded connection");
            return;
        }
    }
    if let Err(error) = pod.shutdown().await {
        tracing::debug!(%error, "a forwarded connection was gone before its client ended it");
    }
}
