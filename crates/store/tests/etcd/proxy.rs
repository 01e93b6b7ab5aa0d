//! A way to etcd that can be cut.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

pub(crate) struct Proxy {
    address: SocketAddr,
    open: watch::Sender<bool>,
    task: AbortHandle,
}

impl Proxy {
    pub(crate) async fn start(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let open = watch::Sender::new(true);
        let task = tokio::spawn(pass(listener, port, open.subscribe())).abort_handle();
        Self { address, open, task }
    }

    pub(crate) fn address(&self) -> String {
        format!("etcd://{}", self.address)
    }

    /// Breaks all connections, and takes no new ones.
    pub(crate) fn cut(&self) {
        self.open.send_replace(false);
    }

    pub(crate) fn mend(&self) {
        self.open.send_replace(true);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(listener: TcpListener, port: u16, mut open: watch::Receiver<bool>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (mut inside, _) = accepted.expect("accept");
                if !*open.borrow() {
                    continue;
                }
                connections.spawn(async move {
                    let Ok(mut outside) = TcpStream::connect(("127.0.0.1", port)).await else { return };
                    // However it ends.
                    drop(copy_bidirectional(&mut inside, &mut outside).await);
                });
            }
            changed = open.changed() => {
                changed.expect("the proxy lives");
                if !*open.borrow_and_update() {
                    connections.shutdown().await;
                }
            }
        }
    }
}
