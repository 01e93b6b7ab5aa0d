//! A way to etcd that can be cut.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

pub(crate) struct Proxy {
    address: SocketAddr,
    /// Where it leads; nowhere when it is cut.
    leads: watch::Sender<Option<u16>>,
    port: u16,
    task: AbortHandle,
}

impl Proxy {
    pub(crate) async fn start(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let leads = watch::Sender::new(Some(port));
        let task = tokio::spawn(pass(listener, leads.subscribe())).abort_handle();
        Self { address, leads, port, task }
    }

    pub(crate) fn address(&self) -> String {
        format!("etcd://{}", self.address)
    }

    /// Breaks all connections, and takes no new ones.
    pub(crate) fn cut(&self) {
        self.leads.send_replace(None);
    }

    pub(crate) fn mend(&self) {
        self.turn(self.port);
    }

    /// From now on it leads somewhere else; what passes already goes on.
    pub(crate) fn turn(&self, port: u16) {
        self.leads.send_replace(Some(port));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(listener: TcpListener, mut leads: watch::Receiver<Option<u16>>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (mut inside, _) = accepted.expect("accept");
                let Some(port) = *leads.borrow() else { continue };
                connections.spawn(async move {
                    let Ok(mut outside) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                    // However it ends.
                    drop(copy_bidirectional(&mut inside, &mut outside).await);
                });
            }
            changed = leads.changed() => {
                changed.expect("the proxy lives");
                if leads.borrow_and_update().is_none() {
                    connections.shutdown().await;
                }
            }
        }
    }
}
