"""Which file systems a store writes to, what is known of them, and what trying them out tells: also on real mounts."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fsstate import Store, StoreOptions, UnsupportedFileSystemError
from fsstate.backends.base import Ref
from fsstate.backends.files import FileBackend
from fsstate.backends.files.guarding import require_safe
from fsstate.mounts import FileSystem, choose, journal_of, mount_of
from tests.files.processes import run

ANYWHERE = StoreOptions(file_system="any")
MEMORY = "/dev/shm"  # noqa: S108 - the tmpfs that Linux has

LAPTOP = r"""
22 28 0:21 / /proc rw,nosuid,nodev,noexec,relatime shared:12 - proc proc rw
28 1 259:2 / / rw,relatime shared:1 - ext4 /dev/nvme0n1p2 rw,errors=remount-ro
40 28 0:35 / /tmp rw,nosuid,nodev shared:18 - tmpfs tmpfs rw,size=8076616k,nr_inodes=1048576,inode64
91 28 259:1 / /boot/efi rw,relatime shared:50 - vfat /dev/nvme0n1p1 rw,fmask=0077,dmask=0077
120 28 0:52 / /home/ann/My\040NAS rw,relatime shared:60 - nfs4 nas:/volume1/home rw,vers=4.2,hard,proto=tcp
121 28 0:53 / /mnt/share rw,relatime shared:61 - cifs //nas/share rw,vers=3.1.1,cache=strict
122 28 0:54 / /home/ann/web rw,nosuid,nodev,relatime shared:62 - fuse.sshfs ann@host:/var/www rw,user_id=1000
123 28 8:1 / /media/stick rw,nosuid shared:63 - fuseblk /dev/sda1 rw,user_id=0,allow_other
"""
CONTAINER = """
600 500 0:120 / / rw,relatime master:200 - overlay overlay rw,lowerdir=/l/A:/l/B,upperdir=/u/diff,workdir=/u/work
601 600 0:121 / /proc rw,nosuid - proc proc rw
620 600 254:1 /var/lib/docker/volumes/state/_data /data rw,relatime master:1 - ext4 /dev/vda1 rw,discard
621 600 0:122 / /mnt/bucket rw,nosuid,nodev,relatime - fuse.gcsfuse bucket rw,user_id=0
622 600 0:123 / /mnt/mount-s3 rw,nosuid,nodev,noatime - fuse mountpoint-s3 rw,user_id=0
"""
BTRFS = """
30 1 0:26 /@ / rw,relatime shared:1 - btrfs /dev/nvme0n1p3 rw,ssd,space_cache=v2,subvolid=256,subvol=/@
31 30 0:26 /@home /home rw,relatime shared:2 - btrfs /dev/nvme0n1p3 rw,ssd,space_cache=v2,subvolid=257,subvol=/@home
"""
WINDOWS = r"""
72 1 8:32 / / rw,relatime - ext4 /dev/sdc rw,discard,errors=remount-ro,data=ordered
98 72 0:57 / /mnt/c rw,noatime - 9p C:\134 rw,dirsync,aname=drvfs;path=C:\;uid=1000;gid=1000,trans=fd,rfd=5,wfd=5
"""
CLUSTER = """
25 1 0:22 / / ro,relatime - squashfs /dev/loop0 ro
70 25 0:45 / /scratch rw,relatime - lustre mds@tcp:/scratch rw,flock,lazystatfs
71 25 0:46 / /shared rw,relatime - ceph 10.0.0.1:6789:/ rw,name=admin,acl
72 25 0:47 / /afs rw,relatime - afs #root.afs. rw
73 25 0:48 / /gluster rw,relatime - fuse.glusterfs node:/vol rw,user_id=0
74 25 0:49 / /dav rw,relatime - fuse https://dav.example.org rw,user_id=0
75 25 0:50 / /dav2 rw,nosuid,relatime - davfs https://dav.example.org rw
76 25 0:51 / /rclone rw,nosuid,relatime - fuse.rclone remote: rw
"""


@pytest.mark.parametrize(
    ("told", "place", "device", "kind", "is_network"),
    [
        (LAPTOP, "/home/ann/project/state", "259:2", "ext4", False),
        (LAPTOP, "/tmp/state", "0:35", "tmpfs", False),  # noqa: S108
        (LAPTOP, "/home/ann/My NAS/state", "0:52", "nfs4", True),
        (LAPTOP, "/home/ann/My", "259:2", "ext4", False),
        (LAPTOP, "/mnt/share", "0:53", "cifs", True),
        (LAPTOP, "/home/ann/web/state", "0:54", "fuse.sshfs", True),
        (LAPTOP, "/home/ann/website", "259:2", "ext4", False),
        (LAPTOP, "/media/stick/state", "8:1", "fuseblk", False),
        (CONTAINER, "/app/state", "0:120", "overlay", False),
        (CONTAINER, "/data/state", "254:1", "ext4", False),
        (CONTAINER, "/mnt/bucket/state", "0:122", "fuse.gcsfuse", True),
        # It has another number where it was mounted from: the point tells.
        (CONTAINER, "/data/state", "9:9", "ext4", False),
        (BTRFS, "/home/ann/state", "0:38", "btrfs", False),
        (BTRFS, "/srv", "0:26", "btrfs", False),
        (WINDOWS, "/mnt/c/Users/ann/state", "0:57", "9p", True),
        (WINDOWS, "/home/ann/state", "8:32", "ext4", False),
        (CLUSTER, "/scratch/a", "0:45", "lustre", True),
        (CLUSTER, "/shared/a", "0:46", "ceph", True),
        (CLUSTER, "/afs/a", "0:47", "afs", True),
        (CLUSTER, "/gluster/a", "0:48", "fuse.glusterfs", True),
        (CLUSTER, "/dav2/a", "0:50", "davfs", True),
        (CLUSTER, "/rclone/a", "0:51", "fuse.rclone", True),
    ],
)
def test_the_mount_that_a_place_is_on(told: str, place: str, device: str, kind: str, is_network: bool) -> None:
    mount = choose(told.strip(), place, device)
    assert mount is not None
    assert (mount.kind, mount.is_network) == (kind, is_network)


def test_of_two_mounts_at_one_point_the_later_counts() -> None:
    told = "1 0 8:1 / / rw - ext4 /dev/a rw\n2 1 8:2 / /m rw - ext4 /dev/b rw\n3 2 0:9 / /m rw - nfs n:/ rw"
    assert choose(told, "/m/x", "1:1") == ("0:9", "/m", "nfs", "n:/", ("rw", "rw"))


def test_what_is_not_to_be_understood_is_passed_over() -> None:
    assert choose("", "/a", "1:1") is None
    assert choose("\n - \nnonsense\n1 2 3\n1 0 8:1 / / rw - ext4", "/a", "1:1") == ("8:1", "/", "ext4", "", ("rw",))


def test_where_the_system_tells_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("fsstate.mounts._MOUNTS", tmp_path / "absent")
    assert mount_of(str(tmp_path)) is None
    require_safe(str(tmp_path))


def test_a_mount_may_be_read_only_in_two_ways() -> None:
    for options in ("ro - ext4 a rw", "rw - ext4 a ro"):
        mount = choose(f"1 0 8:1 / / {options}", "/", "8:1")
        assert mount is not None
        assert mount.is_read_only


def test_what_is_known_of_journals() -> None:
    assert journal_of("/", "xfs") is True
    assert journal_of("/", "tmpfs") is journal_of("/", "vfat") is False
    assert journal_of("/", "overlay") is None


# -- the refusal


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Let the system tell that everything is on a file system of this kind."""

    def pretend(kind: str) -> None:
        told = tmp_path / "mountinfo"
        told.write_text(f"1 0 9:9 / / rw,relatime - {kind} host:/export rw\n")
        monkeypatch.setattr("fsstate.mounts._MOUNTS", told)

    return pretend


@pytest.mark.parametrize("kind", ["nfs", "cifs", "9p", "fuse.sshfs"])
def test_the_first_write_to_a_network_file_system_is_refused(
    root: Path, kind: str, network: Callable[[str], None]
) -> None:
    network(kind)
    with Store(root) as store:
        writes: tuple[Callable[[], object], ...] = (
            lambda: store.collection("agents").put("a", {}),
            lambda: store.journal("audit", "trail").append("x"),
            store.sessions.create,
            store.backend.prepare,
            lambda: store.backend.lock(Ref("agents", "a", ".json")),
        )
        for write in writes[1:]:
            with pytest.raises(UnsupportedFileSystemError):
                write()
        with pytest.raises(UnsupportedFileSystemError) as caught:
            writes[0]()
    error = caught.value
    assert isinstance(error, OSError)
    assert (error.filename, error.kind) == (str(root), kind)
    for part in (str(root), kind, "other machines", 'file_system="any"', "FSSTATE_ANY_FILE_SYSTEM"):
        assert part in str(error)
    assert not root.exists()


def test_reading_there_is_free(root: Path, network: Callable[[str], None]) -> None:
    with Store(root) as store:
        store.collection("agents").put("a", {"n": 1})
        store.sessions.create(id="one")
        store.session("one").messages.append("user", "Hi")
        store.journal("audit", "trail").append("x")
    before = sorted(root.rglob("*"))
    network("nfs")
    with Store(root) as store:
        assert store.collection("agents")["a"] == {"n": 1}
        assert [each.id for each in store.sessions.list()] == ["one"]
        assert [each.content for each in store.session("one").messages.list()] == ["Hi"]
        assert store.journal("audit", "trail").tail(1)[0].kind == "x"
        assert store.in_flight() == []
        with pytest.raises(UnsupportedFileSystemError):
            store.collection("agents").put("a", {"n": 2})
        # Asked again, not remembered: somebody may have mounted something else meanwhile.
        with pytest.raises(UnsupportedFileSystemError):
            store.journal("audit", "trail").append("y")
    assert sorted(root.rglob("*")) == before


def test_who_was_told_goes_on(root: Path, network: Callable[[str], None]) -> None:
    network("nfs4")
    with Store(root, ANYWHERE) as store:
        store.collection("agents").put("a", {"n": 1})
        assert store.collection("agents")["a"] == {"n": 1}


def test_the_option_is_checked(root: Path) -> None:
    with pytest.raises(ValueError, match="file_system must be 'safe' or 'any', got 'nfs'"):
        Store(root, StoreOptions(file_system="nfs"))  # type: ignore[arg-type]


def test_the_error_pickles() -> None:
    error = UnsupportedFileSystemError("/mnt/x", "nfs", "that is far")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    assert (str(again), again.kind, again.missing, again.errno) == (str(error), "nfs", "that is far", error.errno)


def test_a_file_system_whose_locks_keep_nobody_out_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fcntl.flock", lambda *_: None)
    with pytest.raises(UnsupportedFileSystemError, match="without file locks"):
        require_safe(str(root))


def test_a_file_system_without_locks_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(38, os.strerror(38))

    monkeypatch.setattr("fcntl.flock", refused)
    with pytest.raises(UnsupportedFileSystemError, match="without file locks"):
        require_safe(str(root))


def test_many_that_are_asked_at_once_do_not_refuse_each_other(root: Path) -> None:
    root.mkdir()
    code = """
    from fsstate.backends.files.guarding import require_safe
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        require_safe(root)
    """
    import threading

    threads = [threading.Thread(target=run, args=(code, root)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert os.listdir(root) == []


def test_it_is_asked_once_for_a_store(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("fsstate.backends.files.guarding.require_safe", asked.append)
    with Store(root) as store:
        for number in range(3):
            store.collection(f"agents{number}").put("a", {})
            store.journal("audit", f"t{number}").append("x")
    assert asked == [str(root)]


def test_it_takes_next_to_nothing(root: Path) -> None:
    require_safe(str(root))
    took = []
    for _ in range(50):
        began = time.perf_counter()
        require_safe(str(root))
        took.append(time.perf_counter() - began)
    # Some 60 µs; the rest is for a machine that is busy with other things.
    assert min(took) < 1e-3


def test_what_is_only_read_does_not_import_it(root: Path) -> None:
    with Store(root) as store:
        store.collection("agents").put("a", {})
    code = """
    backend = FileBackend(root)
    assert backend.read(Ref("agents", "a", JSON))
    assert not {"fsstate.mounts", "fsstate.backends.files.guarding"} & sys.modules.keys()
    backend.change(Ref("agents", "b", JSON), lambda _: b"{}")
    assert not {"subprocess", "ctypes"} & sys.modules.keys()
    """
    run(code, root)


# -- trying it out


def probed(root: Path) -> FileSystem:
    with Store(root, ANYWHERE) as store:
        found = store.doctor().file_system
    assert found is not None
    return found


def made(root: Path) -> Path:
    with Store(root, ANYWHERE) as store:
        store.collection("agents").put("a", {})
    return root


def held(found: FileSystem) -> dict[str, bool | None]:
    return {trait.name: trait.holds for trait in found.traits}


def test_what_holds_here(root: Path) -> None:
    found = probed(made(root))
    mount = mount_of(str(root))
    assert mount is not None
    assert (found.kind, found.point, found.network) == (mount.kind, mount.point, False)
    holds = held(found)
    assert len(holds) == 12
    for name in ("locks", "process_locks", "atomic_rename", "file_flush", "directory_flush"):
        assert holds[name] is True
    assert all(trait.told for trait in found.traits)
    assert os.listdir(root / ".fsstate/staging") == []


@pytest.mark.skipif(not os.path.ismount(MEMORY), reason="needs a tmpfs")
def test_memory_is_told() -> None:
    place = Path(MEMORY, f"fsstate-{os.getpid()}")
    try:
        found = probed(made(place))
        assert (found.kind, found.in_memory, found.journaled) == ("tmpfs", True, False)
        with Store(place) as store:
            assert "memory-file-system" in [finding.kind for finding in store.doctor().findings]
    finally:
        shutil.rmtree(place)


def test_where_there_is_no_store_nothing_is_tried(root: Path) -> None:
    (root / "agents").mkdir(parents=True)
    (root / "agents/a.json").write_text("{}")
    found = probed(root)
    assert found.kind != "unknown"
    assert found.traits == []
    assert sorted(root.rglob("*")) == [root / "agents", root / "agents/a.json"]


def test_the_kernel_refuses_a_second_lock_of_another_process_too(root: Path) -> None:
    """The trial of locks between processes can fail: here the file is locked for both."""
    from fsstate.backends.files.probing import _can_lock_elsewhere

    root.mkdir()
    (root / "lock").touch()
    assert _can_lock_elsewhere(str(root / "lock"))
    import fcntl

    with (root / "lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert not _can_lock_elsewhere(str(root / "lock"))


# -- real mounts


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """Mount with a command that ends in the mount's point; skips where that is not possible."""
    points: list[Path] = []

    def mounted(*command: str) -> Path:
        if shutil.which(command[0]) is None:
            pytest.skip(f"needs {command[0]}")
        point = tmp_path / f"mount{len(points)}"
        point.mkdir()
        done = subprocess.run([*command, str(point)], capture_output=True, check=False, timeout=30)
        if done.returncode:
            pytest.skip(f"may not mount: {done.stderr.decode().strip()}")
        points.append(point)
        return point

    yield mounted
    for point in reversed(points):
        subprocess.run(["umount", "-l", str(point)], check=True)


SFTP = "/usr/lib/openssh/sftp-server"


def test_a_mount_of_sshfs_is_refused(mount: Callable[..., Path], tmp_path: Path) -> None:
    """The real thing, but that its server runs here."""
    if not os.path.exists(SFTP):
        pytest.skip(f"needs {SFTP}")
    (tmp_path / "there").mkdir()
    ssh = tmp_path / "ssh"
    ssh.write_text(f"#!/bin/sh\nexec {SFTP}\n")
    ssh.chmod(0o755)
    place = mount("sshfs", "-o", f"ssh_command={ssh}", f"there:{tmp_path / 'there'}")
    with pytest.raises(UnsupportedFileSystemError, match=r"fuse\.sshfs"), Store(place / "state") as store:
        store.collection("agents").put("a", {})
    assert list(place.iterdir()) == []
    found = probed(made(place / "state"))
    assert (found.kind, found.network) == ("fuse.sshfs", True)
    with Store(place / "state") as store:
        assert "network-file-system" in [finding.kind for finding in store.doctor().problems]


def test_a_local_fuse_mount_is_tried_and_taken(mount: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    place = mount("bindfs", str(tmp_path / "there"))
    with Store(place / "state") as store:
        store.collection("agents").put("a", {})
    assert held(probed(place / "state"))["process_locks"] is True


def test_a_read_only_mount_is_told_and_read(mount: Callable[..., Path], tmp_path: Path) -> None:
    made(tmp_path / "there/state")
    (tmp_path / "there/state/agents/bad.json").write_text("{")
    place = mount("bindfs", "-o", "ro", str(tmp_path / "there")) / "state"
    with Store(place) as store:
        report = store.doctor(fix=True)
    assert report.file_system is not None
    assert report.file_system.read_only
    assert report.file_system.traits == []
    bad = next(finding for finding in report.findings if finding.kind == "malformed-json")
    assert bad.fixed is None
    assert bad.failure is not None
    assert "Read-only file system" in bad.failure


def test_a_file_system_of_windows_is_told_apart(mount: Callable[..., Path], tmp_path: Path) -> None:
    """vfat: one name for both cases, coarse times, no links."""
    if shutil.which("mkfs.vfat") is None:
        pytest.skip("needs mkfs.vfat")
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(4 << 20)
    subprocess.run(["mkfs.vfat", str(image)], check=True, capture_output=True)
    place = mount("mount", "-o", "loop", str(image))
    holds = held(probed(made(place / "state")))
    assert holds["case_sensitive"] is False
    assert holds["hard_links"] is False
    assert holds["fine_times"] is False
    assert holds["locks"] is True


def test_python_without_a_name_cannot_start_another(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    monkeypatch.setattr(sys, "executable", "")
    assert held(probed(made(root)))["process_locks"] is None


def test_the_backend_keeps_the_options(root: Path) -> None:
    backend = FileBackend(root, ANYWHERE)
    assert backend.options.file_system == "any"
    backend.close()
