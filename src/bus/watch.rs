//! Notices when a port may have come: a change by inotify(7) in the folders where it, or the links that lead to it, would appear.
//!
//! A hint, no promise: without inotify (its instances are limited, and some file systems have none) the back-off alone finds the port.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use inotify::{EventMask, Inotify, WatchMask};
use tokio::io::unix::AsyncFd;

use super::Device;
use super::discovery::Roots;
use crate::limits::PORT_LINKS_MAX;

/// Watches for one port.
pub(super) struct DeviceWatch {
    inotify: AsyncFd<Inotify>,
    names: Names,
}

/// Which names in the watched folders are meant.
#[derive(Debug, PartialEq, Eq)]
enum Names {
    These(Vec<OsString>),
    /// Any tty: an adapter that is known by its ids can get any name.
    Ttys,
}

impl DeviceWatch {
    /// Watches from here on. `None` where the kernel gives no inotify.
    pub(super) fn new(device: &Device, roots: &Roots) -> Option<Self> {
        let (folders, names) = match device {
            Device::Path(path) => {
                let (folders, names) = appearances(path).into_iter().unzip();
                (folders, Names::These(names))
            }
            Device::Usb { .. } | Device::Simulated(_) | Device::Replay { .. } | Device::Templates(_) => {
                (vec![roots.dev.clone()], Names::Ttys)
            }
        };
        match Self::watch(&folders, names) {
            Ok(watch) => Some(watch),
            Err(error) => {
                tracing::debug!(error = %error, "no inotify: ports are found by back-off alone");
                None
            }
        }
    }

    fn watch(folders: &[PathBuf], names: Names) -> io::Result<Self> {
        let inotify = Inotify::init()?;
        let mask = WatchMask::CREATE
            | WatchMask::MOVED_TO
            // udev gives a new node to its group after it has made it.
            | WatchMask::ATTRIB
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        for folder in folders {
            // A folder that is gone again is missed: the one above it is watched at the next try.
            let _ = inotify.watches().add(folder, mask);
        }
        // SAFETY: `Inotify` owns its descriptor, always gives the same one, and closes it only when it is dropped, which is after the
        // registration ended: the AsyncFd owns it.
        let inotify = unsafe { AsyncFd::register(inotify) }?;
        Ok(Self { inotify, names })
    }

    /// Waits until something changed that may have brought the port. Cancel safe.
    pub(super) async fn changed(&mut self) {
        loop {
            let Ok(mut guard) = self.inotify.readable_mut().await else {
                // The runtime is shutting down.
                return std::future::pending().await;
            };
            let mut buffer = [0; 4096];
            let relevant = guard.try_io(|inotify| {
                let mut relevant = false;
                for event in inotify.get_mut().read_events(&mut buffer)? {
                    relevant |= match event.name {
                        Some(name) => self.names.contains(name),
                        // The folder itself, or events were lost.
                        None => !event.mask.contains(EventMask::IGNORED),
                    };
                }
                Ok(relevant)
            });
            match relevant {
                Ok(Ok(true)) => return,
                Ok(Ok(false)) | Err(_) => {}
                Ok(Err(error)) => {
                    tracing::debug!(error = %error, "inotify failed: the port is found by back-off alone");
                    return std::future::pending().await;
                }
            }
        }
    }
}

impl Names {
    fn contains(&self, name: &std::ffi::OsStr) -> bool {
        match self {
            Names::These(names) => names.iter().any(|known| known == name),
            Names::Ttys => name.as_encoded_bytes().starts_with(b"tty"),
        }
    }
}

/// The folders and names at which a change may bring the path: for the path and each link it leads over, the nearest folder that exists and
/// the name that is looked for in it.
fn appearances(path: &Path) -> Vec<(PathBuf, OsString)> {
    let mut points = Vec::new();
    let mut current = path.to_owned();
    for _ in 0..PORT_LINKS_MAX {
        let mut missing = current.as_path();
        while let (Some(parent), Some(name)) = (missing.parent(), missing.file_name()) {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            if parent.is_dir() {
                points.push((parent.to_owned(), name.to_owned()));
                break;
            }
            missing = parent;
        }
        let Ok(target) = std::fs::read_link(&current) else { break };
        current = current.parent().map_or(target.clone(), |parent| parent.join(&target));
    }
    points
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn each_link_on_the_way_is_watched_where_it_stands() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir_all(root.join("by-id")).unwrap();
        symlink("../ttyUSB0", root.join("by-id/meter")).unwrap();
        assert_eq!(
            appearances(&root.join("by-id/meter")),
            [(root.join("by-id"), "meter".into()), (root.join("by-id/.."), "ttyUSB0".into())]
        );
    }

    #[test]
    fn a_folder_that_is_missing_is_waited_for_in_the_one_above() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("serial/by-id/meter");
        assert_eq!(appearances(&path), [(folder.path().to_owned(), "serial".into())]);
    }

    #[test]
    fn a_loop_of_links_ends() {
        let folder = tempfile::tempdir().unwrap();
        symlink("b", folder.path().join("a")).unwrap();
        symlink("a", folder.path().join("b")).unwrap();
        assert_eq!(appearances(&folder.path().join("a")).len(), PORT_LINKS_MAX);
    }
}
