//! Writes to a socket, and the last words to it.

use std::sync::atomic::AtomicU64;

use bytes::Buf;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};

use crate::broker::output::Output;
use crate::broker::shared::count;
use crate::limits;

/// Writes some, and all that lies between here and the socket once there is no more. Nothing is lost when it is broken off.
pub(super) async fn push<W: AsyncWrite + Unpin>(
    writer: &mut W,
    output: &mut Output,
    unflushed: &mut bool,
    sent: &AtomicU64,
) -> std::io::Result<()> {
    if !output.is_empty() {
        count(sent, writer.write_buf(output).await? as u64);
        *unflushed = true;
    }
    if output.is_empty() {
        writer.flush().await?;
        *unflushed = false;
    }
    Ok(())
}

/// Writes what is left and closes, within a moment: nobody waits long for a peer that is being shown out. What the peer still sends is read
/// and dropped until it closes too, since a socket closed over unread bytes takes the last words back (RFC 1122, 4.2.2.13).
pub(super) async fn say_last<R, W>(reader: &mut R, writer: &mut W, output: &mut impl Buf)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let part = async {
        writer.write_all_buf(output).await?;
        writer.flush().await?;
        writer.shutdown().await?;
        tokio::io::copy(reader, &mut tokio::io::sink()).await
    };
    // The peer may be gone already: there is nobody left to tell.
    let _ = tokio::time::timeout(limits::LAST_WORDS, part).await;
}
