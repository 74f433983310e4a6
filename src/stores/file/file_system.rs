//! Detects file systems that several machines may share. The WAL's index is shared memory, so all processes that open
//! the file must be on one machine.

use std::path::Path;

use super::error::{from_open_io, open_error};
use crate::store::{OpenError, OpenErrorKind};

/// Which file systems are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileSystems {
    /// Those of this machine.
    Local,
    /// All; the caller ensures that no other machine opens the file.
    All,
}

#[cfg(target_os = "linux")]
pub(super) fn check(db: &Path, allowed: FileSystems) -> Result<(), OpenError> {
    let at = if db.exists() { db } else { db.parent().unwrap_or(db) };
    let found = rustix::fs::statfs(at).map_err(|error| from_open_io(db, error.into()))?;
    check_magic(db, found.f_type as u32, allowed)
}

#[cfg(target_os = "linux")]
fn check_magic(db: &Path, magic: u32, allowed: FileSystems) -> Result<(), OpenError> {
    match (network_file_system(magic), allowed) {
        (None, _) => Ok(()),
        (Some(name), FileSystems::Local) => {
            Err(open_error(db, OpenErrorKind::NetworkFileSystem, format!("the file system is {name}")))
        }
        (Some(name), FileSystems::All) => {
            tracing::warn!(file = %db.display(), "an event file on {name} will be damaged if two machines open it");
            Ok(())
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn check(_: &Path, _: FileSystems) -> Result<(), OpenError> {
    Ok(())
}

/// File systems that several machines may share, by the magic numbers of `statfs(2)`.
#[cfg(target_os = "linux")]
fn network_file_system(magic: u32) -> Option<&'static str> {
    Some(match magic {
        0x6969 => "NFS",
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => "SMB",
        0x0102_1997 => "9P",
        0x7375_7245 => "Coda",
        0x5346_414f | 0x6b41_4653 => "AFS",
        0x00c3_6400 => "Ceph",
        0x0bd0_0bd0 => "Lustre",
        0x0116_1970 => "GFS2",
        0x7461_636f => "OCFS2",
        0x4750_4653 => "GPFS",
        0x1983_0326 => "BeeGFS",
        0xaad7_aaea => "PanFS",
        0x2003_0528 => "OrangeFS",
        0xbeef_dead => "StorNext",
        0xa501_fcf5 => "VxFS",
        0x564c => "NCP",
        // Shared by a host and its virtual machines.
        0x786f_4256 => "a shared folder of VirtualBox",
        0xbacb_acbc => "a shared folder of VMware",
        0x7c7c_6673 => "a shared folder of Parallels",
        // May be any program: JuiceFS, Gluster, gcsfuse, s3fs, sshfs and virtiofs are shared.
        0x6573_5546 => "FUSE",
        _ => return None,
    })
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_known() {
        let networks = [
            (0x6969, "NFS"),
            (0xff53_4d42, "SMB"),
            (0xfe53_4d42, "SMB"),
            (0x0102_1997, "9P"),
            (0x6573_5546, "FUSE"),
            (0x4750_4653, "GPFS"),
            (0x1983_0326, "BeeGFS"),
        ];
        for (magic, name) in networks {
            assert_eq!(network_file_system(magic), Some(name));
        }
        for (magic, _) in networks {
            let refused = check_magic(Path::new("x"), magic, FileSystems::Local).unwrap_err();
            assert_eq!(refused.kind(), &OpenErrorKind::NetworkFileSystem);
            assert!(check_magic(Path::new("x"), magic, FileSystems::All).is_ok());
        }
        for local in [0xef53, 0x0102_1994, 0x9123_683e, 0x5846_5342, 0x794c_7630, 0x2fc1_2fc1, 0xf2f5_2010] {
            assert_eq!(network_file_system(local), None); // ext4, tmpfs, btrfs, xfs, overlay, zfs, f2fs
        }
    }
}
