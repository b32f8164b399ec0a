//! The cable between the gateway and the demo's cloud: a TCP relay on loopback that can be cut and mended.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::debug;

/// The cable. Dropping it ends its connections.
pub(super) struct Link {
    address: SocketAddr,
    mended: Arc<watch::Sender<bool>>,
    relay: JoinHandle<()>,
}

impl Link {
    /// Lays a cable to `cloud`.
    pub(super) async fn lay(cloud: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let mended = Arc::new(watch::Sender::new(true));
        let relay = tokio::spawn(relay(listener, cloud, Arc::clone(&mended)));
        Ok(Self { address, mended, relay })
    }

    /// The gateway's end.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Cuts it when `false` is sent, mends it when `true` is.
    pub(super) fn switch(&self) -> Arc<watch::Sender<bool>> {
        Arc::clone(&self.mended)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.relay.abort();
    }
}

async fn relay(listener: TcpListener, cloud: SocketAddr, mended: Arc<watch::Sender<bool>>) {
    let mut ends = tokio::task::JoinSet::new();
    loop {
        let near = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((near, _)) => near,
                Err(error) => {
                    debug!(%error, "the demo's cable cannot take a connection");
                    continue;
                }
            },
            Some(_) = ends.join_next() => continue,
        };
        let mut state = mended.subscribe();
        ends.spawn(async move {
            if *state.borrow_and_update() {
                tokio::select! {
                    _ = carry(near, cloud) => {}
                    _ = state.wait_for(|mended| !mended) => {}
                }
            } else {
                // Gone at once and without a goodbye, as a cut cable would be noticed.
                near.set_zero_linger().ok();
            }
        });
    }
}

async fn carry(mut near: TcpStream, cloud: SocketAddr) -> std::io::Result<()> {
    near.set_nodelay(true)?;
    let mut far = TcpStream::connect(cloud).await?;
    far.set_nodelay(true)?;
    copy_bidirectional(&mut near, &mut far).await?;
    Ok(())
}
