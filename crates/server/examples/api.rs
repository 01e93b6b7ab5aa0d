//! An API server alone, without node or controllers: `cargo run -p xebec-server --example api -- DIR PORT`.

use std::path::PathBuf;
use std::sync::Arc;

use xebec_server::auth::keys::ClusterKeys;
use xebec_server::config::Settings;
use xebec_server::core::SystemClock;
use xebec_server::nodes::NoNodes;
use xebec_server::server::{ApiServer, Parts};
use xebec_store::{Embedded, EmbeddedOptions};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().ok_or("the first argument is a directory")?);
    let port: u16 = arguments.next().ok_or("the second argument is a port")?.parse()?;
    let begun = std::time::Instant::now();
    let keys = ClusterKeys::open(&directory.join("pki"), &ring::rand::SystemRandom::new())?;
    let store = Embedded::open(&directory.join("store"), EmbeddedOptions::default())?;
    let url = format!("https://127.0.0.1:{port}");
    let settings = Settings { url: url.clone(), ..Settings::default() };
    let parts =
        Parts { store: Arc::new(store), nodes: Arc::new(NoNodes), clock: Arc::new(SystemClock), settings };
    let server = ApiServer::new(parts, &keys)?;
    server.start().await?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    let serving = keys.serving(&["localhost", "kubernetes"], &["127.0.0.1".parse()?])?;
    let admin = keys.client("admin", Some("system:masters"))?;
    std::fs::write(directory.join("ca.pem"), keys.ca_pem())?;
    std::fs::write(directory.join("admin.crt"), &admin.certificate_pem)?;
    std::fs::write(directory.join("admin.key"), &admin.key_pem)?;
    eprintln!("ready at {url} after {:?}", begun.elapsed());
    server.serve(listener, &serving).await?;
    Ok(())
}
